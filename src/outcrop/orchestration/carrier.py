"""The turns that this process carries: a task each, from where the turn is to where it ends, waits or pauses.

    carry -- task: run --.-- Ended    -> pages.end with the session's history -> Answered | Failed
                         |-- Awaiting -> pages.suspend                        -> ControlReturned
                         `-- Paused   -> pages.pause                          -> Failed, for this call

A turn's task does not depend on a listener: a client that hangs up half-way leaves a turn that
ends and is kept. What cannot be carried to its end here is released, for whoever sees it next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from outcrop.clock import Clock
from outcrop.errors import ConflictException, InternalServerException
from outcrop.events import Event
from outcrop.ids import TurnId, born, invocation_id
from outcrop.orchestration.channel import Channel
from outcrop.orchestration.encoding import encode_ending
from outcrop.orchestration.history import kept as left_by
from outcrop.orchestration.metering import Meter
from outcrop.orchestration.performer import Performer
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.retelling import PAUSED, STOPPED, why_left
from outcrop.orchestration.return_control import asked
from outcrop.orchestration.runner import Awaiting, Ended, Paused, Pending, run
from outcrop.orchestration.strategy import Strategy
from outcrop.orchestration.telling import last_word
from outcrop.orchestration.turn import CANNED, Fail, Finish, Opening, Pause, Turn, fault_of
from outcrop.sessions.entries import Moved, OpenTurn
from outcrop.sessions.pages import Pages
from outcrop.sessions.spend import together
from outcrop.sessions.state import Session, saving, waiting
from outcrop.storage.database import Unavailable

LOG = logging.getLogger("outcrop.turns")
Observer = Callable[[Event], None]
AsLeft = Callable[[Session, OpenTurn], Awaitable[Turn]]
"""A turn as its journal has it, with a result for every call: uncertain where it was under way."""

STOPPING = "The server is stopping. Retry the request on the same session."
MOVED = "The turn goes on at another server. Retry the request to join it."
AWAY = "The turn could not be written down and goes on later. Retry the request to join it."
_MOST_LEASES = 5
"""How often a turn that makes the engine fail is taken up again before it fails for good."""


@dataclass(slots=True)
class Carried:
    """One turn while this process carries it. `call` is the number of the call that feeds it, from 0."""

    turn: Turn
    session: Session
    pages: Pages
    policy: Policy
    strategy: Strategy
    channel: Channel
    meter: Meter | None = None
    call: int = 0
    stopped: str = ""
    began: float = 0.0
    limit: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(None))
    task: asyncio.Task[None] | None = None
    is_lost: bool = False
    _entered: bool = False

    def lose(self) -> None:
        """Give the turn up to the worker that has taken it over, also where nothing is written for a while."""
        self.is_lost = True
        if self.task is not None:
            self.task.cancel()

    def stop(self, how: str) -> None:
        """End the turn as soon as what is under way lets go, within moments."""
        self.stopped = how
        if self._entered and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time())

    @property
    def given_s(self) -> float:
        """How many seconds the turn's own deadline leaves it from where it was taken up; without one, no end."""
        deadline_s = self.turn.opening.deadline_s
        return inf if deadline_s is None else max(0.0, born(self.turn.id) + deadline_s - self.began)

    async def __aenter__(self) -> None:
        await self.limit.__aenter__()
        self._entered = True
        self.limit.reschedule(asyncio.get_running_loop().time() + min(self.policy.max_seconds, self.given_s))

    async def __aexit__(self, *raised: Any) -> bool | None:
        self._entered = False
        return await self.limit.__aexit__(*raised)


class Carrier:
    """Carries turns; one instance per engine."""

    def __init__(
        self,
        performer: Performer,
        clock: Clock,
        observers: Sequence[Observer],
        as_left: AsLeft,
        on_rest: Callable[[TurnId], None],
    ) -> None:
        """Take what turns need; observers see every event of every turn, `on_rest` hears of each that rests."""
        self._performer = performer
        self._clock = clock
        self._observers = observers
        self._as_left = as_left
        self._on_rest = on_rest
        self._carried: dict[TurnId, Carried] = {}
        self._coming: set[TurnId] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._dropped: list[Pages] = []

    def __len__(self) -> int:
        """How many turns are under way here, or about to be."""
        return len(self._carried) + len(self._coming)

    @contextmanager
    def taking(self, turn_id: TurnId) -> Generator[None]:
        """From before a turn is taken up in the journal until it is carried: nobody else here takes it meanwhile.

        What a write that is tried again finds under its lease is its own only because of that.

        Errors: Moved when it is carried here, or about to be.
        """
        if self.is_here(turn_id):
            raise Moved(turn_id)
        self._coming.add(turn_id)
        try:
            yield
        finally:
            self._coming.discard(turn_id)

    def is_here(self, turn_id: TurnId) -> bool:
        """Whether a turn is carried here, or about to be."""
        return turn_id in self._carried or turn_id in self._coming

    def find(self, turn_id: TurnId) -> Carried | None:
        """A turn that is under way here, or None."""
        return self._carried.get(turn_id)

    def carry(self, one: Carried, pending: Pending | None) -> Channel:
        """Start the task of a turn; `pending` is the step that its journal ends with."""
        self._carried[one.turn.id] = one
        one.task = self.spawn(self._run(one, pending))
        return one.channel

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside its caller, and let `close` wait for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def release_dropped(self) -> None:
        """Let go of turns whose journal could not be written, so that somebody goes on with them.

        Errors: Unavailable; they stay dropped then.
        """
        # Several may be at it at once, and more may come meanwhile.
        for pages in list(self._dropped):
            await pages.release()
            if pages in self._dropped:
                self._dropped.remove(pages)

    async def close(self, grace_s: float) -> None:
        """Let the turns under way end, for at most that long; what is left then goes on elsewhere, or later."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, one: Carried, pending: Pending | None) -> None:
        turn = one.turn
        one.began = self._clock.now()

        def emit(event: Event) -> None:
            for observe in self._observers:
                observe(event)
            one.channel.emit(event)

        try:
            final = await self._to_the_end(one, emit, pending)
        except asyncio.CancelledError:
            if one.is_lost:
                LOG.warning("turn=<%s> | another worker carries it now", turn.id)
                final = self._told(one, _broken(MOVED))
            else:
                LOG.warning("turn=<%s> | stopped at step %d; its journal is kept", turn.id, turn.ordinal)
                final = await self._let_go(one, STOPPING)
        except Moved:
            LOG.warning("turn=<%s> | another worker carries it now", turn.id)
            final = self._told(one, _broken(MOVED))
        except Unavailable:
            LOG.exception("turn=<%s> | the database stayed away at step %d", turn.id, turn.ordinal)
            final = await self._let_go(one, AWAY)
        except Exception:
            LOG.exception("turn=<%s> | the engine failed", turn.id)
            final = await self._give_up(one)
        # Free before the last event is out, so that whoever reads it may call again at once.
        if self._carried.get(turn.id) is one:
            del self._carried[turn.id]
        emit(final)
        one.channel.close()
        self._on_rest(turn.id)

    async def _to_the_end(self, one: Carried, emit: Observer, pending: Pending | None) -> Event:
        turn = one.turn
        if one.stopped:
            return await self._cut_short(one)  # before anything is done for it
        try:
            async with one:
                result = await run(turn, one.strategy, self._performer, one.pages, self._clock, emit, pending=pending)
        except TimeoutError:
            if not one.limit.expired():
                raise
            return await self._cut_short(one)
        now = self._clock.now()
        match result:
            case Awaiting():
                invocation = invocation_id(turn.id, turn.ordinal)
                also = waiting(one.session, turn.id, turn.session_attributes, now)
                await one.pages.suspend(result.unwritten, invocation, now, also)
                return asked(turn, result.owed, invocation, now)
            case Paused(step=step):
                also = waiting(one.session, turn.id, turn.session_attributes, now)
                await one.pages.pause(result.unwritten, {"reason": step.reason, "detail": step.detail}, now, also)
                return self._told(one, _paused(turn.id, step))
            case _:
                return await self._end(one, result, "done" if isinstance(result.step, Finish) else "failed")

    async def _cut_short(self, one: Carried) -> Event:
        """End a turn that was stopped, or by its limit; what its journal says was done or begun is kept."""
        open_turn = await one.pages.written()
        if open_turn is None:
            raise Moved(one.turn.id)
        one.turn = await self._as_left(one.session, open_turn)
        if one.meter is not None:
            one.meter.turn = one.turn
        if one.stopped:
            reason = why_left(open_turn) or STOPPED.get(one.stopped, "The turn was stopped.")
            step = Fail(499, reason, ConflictException(f"{reason} (turn {one.turn.id})"))
            return await self._end(one, Ended(step, ()), "abandoned")
        if one.given_s < one.policy.max_seconds:
            step = too_late(one.turn.opening)
        else:
            step = Fail(408, f"The turn reached its limit of {one.policy.max_seconds:g} seconds.", canned=CANNED)
        return await self._end(one, Ended(step, ()), "failed")

    async def _end(self, one: Carried, ended: Ended, state: Literal["done", "failed", "abandoned"]) -> Event:
        """Close the turn and append it to the session, in one commit, before anybody is told."""
        now, turn, step = self._clock.now(), one.turn, ended.step
        ending = {**encode_ending(step), **usage(turn)}
        also = saving(one.session, turn.session_attributes, left_by(turn, step), now, unheard=turn.id)
        if one.meter is not None:
            also = together(also, one.meter.spending())
        await one.pages.end(state, ended.unwritten, ending, now, also)
        one.channel.is_over = True
        return self._told(one, step)

    async def _let_go(self, one: Carried, why: str) -> Event:
        """Leave a turn to whoever sees it next."""
        self._dropped.append(one.pages)
        try:
            async with asyncio.timeout(1.0):
                await self.release_dropped()
        except (Unavailable, TimeoutError):
            LOG.warning("turn=<%s> | not released; others take it over when its lease is over", one.turn.id)
        return self._told(one, _broken(why))

    async def _give_up(self, one: Carried) -> Event:
        """A turn that makes the engine fail is tried again a few times, then it fails."""
        step = Fail(500, "An internal error occurred.", InternalServerException())
        if one.pages.lease - one.call < _MOST_LEASES:
            await self._let_go(one, step.reason)
            return self._told(one, step)
        try:
            return await self._end(one, Ended(step, ()), "failed")
        except (Moved, Unavailable):
            return self._told(one, step)
        except Exception:
            LOG.exception("turn=<%s> | what it leaves cannot be kept; its session stays as it was", one.turn.id)
            return await self._end_bare(one, step)

    async def _end_bare(self, one: Carried, step: Fail) -> Event:
        """Close a turn that leaves nothing, so that nothing it did can keep it from ending."""
        now = self._clock.now()
        also = saving(one.session, one.session.attributes, (), now, unheard=one.turn.id)
        try:
            await one.pages.end("failed", (), {**encode_ending(step), **usage(one.turn)}, now, also)
            one.channel.is_over = True
        except Exception:
            LOG.exception("turn=<%s> | it cannot be ended", one.turn.id)
        return self._told(one, step)

    def _told(self, one: Carried, step: Finish | Fail) -> Event:
        turn = one.turn
        return last_word(step, turn.iteration, one.began, self._clock.now(), streams=turn.opening.stream_answer)


def usage(turn: Turn) -> dict[str, int]:
    """What a turn has used, as it is journalled with its end."""
    return {
        "inputTokens": turn.input_tokens,
        "outputTokens": turn.output_tokens,
        "modelCalls": turn.iteration,
        "toolCalls": turn.tool_calls,
    }


def too_late(opening: Opening) -> Fail:
    """How a turn ends that did not within the time that it was given."""
    return Fail(408, f"The turn did not end within the {opening.deadline_s:g} seconds it was given.", canned=CANNED)


def _broken(why: str) -> Fail:
    return Fail(500, why, InternalServerException(why))


def _paused(turn_id: TurnId, step: Pause) -> Fail:
    detail = PAUSED.format(turn_id=turn_id, reason=step.reason, detail=step.detail)
    return Fail(402, detail, fault_of("ServiceQuotaExceededException", detail))
