"""The built-in default model: deterministic, without network or weights; it says what it is.

    ConverseRequest -> exchanges -> decide -> deltas

It picks tools by their names, descriptions and parameters, fills parameters from the text, asks for
what is missing, and writes answers from results, all by rule. It does not chat and keeps no state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson

from outcrop.config import Binding, check_keys
from outcrop.messages import Message
from outcrop.models import resilience
from outcrop.models.base import ConverseRequest, Delta, ModelProvider
from outcrop.models.offline.planner import Act, Ask, Say, decide
from outcrop.models.offline.talk import exchanges
from outcrop.models.offline.tools import ASK_USER, toolset
from outcrop.models.offline.words import pieces, token_count


def provider(binding: Binding) -> ModelProvider:
    """The offline model; it has no settings of its own.

    Errors: ConfigMistake when the binding has settings that nobody reads.
    """
    check_keys(f"[models] '{binding.pattern}'", binding.settings, ("provider", *resilience.KEYS))
    return OfflineModel()


class OfflineModel:
    """Answers Converse requests by rule; equal requests get equal replies."""

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        """The reply as events, in order, metadata last.

        Errors: none of its own.
        """
        for delta in _deltas(request):
            yield delta

    async def close(self) -> None:
        """Nothing to give back."""


def _deltas(request: ConverseRequest) -> Iterator[Delta]:
    text, calls = _reply(request)
    parts, stop = _limited(pieces(text), request, "tool_use" if calls else "end_turn", bool(calls))
    yield {"messageStart": {"role": "assistant"}}
    index = 0
    if parts:
        for part in parts:
            yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"text": part}}}
        yield {"contentBlockStop": {"contentBlockIndex": index}}
        index += 1
    made = len(parts)
    for ordinal, (name, given) in enumerate(calls):
        body = orjson.dumps(given).decode()
        start = {"toolUseId": _use_id(request.messages, ordinal, name, body), "name": name}
        yield {"contentBlockStart": {"contentBlockIndex": index, "start": {"toolUse": start}}}
        yield {"contentBlockDelta": {"contentBlockIndex": index, "delta": {"toolUse": {"input": body}}}}
        yield {"contentBlockStop": {"contentBlockIndex": index}}
        made += token_count(name) + token_count(body)
        index += 1
    yield {"messageStop": {"stopReason": stop}}
    sent = _sent(request)
    yield {"metadata": {"usage": {"inputTokens": sent, "outputTokens": made, "totalTokens": sent + made}}}


def _reply(request: ConverseRequest) -> tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]:
    offered = toolset(request.tools)
    match decide(exchanges(request.messages), offered):
        case Act(thinking, calls):
            return f"<thinking>{thinking}</thinking>", calls
        case Say(text):
            return text, ()
        case Ask(question, lead):
            if offered.may_ask:
                asked = f"{lead}\n\n{question}" if lead else question
                return "<thinking>Something needed is missing, so I ask for it.</thinking>", [
                    (ASK_USER, {"question": asked})
                ]
            return f"{lead}\n\n{question}" if lead else question, ()


def _limited(parts: list[str], request: ConverseRequest, stop: str, has_calls: bool) -> tuple[list[str], str]:
    """The text within the request's stop sequences and token limit; a reply with calls is left whole."""
    if has_calls:
        return parts, stop
    text = "".join(parts)
    ends = [at for mark in request.inference.get("stopSequences", ()) if mark and (at := text.find(mark)) >= 0]
    if ends:
        parts, stop = pieces(text[: min(ends)]), "stop_sequence"
    most = request.inference.get("maxTokens", 0)
    return (parts[:most], "max_tokens") if 0 < most < len(parts) else (parts, stop)


def _use_id(messages: Sequence[Message], ordinal: int, name: str, body: str) -> str:
    # the length of the conversation keeps a later call with the same input apart
    seed = f"{len(messages)}|{ordinal}|{name}|{body}"
    return f"tooluse_{sha256(seed.encode()).hexdigest()[:22]}"


def _sent(request: ConverseRequest) -> int:
    total = token_count(request.system) + 3 * len(request.messages)
    for message in request.messages:
        for block in message["content"]:
            total += token_count(block["text"]) if "text" in block else _counted(block)
    return total + sum(_counted(tool) for tool in request.tools)


def _counted(value: Any) -> int:
    try:
        return token_count(orjson.dumps(value, default=str).decode())
    except TypeError:  # nested too deep, or no JSON at all
        return 1
