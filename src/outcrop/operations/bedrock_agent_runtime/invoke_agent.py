"""InvokeAgent: alias to version to definition, then one turn on the session."""

from __future__ import annotations

import asyncio
from typing import Any

from outcrop.errors import NotImplementedException, ResourceNotFoundException, ValidationException
from outcrop.ids import DRAFT, SessionKey
from outcrop.operations import names
from outcrop.operations.context import Context
from outcrop.operations.conversations import Invocation, converse
from outcrop.operations.registry import Stream, operation
from outcrop.orchestration.definition import Definition, NotYetSupported, define, stored
from outcrop.storage.documents import DocumentTransaction, Record
from outcrop.tools.base import SchemaMistake


@operation("InvokeAgent")
async def invoke_agent(context: Context, ask: dict[str, Any]) -> Stream:
    """The stream of one turn of a stored agent.

    Errors: ResourceNotFoundException; ValidationException when the agent or alias cannot serve; ConflictException
            when the session is busy; NotImplementedException.
    Source: docs/behaviour/invoke-agent.md 2, 4 (stated, observed, inferred: the page says which)
    """
    definition = await _definition(context, ask["agentId"], ask["agentAliasId"])
    who = definition.identity
    return await converse(
        Invocation(
            context=context,
            ask=ask,
            state=ask.get("sessionState", {}),
            definition=definition,
            key=SessionKey(f"{context.account_id}/{who.agent_id}/{who.alias_id}/{ask['sessionId']}"),
            idle_ttl_s=definition.idle_ttl_s or context.engine.config.turns.default_idle_session_ttl_s,
        )
    )


async def _definition(context: Context, agent: str, alias: str) -> Definition:
    """What the alias stands for right now; built once per version and revision."""
    known = context.engine.definitions

    def find(docs: DocumentTransaction) -> tuple[tuple[Any, ...], Record]:
        record = docs.get("agent-alias", f"{agent}/{alias}") or names.alias(docs, names.agent_id(docs, agent), alias)
        version = _serving_version(record)
        agent_id = record["agentId"]
        changed = docs.changed("agent-version", f"{agent_id}/{version}")
        if changed is None:
            raise _unprepared(names.agent(docs, agent_id), version)
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
        raise NotImplementedException(f"InvokeAgent does not implement {error} of this agent yet.") from error
    except SchemaMistake as error:
        raise ValidationException(f"The agent's action groups cannot be used: {error}") from error


def _serving_version(alias: Record) -> str:
    """The version that an alias routes to.

    Errors: ValidationException when the alias is not open for calls.
    Source: docs/behaviour/invoke-agent.md 8 (inferred)
    """
    status = alias["agentAliasStatus"]
    if status != "PREPARED":
        raise ValidationException(
            f"InvokeAgent operation can't be performed on AgentAlias when it is in {status} state."
        )
    if alias.get("aliasInvocationState") == "REJECT_INVOCATIONS":
        raise ValidationException(f"Agent alias {alias['agentAliasId']} is set to reject invocations.")
    return alias["routingConfiguration"][0]["agentVersion"]


def _unprepared(agent: Record, version: str) -> Exception:
    if version != DRAFT:
        return ResourceNotFoundException()
    state = str(agent["agentStatus"]).replace("_", " ").title()
    return ValidationException(
        f"InvokeAgent operation can't be performed on Agent when it is in {state} state. Prepare the agent first."
    )
