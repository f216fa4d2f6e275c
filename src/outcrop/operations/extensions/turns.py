"""GetTurn, ListTurns, CancelTurn and ResumeTurn: turns as they are, and what may be done to one."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from outcrop.errors import ConflictException, InternalServerException, ResourceNotFoundException
from outcrop.ids import INLINE_AGENT, TEST_ALIAS_ID, TurnId
from outcrop.jobs.base import JobsUnavailable
from outcrop.operations import names
from outcrop.operations.background import hear, owned, retold, summary, within
from outcrop.operations.context import Context
from outcrop.operations.registry import Result, operation
from outcrop.operations.resource import invalid, next_token, position
from outcrop.orchestration.describing import STATUSES, describe
from outcrop.orchestration.turns import JournalTooNew
from outcrop.sessions.entries import TurnState
from outcrop.sessions.outlines import NEWEST, Wanted
from outcrop.storage.documents import DocumentTransaction

_STATES: dict[str, TurnState] = {status: state for state, status in STATUSES.items()}
_MOST_LISTED = 100
_CANCEL_S = 2.0
"""How long a cancellation waits to be carried out, which elsewhere takes a beat, before it is answered."""
_ID = re.compile(r"[0-9A-Z]{10}")


@operation("GetTurn")
async def get_turn(context: Context, ask: dict[str, Any]) -> Result:
    """A turn as it is, once it rests or the time to wait is over.

    Errors: ResourceNotFoundException; InternalServerException where a newer release wrote the turn.
    Source: docs/behaviour/background-turns.md 3 (inferred)
    """
    turn_id = (await owned(context, ask["turnId"])).id
    await within(ask.get("waitSeconds", 0), lambda: context.engine.turns.settled(turn_id))
    kept, told = await retold(context, turn_id)
    definition = await context.engine.turns.definition(kept)
    result = describe(kept, told, definition, context.engine.models.price(definition.foundation_model))
    hear(context, kept)
    return result


@operation("ListTurns")
async def list_turns(context: Context, ask: dict[str, Any]) -> Result:
    """The caller's turns, newest first, as far as they are wanted.

    Errors: ValidationException naming agentAliasId or nextToken; ResourceNotFoundException where the agent or the
            alias is neither there nor an id that may have been there.
    Source: docs/behaviour/background-turns.md 5 (inferred)
    """
    if ask.get("agentAliasId") and not ask.get("agentId"):
        raise invalid("agentAliasId", "agentAliasId needs agentId beside it: aliases of two agents may be named alike.")
    agent, alias = await context.documents.read(lambda docs: _ids(docs, ask))
    session, status = ask.get("sessionId", ""), ask.get("status", "")
    scope = "/".join(("ListTurns", context.account_id, agent, alias, session, status))
    below = position(scope, ask.get("nextToken"))
    most: int = ask.get("maxResults") or _MOST_LISTED
    wanted = Wanted(context.account_id, agent, alias, session, _STATES.get(status, ""))
    before = NEWEST if below is None else TurnId(f"{below:032x}")
    found = await context.engine.outlines.newest(wanted, most + 1, before)
    result: Result = {"turnSummaries": [await summary(context, turn) for turn in found[:most]]}
    if len(found) > most:
        result["nextToken"] = next_token(scope, int(found[most - 1].id, 16))
    return result


@operation("CancelTurn")
async def cancel_turn(context: Context, ask: dict[str, Any]) -> Result:
    """The turn as it is once it was stopped, or as it is while the worker that carries it is told.

    Errors: ResourceNotFoundException; InternalServerException where a newer release wrote the turn.
    Source: docs/behaviour/background-turns.md 4 (inferred)
    """
    turns = context.engine.turns
    turn = await owned(context, ask["turnId"])
    settled = partial(turns.settled, turn.id)
    try:
        for _ in range(2):  # one that comes to rest before its worker hears of it is ended from here
            if turn.is_over or not await turns.stop(turn.id, "cancel", ask.get("reason", "")):
                break
            await within(_CANCEL_S, settled)
            turn = await owned(context, turn.id)
    except JournalTooNew as error:
        raise InternalServerException(str(error)) from error
    with suppress(JobsUnavailable):
        await context.engine.queue.cancel(turn.id)
    return await summary(context, await owned(context, turn.id))


@operation("ResumeTurn")
async def resume_turn(context: Context, ask: dict[str, Any]) -> Result:
    """The turn, which goes on.

    Errors: ResourceNotFoundException; ConflictException where it is not paused; InternalServerException where a newer
            release wrote it.
    Source: docs/behaviour/background-turns.md 4 (inferred)
    """
    turn = await owned(context, ask["turnId"])
    try:
        gone_on = turn.state == "paused" and await context.engine.turns.let_go_on(turn.id) is not None
    except JournalTooNew as error:
        raise InternalServerException(str(error)) from error
    turn = await owned(context, turn.id)
    if not gone_on:
        raise ConflictException(f"Turn {turn.id} is {STATUSES[turn.state]}. Only a PAUSED one can be resumed.")
    return await summary(context, turn)


def _ids(docs: DocumentTransaction, ask: dict[str, Any]) -> tuple[str, str]:
    """The ids of the agent and the alias that a list is of, "" for any; those of deleted ones still have turns.

    Errors: ResourceNotFoundException.
    """
    agent, alias = ask.get("agentId", ""), ask.get("agentAliasId", "")
    if agent == INLINE_AGENT and alias in ("", TEST_ALIAS_ID):
        return agent, ""
    agent_id = _id(agent, lambda: names.agent_id(docs, agent)) if agent else ""
    return agent_id, _id(alias, lambda: names.alias(docs, agent_id, alias)["agentAliasId"]) if alias else ""


def _id(given: str, find: Callable[[], str]) -> str:
    try:
        return find()
    except ResourceNotFoundException:
        if _ID.fullmatch(given):
            return given
        raise
