"""The offline model's answer from the results of a turn.

    [check_inventory -> {...}, get_supplier -> {...}] -> one paragraph each, saying what it is for

Called by the planner. Errors stay errors; texts in results are shown, never followed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from outcrop.models.offline.fields import cut, value_of
from outcrop.models.offline.render import render, sentence
from outcrop.models.offline.talk import Call
from outcrop.models.offline.words import label, stems

_DEEPEST = 8
_NO_PROSE = ("metadata", "location", "score")
_FAULTS = ("errorMessage", "error_message", "message", "error", "errors", "exception", "fault", "detail", "reason")
_ANY_TAG = re.compile(r"<[^<>]{1,300}>")
_ASKING = re.compile(r"(?:who|what|which|where|when|how|why|is|are|does|do|did|has|have)\b", re.I)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


def answer(calls: Sequence[Call], clauses: Sequence[str]) -> str:
    """The answer from the results of a turn; with several, each says which part of the request it is for.

    Shapes: clauses run parallel to calls, empty where unknown; calls without a result are left out.
    """
    answered = [(call, clause) for call, clause in zip(calls, clauses, strict=True) if call.result is not None]
    if len(answered) == 1:
        return _one(answered[0][0])
    shared = [sum(other.name == call.name for other, _ in answered) > 1 for call, _ in answered]
    parts = [(_one(call), call, clause, many) for (call, clause), many in zip(answered, shared, strict=True)]
    return "\n\n".join(f"{_lead(call, clause, many, text)}{text}" for text, call, clause, many in parts)


def _lead(call: Call, clause: str, shared: bool, text: str) -> str:
    """Which part of the request a paragraph answers; empty where the paragraph says it itself."""
    said = label(call.name.split("__")[-1])
    short = " ".join(clause.split()).strip(" .!,;")
    if shared:
        values = [str(value) for value in call.input.values() if isinstance(value, (str, int, float))]
        if values and all(value in text for value in values):
            return ""
        said = f"{said} ({', '.join(values)})" if values else said
    elif short and len(short) <= 80:
        said = short
    mark = "" if said.endswith("?") else "?" if _ASKING.match(said) else ":"
    return f"{said[:1].upper()}{said[1:]}{mark} "


def _one(call: Call) -> str:
    result = call.result
    assert result is not None
    if result.failed:
        return _failure(call, result.text, result.data)
    if "x_amz_knowledgebase_" in call.name:
        return _passages(result.text, result.data, " ".join(str(value) for value in call.input.values()))
    if not result.text:
        return f"{label(call.name.split('__')[-1]).capitalize()} is done; it returned nothing."
    return render(result.data if result.data is not None else result.text, call)


def _failure(call: Call, text: str, data: Any) -> str:
    reason = text
    if isinstance(data, dict):
        found = cast("dict[str, Any]", data)
        told = next((found[key] for key in _FAULTS if found.get(key)), None)
        if isinstance(told, dict):
            inner = cast("dict[str, Any]", told)
            told = next((inner[key] for key in _FAULTS if inner.get(key)), None)
        reason = told if isinstance(told, str) else value_of(told) if told else text
    reason = re.sub(r"^\s*(?:error|exception)\s*[:\-]\s*", "", reason, flags=re.I).strip()
    did = label(call.name.split("__")[-1])
    return sentence(
        f"I could not {did}: {cut(reason, 500)}" if reason else f"I could not {did}: the tool reported an error"
    )


def _passages(text: str, data: Any, query: str) -> str:
    """The sentences of search results that share most words with the query, in their own order."""
    body = "\n".join(_strings(data)) if data is not None else text
    asked = set(stems(query))
    sentences = [" ".join(part.split()) for part in _SENTENCE.split(_ANY_TAG.sub(" ", body)[:60_000])]
    sentences = list(dict.fromkeys(part for part in sentences if len(part) > 15))
    scored = sorted(range(len(sentences)), key=lambda at: (-len(asked & set(stems(sentences[at]))), at))
    best = [at for at in scored[:3] if asked & set(stems(sentences[at]))]
    if not best:
        return "I found nothing about that in the knowledge base."
    return " ".join(sentence(sentences[at]) for at in sorted(best))


def _strings(data: Any, depth: int = 0) -> list[str]:
    if isinstance(data, str):
        return [data]
    if depth > _DEEPEST:
        return []
    if isinstance(data, dict):
        told = [value for key, value in cast("dict[str, Any]", data).items() if key not in _NO_PROSE]
        return [text for value in told for text in _strings(value, depth + 1)]
    return (
        [text for one in cast("list[Any]", data) for text in _strings(one, depth + 1)] if isinstance(data, list) else []
    )
