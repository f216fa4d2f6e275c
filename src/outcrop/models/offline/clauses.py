"""A request cut into clauses, one per action: "check A and reserve 5" -> "check A", "reserve 5".

Called by the offline model's planner. A part stands alone only if it begins like a command or a
question; anything else is context of the command beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from outcrop.models.offline.purposes import ACTION_OF
from outcrop.models.offline.ranking import plain_request
from outcrop.models.offline.tools import Toolset
from outcrop.models.offline.words import stem, vocabulary, words

_MOST_CLAUSES = 24
_MOST_JOINTS = 400
_QUOTED = re.compile(r"\"[^\"\n]{1,500}\"|“[^”\n]{1,500}”|`[^`\n]{1,500}`")
_BOUNDARY = re.compile(
    r"(?P<sentence>[.!?]+(?=\s)\s*|[;\n]\s*)"
    r"|(?P<joint>\s*,?\s+(?:and\s+then|and\s+also|and\s+after\s+that|then|and|also|plus|as\s+well\s+as|but)\s+(?:please\s+)?|\s*,\s+)",
    re.I,
)
_NEGATED = re.compile(r"^\W*(?:please\s+)?(?:but\s+)?(?:do\s+not|don['\u2019]?t|never|no\s+need\s+to)\b", re.I)
_CONDITION = re.compile(r"^\W*(?:only\s+)?(?:if|unless|in\s+case|otherwise|provided)\b", re.I)
_INNER_CONDITION = re.compile(r"\b(?P<before>\w+)\s+(?P<if>only\s+if|if|unless|provided)\s+(?P<after>\w+)", re.I)
_WHETHER = vocabulary("check see know me ask verify wonder tell determine confirm us out sure")
_POLITE_IF = vocabulary("possible you so")
_ASKING = vocabulary("who what which how when where why is are does do did can could has have whose whom")
_SAYING = re.compile(r"\b(?:saying|that says|which says|to say|because|reason:|message:|text:|body:)", re.I)


@dataclass(frozen=True, slots=True)
class Clause:
    """A stretch of the request.

    Shapes: is_act, it begins like a command or question; condition is the "if ..." it hangs on, empty where none.
    """

    start: int
    end: int
    text: str
    is_act: bool = False
    condition: str = ""


def clauses(text: str, offered: Toolset) -> list[Clause]:
    """The clauses of a request, in order; negated ones ("don't ...") are left out."""
    parts = _parts(text, frozenset(head for tool in offered.tools for head in tool.heads))
    found: list[Clause] = []
    condition = ""
    for start, end, fresh in parts:
        said = text[start:end].strip(" ,;\n")
        if fresh:
            condition = ""
        if not said:
            continue
        if _NEGATED.match(said):
            continue
        if _CONDITION.match(said):
            condition = said.rstrip(".!? ")
            continue
        at = start + text[start:end].index(said)
        found.append(Clause(at, at + len(said), said, _is_act(said), condition or _inner_condition(said)))
    return found


def begins_act(said: str) -> bool:
    """Whether a text begins like a command or a question."""
    return _is_act(said)


def _parts(text: str, heads: frozenset[str]) -> list[tuple[int, int, bool]]:
    quoted = [match.span() for match in _QUOTED.finditer(text)]
    said = _SAYING.search(text)
    parts: list[tuple[int, int, bool]] = []
    start, fresh = 0, True
    for match in islice(_BOUNDARY.finditer(text), _MOST_JOINTS):
        if len(parts) >= _MOST_CLAUSES:
            break
        if any(a < match.start() < b for a, b in quoted):
            continue
        sentence = match.group("sentence") is not None
        if not sentence and said and match.start() > said.start():
            continue
        if not sentence and not _begins_act(text[match.end() : match.end() + 80], heads):
            continue
        parts.append((start, match.end() if sentence else match.start(), fresh))
        start, fresh = match.end(), sentence
    parts.append((start, len(text), fresh))
    return parts


def _begins_act(rest: str, heads: frozenset[str]) -> bool:
    if _NEGATED.match(rest) or _CONDITION.match(rest):
        return True
    said = words(plain_request(rest))
    if len(said) < 2:
        return False
    return _is_act(rest) and (said[0] in _ASKING or stem(said[0]) in ACTION_OF or stem(said[0]) in heads)


def _is_act(said: str) -> bool:
    asked = words(plain_request(said))
    if not asked:
        return False
    first = asked[0].split("'")[0]
    return first in _ASKING or stem(first) in ACTION_OF or said.rstrip().endswith("?")


def _inner_condition(said: str) -> str:
    for match in _INNER_CONDITION.finditer(said):
        if match["before"].lower() not in _WHETHER and match["after"].lower() not in _POLITE_IF:
            return said[match.start("if") :].rstrip(".!? ")
    return ""
