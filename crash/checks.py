"""What must hold after a sweep: what the functions counted, beside what the journal says and what callers heard.

once     a function that honours keys: every invoice paid exactly once, whatever was killed
plain    any other: called at most once; paid where the journal says done; `uncertain`, and told so, elsewhere
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import look
from world import Told, invoices

UNCERTAIN = "not known whether this action took place"


@dataclass(frozen=True, slots=True)
class Asked:
    """One turn that a caller asked for. Shapes: told is None where the session was lost."""

    kind: str
    variant: str
    session: str
    invoice: str
    told: Told | None
    replay: str = ""


@dataclass(slots=True)
class Verdict:
    """What a sweep came to."""

    turns: int = 0
    calls: int = 0
    effects: int = 0
    repeats: int = 0
    uncertain: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list[str])

    def add(self, other: Verdict) -> None:
        """Take another's figures in."""
        for name in ("turns", "calls", "effects", "repeats", "uncertain", "lost"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.wrong += other.wrong


@dataclass(frozen=True, slots=True)
class Counted:
    """What the functions wrote down, by invoice."""

    calls: Counter[str]
    effects: Counter[str]

    @classmethod
    def of(cls, folder: Path) -> Counted:
        """Read their files."""
        calls = Counter(line.split()[1] for line in _lines(folder / "calls") if " delegate " not in line)
        effects = Counter(line.split()[1] for line in _lines(folder / "effects"))
        for file in (folder / "applied").iterdir():
            effects.update(line.split()[1] for line in _lines(file))
        return cls(calls, effects)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="ascii").splitlines() if file.exists() else []


def judge(where: look.Look, effects: Path, asked: Sequence[Asked]) -> Verdict:
    """Whether what was asked for was done, once, and is told as it was."""
    verdict, counted = Verdict(), Counted.of(effects)
    journal = look.acts(where)
    by_invoice: dict[str, list[look.Act]] = defaultdict(list)
    for act in journal:
        by_invoice[act.invoice].append(act)
    for one in asked:
        _judge_turn(one, verdict, counted, by_invoice)
    states = Counter(turn.state for turn in look.turns(where))
    verdict.turns = sum(states.values())
    for turn in look.turns(where):
        if turn.state != "done":
            verdict.wrong.append(f"turn {turn.id} of {turn.session} is {turn.state}: {turn.ending[:300]}")
            verdict.lost += 1
    open_acts = [act for act in journal if act.state not in ("done", "uncertain")]
    verdict.wrong += [f"{act.key} ({act.function} {act.invoice}) is still {act.state}" for act in open_acts]
    verdict.uncertain = sum(act.state == "uncertain" for act in journal)
    return verdict


def _judge_turn(one: Asked, verdict: Verdict, counted: Counted, by_invoice: dict[str, list[look.Act]]) -> None:
    def wrong(what: str) -> None:
        verdict.wrong.append(f"{one.replay or one.session}: {one.kind} {one.variant} {one.invoice}: {what}")

    if one.told is None:
        verdict.lost += 1
        wrong("no answer")
    told_uncertain = False
    for invoice in invoices(one.kind, one.invoice):
        acts = by_invoice[invoice]
        calls, effects = counted.calls[invoice], counted.effects[invoice]
        verdict.calls += calls
        verdict.effects += effects
        verdict.repeats += max(0, effects - 1)
        told_uncertain = told_uncertain or any(act.state == "uncertain" for act in acts)
        for what in _judge_invoice(one.variant, acts, calls, effects):
            wrong(f"{invoice} {what}")
    if one.told is not None:
        _judge_answer(one, one.told, told_uncertain=told_uncertain, wrong=wrong)


def _judge_invoice(variant: str, acts: Sequence[look.Act], calls: int, effects: int) -> Iterator[str]:
    """What is wrong about one invoice."""
    pays = [act for act in acts if act.function == "pay"]
    is_uncertain = any(act.state == "uncertain" for act in acts)
    if len(acts) - len(pays) > 1 or len(pays) > 1:
        yield f"is planned more than once: {[act.key for act in acts]}"
    if variant == "once":
        if effects != 1:
            yield f"was paid {effects} times, in {calls} calls"
        if is_uncertain:
            yield "is uncertain, though its function honours keys"
        return
    if calls > 1 or effects > 1:
        yield f"was called {calls} times, paid {effects} times"
    if any(act.state == "done" for act in pays) and effects != 1:
        yield f"is done and was paid {effects} times"
    if not pays and not is_uncertain:
        yield "is missing from the journal, and not uncertain"


def _judge_answer(one: Asked, told: Told, *, told_uncertain: bool, wrong: object) -> None:
    assert callable(wrong)
    if not told.text.startswith("Done: "):
        wrong(f"the answer is {told.text!r}")
    if told_uncertain != (UNCERTAIN in told.text):
        wrong(f"uncertain in the journal: {told_uncertain}; the answer is {told.text!r}")
    if told_uncertain and UNCERTAIN not in told.traces:
        wrong("the trace does not say that it is uncertain")
