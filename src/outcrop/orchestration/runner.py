"""The loop of a turn: decide, write down, perform, conclude. It fits on a screen.

    next(turn) --step--> journal.advance(outcomes so far, intents) --> perform --outcome--> apply --> next(turn)

The outcome of one step and the intent of the next are one commit. The loop ends with a
Finish or a Fail, or stops at a Pause or at actions that the caller owes; whoever called it
writes that down together with the session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from outcrop.clock import Clock
from outcrop.orchestration.encoding import conclusion, conclusions, intents
from outcrop.orchestration.performer import Emit, Owed, Performer
from outcrop.orchestration.strategy import Strategy
from outcrop.orchestration.turn import CallResult, Fail, Finish, Pause, Step, Turn
from outcrop.sessions.entries import Conclusion
from outcrop.sessions.pages import Pages


@dataclass(frozen=True, slots=True)
class Pending:
    """A step that was intended before and not concluded: what a resumed turn starts with.

    Shapes: known maps a branch to its journalled result; fresh to one that is known and not journalled yet, such
            as an `uncertain` one; the others are still to be carried out. heard are the branches whose results the
            caller was told, None where it was told all that are known.
    """

    step: Step
    known: Mapping[int, CallResult]
    fresh: Mapping[int, CallResult] = field(default_factory=dict[int, CallResult])
    heard: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn is over. `unwritten` are outcomes that belong into the commit that closes it."""

    step: Finish | Fail
    unwritten: Sequence[Conclusion]


@dataclass(frozen=True, slots=True)
class Awaiting:
    """The turn waits for its caller."""

    owed: Owed
    unwritten: Sequence[Conclusion]


@dataclass(frozen=True, slots=True)
class Paused:
    """The turn stops where it is; `unwritten` are outcomes that belong into the commit that says so."""

    step: Pause
    unwritten: Sequence[Conclusion]


async def run(
    turn: Turn,
    strategy: Strategy,
    performer: Performer,
    pages: Pages,
    clock: Clock,
    emit: Emit,
    *,
    pending: Pending | None = None,
) -> Ended | Awaiting | Paused:
    """A turn from where it is to where it ends, waits or pauses.

    Shapes: `pending` is the step to go on with; its intent is in the journal.
    Errors: what the journal raises; failures of models and tools are outcomes, not errors.
    """
    unwritten: list[Conclusion] = []
    known: Mapping[int, CallResult]
    heard: frozenset[int]
    while True:
        if pending is not None:
            step, known = pending.step, {**pending.known, **pending.fresh}
            heard = frozenset(known) if pending.heard is None else pending.heard
            found = [conclusion(turn.ordinal, branch, result) for branch, result in pending.fresh.items()]
            if found:
                # Before anything else: a row without an outcome would end every later replay at this step.
                await pages.advance(found, [], clock.now())
            pending = None
        else:
            step = await strategy.next(turn)
            known, heard = {}, frozenset()
            if isinstance(step, Pause):
                return Paused(step, unwritten)
            if isinstance(step, (Finish, Fail)):
                return Ended(step, unwritten)
            await pages.advance(unwritten, intents(step, turn.ordinal), clock.now())
        written = set(known)

        async def settle(
            branch: int, result: CallResult, ordinal: int = turn.ordinal, written: set[int] = written
        ) -> None:
            await pages.advance([conclusion(ordinal, branch, result)], [], clock.now())
            written.add(branch)

        outcome = await performer.perform(step, turn, emit, settle, known, heard)
        if isinstance(outcome, Owed):
            rest = [conclusion(turn.ordinal, b, r) for b, r in outcome.known.items() if b not in written]
            return Awaiting(outcome, rest)
        unwritten = [one for one in conclusions(turn.ordinal, outcome) if one.branch not in written]
        turn.apply(step, outcome)
