"""What InvokeAgent and InvokeInlineAgent share: a session, a turn on it, and the turn's events as stream members.

open the session -> end it | resume the turn that waits | join the one that answers this already | begin a new one
events           -> ("trace" | "chunk" | "returnControl", member), or a fault that ends the stream
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outcrop.errors import (
    ConflictException,
    DependencyFailedException,
    InternalServerException,
    NotImplementedException,
    RoomError,
    ThrottlingException,
    ValidationException,
)
from outcrop.events import Answered, ControlReturned, Event, Failed, TextStreamed
from outcrop.ids import SessionKey, TurnId
from outcrop.operations.context import Context
from outcrop.operations.registry import Batch, Stream
from outcrop.orchestration.definition import Definition, Identity
from outcrop.orchestration.encoding import opening_of as stored_opening
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.queueing import is_token
from outcrop.orchestration.return_control import ResultsMistaken
from outcrop.orchestration.turn import Opening
from outcrop.orchestration.turns import JournalTooNew, Listener, TooManyTurns
from outcrop.sessions.entries import Moved, OpenTurn
from outcrop.sessions.state import Session
from outcrop.telemetry.aws_trace import TraceReader

TERMINATED = "Session is terminated as 'endSession' flag is set in request."
_MOST_CHUNK_BYTES = 1_000_000
_FRESH_S = 2.0
_HEARD_LOOKS, _HEARD_LOOK_S = 10, 0.025
_MOST_LOOKS = 8
"""How often a call looks again at a session that changes under its hands."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of an agent, stored or inline.

    Shapes: ask is the operation's input; state its sessionState or inlineSessionState, {} where absent.
    """

    context: Context
    ask: Mapping[str, Any]
    state: Mapping[str, Any]
    definition: Definition
    key: SessionKey
    idle_ttl_s: int

    @property
    def policy(self) -> Policy:
        """What the agent's owner wants of calls like this one."""
        return self.context.engine.policy_of(self.definition.identity)


async def converse(call: Invocation) -> Stream:
    """The answer to one call, as a stream that a turn feeds.

    Errors: ValidationException, ConflictException, NotImplementedException, ThrottlingException; nothing has happened
            then.
    """
    _check(call)
    head = {"contentType": "application/json", "sessionId": call.ask["sessionId"]}
    if call.ask.get("memoryId"):
        head["memoryId"] = call.ask["memoryId"]
    try:
        listener = await answering(call)
    except SessionBusy as busy:
        if call.policy.busy_session != "enqueue":
            raise ConflictException(
                f"Session {call.ask['sessionId']} has a request in progress. Retry when it has ended."
            ) from busy
        listener = Queued(call, busy.turn_id)

    hearing = Hearing(listener)

    def delivered() -> None:
        if listener.is_over and not hearing.is_late:
            call.context.engine.turns.heard(call.key, listener.turn_id)

    return Stream(head, _members(call, hearing), delivered)


def _check(call: Invocation) -> None:
    """What the service model cannot say."""
    for member in ("files", "knowledgeBaseConfigurations"):
        if call.state.get(member):
            raise NotImplementedException(f"sessionState.{member} is not implemented.")
    has_results = bool(call.state.get("returnControlInvocationResults"))
    if not call.ask.get("inputText") and not has_results and not call.ask.get("endSession"):
        raise ValidationException(
            "Provide inputText, sessionState.returnControlInvocationResults, or endSession.",
            fieldList=[{"name": "inputText", "message": "required unless results are returned or the session ends"}],
        )


# which turn answers ------------------------------------------------------------------------------


class SessionBusy(RoomError):
    """A turn of the session is under way that answers something else."""

    def __init__(self, turn_id: TurnId) -> None:
        """Name that turn."""
        self.turn_id = turn_id
        super().__init__(turn_id)


@dataclass(slots=True)
class Hearing:
    """What answers a call. `is_late` once the call was answered without it, so that its end was not heard."""

    listener: Listener
    is_late: bool = False


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
    return await _queued(call) or await _begin(call, session, open_turn)


async def _begin(call: Invocation, session: Session, open_turn: OpenTurn | None) -> Listener:
    """A new turn; one that waits or is paused is left for it."""
    turns = call.context.engine.turns
    if open_turn is not None and open_turn.state == "running":
        await _not_now(call, open_turn)
    if open_turn is not None and not open_turn.is_over:
        session = await turns.leave(session, open_turn)
    opening = opening_of(call, call.state.get("sessionAttributes", session.attributes))
    return await turns.begin(session, call.definition, opening, retry_key=call.context.retry_key)


async def _queued(call: Invocation) -> Listener | None:
    """The turn that was started before this call and waits for a worker, where it answers this call too.

    Errors: SessionBusy where it does not, and has to come first.
    Source: docs/behaviour/background-turns.md 2 (inferred)
    """
    engine = call.context.engine
    first = await engine.journal.first_queued(call.key)
    if first is None or call.policy.busy_session == "interrupt":
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
            stream_answer=_streams(call),
            # A client token stays with its turn: sent again, it still starts no second one.
            retry_key=open_turn.retry_key if is_token(open_turn.retry_key) else call.context.retry_key,
        )
    except ResultsMistaken as error:
        raise ValidationException(str(error)) from error


def _streams(call: Invocation) -> bool:
    return bool(call.ask.get("streamingConfigurations", {}).get("streamFinalResponse"))


def opening_of(call: Invocation, session_attributes: Mapping[str, str]) -> Opening:
    """What a call asks of its turn."""
    prompt = call.ask.get("promptCreationConfigurations", {})
    return Opening(
        input_text=call.ask["inputText"],
        session_id=call.ask["sessionId"],
        session_attributes=session_attributes,
        prompt_session_attributes=call.state.get("promptSessionAttributes", {}),
        previous_turns=prompt.get("previousConversationTurnsToInclude"),
        exclude_thinking=bool(prompt.get("excludePreviousThinkingSteps")),
        stream_answer=_streams(call),
        deadline_s=call.ask.get("deadlineSeconds"),
    )


def seed_of(state: Mapping[str, Any]) -> list[Any]:
    """The messages that a caller wants a session to begin with, none where the session's own hold."""
    return list(state.get("conversationHistory", {}).get("messages", ()))


# events out --------------------------------------------------------------------------------------


async def _members(call: Invocation, hearing: Hearing) -> AsyncIterator[Batch]:
    common = envelope(call.definition.identity, call.ask["sessionId"])
    reader = TraceReader(common, call.context.request_id) if call.ask.get("enableTrace") else None
    async for events in _until_the_deadline(call, hearing):
        batch: Batch = []
        for event in events:
            if reader is not None:
                batch += [("trace", part) for part in reader.feed(event)]
            batch += shown(event)
            if isinstance(event, Failed) and event.fault is not None:
                if batch:
                    yield batch
                raise event.fault
        if batch:
            yield batch


async def _until_the_deadline(call: Invocation, hearing: Hearing) -> AsyncIterator[list[Event]]:
    """A turn's events for as long as one call may last; the turn goes on after it, or stops, as the policy says.

    Errors: DependencyFailedException naming the turn.
    """
    listener = hearing.listener
    seconds, batches = call.policy.call_deadline_s, listener.batches()
    until = asyncio.get_running_loop().time() + seconds if seconds else None
    while True:
        try:
            async with asyncio.timeout_at(until):
                events = await anext(batches, None)
        except TimeoutError:
            stops = await _stops(call, listener)
            hearing.is_late = not stops
            raise _late(listener.turn_id, seconds, stops=stops) from None
        if events is None:
            return
        yield events


async def _stops(call: Invocation, listener: Listener) -> bool:
    """Whether the turn is stopped with its call, and has ended by that; one that the call only waits for is not."""
    is_waited_for = isinstance(listener, Queued) and not listener.has_begun
    if call.policy.at_call_deadline != "stop" or is_waited_for:
        return False
    turns = call.context.engine.turns
    await turns.stop(listener.turn_id, "deadline")
    await turns.settled(listener.turn_id)
    place = await turns.watch.place(listener.turn_id)
    stopped = place is None or place[0] == "abandoned"
    listener.is_over = listener.is_over or stopped
    return stopped


def _late(turn_id: TurnId, seconds: float, *, stops: bool) -> DependencyFailedException:
    what = "It was stopped" if stops else "It goes on; retry the request to join it"
    return DependencyFailedException(
        f"Turn {turn_id} did not end within the {seconds:g} seconds of one call. {what}.",
        resourceName=f"turn/{turn_id}",
    )


def shown(event: Event) -> Batch:
    """The members that a caller gets whether or not it asked for traces."""
    match event:
        case TextStreamed():
            return _chunks(event.text)
        case Answered():
            return [] if event.streamed else _chunks(event.text)
        case Failed():
            return _chunks(event.canned) if event.fault is None else []
        case ControlReturned():
            asked = {"invocationId": event.invocation_id, "invocationInputs": list(event.invocation_inputs)}
            return [("returnControl", asked)]
        case _:
            return []


def _chunks(text: str) -> Batch:
    data = text.encode()
    if len(data) <= _MOST_CHUNK_BYTES:
        return [("chunk", {"bytes": data})]
    most = _MOST_CHUNK_BYTES // 4  # characters: at most four bytes each
    return [("chunk", {"bytes": text[at : at + most].encode()}) for at in range(0, len(text), most)]


def envelope(who: Identity, session_id: str) -> dict[str, Any]:
    """What every trace part of an agent's session begins with."""
    common: dict[str, Any] = {"callerChain": [{"agentAliasArn": who.alias_arn}], "sessionId": session_id}
    if not who.is_inline:
        common |= {"agentId": who.agent_id, "agentAliasId": who.alias_id, "agentVersion": who.version}
    return common
