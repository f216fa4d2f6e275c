"""What InvokeAgent and InvokeInlineAgent share: a turn that answers, and its events as stream members.

    call -> answering: the turn that answers it -> events -> ("trace" | "chunk" | "returnControl", member)

A fault ends the stream, and so does the deadline of one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from outcrop.errors import (
    ConflictException,
    DependencyFailedException,
    NotImplementedException,
    ValidationException,
)
from outcrop.events import Answered, ControlReturned, Event, Failed, TextStreamed
from outcrop.ids import TurnId
from outcrop.operations.answering import Queued, SessionBusy, answering
from outcrop.operations.invocation import Invocation
from outcrop.operations.registry import Batch, Stream
from outcrop.orchestration.definition import Identity
from outcrop.orchestration.turns import Listener
from outcrop.telemetry.aws_trace import TraceReader

_MOST_CHUNK_BYTES = 1_000_000


@dataclass(slots=True)
class Hearing:
    """What answers a call. `is_late` once the call was answered without it, so that its end was not heard."""

    listener: Listener
    is_late: bool = False


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
