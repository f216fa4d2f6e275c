"""Which definition answers for an alias right now, and the session that a call of it belongs to.

InvokeAgent and StartTurn ask it. An alias leads to a version, a version to a definition, which is
built once and kept.
"""

from __future__ import annotations

import asyncio
from typing import Any

from outcrop.errors import NotImplementedException, ResourceNotFoundException, ValidationException
from outcrop.ids import DRAFT, SessionKey
from outcrop.operations import names
from outcrop.operations.context import Context
from outcrop.operations.invocation import Invocation
from outcrop.orchestration.definition import Definition, NotYetSupported, define, stored
from outcrop.storage.documents import DocumentTransaction, Record
from outcrop.tools.base import SchemaMistake


async def invocation(context: Context, ask: dict[str, Any]) -> Invocation:
    """A call of a stored agent, on its definition and in its session.

    Shapes: ask holds agentId, agentAliasId, sessionId and sessionState as InvokeAgent has them.
    Errors: ResourceNotFoundException; ValidationException when the agent or alias cannot serve;
            NotImplementedException.
    """
    definition = await _definition(context, ask["agentId"], ask["agentAliasId"])
    who = definition.identity
    return Invocation(
        context=context,
        ask=ask,
        state=ask.get("sessionState", {}),
        definition=definition,
        key=SessionKey(f"{context.account_id}/{who.agent_id}/{who.alias_id}/{ask['sessionId']}"),
        idle_ttl_s=definition.idle_ttl_s or context.engine.config.turns.default_idle_session_ttl_s,
    )


async def _definition(context: Context, agent: str, alias: str) -> Definition:
    """What the alias stands for right now; built once per version and revision."""
    known = context.engine.definitions

    def find(docs: DocumentTransaction) -> tuple[tuple[Any, ...], Record]:
        record = docs.get("agent-alias", f"{agent}/{alias}") or names.alias(docs, names.agent_id(docs, agent), alias)
        version = _serving_version(record, context.operation)
        agent_id = record["agentId"]
        changed = docs.changed("agent-version", f"{agent_id}/{version}")
        if changed is None:
            raise _unprepared(names.agent(docs, agent_id), version, context.operation)
        return (agent_id, record["agentAliasId"], version, changed), record

    key, record = await context.documents.read(find)
    found = known.get(key)
    if found is not None:
        return found
    version = await context.documents.read(lambda docs: docs.get("agent-version", f"{key[0]}/{key[2]}"))
    if version is None:
        raise ResourceNotFoundException
    try:
        kept = stored(version, record["agentAliasId"], record["agentAliasArn"])
        # In a thread, because a large schema takes a while to read; once per version.
        return known.keep(key, await asyncio.to_thread(define, kept))
    except NotYetSupported as error:
        raise NotImplementedException(f"{context.operation} does not implement {error} of this agent yet.") from error
    except SchemaMistake as error:
        raise ValidationException(f"The agent's action groups cannot be used: {error}") from error


def _serving_version(alias: Record, operation: str) -> str:
    """The version that an alias routes to.

    Errors: ValidationException when the alias is not open for calls.
    Source: docs/behaviour/invoke-agent.md 8 (inferred)
    """
    status = alias["agentAliasStatus"]
    if status != "PREPARED":
        raise ValidationException(
            f"{operation} operation can't be performed on AgentAlias when it is in {status} state."
        )
    if alias.get("aliasInvocationState") == "REJECT_INVOCATIONS":
        raise ValidationException(f"Agent alias {alias['agentAliasId']} is set to reject invocations.")
    return alias["routingConfiguration"][0]["agentVersion"]


def _unprepared(agent: Record, version: str, operation: str) -> Exception:
    if version != DRAFT:
        return ResourceNotFoundException()
    state = str(agent["agentStatus"]).replace("_", " ").title()
    return ValidationException(
        f"{operation} operation can't be performed on Agent when it is in {state} state. Prepare the agent first."
    )
