"""Values that a clause leaves out, found elsewhere in the conversation: "reserve 5 of them".

Called by the offline model's planner, for required parameters only. It looks at inputs and
results of calls and at ids the user wrote; quantities, amounts and free text are never carried
over, and several different candidates count as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from outcrop.models.offline.spans import clip, find_spans
from outcrop.models.offline.talk import Call, Exchange
from outcrop.models.offline.tools import Param, Toolset, ToolView, belongs, canonical, letters_of
from outcrop.models.offline.values import convert
from outcrop.models.offline.words import name_words, stem

_CARRIED = frozenset({"id", "email", "phone", "place", "person", "plain", "date", "url"})
_GENERIC = frozenset({"id", "name", "number", "code", "key", "ref", "reference", "type", "status"})
_MOST_VALUES = 2_000
_MOST_EXCHANGES = 20
_DEEPEST = 8


def recall_here(
    param: Param,
    tool: ToolView,
    offered: Toolset,
    inputs: Iterable[tuple[str, Mapping[str, Any]]],
    calls: Sequence[Call],
    request: str,
) -> Any:
    """The parameter's value from the same request: from other actions' inputs, results so far, its own ids."""
    if not _may_carry(param):
        return None
    for name, given in inputs:
        value = _from_input(param, tool, name, given, offered)
        if value is not None:
            return value
    value = _from_results(param, tool, calls, offered)
    return _from_text(param, request, offered) if value is None else value


def recall_earlier(param: Param, tool: ToolView, offered: Toolset, past: Sequence[Exchange]) -> Any:
    """The parameter's value from earlier exchanges, the most recent one that has it."""
    if not _may_carry(param):
        return None
    for exchange in list(reversed(past))[:_MOST_EXCHANGES]:
        for call in reversed(exchange.calls):
            value = _from_results(param, tool, [call], offered)
            value = _from_input(param, tool, call.name, call.input, offered) if value is None else value
            if value is not None:
                return value
        value = _from_text(param, exchange.text, offered)
        if value is not None:
            return value
    return None


def _may_carry(param: Param) -> bool:
    return param.purpose in _CARRIED and param.type in ("string", "integer", "number")


def _from_input(param: Param, tool: ToolView, name: str, given: Mapping[str, Any], offered: Toolset) -> Any:
    wanted = canonical(param.name)
    for key, raw in given.items():
        same = canonical(key) == wanted and (wanted not in _GENERIC or name == tool.name)
        if (same or _has_prefix(param, raw, offered)) and (value := convert(param, raw)) is not None:
            return value
    return None


def _has_prefix(param: Param, raw: Any, offered: Toolset) -> bool:
    return param.purpose == "id" and isinstance(raw, str) and len(raw) < 80 and belongs(letters_of(raw), param, offered)


def _from_results(param: Param, tool: ToolView, calls: Sequence[Call], offered: Toolset) -> Any:
    for call in reversed(calls):
        if call.result is None or call.result.failed:
            continue
        search = _Search(param, offered)
        search.look(call.result.data, frozenset(stem(word) for word in name_words(call.name)))
        if call.result.data is None:
            search.likely.add(_from_text(param, call.result.text, offered))
        for found in (search.exact, search.likely):
            if found.values:
                return found.values[0] if len(found.values) == 1 else None
    return None


class _Finds:
    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any) -> None:
        if value is not None and value not in self.values:
            self.values.append(value)


class _Search:
    """Looks through a result for values of one parameter: under its own name, or that look like its ids."""

    def __init__(self, param: Param, offered: Toolset) -> None:
        self.exact, self.likely = _Finds(), _Finds()
        self._param, self._offered = param, offered
        self._left = _MOST_VALUES

    def look(self, data: Any, about: frozenset[str], depth: int = 0) -> None:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            return
        if isinstance(data, list):
            for item in cast("list[Any]", data):
                self.look(item, about, depth + 1)
        elif isinstance(data, dict):
            for key, value in cast("dict[str, Any]", data).items():
                own = frozenset(stem(word) for word in name_words(str(key)))
                if isinstance(value, (dict, list)):
                    self.look(value, about | own, depth + 1)
                else:
                    self._take(str(key), own, value, about)

    def _take(self, key: str, own: frozenset[str], value: Any, about: frozenset[str]) -> None:
        param, wanted = self._param, canonical(self._param.name)
        if canonical(key) == wanted and wanted not in _GENERIC:
            self.exact.add(convert(param, value))
        elif _has_prefix(param, value, self._offered) or (own <= _GENERIC_STEMS and _named_after(param, about)):
            self.likely.add(convert(param, value))


_GENERIC_STEMS = frozenset(stem(word) for word in ("id", "number", "code", "reference", "ref", "key"))


def _named_after(param: Param, about: frozenset[str]) -> bool:
    nouns = {word for word in param.stems if word not in _GENERIC_STEMS}
    return param.purpose == "id" and bool(nouns) and nouns <= about


def _from_text(param: Param, text: str, offered: Toolset) -> Any:
    if param.purpose not in ("id", "email"):
        return None
    found = _Finds()
    for span in find_spans(clip(text)):
        fits = (
            span.kind == "email"
            if param.purpose == "email"
            else span.kind == "id" and _has_prefix(param, span.value, offered)
        )
        if fits:
            found.add(convert(param, span.value))
    return found.values[0] if len(found.values) == 1 else None
