"""The events of a turn, told again from its journal: for whoever joins late, reads them later, or from elsewhere.

    call 0: ModelCalled ... ControlReturned | call 1: ActionReturned ... ControlReturned | call 2: ... Answered

A turn that returned control was fed by several calls; each has its own part of the events. What
is told from a longer journal begins with what was told from a shorter one, so that a place in
the events stays good, on any machine. Pieces of streamed text are not journalled: the answer
comes whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from outcrop.events import Event, Failed
from outcrop.ids import invocation_id
from outcrop.orchestration.encoding import OWED, Page, Unfinished, decode_ending, pages
from outcrop.orchestration.performer import Owed
from outcrop.orchestration.return_control import asked
from outcrop.orchestration.telling import answered, called, last_word, request_of, returned, supplied, unreadable
from outcrop.orchestration.turn import CallModel, CallTools, Fail, ModelFailed, ModelReplied, Turn, fault_of
from outcrop.prompts.library import TemplateMistake
from outcrop.sessions.entries import OpenTurn
from outcrop.sessions.outlines import Outline

STOPPED = {
    "cancel": "The turn was cancelled.",
    "interrupt": "The turn was interrupted by a newer request of its session.",
    "deadline": "The turn was stopped at the deadline of its call.",
}
"""What is said of a turn that was stopped, by how it was."""
PAUSED = "The turn is paused: {reason}. {detail} Turn {turn_id} goes on when it is resumed."

_LEFT = "The turn was left for a newer request of its session."


@dataclass(slots=True)
class Retold:
    """A turn's events by call, and where it stands.

    Shapes: calls holds at least one list; unfinished is the step that has no whole outcome, and heard its branches
            whose results are among the events; `rests` where no more events come to the last call as things are: the
            turn waits, is paused, or has ended.
    """

    calls: list[list[Event]] = field(default_factory=lambda: [[]])
    unfinished: Unfinished | None = None
    heard: frozenset[int] = frozenset()
    rests: bool = False

    def tell(self, event: Event) -> None:
        """Append an event to the last call's."""
        self.calls[-1].append(event)

    @property
    def events(self) -> list[Event]:
        """All of them, in order."""
        return [event for call in self.calls for event in call]


def retell(turn: Turn, kept: OpenTurn) -> Retold:
    """What became of a turn so far; the fresh turn is brought to where its journal ends."""
    told = Retold()
    for page in pages(turn, kept.entries):
        if isinstance(page.step, CallModel):
            _retell_model(told, turn, page)
        else:
            _retell_tools(told, turn, page, kept)
        if page.outcome is None:
            told.unfinished = Unfinished(page.step, page.known)
            break
        turn.apply(page.step, page.outcome)
    told.rests = kept.is_over or kept.state in ("awaiting", "paused")
    if kept.is_over:
        told.tell(final_word(kept, turn.iteration))
    return told


def final_word(kept: OpenTurn, model_calls: int = 0) -> Event:
    """How a turn ended, which its row alone tells, also where nobody can read its steps."""
    ending, at = kept.ending or {}, kept.finished_at or kept.started_at
    if "code" not in ending and "kind" not in ending:  # left by its caller, or forgotten with its session
        reason = _why_abandoned(kept)
        return last_word(Fail(499, reason, fault_of("ConflictException", reason)), model_calls, kept.started_at, at)
    return last_word(decode_ending(ending), ending.get("modelCalls", model_calls), kept.started_at, at)


def why_left(kept: OpenTurn | Outline) -> str:
    """What somebody said who stopped the turn, or wants it stopped; "" where nobody said anything."""
    return (kept.ending or {}).get("why", "")


def reason_of(kept: OpenTurn | Outline) -> str:
    """Why a turn is paused, failed or was cancelled, in a sentence; "" where it is none of these."""
    ending = kept.ending or {}
    if kept.state == "paused":
        return ": ".join(part for part in (ending.get("reason", ""), ending.get("detail", "")) if part)
    if kept.state not in ("failed", "abandoned"):
        return ""
    return ending["reason"] if "code" in ending else _why_abandoned(kept)


def _why_abandoned(kept: OpenTurn | Outline) -> str:
    return why_left(kept) or STOPPED.get((kept.ending or {}).get("reason", ""), _LEFT)


def paused_word(kept: OpenTurn, now: float) -> Failed:
    """What the caller of a paused turn is told; it is no event of the turn, which goes on later."""
    ending = kept.ending or {}
    detail = PAUSED.format(turn_id=kept.id, **{name: ending.get(name, "") for name in ("reason", "detail")})
    return Failed(0, kept.started_at, now, 402, detail, fault_of("ServiceQuotaExceededException", detail))


def _retell_model(told: Retold, turn: Turn, page: Page) -> None:
    assert isinstance(page.step, CallModel)
    row = page.rows[0]
    try:
        told.tell(called(page.step, turn, request_of(turn), row.started_at))
    except TemplateMistake:
        return  # no model was called: the turn failed by its template
    if isinstance(page.outcome, ModelReplied):
        told.tell(answered(page.step, page.outcome, row.started_at, row.finished_at or row.started_at))
    elif isinstance(page.outcome, ModelFailed) and not page.outcome.fault:
        told.tell(unreadable(page.step, page.outcome, row.started_at, row.finished_at or row.started_at))


def _retell_tools(told: Retold, turn: Turn, page: Page, kept: OpenTurn) -> None:
    """The calls that were carried out first, then what the caller was asked, what it brought, and what it allowed."""
    step, known = page.step, page.known
    assert isinstance(step, CallTools)
    told.heard = frozenset()
    asked_for = [branch for branch, call in enumerate(step.calls) if call.disposition in OWED or call.agreed]
    at_once = [branch for branch in range(len(step.calls)) if branch not in asked_for]
    if any(branch not in known for branch in at_once):
        return
    for branch in at_once:
        told.tell(returned(step.iteration, step.calls[branch], known[branch], turn))
    told.heard = frozenset(at_once)
    brought = [branch for branch in asked_for if branch in known and not step.calls[branch].agreed]
    allowed = [branch for branch in asked_for if step.calls[branch].agreed]
    # Journals of the first release have other ids than this one makes; the one that is awaited still counts.
    is_awaited = kept.state == "awaiting" and page.outcome is None
    invocation = kept.invocation_id if is_awaited else invocation_id(turn.id, turn.ordinal)
    # The last invocation stays with the turn: its caller was asked, also where it will never answer.
    if not asked_for or not (kept.invocation_id == invocation or brought or allowed):
        return
    owed = Owed(step, {branch: known[branch] for branch in at_once})
    told.tell(asked(turn, owed, invocation, page.rows[asked_for[0]].started_at))
    if not (brought or allowed):
        return
    told.calls.append([])
    for branch in brought:
        told.tell(supplied(step, branch, known[branch]))
    told.heard |= frozenset(brought)
    if all(branch in known for branch in allowed):
        for branch in allowed:
            told.tell(returned(step.iteration, step.calls[branch], known[branch], turn))
        told.heard |= frozenset(allowed)
