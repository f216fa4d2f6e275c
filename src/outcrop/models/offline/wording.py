"""Values that a clause words rather than shows: enum choices, yes or no, and free text.

Called by the offline model's slot filling, which handles everything that looks like a value
(`offline.spans`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from outcrop.models.offline.purposes import ACTION_OF
from outcrop.models.offline.ranking import plain_request
from outcrop.models.offline.spans import Span, make_span
from outcrop.models.offline.tools import Param
from outcrop.models.offline.words import STOPWORDS, label, stem, synonyms, vocabulary, words

_YES = re.compile(r"^\W*(?:yes|yep|yeah|true|sure|ok(?:ay)?|please do|of course|correct|do it|y|on)\b", re.I)
_NO = re.compile(r"^\W*(?:no|nope|false|don'?t|do not|never|n|off)\b", re.I)
_ON = vocabulary("on true yes enable enabled activate activated start open")
_OFF = vocabulary("off false no disable disabled deactivate deactivated stop close")
_SWITCHES = vocabulary("on enabled enable active power state status value flag switch")
_NEGATION = r"(?:no|not|non|without|don'?t|do not|never|exclud\w+|skip|disable|disabled)"
_SAYING = re.compile(
    r"\b(?:saying|that says|which says|to say|that reads|telling (?:them|him|her|us|everyone))\b(?:\s+that\b)?[\s:,]*",
    re.I,
)
_COLON = re.compile(r":\s+")
_BECAUSE = re.compile(r"\b(?:because(?: of)?|due to|on account of|the reason (?:is|being)|reason:)\s+", re.I)
_TITLED = re.compile(r"\b(?:called|titled|named|entitled)\s+", re.I)
_TITLE_ENDS = re.compile(r"\s+(?:on|at|with|by|from)\s", re.I)
_ABOUT = re.compile(r"\b(?:about|regarding|concerning)\s+", re.I)
_FOR = re.compile(r"\b(?:for|about|on|regarding|concerning)\s+", re.I)
_LEADING = re.compile(
    r"(?:[\s,]+(?:that|which|who|are|is|and|with|costing|priced|for|at|in|on|by|under|below|over|above|less|fewer|more|than"
    r"|up|to|max(?:imum)?|of|from|the|an?|only|cheaper|not))+\s*\W?\s*$",
    re.I,
)
_LISTING = re.compile(r"\b(?:with|including|includes?|containing|of|to|for)\s+([^.;!?\n]{1,400})", re.I)
_JOINT = re.compile(r"\s*,\s*(?:and\s+|&\s*)?|\s+(?:and|&)\s+", re.I)
_TAIL = re.compile(r"\s+(?:on|at|for|from|in|with|to|by)\s.*$", re.I)
_LONGEST_ITEM = 4
_QUERIES = vocabulary("query search keyword keywords question topic prompt q")
_REASONS = vocabulary("reason comment note notes memo justification")
_TITLES = vocabulary("title subject name")


def enum_spans(param: Param, clause: str) -> list[tuple[Span, str | int | float]]:
    """Every choice of an enum that the clause names, longest wording first, with the choice as the schema spells it."""
    found: list[tuple[Span, str | int | float]] = []
    taken: list[Span] = []
    for choice in sorted(param.choices, key=lambda one: -len(str(one))):
        for match in _choice_pattern(str(choice)).finditer(clause):
            if not any(span.meets(match.start(), match.end()) for span in taken):
                span = make_span("phrase", match.start(), match.end(), clause, match.group())
                taken.append(span)
                found.append((span, choice))
    return found or _by_meaning(param, clause)


def _choice_pattern(choice: str) -> re.Pattern[str]:
    parts = label(choice).split() or [choice]
    wording = r"[\s_-]*".join(map(re.escape, parts))
    return re.compile(rf"(?<![\w-]){wording}(?:s|es|ed|d)?(?![\w-])", re.I)


def _by_meaning(param: Param, clause: str) -> list[tuple[Span, str | int | float]]:
    found: list[tuple[Span, str | int | float]] = []
    by_stem = {stem(label(str(choice))): choice for choice in param.choices if " " not in label(str(choice))}
    for match in re.finditer(r"[^\W\d_]+", clause):
        meant = stem(match.group())
        choice = by_stem.get(meant)
        if choice is None:
            choice = next((by_stem[other] for other in sorted(synonyms(meant)) if other in by_stem), None)
        if choice is not None and match.group().lower() not in STOPWORDS:
            found.append((make_span("phrase", match.start(), match.end(), clause, match.group()), choice))
    return found


def yes_or_no(param: Param, clause: str, *, is_reply: bool = False) -> bool | None:
    """What the clause says of a boolean parameter; None where it does not speak of it."""
    if is_reply and (_YES.search(clause) or _NO.search(clause)):
        return bool(_YES.search(clause))
    said = words(clause)
    if _SWITCHES & set(param.words):
        if _OFF & set(said):
            return False
        if _ON & set(said):
            return True
    own = [word for word in param.words if word not in STOPWORDS and word not in {"is", "has", "include", "includes"}]
    if not own:
        return None
    stems_said = [stem(word) for word in said]
    if not all(stem(word) in stems_said for word in own):
        return None
    if re.search(rf"\b{re.escape(own[-1])}\w*\W+(?:is\W+|=\W*)?(?:false|no|off)\b", clause, re.I):
        return False
    return not re.search(rf"\b{_NEGATION}\W+(?:\w+\W+){{0,2}}{re.escape(own[0][:5])}", clause, re.I)


def own_words(param: Param, clause: str) -> list[Span]:
    """Where the clause says the words of the parameter's name, one after the other; none where it does not."""
    match = re.search(r"\W+".join(map(re.escape, param.words or (param.name,))), clause, re.I)
    return [make_span("phrase", match.start(), match.end(), clause, match.group())] if match else []


def stated(param: Param, clause: str, others: Sequence[Param]) -> tuple[int, int] | None:
    """The range of free text that the clause marks for the parameter: "reason: ...", "saying ...", "because ..."."""
    named = "|".join(re.escape(word) for word in {param.label, param.words[-1] if param.words else param.name})
    match = re.search(rf"\b(?:{named})\b(?:\s+(?:is|of|as|says)\b|\s*[:=])\s*", clause, re.I)
    match = match or re.search(rf"\bwith\s+(?:the\s+|an?\s+)?(?:{named})\s+", clause, re.I)
    if match is None and param.purpose == "free":
        match = _cue(frozenset(param.words), clause)
    if match is None:
        return None
    end = _until(clause, match.end(), others)
    if match.re is _TITLED and (stop := _TITLE_ENDS.search(clause, match.end(), end)):
        end = stop.start()
    return (match.end(), end) if end > match.end() else None


def listed_items(param: Param, clause: str) -> list[tuple[Span, str]]:
    """The items of a list that follows the parameter's name or a word such as "with": "tags: a, b and c"."""
    named = re.escape(param.words[-1] if param.words else param.name)
    match = re.search(rf"\b{named}\b\s*[:=]?\s+([^.;!?\n]{{1,400}})", clause, re.I) or _LISTING.search(clause)
    if match is None:
        return []
    found: list[tuple[Span, str]] = []
    start = match.start(1)
    for joint in [*_JOINT.finditer(clause, match.start(1), match.end(1)), None]:
        end = joint.start() if joint else match.end(1)
        text = _TAIL.sub("", clause[start:end]).strip(" \"'")
        if text and len(text.split()) <= _LONGEST_ITEM:
            found.append((make_span("phrase", start, end, clause, text), text))
        start = joint.end() if joint else end
    return found


def _cue(own: frozenset[str], clause: str) -> re.Match[str] | None:
    if own & _REASONS and (match := _BECAUSE.search(clause)):
        return match
    if own & _TITLES:
        return _TITLED.search(clause)
    return None if own & _QUERIES else _SAYING.search(clause) or _COLON.search(clause)


def _until(clause: str, start: int, others: Sequence[Param]) -> int:
    names = [re.escape(word) for other in others for word in {other.label, *other.words[-1:]} if len(word) > 2]
    ends = [match.start() for match in (_SAYING.search(clause, start),) if match]
    if names:
        stop = re.compile(rf"\s*(?:,|;|\band\b|\bwith\b)\s+(?:an?\s+|the\s+|with\s+)*(?:{'|'.join(names)})\b", re.I)
        ends += [match.start() for match in (stop.search(clause, start),) if match]
    end = min(ends, default=len(clause))
    while end > start and clause[end - 1] in " .!?;,\n\"'":
        end -= 1
    return end


def remainder(param: Param, clause: str, used: Sequence[Span]) -> str:
    """Free text for a parameter that must have some: what follows "for" or "about", else the request itself.

    Shapes: a query ends where the values of other parameters begin.
    """
    own = set(param.words)
    if own & _QUERIES:
        return _query(clause, used) or _clean(clause)
    asked = plain_request(clause).strip(" .!?\n")
    match = _ABOUT.search(asked) or (_FOR.search(asked) if own & _REASONS else None)
    return _clean(asked[match.end() :] if match else asked) or _clean(clause)


def _query(clause: str, used: Sequence[Span]) -> str:
    body = plain_request(clause)
    start = clause.rfind(body) if body else 0
    match = _ABOUT.search(clause, start) or (_FOR.search(clause, start) if _starts_with_verb(body) else None)
    if match:
        start = match.end()
    elif _starts_with_verb(body):
        start += len(body) - len(_without_verb(body))
    best = clause[start:]
    for span in sorted(used, key=lambda one: one.start):
        lead = _LEADING.sub("", clause[start : max(start, span.start)]).strip(" ,")
        if lead:
            best = lead
            break
    return re.sub(r"^(?:the|an?|some|any)\s+", "", _clean(best), flags=re.I)


def _starts_with_verb(asked: str) -> bool:
    said = words(asked)
    return bool(said) and stem(said[0]) in ACTION_OF and said[0] not in STOPWORDS


def _without_verb(asked: str) -> str:
    return re.sub(r"^\S+\s+(?:(?:up|me|us|out)\s+)*", "", asked) if _starts_with_verb(asked) else asked


def _clean(text: str) -> str:
    return text.strip(" .!?\n\"'“”:")
