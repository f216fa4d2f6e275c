"""Steps and outcomes as journal rows, and back: how a turn is rebuilt from its journal.

A step has one row per branch: one for a model call, one per tool call. Values go in as they
are (the journal writes dataclasses as JSON objects) and come back by their field names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from outcrop.orchestration.turn import (
    CallModel,
    CallResult,
    CallTools,
    Fail,
    Finish,
    ModelFailed,
    ModelReplied,
    Opening,
    Outcome,
    PlannedCall,
    Step,
    ToolsReturned,
    Turn,
    fault_of,
)
from outcrop.sessions.entries import Conclusion, Entry, Intent, OpenTurn

OWED = ("return_control", "confirm", "confirm_and_return")

UNCERTAIN = (
    "It is not known whether this action took place: the engine stopped while it was under way. "
    "Do not repeat it; tell the user that its outcome must be checked."
)

UNCERTAIN_FAILED = (
    "It is not known whether an action of this turn took place: the engine stopped while it was under way. "
    "Check its outcome before you ask for it again."
)


def intents(step: Step, ordinal: int) -> list[Intent]:
    """The rows that say what is about to be done; actions that the caller owes are `awaiting`."""
    if isinstance(step, CallModel):
        return [Intent(ordinal, 0, "CallModel", step)]
    assert isinstance(step, CallTools), "only steps that are performed are intended"
    return [
        Intent(ordinal, branch, "CallTools", call, "awaiting" if call.disposition in OWED else "intended")
        for branch, call in enumerate(step.calls)
    ]


def conclusion(ordinal: int, branch: int, result: CallResult) -> Conclusion:
    """The outcome of one tool call."""
    return Conclusion(ordinal, branch, result, "uncertain" if result.state == "uncertain" else "done")


def conclusions(ordinal: int, outcome: Outcome) -> list[Conclusion]:
    """The outcome of every branch of a step."""
    if isinstance(outcome, ToolsReturned):
        return [conclusion(ordinal, branch, result) for branch, result in enumerate(outcome.results)]
    return [Conclusion(ordinal, 0, outcome)]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The step at the end of a journal that has no whole outcome; known maps a branch to its result."""

    step: Step
    known: dict[int, CallResult]


def replay(turn: Turn, entries: Sequence[Entry]) -> Unfinished | None:
    """Bring a fresh turn to where its journal ends: every concluded step is applied, none is done again.

    Shapes: entries in order -> the step left open, or None where the next one is still to be decided.
    """
    for page in pages(turn, entries):
        if page.outcome is None:
            return Unfinished(page.step, page.known)
        turn.apply(page.step, page.outcome)
    return None


@dataclass(frozen=True, slots=True)
class Page:
    """One step of a journal. outcome is None where it has no whole one; known maps a branch to its result."""

    step: Step
    outcome: Outcome | None
    known: dict[int, CallResult]
    rows: Sequence[Entry]


def pages(turn: Turn, entries: Sequence[Entry]) -> Iterator[Page]:
    """The steps of a journal in order. Whoever reads them applies each to the turn before asking for the next."""
    for _, group in groupby(entries, key=lambda entry: entry.ordinal):
        rows = list(group)
        is_whole = all(row.outcome is not None for row in rows)
        known = {row.branch: _result(row) for row in rows if row.kind == "CallTools" and row.outcome is not None}
        yield Page(_step(rows, turn.iteration), _outcome(rows) if is_whole else None, known, rows)


def interrupted(step: CallTools, known: Mapping[int, CallResult]) -> list[int]:
    """The branches that were under way, or may have been, when whoever carried the turn was gone.

    Shapes: only calls that the engine carries out; what the caller owes is not among them.
    """
    return [branch for branch, call in enumerate(step.calls) if branch not in known and call.disposition == "execute"]


def uncertain(branches: Iterable[int], now: float, *, fails: bool = False) -> dict[int, CallResult]:
    """The results of calls of which it is not known whether they took place.

    Shapes: `fails` makes the turn fail by them, instead of going on with a model that knows.
    """
    fault, reason = ("DependencyFailedException", UNCERTAIN_FAILED) if fails else ("", "")
    return {branch: CallResult("uncertain", UNCERTAIN, now, now, fault=fault, reason=reason) for branch in branches}


def encode_ending(step: Finish | Fail) -> dict[str, Any]:
    """How a turn ended, as it is journalled."""
    if isinstance(step, Finish):
        return {"text": step.text, "kind": step.kind}
    told: dict[str, Any] = {"code": step.code, "reason": step.reason, "canned": step.canned}
    if step.fault is not None:
        told |= {"fault": step.fault.code, "message": step.fault.message, "members": step.fault.members}
    return told


def opening_of(kept: OpenTurn) -> Opening:
    """What a turn was asked. One that is queued, or left the queue without beginning, keeps more than that."""
    return Opening(**kept.opening.get("opening", kept.opening))


def decode_ending(ending: Mapping[str, Any]) -> Finish | Fail:
    """How a journalled turn ended."""
    if "kind" in ending:
        return Finish(ending["text"], ending["kind"])
    fault = fault_of(ending["fault"], ending["message"], ending["members"]) if "fault" in ending else None
    return Fail(ending["code"], ending["reason"], fault, ending["canned"])


def _step(rows: Sequence[Entry], iteration: int) -> Step:
    if rows[0].kind == "CallModel":
        return CallModel(**rows[0].intent)
    return CallTools(iteration - 1, tuple(PlannedCall(**row.intent) for row in rows))


def _outcome(rows: Sequence[Entry]) -> Outcome:
    if rows[0].kind == "CallTools":
        return ToolsReturned(tuple(_result(row) for row in rows))
    body: dict[str, Any] = rows[0].outcome or {}
    return ModelReplied(**body) if "message" in body else ModelFailed(**body)


def _result(row: Entry) -> CallResult:
    assert row.outcome is not None
    return CallResult(**row.outcome)
