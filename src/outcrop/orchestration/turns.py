"""The turns of this process: begun, resumed, left and ended, each in a task of its own.

    begin  --.
    resume ---+-- task: run --.-- Ended    -> journal.end with the session's history -> Answered | Failed
                              `-- Awaiting -> journal.suspend                        -> ControlReturned

A turn's task does not depend on its listener: a client that hangs up half-way leaves a turn
that ends and is kept. A session has at most one turn under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from outcrop.clock import Clock
from outcrop.config import TurnSettings
from outcrop.errors import InternalServerException, RoomError
from outcrop.events import ActionReturned, Answered, ControlReturned, Event, Failed
from outcrop.ids import SessionKey, TurnId, request_id, turn_id
from outcrop.orchestration.channel import Channel
from outcrop.orchestration.definition import Definition, define
from outcrop.orchestration.encoding import (
    Unfinished,
    conclusion,
    decode_ending,
    encode_ending,
    intents,
    replay,
    uncertain,
)
from outcrop.orchestration.history import conversation, kept, left
from outcrop.orchestration.performer import Owed, Performer
from outcrop.orchestration.return_control import ResultsMistaken, asked, brought
from outcrop.orchestration.runner import Awaiting, Ended, Pending, run
from outcrop.orchestration.strategy import Strategy
from outcrop.orchestration.turn import CANNED, CallResult, CallTools, Fail, Finish, Opening, ToolsReturned, Turn
from outcrop.plugins import load
from outcrop.sessions.journal import Also, Journal, OpenTurn
from outcrop.sessions.state import Session, Sessions, saving, starting, waiting

LOG = logging.getLogger("outcrop.turns")
Observer = Callable[[Event], None]

_CANCELLED = "This action was cancelled: the user went on without it. It did not take place."
_MOST_HEARD = 4096
"""Turns remembered as heard: far more than can end while one call reads its session, which is all it takes."""
_STOPPING = "The server is stopping. Retry the request on the same session."


class SessionBusy(RoomError):
    """Another turn of the session is under way."""


class Turns:
    """Begins and resumes turns; one instance per engine."""

    def __init__(
        self,
        journal: Journal,
        sessions: Sessions,
        performer: Performer,
        clock: Clock,
        settings: TurnSettings,
        observers: Sequence[Observer],
    ) -> None:
        """Take the parts that turns need; observers see every event of every turn."""
        self._journal = journal
        self._sessions = sessions
        self._performer = performer
        self._clock = clock
        self._settings = settings
        self._observers = observers
        self._claimed: set[SessionKey] = set()
        self._heard: dict[TurnId, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # who may run --------------------------------------------------------------------------------

    def claim(self, key: SessionKey) -> None:
        """Take the session for one turn; `release` or the turn's end gives it back.

        Errors: SessionBusy.
        """
        if key in self._claimed:
            raise SessionBusy(key)
        self._claimed.add(key)

    def release(self, key: SessionKey) -> None:
        """Give back a session that was claimed and for which no turn was started."""
        self._claimed.discard(key)

    async def close(self, grace_s: float) -> None:
        """Let the turns under way end, for at most that long; what is left then goes on from its journal later."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # starting points ----------------------------------------------------------------------------

    def begin(self, session: Session, definition: Definition, opening: Opening) -> Channel:
        """A new turn on a claimed session."""
        now = self._clock.now()
        turn = Turn(turn_id(now), definition, opening, conversation(session, opening), now)
        session_row = starting(session, turn.id, now)
        first = self._journal.opening(turn.id, session.key, definition.kept, opening, now, session_row)
        return self._start(turn, session, opening=first)

    async def resume(
        self,
        session: Session,
        open_turn: OpenTurn,
        members: Sequence[Mapping[str, Any]],
        session_attributes: Mapping[str, str] | None,
        *,
        stream_answer: bool,
    ) -> Channel:
        """An awaiting turn with the results that its caller brought, on a claimed session.

        Errors: ResultsMistaken; the turn goes on waiting then.
        """
        now = self._clock.now()
        turn, unfinished = self._rebuild(session, open_turn, stream_answer=stream_answer)
        if unfinished is None or not isinstance(unfinished.step, CallTools):
            raise ResultsMistaken("sessionState.returnControlInvocationResults: nothing is awaited")
        got = brought(turn, unfinished.step, unfinished.known, members, now)
        results = _with_attributes(got.results, session_attributes)
        ordinal = turn.ordinal
        confirmed = [intent for intent in intents(got.step, ordinal) if intent.branch in got.confirmed]
        concluded = [conclusion(ordinal, branch, result) for branch, result in results.items()]
        also = starting(session, turn.id, now)
        await self._journal.resume(turn.id, concluded, confirmed, open_turn.invocation_id, now, also)
        known = {**unfinished.known, **results}
        if session_attributes is not None and not results:
            turn.session_attributes = session_attributes
        channel = self._start(turn, session, pending=Pending(got.step, known))
        for branch in sorted(results):
            channel.emit(_supplied(got.step, branch, results[branch]))
        return channel

    def recover(self, session: Session, open_turn: OpenTurn, *, stream_answer: bool) -> Channel:
        """A turn whose process died, on a claimed session: it goes on from its journal.

        A model call that was under way is made again; an action that was under way is not, its outcome
        is `uncertain`, and the model is told so.
        """
        turn, unfinished = self._rebuild(session, open_turn, stream_answer=stream_answer)
        pending: Pending | None = None
        if unfinished is not None:
            fresh: dict[int, CallResult] = {}
            if isinstance(unfinished.step, CallTools):
                fresh = uncertain(unfinished.step, unfinished.known, self._clock.now())
            pending = Pending(unfinished.step, unfinished.known, fresh)
        LOG.warning("turn=<%s> | recovered at step %d", turn.id, turn.ordinal)
        opening = starting(session, turn.id, self._clock.now())
        return self._start(turn, session, pending=pending, opening=opening)

    def ask_again(self, session: Session, open_turn: OpenTurn) -> Channel:
        """What a waiting turn asked its caller, once more, for a caller that did not hear it; the session is released.

        Source: docs/behaviour/invoke-agent.md 3.1 (inferred)
        """
        turn, unfinished = self._rebuild(session, open_turn, stream_answer=False)
        assert unfinished is not None, "a turn waits at a step"
        assert isinstance(unfinished.step, CallTools), "and at one that calls tools"
        channel = Channel(open_turn.id)
        owed = Owed(unfinished.step, unfinished.known)
        channel.emit(asked(turn, owed, open_turn.invocation_id, self._clock))
        channel.close()
        self.release(session.key)
        return channel

    def tell_again(self, session: Session, open_turn: OpenTurn) -> Channel:
        """How a turn ended, once more, for a caller that did not hear it; the session is released.

        Source: docs/behaviour/invoke-agent.md 11 (inferred)
        """
        assert open_turn.ending is not None, "a turn that has ended says how"
        channel, now = Channel(open_turn.id), self._clock.now()
        channel.emit(_final(decode_ending(open_turn.ending), open_turn.ending["modelCalls"], now, now))
        channel.is_over = True
        channel.close()
        self.release(session.key)
        return channel

    def was_heard(self, open_turn: OpenTurn) -> bool:
        """Whether the end of a turn is known to have reached its caller, and is only being written down."""
        return open_turn.id in self._heard

    def heard(self, key: SessionKey, turn_id: TurnId) -> None:
        """Note that the last word of a turn was handed to its caller; the database learns of it in its own time."""
        self._heard[turn_id] = None
        if len(self._heard) > _MOST_HEARD:
            self._heard.pop(next(iter(self._heard)))
        self._spawn(self._sessions.heard(key, turn_id))

    async def leave(self, session: Session, open_turn: OpenTurn) -> Session:
        """End a turn that its caller no longer wants; what was done so far stays in the session's history.

        Shapes: the session with the left turn's messages appended.
        Source: docs/behaviour/invoke-agent.md 3.1 (inferred)
        """
        now = self._clock.now()
        turn = self._as_left(session, open_turn, now)
        messages = left(turn)
        ending = {"reason": "left for a new input", **_usage(turn)}
        also = saving(session, turn.session_attributes, messages, now)
        await self._journal.end(turn.id, "abandoned", (), ending, now, also)
        return replace(session, history=[*session.history, messages], attributes=turn.session_attributes)

    def _as_left(self, session: Session, open_turn: OpenTurn, now: float) -> Turn:
        """A turn as its journal has it, with a result for every call: uncertain where it was under way."""
        turn, unfinished = self._rebuild(session, open_turn, stream_answer=open_turn.opening["stream_answer"])
        if unfinished is not None and isinstance(unfinished.step, CallTools):
            known = {**unfinished.known, **uncertain(unfinished.step, unfinished.known, now)}
            cancelled = CallResult("denied", _CANCELLED, now, now)
            results = tuple(known.get(branch, cancelled) for branch in range(len(unfinished.step.calls)))
            turn.apply(unfinished.step, ToolsReturned(results))
        return turn

    def _rebuild(self, session: Session, open_turn: OpenTurn, *, stream_answer: bool) -> tuple[Turn, Unfinished | None]:
        opening = replace(Opening(**open_turn.opening), stream_answer=stream_answer)
        definition = define(open_turn.definition)
        turn = Turn(open_turn.id, definition, opening, conversation(session, opening), open_turn.started_at)
        return turn, replay(turn, open_turn.entries)

    # the task -----------------------------------------------------------------------------------

    def _start(
        self, turn: Turn, session: Session, *, pending: Pending | None = None, opening: Also | None = None
    ) -> Channel:
        channel = Channel(turn.id)
        self._spawn(self._run(turn, session, channel, pending, opening))
        return channel

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside its caller, and let `close` wait for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self, turn: Turn, session: Session, channel: Channel, pending: Pending | None, opening: Also | None
    ) -> None:
        began = self._clock.now()

        def emit(event: Event) -> None:
            for observe in self._observers:
                observe(event)
            channel.emit(event)

        try:
            final = await self._to_the_end(turn, session, emit, pending, opening, began)
            channel.is_over = not isinstance(final, ControlReturned)
        except asyncio.CancelledError:
            LOG.warning("turn=<%s> | stopped at step %d; its journal is kept", turn.id, turn.ordinal)
            final = self._ended(turn, Fail(500, _STOPPING, InternalServerException(_STOPPING)), began)
        except Exception:
            LOG.exception("turn=<%s> | the engine failed", turn.id)
            final = self._ended(turn, Fail(500, "An internal error occurred.", InternalServerException()), began)
        # Free before the last event is out, so that whoever reads it may call again at once.
        self._claimed.discard(session.key)
        emit(final)
        channel.close()

    async def _to_the_end(
        self,
        turn: Turn,
        session: Session,
        emit: Observer,
        pending: Pending | None,
        opening: Also | None,
        began: float,
    ) -> Event:
        strategy: Strategy = load("outcrop.orchestration.strategies", turn.definition.strategy, "strategy")(
            self._settings.max_iterations
        )
        try:
            async with asyncio.timeout(self._settings.max_seconds):
                result = await run(
                    turn, strategy, self._performer, self._journal, self._clock, emit, pending=pending, opening=opening
                )
        except TimeoutError:
            return await self._out_of_time(turn, session, began)
        if isinstance(result, Awaiting):
            invocation = request_id()
            now = self._clock.now()
            also = waiting(session, turn.id, turn.session_attributes, now)
            await self._journal.suspend(turn.id, result.unwritten, invocation, now, also)
            return asked(turn, result.owed, invocation, self._clock)
        return await self._end(turn, session, result, began)

    async def _out_of_time(self, turn: Turn, session: Session, began: float) -> Event:
        """End a turn that was stopped by its limit; what its journal says was done or begun is kept."""
        reason = f"The turn reached its limit of {self._settings.max_seconds:g} seconds."
        open_turn = await self._journal.written(turn.id)
        if open_turn is not None:
            turn = self._as_left(session, open_turn, self._clock.now())
        return await self._end(turn, session, Ended(Fail(408, reason, canned=CANNED), ()), began)

    async def _end(self, turn: Turn, session: Session, ended: Ended, began: float) -> Event:
        """Close the turn and append it to the session, in one commit, before anybody is told."""
        now = self._clock.now()
        step = ended.step
        state: Literal["done", "failed"] = "done" if isinstance(step, Finish) else "failed"
        ending = {**encode_ending(step), **_usage(turn)}
        also = saving(session, turn.session_attributes, kept(turn, step), now, unheard=turn.id)
        await self._journal.end(turn.id, state, ended.unwritten, ending, now, also)
        return self._ended(turn, step, began)

    def _ended(self, turn: Turn, step: Finish | Fail, began: float) -> Event:
        return _final(step, turn.iteration, began, self._clock.now(), streams=turn.opening.stream_answer)


def _final(step: Finish | Fail, model_calls: int, began: float, at: float, *, streams: bool = False) -> Event:
    """The event that tells how a turn ended; the part of a streamed answer that went out is not told again."""
    iteration = max(model_calls - 1, 0)
    if isinstance(step, Fail):
        return Failed(iteration, began, at, step.code, step.reason, step.fault, step.canned)
    return Answered(iteration, began, at, step.kind, step.text, streams and step.kind == "FINISH")


def _usage(turn: Turn) -> dict[str, int]:
    return {
        "inputTokens": turn.input_tokens,
        "outputTokens": turn.output_tokens,
        "modelCalls": turn.iteration,
        "toolCalls": turn.tool_calls,
    }


def _with_attributes(
    results: Mapping[int, CallResult], session_attributes: Mapping[str, str] | None
) -> dict[int, CallResult]:
    """Results with the caller's new session attributes on the last of them, so that they are journalled with it."""
    changed = dict(results)
    if session_attributes is not None and changed:
        last = max(changed)
        changed[last] = replace(changed[last], session_attributes=session_attributes)
    return changed


def _supplied(step: CallTools, branch: int, result: CallResult) -> ActionReturned:
    return ActionReturned(
        iteration=step.iteration,
        started_at=result.started_at,
        at=result.at,
        tool=step.calls[branch].name,
        call=None,
        text=result.text,
        kind="reprompt" if result.state == "reprompt" else "failure" if result.state == "failure" else "result",
        source="ACTION_GROUP",
    )
