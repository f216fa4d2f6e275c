"""What a request wants done: one intent per action, with the parameters its own words give.

    "check SKU-55 and SKU-21" -> check_inventory(SKU-55), check_inventory(SKU-21)

Called by the offline model's planner, which completes intents from the conversation and decides
when each is called.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from outcrop.models.offline.clauses import Clause, clauses
from outcrop.models.offline.ranking import Ranked, rank
from outcrop.models.offline.slots import Filled, fill, missing
from outcrop.models.offline.spans import Span, clip, find_spans
from outcrop.models.offline.tools import Param, Toolset, ToolView

_MOST_INTENTS = 8
_REFERS = re.compile(r"\b(?:it|its|them|that|this|those|these|that one|same)\b", re.I)
_REPEATABLE = frozenset({"id", "place", "person", "email"})


@dataclass(slots=True)
class Intent:
    """One action that the request asks for.

    Shapes: matched are the words that chose the tool; elsewhere maps a parameter to where its value came from;
            condition is the "if ..." that keeps it from being done.
    """

    tool: ToolView
    clause: str
    inputs: dict[str, Any]
    matched: tuple[str, ...] = ()
    condition: str = ""
    elsewhere: dict[str, str] = field(default_factory=dict[str, str])

    def ordered(self) -> dict[str, Any]:
        """The inputs in the order in which the tool declares them."""
        return {param.name: self.inputs[param.name] for param in self.tool.params if param.name in self.inputs}

    def missing(self) -> list[Param]:
        """The required parameters it lacks."""
        return missing(self.tool.params, self.inputs)


@dataclass(frozen=True, slots=True)
class _Part:
    clause: Clause
    best: Ranked


def find_intents(request: str, offered: Toolset) -> list[Intent]:
    """The intents of a request in its own order; none where no tool deserves a call."""
    text = clip(request)
    if not offered.tools or not text.strip():
        return []
    found: list[Intent] = []
    for part in _parts(text, offered):
        fresh = _intents(part, text, offered)
        if found and fresh and _repeats(found[-1], fresh[0]):
            continue
        found += fresh
    return found[:_MOST_INTENTS]


def _parts(text: str, offered: Toolset) -> list[_Part]:
    """The clauses that deserve a call, each stretched over the context beside it."""
    acts: list[_Part] = []
    lead: Clause | None = None
    pieces = clauses(text, offered)
    for piece in pieces:
        best = _best(piece.text, text, offered) if piece.is_act else None
        if best is not None and best.deserves_call:
            if lead is not None:
                piece = _join(lead, piece, text)
                lead = None
            if acts and acts[-1].best.tool.name == best.tool.name and _adds_nothing(piece, best, offered):
                acts[-1] = replace(acts[-1], clause=_join(acts[-1].clause, piece, text))
            else:
                acts.append(_Part(piece, best))
        elif acts:
            acts[-1] = replace(acts[-1], clause=_join(acts[-1].clause, piece, text))
        else:
            lead = piece if lead is None else _join(lead, piece, text)
    if acts or lead is None:
        return acts
    best = _best(lead.text, text, offered)
    return [_Part(lead, best)] if best is not None and best.deserves_call else []


def _best(clause: str, text: str, offered: Toolset) -> Ranked | None:
    spans = find_spans(clause)
    ranked = rank(clause, spans, offered)
    if not ranked[0].deserves_call and _REFERS.search(clause) and not any(span.kind == "id" for span in spans):
        # "it" may be an id of another clause
        ranked = rank(clause, [*spans, *(span for span in find_spans(text) if span.kind == "id")], offered)
    return ranked[0]


def _join(first: Clause, second: Clause, text: str) -> Clause:
    return Clause(
        first.start,
        second.end,
        text[first.start : second.end],
        first.is_act or second.is_act,
        first.condition or second.condition,
    )


def _adds_nothing(piece: Clause, best: Ranked, offered: Toolset) -> bool:
    filled = fill(best.tool.params, piece.text, find_spans(piece.text), offered)
    return not any(param.required and param.name in filled.spans for param in best.tool.params)


def _repeats(last: Intent, new: Intent) -> bool:
    return last.tool.name == new.tool.name and all(last.inputs.get(key) == value for key, value in new.inputs.items())


def _intents(part: _Part, text: str, offered: Toolset) -> list[Intent]:
    tool, clause = part.best.tool, part.clause
    if tool.knows:
        return [knowledge_intent(tool, text)]
    spans = find_spans(clause.text)
    filled = fill(tool.params, clause.text, spans, offered, subjects=_subjects(tool))
    found = [Intent(tool, clause.text, filled.inputs, part.best.matched, clause.condition)]
    while len(found) < _MOST_INTENTS:
        more = _another(tool, clause.text, spans, offered, filled)
        if more is None:
            break
        found.append(replace(found[0], inputs=more, elsewhere={}))
    return found


def _another(
    tool: ToolView, clause: str, spans: Sequence[Span], offered: Toolset, first: Filled
) -> dict[str, Any] | None:
    """The inputs of one more call that the rest of the clause asks for: a further id, or pair of id and number."""
    keys = [
        p
        for p in tool.params
        if p.required and p.purpose in _REPEATABLE and p.type == "string" and p.name in first.spans
    ]
    if not keys:
        return None
    kinds = {param.name: first.spans[param.name].kind for param in keys}
    rest = [span for span in spans if first.free(span) and _joined(span, clause)]
    numbers = [span for span in spans if first.free(span) and span.kind in ("number", "money")]
    again = fill(
        [p for p in tool.params if p.name in first.spans],
        clause,
        sorted({*rest, *numbers}, key=lambda s: s.start),
        offered,
        used=first.used,
    )
    if not any(param.name in again.spans and again.spans[param.name].kind == kinds[param.name] for param in keys):
        return None
    first.used[:] = again.used
    return {**first.inputs, **{name: again.inputs[name] for name in again.spans}}


def _subjects(tool: ToolView) -> frozenset[str]:
    """The stems that say what the tool is about, and no parameter's name."""
    own = {word for word, weight in tool.weights.items() if weight >= 1.0} | tool.heads
    return frozenset(own - {word for param in tool.params for word in param.stems})


def _joined(span: Span, clause: str) -> bool:
    lead = clause[: span.start].rstrip()
    return lead.endswith((",", "&", "/")) or span.before[:1] in (("and",), ("or",), ("of",), ("plus",), ("for",))


def knowledge_intent(tool: ToolView, request: str) -> Intent:
    """A search of a knowledge base with the user's own words."""
    name = next((param.name for param in tool.params if param.type == "string"), "")
    return Intent(tool, request, {name: request.strip()} if name else {})
