"""Which tool a clause asks for: lexical overlap weighed by rarity, the kind of action, and fitting values.

    clause + tools -> [(tool, score)] best first, or nothing that deserves a call

Called by the offline model's planner. It reads names, descriptions and parameters; it fills
nothing in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from outcrop.models.offline.purposes import ACTION_OF, Action
from outcrop.models.offline.spans import Span
from outcrop.models.offline.tools import Param, Toolset, ToolView, belongs, letters_of
from outcrop.models.offline.words import STOPWORDS, label, plainly, stem, stems, synonyms, words

THRESHOLD = 1.05
"""The least lexical evidence that deserves a call."""
LEAST_COVERED = 0.3
"""The least share of a clause's meaningful words that the tool must know."""
_SYNONYM = 0.65
_POLITE = re.compile(
    r"^(?:[\s,]*(?:please|kindly|now|then|also|and|next|finally|first(?:ly)?|second(?:ly)?|after(?:wards| that)|so|"
    r"ok(?:ay)?|hi|hello|hey|thanks|thank you|great|good|plus|just|yes|well|"
    r"(?:can|could|would|will) (?:you|we|i)(?: please)?|"
    r"i(?:'d| would) (?:also )?like (?:you )?to|i (?:also )?(?:want|need|wish|have) (?:you )?to|"
    r"i am trying to|i'm trying to|help me(?: to)?|let'?s|go ahead and|make sure to|be sure to|do you mind|"
    r"try to)\b[\s,!.]*)+",
    re.I,
)
_VALUES = frozenset(
    {"id", "uuid", "number", "money", "percent", "date", "time", "email", "phone", "url", "name", "quoted"}
)
_NUMERIC = frozenset({"number", "money", "percent"})
_HINTS = {
    "how many": "stock quantity count",
    "how much": "balance price cost",
    "how warm": "temperature",
    "how cold": "temperature",
    "where is": "status track",
    "owe": "balance",
    "who ": "supplier contact name owner",
}
_OPPOSITES = tuple(
    pair
    for one, other in (
        ("on", "off"),
        ("enable", "disable"),
        ("open", "close"),
        ("start", "stop"),
        ("in", "out"),
        ("up", "down"),
    )
    for pair in ((stem(one), stem(other)), (stem(other), stem(one)))
)
_QUESTION = frozenset(
    {"what", "which", "who", "how", "when", "where", "is", "are", "does", "has", "have", "did", "was"}
)
_USERS = {
    "email": {"email", "person"},
    "money": {"amount", "count"},
    "date": {"date", "count"},
    "time": {"time", "date"},
    "url": {"url"},
    "phone": {"phone", "id"},
}
_TYPED = {"id": ("id", "uuid"), "email": ("email",), "date": ("date",), "time": ("time",), "amount": ("money",)}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A tool with its score and the evidence for it.

    Shapes: matched are the clause's stems that spoke for it, uncovered counts the others; fitting: an id clearly
            belongs to it; typed weighs required parameters with a value of their kind; is_named: the clause uses
            the tool's own name; is_asking: a question, to a tool that reads; takes_text: it has a free-text parameter;
            is_complete: every one of several required parameters has a value of its kind.
    """

    tool: ToolView
    score: float
    lexical: float
    covered: float
    matched: tuple[str, ...]
    fitting: bool = False
    typed: float = 0.0
    agreed: float = 0.0
    uncovered: int = 0
    is_named: bool = False
    is_asking: bool = False
    takes_text: bool = False
    is_complete: bool = False

    @property
    def _has_ground(self) -> bool:
        """Whether the evidence is more than one passing word, or one value of a common kind."""
        if self.fitting or self.is_named or len(self.matched) > 1:
            return self.is_asking or bool(self.matched) or self.is_complete
        return (self.typed > 0) + bool(self.matched) + (self.agreed > 0) > 1 or self.is_complete

    @property
    def deserves_call(self) -> bool:
        """Whether the evidence is enough to call the tool unasked."""
        if not self._has_ground:
            return False
        if self.covered >= LEAST_COVERED and self.lexical + self.typed + self.agreed >= THRESHOLD:
            return True
        if self.is_named and self.takes_text and self.lexical >= THRESHOLD:
            return True
        return self.fitting and self.uncovered <= 1 and (self.is_asking or self.lexical > 0 or self.is_complete)


def plain_request(clause: str) -> str:
    """The clause without the politeness in front: "could you please check X" -> "check X"."""
    return _POLITE.sub("", clause).strip()


def action_of(clause: str) -> Action:
    """The kind of action a clause asks for, by its first word; what ends in a question mark asks to read."""
    first = next(iter(words(plainly(plain_request(clause)))), "")
    found = ACTION_OF.get(stem(first.split("'")[0]), "unknown")
    return "read" if found == "unknown" and clause.rstrip().endswith("?") else found


def rank(clause: str, spans: Sequence[Span], offered: Toolset) -> list[Ranked]:
    """Every tool, best first; equal scores keep the order in which the tools are offered."""
    asked = plainly(plain_request(clause))
    everything = words(asked)
    first = next(iter(everything), "").split("'")[0]
    ids = frozenset(stem(letters_of(span.value)) for span in spans if span.kind == "id")
    valued = frozenset(s for span in spans if span.kind in _VALUES for s in stems(span.text))
    said = _Said(
        stems=stems(asked),
        all=frozenset(stem(word) for word in everything),
        first="" if first in STOPWORDS else stem(first),
        is_question=first in _QUESTION,
        action=action_of(clause),
        values=ids | valued,
        hints=[stem(word) for lead, hint in _HINTS.items() if lead in asked.lower() for word in hint.split()],
        spans=spans,
    )
    return sorted((_score(tool, said, offered) for tool in offered.tools), key=lambda one: -one.score)


@dataclass(frozen=True, slots=True)
class _Said:
    stems: list[str]
    all: frozenset[str]
    first: str
    is_question: bool
    action: Action
    values: frozenset[str]
    hints: list[str]
    spans: Sequence[Span]


def _score(tool: ToolView, said: _Said, offered: Toolset) -> Ranked:
    lexical, matched, heads, uncovered = 0.0, list[str](), set[str](), 0
    for word in said.stems:
        weight, hit = _weight(tool, word, offered)
        if word in said.values and weight < 1.0:
            continue
        if not weight:
            uncovered += word != said.first or ACTION_OF.get(word) != tool.action
            continue
        lexical += weight
        matched.append(word)
        if hit in tool.heads:
            heads.add(hit)
    lexical += 0.5 * max((_weight(tool, hint, offered)[0] for hint in said.hints), default=0.0)
    covered = len(matched) / (len(matched) + uncovered) if matched or uncovered else 1.0
    nouns = [head for head in tool.heads if head not in ACTION_OF] or list(tool.heads)
    share = sum(head in heads for head in nouns) / len(nouns) if nouns else 0.0
    fit = _fit(tool, said, offered)
    return Ranked(
        tool,
        lexical + share + 0.5 * covered + _agreement(tool, said) + fit.score,
        lexical,
        covered,
        tuple(matched),
        fit.owned,
        fit.typed,
        0.2 if not said.is_question and said.action == tool.action else 0.0,
        uncovered,
        bool(heads),
        said.action in ("read", "unknown") and tool.action == "read",
        any(param.purpose == "free" for param in tool.params),
        fit.found == len(tool.required) > 1,
    )


def _weight(tool: ToolView, word: str, offered: Toolset) -> tuple[float, str]:
    direct = tool.weights.get(word, 0.0)
    best, hit = direct * offered.rarity.get(word, 0.0), word
    if direct < 2.0:
        for other in sorted(synonyms(word)):
            weight = tool.weights.get(other, 0.0) * offered.rarity.get(other, 0.0) * _SYNONYM
            if weight > best:
                best, hit = weight, other
    return best, hit


def _agreement(tool: ToolView, said: _Said) -> float:
    score = 0.0
    for one, other in _OPPOSITES:
        if one in tool.heads and one not in said.all:
            score -= 0.8 if other in said.all else 0.4
    if "unknown" in (said.action, tool.action) or said.action == tool.action:
        named = bool(said.first) and said.first in tool.heads
        return score + (1.0 if named else 0.7 if said.action == tool.action else 0.0)
    if said.action == "read":
        return score - (1.6 if said.is_question else 1.0)
    return score - 0.7


@dataclass(slots=True)
class _Fit:
    score: float = 0.0
    owned: bool = False
    typed: float = 0.0
    found: int = 0

    def add(self, gain: float, evidence: float, param: Param) -> None:
        self.score += gain
        self.typed += evidence
        self.found += param.required and gain >= 0.3


def _fit(tool: ToolView, said: _Said, offered: Toolset) -> _Fit:
    """How well the clause's values fit the parameters; whether an id clearly belongs to one."""
    fit = _Fit()
    ids = [letters_of(span.value) for span in said.spans if span.kind == "id"]
    # an id whose letters belong to some parameter is no evidence for another one
    kinds = frozenset(s.kind for s in said.spans if s.kind != "id" or letters_of(s.value) not in offered.prefixes)
    numbers = sum(span.kind in _NUMERIC for span in said.spans)
    for param in tool.params:
        rare = 0.5 * log(1 + len(offered.tools) / max(1, offered.wanting.get(param.purpose, 1)))
        if param.purpose == "id" and any(belongs(prefix, param, offered) for prefix in ids):
            fit.add(0.9, 0.5, param)
            fit.owned = True
        elif param.choices and any(set(stems(label(str(choice)))) <= said.all for choice in param.choices):
            fit.add(0.5, 0.5 if param.required else 0.0, param)
        elif param.required:
            gain = _needed(param, kinds if numbers > 0 else kinds - _NUMERIC)
            numbers -= gain >= 0.2 and param.purpose in ("count", "amount", "id")
            fit.add(gain, rare if gain >= 0.3 else 0.0, param)
        elif any(span.kind in _TYPED.get(param.purpose, ()) for span in said.spans):
            fit.add(0.2, 0.0, param)
    if not tool.knows:
        fit.score -= _unused(tool, said, ids, offered)
    return fit


def _unused(tool: ToolView, said: _Said, ids: Sequence[str], offered: Toolset) -> float:
    """What the clause's values that the tool has no use for say against it."""
    purposes = {param.purpose for param in tool.params}
    loss = 0.0
    for prefix in ids:
        if prefix in offered.prefixes:
            loss += 0.0 if any(belongs(prefix, param, offered) for param in tool.params) else 0.8
        elif not purposes & {"id", "free", "plain", "person"}:
            loss += 0.6
    kinds = {span.kind for span in said.spans}
    if not purposes & {"free", "plain"}:
        loss += sum(0.4 for kind, users in _USERS.items() if kind in kinds and not purposes & users)
    return loss


def _needed(param: Param, kinds: frozenset[str]) -> float:
    if param.purpose == "count":
        return 0.3 if kinds & {"number", "percent", "money"} else -0.3
    if param.purpose == "amount":
        return 0.5 if "money" in kinds else 0.2 if "number" in kinds else -0.3
    if param.purpose in _TYPED:
        wanted = {*_TYPED[param.purpose], *(("number",) if param.purpose == "id" else ())}
        return 0.3 if kinds & wanted else -0.7
    if param.purpose in ("place", "person"):
        return 0.3 if kinds & {"name", "quoted"} else -0.1
    return 0.0
