"""Which turn answers a call: its own, or one that is there already.

    open the session -> end it | resume the turn that waits | join the one that answers this already | begin a new one

Whoever loses a race for a session looks again, for all of it is decided in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from outcrop.errors import (
    ConflictException,
    InternalServerException,
    RoomError,
    ThrottlingException,
    ValidationException,
)
from outcrop.events import Event, TextStreamed
from outcrop.ids import TurnId
from outcrop.operations.invocation import Invocation, opening_of, seed_of
from outcrop.orchestration.encoding import opening_of as stored_opening
from outcrop.orchestration.queueing import is_token
from outcrop.orchestration.return_control import ResultsMistaken
from outcrop.orchestration.turns import JournalTooNew, Listener, TooManyTurns
from outcrop.sessions.entries import Moved, OpenTurn
from outcrop.sessions.state import Session

TERMINATED = "Session is terminated as 'endSession' flag is set in request."
_FRESH_S = 2.0
_HEARD_LOOKS, _HEARD_LOOK_S = 10, 0.025
_MOST_LOOKS = 8
"""How often a call looks again at a session that changes under its hands."""


class SessionBusy(RoomError):
    """A turn of the session is under way that answers something else."""

    def __init__(self, turn_id: TurnId) -> None:
        """Name that turn."""
        self.turn_id = turn_id
        super().__init__(turn_id)


class Terminated:
    """The answer to a call that ended its session: no turn."""

    turn_id = TurnId("")
    is_over = False

    async def batches(self) -> AsyncIterator[list[Event]]:
        """One sentence."""
        yield [TextStreamed(TERMINATED)]


class Queued:
    """A call that waits until the turn before it is over, in the order in which the calls came in to this process."""

    def __init__(self, call: Invocation, turn_id: TurnId) -> None:
        """Wait for that turn first."""
        self.turn_id = turn_id
        self.is_over = False
        self.has_begun = False
        self._call = call

    async def batches(self) -> AsyncIterator[list[Event]]:
        """The events of the call's own turn, once it has begun."""
        turns = self._call.context.engine.turns
        listener: Listener | None = None
        async with turns.line(self._call.key):
            while listener is None:
                await turns.ended(self.turn_id)
                try:
                    listener = await answering(self._call)
                except SessionBusy as busy:
                    self.turn_id = busy.turn_id
        self.turn_id, self.has_begun = listener.turn_id, True
        async for events in listener.batches():
            self.is_over = listener.is_over  # before they are told: a fault among them ends the telling
            yield events
        self.is_over = listener.is_over


async def answering(call: Invocation) -> Listener:
    """What answers a call: its own turn, or one that answers it already.

    Errors: SessionBusy; ThrottlingException; InternalServerException where a newer release wrote the turn;
            ConflictException; ValidationException for results that fit no turn.
    """
    try:
        for _ in range(_MOST_LOOKS):
            try:
                return await _find_or_begin(call)
            except Moved:
                continue  # another call or another worker got there first: look again what there is
    except TooManyTurns as error:
        raise ThrottlingException("This server carries as many turns as it may. Retry later.") from error
    except JournalTooNew as error:
        raise InternalServerException(str(error)) from error
    raise ConflictException(f"Session {call.ask['sessionId']} is changed by other requests. Retry later.")


async def _find_or_begin(call: Invocation) -> Listener:
    engine, ask = call.context.engine, call.ask
    turns = engine.turns
    again = await _retried(call)
    if again is not None:
        return again
    session, open_turn = await engine.sessions.open(call.key, call.idle_ttl_s, engine.clock.now())
    session = replace(session, idle_ttl_s=call.idle_ttl_s, seed=seed_of(call.state) or session.seed)
    if open_turn is not None and turns.was_heard(open_turn):
        open_turn = None
    if ask.get("endSession"):
        if open_turn is not None and open_turn.state == "running":
            await _not_now(call, open_turn)
        await engine.sessions.delete(session)
        return Terminated()
    if call.state.get("returnControlInvocationResults"):
        return await _resume(call, session, open_turn)
    if open_turn is not None and _asks_the_same(call, open_turn):
        if await _is_heard_soon(call, open_turn):
            raise Moved(open_turn.id)
        return await _once_more(call, open_turn)
    return await _queued(call, session) or await _begin(call, session, open_turn)


async def _begin(call: Invocation, session: Session, open_turn: OpenTurn | None) -> Listener:
    """A new turn; one that waits or is paused is left for it."""
    turns = call.context.engine.turns
    if open_turn is not None and open_turn.state == "running":
        await _not_now(call, open_turn)
    if open_turn is not None and not open_turn.is_over:
        session = await turns.leave(session, open_turn)
    opening = opening_of(call, call.state.get("sessionAttributes", session.attributes))
    return await turns.begin(session, call.definition, opening, retry_key=call.context.retry_key)


async def _queued(call: Invocation, session: Session) -> Listener | None:
    """The turn that was started before this call and waits for a worker, where it answers this call too.

    Errors: SessionBusy where it does not, and has to come first.
    Source: docs/behaviour/background-turns.md 2 (inferred)
    """
    engine, first = call.context.engine, TurnId(session.queued)
    if not first or call.policy.busy_session == "interrupt":
        return None
    kept = await engine.journal.find(first)
    if kept is None or stored_opening(kept).input_text != call.ask["inputText"]:
        raise SessionBusy(first)
    return engine.turns.follow(first, 0)


async def _retried(call: Invocation) -> Listener | None:
    """The turn that answers this very call already, where the SDK sends it once more."""
    context = call.context
    if context.attempt <= 1 or not context.retry_key:
        return None
    turn_id = await context.engine.turns.retried(call.key, context.retry_key)
    return None if turn_id is None else await _last_call(call, turn_id)


async def _last_call(call: Invocation, turn_id: TurnId) -> Listener:
    """The events of the last call of a turn, from its start."""
    turns = call.context.engine.turns
    found = await turns.retold(turn_id)
    if found is None:
        raise Moved(turn_id)
    return turns.follow(turn_id, len(found[1].calls) - 1)


def _asks_the_same(call: Invocation, open_turn: OpenTurn) -> bool:
    """Whether a turn answers this call: the same words, unless it has gone on since with results for the caller."""
    if call.context.retry_key and call.context.retry_key == open_turn.retry_key:
        return True
    was_resumed = open_turn.state == "running" and open_turn.invocation_id
    return open_turn.opening["input_text"] == call.ask["inputText"] and not was_resumed


async def _is_heard_soon(call: Invocation, open_turn: OpenTurn) -> bool:
    """Whether the end of a turn was heard at another server, which is only now being written down.

    A caller that says the same twice in a row, quickly and at two servers, means two turns. Where nothing comes in,
    it did not hear the first one.
    """
    engine = call.context.engine
    is_fresh = open_turn.finished_at is not None and engine.clock.now() - open_turn.finished_at < _FRESH_S
    if not engine.database.is_shared or not is_fresh or call.context.attempt > 1:
        return False
    for _ in range(_HEARD_LOOKS):
        await asyncio.sleep(_HEARD_LOOK_S)
        if await engine.sessions.named_turn(call.key) != open_turn.id:
            return True
    return False


async def _once_more(call: Invocation, open_turn: OpenTurn) -> Listener:
    """A turn whose caller asks for it again: the same words, or the same results, and it is not known to have heard."""
    if open_turn.state == "paused":
        channel = await call.context.engine.turns.let_go_on(open_turn.id)
        if channel is None:
            raise Moved(open_turn.id)
        return channel
    return await _last_call(call, open_turn.id)


async def _not_now(call: Invocation, open_turn: OpenTurn) -> None:
    """What becomes of a call while another turn of its session runs.

    Errors: SessionBusy where it may not interrupt it; Moved once it has.
    """
    turns = call.context.engine.turns
    if call.policy.busy_session != "interrupt":
        raise SessionBusy(open_turn.id)
    await turns.stop(open_turn.id, "interrupt")
    await turns.settled(open_turn.id)
    raise Moved(open_turn.id)


async def _resume(call: Invocation, session: Session, open_turn: OpenTurn | None) -> Listener:
    given = call.state.get("invocationId", "")
    if not given:
        raise ValidationException("sessionState.invocationId is required with returnControlInvocationResults.")
    if open_turn is None or open_turn.invocation_id != given:
        raise ValidationException(
            f"sessionState.invocationId: '{given}' is not pending; no invocation is pending in this session."
            if open_turn is None
            else f"sessionState.invocationId: '{given}' is not the pending invocation of this session."
        )
    if open_turn.state != "awaiting":
        return await _once_more(call, open_turn)
    try:
        return await call.context.engine.turns.resume(
            session,
            open_turn,
            call.state["returnControlInvocationResults"],
            call.state.get("sessionAttributes"),
            stream_answer=call.streams,
            # A client token stays with its turn: sent again, it still starts no second one.
            retry_key=open_turn.retry_key if is_token(open_turn.retry_key) else call.context.retry_key,
        )
    except ResultsMistaken as error:
        raise ValidationException(str(error)) from error
