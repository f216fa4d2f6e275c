"""What the operations about turns share: a turn of the caller's account, how it is told, and waiting for it.

How a turn is told in words and figures is the Hall's: notices carry the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from outcrop.errors import InternalServerException, ResourceNotFoundException
from outcrop.ids import TurnId
from outcrop.operations.context import Context
from outcrop.operations.registry import Result
from outcrop.orchestration import describing
from outcrop.orchestration.definition import Identity
from outcrop.orchestration.queueing import is_token
from outcrop.orchestration.retelling import Retold
from outcrop.orchestration.turns import JournalTooNew
from outcrop.sessions.entries import OpenTurn
from outcrop.sessions.outlines import Outline


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
    return describing.summary(turn, Identity(**await context.engine.outlines.identity(turn.digest)))


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
