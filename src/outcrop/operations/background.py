"""What the operations about turns share: a turn of the caller's account, how it is told, and waiting for it.

Outline --summary--> TurnSummary        state, ending --reason, failure--> statusReason, TurnFailure
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from outcrop.clock import iso
from outcrop.errors import InternalServerException, ResourceNotFoundException
from outcrop.events import Failed
from outcrop.ids import INLINE_AGENT, TEST_ALIAS_ID, TurnId, born
from outcrop.operations.context import Context
from outcrop.operations.registry import Result
from outcrop.orchestration.queueing import is_token
from outcrop.orchestration.retelling import Retold, reason_of
from outcrop.orchestration.turns import JournalTooNew
from outcrop.sessions.journal import OpenTurn, TurnState
from outcrop.sessions.outlines import Outline

STATUSES: dict[TurnState, str] = {
    "queued": "QUEUED",
    "running": "RUNNING",
    "awaiting": "WAITING_FOR_INPUT",
    "paused": "PAUSED",
    "done": "COMPLETED",
    "failed": "FAILED",
    "abandoned": "CANCELLED",
}
"""TurnStatus by the journal's state."""
NO_EXCEPTION = "TurnFailed"
"""The code of a failure that InvokeAgent tells with a sentence instead of an exception."""
_STOPPING = "The turn is being stopped."


async def owned(context: Context, turn_id: str) -> Outline:
    """A turn of the caller's account.

    Errors: ResourceNotFoundException, also for another account's.
    """
    found = await context.engine.outlines.one(turn_id)
    if found is None or not found.session_key.startswith(f"{context.account_id}/"):
        raise ResourceNotFoundException(f"There is no turn {turn_id}.")
    return found


async def retold(context: Context, turn_id: str) -> tuple[OpenTurn, Retold]:
    """A turn with its events so far.

    Errors: ResourceNotFoundException; InternalServerException where a newer release wrote it.
    """
    try:
        found = await context.engine.turns.retold(TurnId(turn_id))
    except JournalTooNew as error:
        raise InternalServerException(str(error)) from error
    if found is None:
        raise ResourceNotFoundException(f"There is no turn {turn_id}.")
    return found


async def summary(context: Context, turn: Outline | OpenTurn) -> Result:
    """The members that every answer about a turn has."""
    _, agent, alias, session = turn.session_key.split("/", 3)
    told: Result = {
        "turnId": turn.id,
        "agentId": agent,
        # The sessions of inline agents have the agent's name in this place.
        "agentAliasId": TEST_ALIAS_ID if agent == INLINE_AGENT else alias,
        "sessionId": session,
        "status": STATUSES[turn.state],
        "createdAt": iso(born(turn.id)),
    }
    version = (await context.engine.outlines.identity(turn.digest))["version"]
    if version:
        told["agentVersion"] = version
    reason = reason_of(turn) or (_STOPPING if turn.stop and turn.state == "running" else "")
    if reason:
        told["statusReason"] = reason
    if turn.lease:
        told["startedAt"] = iso(turn.started_at)
    if turn.finished_at is not None:
        told["endedAt"] = iso(turn.finished_at)
    return told


def failure(event: Failed) -> dict[str, str]:
    """Why a turn ended without an answer."""
    if event.fault is None:
        return {"code": NO_EXCEPTION, "message": event.reason}
    return {"code": event.fault.code, "message": event.fault.message}


def hear(context: Context, turn: OpenTurn) -> None:
    """Note that the end of a turn without a caller was told, so that the same words on its session are a new turn.

    Source: docs/behaviour/background-turns.md 3 (inferred)
    """
    turns = context.engine.turns
    if turn.is_over and is_token(turn.retry_key) and not turns.was_heard(turn):
        turns.heard(turn.session_key, turn.id)


async def within(seconds: float, wait: Callable[[], Awaitable[Any]]) -> None:
    """Wait for something for at most that long; a server that stops does not wait.

    Errors: what the wait raises.
    """
    if seconds <= 0:
        return
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        return
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
