"""What InvokeAgent and InvokeInlineAgent share: a session, a turn on it, and the turn's events as stream members.

open the session -> end it | resume the turn that waits | recover the one that died | begin a new one
events           -> ("trace" | "chunk" | "returnControl", member), or a fault that ends the stream
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outcrop.errors import ConflictException, NotImplementedException, ValidationException
from outcrop.events import Answered, ControlReturned, Event, Failed, TextStreamed
from outcrop.ids import SessionKey
from outcrop.operations.context import Context
from outcrop.operations.registry import Batch, Stream
from outcrop.orchestration.channel import Channel
from outcrop.orchestration.definition import Definition
from outcrop.orchestration.return_control import ResultsMistaken
from outcrop.orchestration.turn import Opening
from outcrop.orchestration.turns import SessionBusy
from outcrop.sessions.journal import OpenTurn
from outcrop.sessions.state import Session
from outcrop.telemetry.aws_trace import TraceReader

TERMINATED = "Session is terminated as 'endSession' flag is set in request."
_MOST_CHUNK_BYTES = 1_000_000


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


async def converse(call: Invocation) -> Stream:
    """The answer to one call, as a stream that a turn of its own feeds.

    Errors: ValidationException, ConflictException, NotImplementedException; nothing has happened then.
    """
    _check(call)
    head = {"contentType": "application/json", "sessionId": call.ask["sessionId"]}
    if call.ask.get("memoryId"):
        head["memoryId"] = call.ask["memoryId"]
    turns = call.context.engine.turns
    try:
        turns.claim(call.key)
    except SessionBusy as error:
        raise ConflictException(
            f"Session {call.ask['sessionId']} has a request in progress. Retry when it has ended."
        ) from error
    try:
        if call.ask.get("endSession"):
            await call.context.engine.sessions.delete(call.key)
            turns.release(call.key)
            return Stream(head, _terminated())
        channel = await _start(call)
    except BaseException:
        turns.release(call.key)
        raise

    def delivered() -> None:
        if channel.is_over:
            turns.heard(call.key, channel.turn_id)

    return Stream(head, _members(call, channel), delivered)


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


async def _start(call: Invocation) -> Channel:
    engine = call.context.engine
    session, open_turn = await engine.sessions.open(call.key, call.idle_ttl_s, engine.clock.now())
    session = replace(session, idle_ttl_s=call.idle_ttl_s, seed=_seed(call.state) or session.seed)
    streams = bool(call.ask.get("streamingConfigurations", {}).get("streamFinalResponse"))
    if call.state.get("returnControlInvocationResults"):
        return await _resume(call, session, open_turn, streams=streams)
    if open_turn is not None and not engine.turns.was_heard(open_turn):
        if open_turn.opening["input_text"] == call.ask["inputText"]:
            return _once_more(call, session, open_turn, streams=streams)
        if open_turn.ending is None:
            session = await engine.turns.leave(session, open_turn)
    return engine.turns.begin(session, call.definition, _opening(call, session, streams=streams))


def _once_more(call: Invocation, session: Session, open_turn: OpenTurn, *, streams: bool) -> Channel:
    """A turn whose caller asks for it again: the same words, or the same results, and it is not known to have heard."""
    turns = call.context.engine.turns
    match open_turn.state:
        case "running":
            return turns.recover(session, open_turn, stream_answer=streams)
        case "awaiting":
            return turns.ask_again(session, open_turn)
        case _:
            return turns.tell_again(session, open_turn)


async def _resume(call: Invocation, session: Session, open_turn: OpenTurn | None, *, streams: bool) -> Channel:
    turns = call.context.engine.turns
    given = call.state.get("invocationId", "")
    if not given:
        raise ValidationException("sessionState.invocationId is required with returnControlInvocationResults.")
    if open_turn is not None and turns.was_heard(open_turn):
        open_turn = None
    if open_turn is None or open_turn.invocation_id != given:
        raise ValidationException(
            f"sessionState.invocationId: '{given}' is not pending; no invocation is pending in this session."
            if open_turn is None
            else f"sessionState.invocationId: '{given}' is not the pending invocation of this session."
        )
    if open_turn.state != "awaiting":
        return _once_more(call, session, open_turn, streams=streams)
    try:
        return await turns.resume(
            session,
            open_turn,
            call.state["returnControlInvocationResults"],
            call.state.get("sessionAttributes"),
            stream_answer=streams,
        )
    except ResultsMistaken as error:
        raise ValidationException(str(error)) from error


def _opening(call: Invocation, session: Session, *, streams: bool) -> Opening:
    prompt = call.ask.get("promptCreationConfigurations", {})
    return Opening(
        input_text=call.ask["inputText"],
        session_id=call.ask["sessionId"],
        session_attributes=call.state.get("sessionAttributes", session.attributes),
        prompt_session_attributes=call.state.get("promptSessionAttributes", {}),
        previous_turns=prompt.get("previousConversationTurnsToInclude"),
        exclude_thinking=bool(prompt.get("excludePreviousThinkingSteps")),
        stream_answer=streams,
    )


def _seed(state: Mapping[str, Any]) -> list[Any]:
    return list(state.get("conversationHistory", {}).get("messages", ()))


# events out --------------------------------------------------------------------------------------


async def _terminated() -> AsyncIterator[Batch]:
    yield [("chunk", {"bytes": TERMINATED.encode()})]


async def _members(call: Invocation, channel: Channel) -> AsyncIterator[Batch]:
    reader = TraceReader(_envelope(call), call.context.request_id) if call.ask.get("enableTrace") else None
    async for events in channel.batches():
        batch: Batch = []
        for event in events:
            if reader is not None:
                batch += [("trace", part) for part in reader.feed(event)]
            batch += _told(event)
            if isinstance(event, Failed) and event.fault is not None:
                if batch:
                    yield batch
                raise event.fault
        if batch:
            yield batch


def _told(event: Event) -> Batch:
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


def _envelope(call: Invocation) -> dict[str, Any]:
    who = call.definition.identity
    envelope: dict[str, Any] = {
        "callerChain": [{"agentAliasArn": who.alias_arn}],
        "sessionId": call.ask["sessionId"],
    }
    if not who.is_inline:
        envelope |= {"agentId": who.agent_id, "agentAliasId": who.alias_id, "agentVersion": who.version}
    return envelope
