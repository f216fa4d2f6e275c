"""Parameters filled from a clause: every candidate value is scored for every parameter, the best pairs win.

    "reserve 5 units of SKU-55" + (sku, quantity) -> {"sku": "SKU-55", "quantity": 5}

Called by the offline model's planner. A stretch of text is used once; a value that fits no
declared type is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outcrop.models.offline.spans import Span, make_span
from outcrop.models.offline.surroundings import around
from outcrop.models.offline.tools import Param, Toolset, belongs, letters_of
from outcrop.models.offline.values import convert, scalar
from outcrop.models.offline.wording import enum_spans, listed_items, own_words, remainder, stated, yes_or_no
from outcrop.models.offline.words import stem, synonyms

_FITS: Mapping[str, Mapping[str, float]] = {
    "count": {"number": 1.0, "percent": 0.9, "money": 0.3},
    "amount": {"money": 1.6, "number": 0.8, "percent": 0.5},
    "id": {"id": 1.5, "uuid": 1.6, "number": 0.7, "quoted": 0.9, "name": 0.1, "phone": 0.6, "phrase": -0.3},
    "email": {"email": 2.0},
    "phone": {"phone": 2.0, "id": 0.4, "number": 0.2},
    "url": {"url": 2.0},
    "date": {"date": 2.0},
    "time": {"time": 2.0},
    "currency": {"money": 1.2, "name": 0.3},
    "place": {"name": 1.0, "quoted": 1.0, "phrase": 0.5, "id": 0.3},
    "person": {"name": 1.1, "quoted": 1.0, "phrase": 0.2, "email": 0.6, "id": 0.5},
    "plain": {"quoted": 1.1, "name": 0.8, "phrase": 0.5, "id": 0.7, "uuid": 0.7, "number": 0.3},
    "free": {"quoted": 1.5},
}
_MOST_RECORDS = 8
_LEAST_REQUIRED = 0.3
_LEAST_OPTIONAL = 0.9


@dataclass(slots=True)
class Filled:
    """What a clause gives a tool.

    Shapes: spans are what each parameter was filled from, where it was a stretch of the clause.
    """

    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    spans: dict[str, Span] = field(default_factory=dict[str, Span])
    used: list[Span] = field(default_factory=list[Span])

    def free(self, span: Span) -> bool:
        """Whether no other parameter was filled from this stretch of text."""
        return not any(span.meets(other.start, other.end) for other in self.used)


@dataclass(frozen=True, slots=True)
class _Pair:
    score: float
    param: int
    span: Span
    value: Any


def fill(
    params: Sequence[Param],
    clause: str,
    spans: Sequence[Span],
    offered: Toolset,
    *,
    used: Iterable[Span] = (),
    subjects: frozenset[str] = frozenset(),
) -> Filled:
    """The parameters that the clause itself fills; nothing from elsewhere, no defaults.

    Shapes: subjects are the stems that name the tool's own business ("light"), which are no values.
    """
    filled = Filled(used=list(used))
    spans = [trimmed for span in spans if (trimmed := _trimmed(span, subjects, clause))]
    _take_stated(params, clause, filled)
    _take_pairs(params, clause, spans, offered, filled)
    for param in params:
        if param.name in filled.inputs:
            continue
        if param.type == "boolean" and (said := yes_or_no(param, clause)) is not None:
            filled.inputs[param.name] = said
            filled.used += own_words(param, clause)
        elif param.type == "array":
            _take_list(param, clause, spans, offered, filled)
        elif param.type == "object":
            _take_object(param, clause, spans, offered, filled)
    for param in params:
        if param.required and param.name not in filled.inputs and param.purpose == "free" and param.type == "string":
            filled.inputs[param.name] = remainder(param, clause, filled.used)
            break
    return filled


def _trimmed(span: Span, subjects: frozenset[str], clause: str) -> Span | None:
    """The span without the words at its end that only name the tool's business; None where nothing is left."""
    if span.kind != "phrase" or not subjects:
        return span
    kept = span.value.split()
    while kept and _names_business(kept[-1], subjects):
        kept.pop()
    if not kept or all(stem(word) in subjects for word in kept):
        return None
    value = " ".join(kept)
    if value == span.value:
        return span
    return make_span("phrase", span.start, span.start + len(value), clause, value)


def _names_business(word: str, subjects: frozenset[str]) -> bool:
    return stem(word) in subjects or bool(synonyms(stem(word)) & subjects)


def missing(params: Sequence[Param], inputs: Mapping[str, Any]) -> list[Param]:
    """The required parameters that are not there yet."""
    return [param for param in params if param.required and param.name not in inputs]


def _take_stated(params: Sequence[Param], clause: str, filled: Filled) -> None:
    for param in params:
        if param.type != "string" or param.choices or param.purpose not in ("free", "plain"):
            continue
        found = stated(param, clause, [other for other in params if other is not param])
        if found:
            raw = clause[found[0] : found[1]].strip(" \"'“”`")
            span = make_span("phrase", found[0], found[1], clause, raw)
            if raw and filled.free(span):
                _keep(param, raw, span, filled)


def _keep(param: Param, value: Any, span: Span, filled: Filled) -> None:
    filled.inputs[param.name] = value
    filled.spans[param.name] = span
    filled.used.append(span)


def _take_pairs(params: Sequence[Param], clause: str, spans: Sequence[Span], offered: Toolset, filled: Filled) -> None:
    pairs: list[_Pair] = []
    for number, param in enumerate(params):
        if param.name in filled.inputs or param.type in ("array", "object", "boolean"):
            continue
        if param.choices:
            pairs += [_Pair(1.2 + around(param, s), number, s, value) for s, value in enum_spans(param, clause)]
            continue
        for span in spans:
            pair = _pair(number, param, span, offered)
            if pair is not None:
                pairs.append(pair)
    for pair in sorted(pairs, key=lambda one: (-one.score, one.param, one.span.start)):
        param = params[pair.param]
        if param.name not in filled.inputs and (filled.free(pair.span) or param.purpose == "currency"):
            if param.purpose == "currency" and pair.span.kind == "money":
                filled.inputs[param.name] = pair.value
            else:
                _keep(param, pair.value, pair.span, filled)


def _pair(number: int, param: Param, span: Span, offered: Toolset) -> _Pair | None:
    fit = _FITS.get(param.purpose, {}).get(span.kind)
    if fit is None:
        return None
    raw: Any = span.unit if param.purpose == "currency" and span.kind == "money" else span.value
    value = convert(param, raw)
    if value is None or value == "":
        return None
    score = fit + around(param, span) + _shape(param, span, offered)
    least = _LEAST_REQUIRED if param.required else _LEAST_OPTIONAL
    return _Pair(score + (0.3 if param.required else 0.0), number, span, value) if score >= least else None


def _shape(param: Param, span: Span, offered: Toolset) -> float:
    """What the span's own letters say for the parameter."""
    score = 0.0
    if span.kind in ("id", "phone"):
        prefix = letters_of(span.value)
        if belongs(prefix, param, offered):
            score += 1.2
        elif prefix in offered.prefixes:
            score -= 2.0
        if any(_pattern(example) == _pattern(span.value) for example in param.examples):
            score += 0.5
    elif span.kind == "name" and param.purpose in ("id", "currency"):
        code = span.value.isupper() and 2 <= len(span.value) <= 6
        score += 0.8 if code and (param.purpose == "id" or len(span.value) == 3) else -0.5
    elif span.kind == "number" and param.purpose == "id":
        score -= 0.0 if span.text[:1].isdigit() else 1.0
    elif span.kind == "number" and param.purpose == "phone":
        score += 0.8 if len(span.value) >= 7 else -1.0
    elif span.kind == "phrase" and len(span.value.split()) > 2:
        score -= 0.1
    if "year" in param.words and span.number is not None:
        score += 0.8 if 1900 <= span.number <= 2100 else -1.0
    return score


def _pattern(value: str) -> str:
    return re.sub(r"\d+", "9", re.sub(r"[A-Za-z]+", "A", value))


def _take_list(param: Param, clause: str, spans: Sequence[Span], offered: Toolset, filled: Filled) -> None:
    if param.fields:
        _take_records(param, clause, spans, offered, filled)
        return
    if param.choices:
        chosen = sorted(enum_spans(param, clause), key=lambda one: one[0].start)
        pairs = [(span, value) for span, value in chosen if filled.free(span)]
    else:
        kinds = {kind for kind, fit in _FITS.get(param.purpose, {}).items() if kind != "phrase" and fit >= 0.6}
        found = [s for s in spans if s.kind in kinds and filled.free(s) and _shape(param, s, offered) > -1]
        pairs = [(span, scalar(param.item, span.value)) for span in found]
        if not found or param.purpose in ("plain", "free"):
            listed = [pair for pair in listed_items(param, clause) if filled.free(pair[0])]
            pairs = [(span, scalar(param.item, text)) for span, text in listed] or pairs
    pairs = [(span, value) for span, value in pairs if value is not None]
    if pairs:
        filled.inputs[param.name] = [value for _, value in pairs]
        filled.used += [span for span, _ in pairs]


def _take_records(param: Param, clause: str, spans: Sequence[Span], offered: Toolset, filled: Filled) -> None:
    records: list[dict[str, Any]] = []
    while len(records) < _MOST_RECORDS:
        inner = fill(param.fields, clause, spans, offered, used=filled.used)
        if missing(param.fields, inner.inputs) or not inner.spans:
            break
        records.append(inner.inputs)
        filled.used[:] = inner.used
    if records:
        filled.inputs[param.name] = records


def _take_object(param: Param, clause: str, spans: Sequence[Span], offered: Toolset, filled: Filled) -> None:
    inner = fill(param.fields, clause, spans, offered, used=filled.used)
    if missing(param.fields, inner.inputs) or (not inner.inputs and not param.required):
        return
    filled.inputs[param.name] = inner.inputs
    filled.used[:] = inner.used
