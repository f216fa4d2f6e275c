"""StartTurn: a turn that goes on without its caller, kept before the call is answered.

results in sessionState -> the turn that waits for them goes on
inputText -> make way for it, as busySession says -> a queued turn -> a job -> some worker begins it
"""

from __future__ import annotations

import logging
from typing import Any

from outcrop.errors import ConflictException, InternalServerException, ThrottlingException
from outcrop.ids import TurnId
from outcrop.jobs.base import JobsInUse, JobsUnavailable
from outcrop.operations.answering import SessionBusy, answering
from outcrop.operations.background import owned, summary
from outcrop.operations.context import Context
from outcrop.operations.invocation import Invocation, opening_of, seed_of
from outcrop.operations.registry import Result, operation
from outcrop.operations.resource import invalid
from outcrop.operations.serving import invocation
from outcrop.orchestration.queueing import Asked, token_key
from outcrop.orchestration.turns import JournalTooNew
from outcrop.sessions.entries import Moved, OpenTurn
from outcrop.sessions.state import Session

LOG = logging.getLogger("outcrop.turns")
_MOST_LOOKS = 8
"""How often a call looks again at a session that changes under its hands."""


@operation("StartTurn")
async def start_turn(context: Context, ask: dict[str, Any]) -> Result:
    """The turn that was started, or that goes on with the results that were brought.

    Errors: ResourceNotFoundException; ValidationException naming the member; ConflictException when the session is
            busy; NotImplementedException; ThrottlingException; InternalServerException.
    Source: docs/behaviour/background-turns.md 1, 2 (inferred)
    """
    state = ask.get("sessionState", {})
    if state.get("returnControlInvocationResults"):
        turn_id = await _brought(await invocation(context, ask))
    elif ask.get("inputText"):
        turn_id = await _started(await invocation(context, ask))
    else:
        raise invalid("inputText", "inputText is required unless sessionState brings results.")
    return await summary(context, await owned(context, turn_id))


async def _brought(call: Invocation) -> TurnId:
    """The turn that goes on with its caller's results.

    Errors: ConflictException; the faults of `answering`.
    """
    try:
        return (await answering(call)).turn_id
    except SessionBusy as busy:
        raise _busy(call) from busy


async def _started(call: Invocation) -> TurnId:
    """A queued turn, the one that was queued with the same token before, or that one wherever it is by now.

    Errors: ConflictException; InternalServerException.
    """
    engine, context = call.context.engine, call.context
    # boto3 always sends a token; without one the turn is nobody's repetition.
    token = token_key(call.ask.get("clientToken") or f"request {context.request_id}")
    turn_id = await _with_way_made(call, token)
    if turn_id is None:
        asked = Asked(
            opening=opening_of(call, {}),
            session_attributes=call.state.get("sessionAttributes"),
            seed=seed_of(call.state),
            idle_ttl_s=call.idle_ttl_s,
        )
        turn_id, _ = await engine.queue.put(call.key, call.definition, asked, token=token)
    try:
        await engine.queue.submit(turn_id, context.access_key or call.definition.identity.agent_id)
    except JobsUnavailable:
        LOG.warning("turn=<%s> | queued; its job is submitted later", turn_id)
    except JobsInUse as error:
        raise InternalServerException(str(error)) from error
    return turn_id


async def _with_way_made(call: Invocation, token: str) -> TurnId | None:
    """Do with the session's turns what the caller wants; the turn that this call started before, where there is one.

    Errors: ConflictException when the session is busy; InternalServerException.
    """
    engine = call.context.engine
    for _ in range(_MOST_LOOKS):
        session, open_turn = await engine.sessions.open(call.key, call.idle_ttl_s, engine.clock.now())
        is_free = open_turn is None or open_turn.is_over
        queued = TurnId(session.queued) if session.queued else None
        if is_free and queued is None:
            return None
        # Looked for after the session: what keeps it busy may be this very call's turn.
        known = await engine.turns.retried(call.key, token)
        if known is not None:
            return known
        try:
            await _make_way(call, session, None if is_free else open_turn, queued)
        except Moved:
            continue
        except JournalTooNew as error:
            raise InternalServerException(str(error)) from error
        return None
    raise ThrottlingException(f"Session {call.ask['sessionId']} is changed by other requests. Retry later.")


async def _make_way(call: Invocation, session: Session, open_turn: OpenTurn | None, queued: TurnId | None) -> None:
    """Do with a session's turns what the caller wants.

    Errors: ConflictException where they come first and the caller does not wait; Moved; JournalTooNew.
    Source: docs/behaviour/background-turns.md 2 (inferred)
    """
    turns = call.context.engine.turns
    match call.ask.get("busySession") or call.policy.busy_session.upper():
        case "ENQUEUE":
            return
        case "INTERRUPT":
            if open_turn is not None:
                await turns.stop(open_turn.id, "interrupt")
        case _:
            if queued is not None or (open_turn is not None and open_turn.state == "running"):
                raise _busy(call)
            if open_turn is not None:
                await turns.leave(session, open_turn)


def _busy(call: Invocation) -> ConflictException:
    session = call.ask["sessionId"]
    return ConflictException(f"Session {session} has a turn under way. Retry when it has ended, or ENQUEUE this one.")
