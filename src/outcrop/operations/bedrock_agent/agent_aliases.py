"""CreateAgentAlias, GetAgentAlias, UpdateAgentAlias, DeleteAgentAlias and ListAgentAliases.

An alias made or updated without routing cuts a new version from the prepared draft. The
built-in TSTALIASID can be read and nothing else; `names` makes it.
"""

from __future__ import annotations

from typing import Any

from outcrop.errors import ConflictException, ValidationException
from outcrop.ids import DRAFT, TEST_ALIAS_ID, resource_id
from outcrop.operations import names, resource
from outcrop.operations.bedrock_agent import agent_versions
from outcrop.operations.bedrock_agent.tags import drop_tags, put_tags
from outcrop.operations.context import Context
from outcrop.operations.registry import Result, operation
from outcrop.storage.documents import DocumentTransaction, Record

MOST_EVENTS = 10
"""History events of one alias, the model's maximum; older ones are forgotten."""

_SUMMARY = (
    "agentAliasId",
    "agentAliasName",
    "description",
    "routingConfiguration",
    "agentAliasStatus",
    "createdAt",
    "updatedAt",
    "aliasInvocationState",
)
_STATES = {
    "CREATING": "Creating",
    "NOT_PREPARED": "Not Prepared",
    "PREPARING": "Preparing",
    "FAILED": "Failed",
    "VERSIONING": "Versioning",
    "UPDATING": "Updating",
    "DELETING": "Deleting",
}
"""How messages spell an agent's states: docs/behaviour/control-plane.md 2 (observed)."""

_ACCEPT = "ACCEPT_INVOCATIONS"


@operation("CreateAgentAlias")
async def create_agent_alias(context: Context, ask: Record) -> Result:
    """The new alias, being created.

    Errors: ResourceNotFoundException; ConflictException where the name is taken; ValidationException where the
            agent is not prepared or the routed version is none; ServiceQuotaExceededException for tags.
    Source: docs/behaviour/control-plane.md 5 (stated; observed messages)
    """
    now, alias_id = resource.stamp(context), resource_id()

    def work(docs: DocumentTransaction) -> Result:
        agent = names.agent(docs, ask["agentId"])
        agent_id = agent["agentId"]
        _must_be_free(docs, agent_id, ask["agentAliasName"], alias_id)
        routing = _routing(docs, agent, ask, "Create", now)
        alias: Record = {
            **resource.echo(ask, "tags"),
            "agentId": agent_id,
            "agentAliasId": alias_id,
            "agentAliasArn": context.arn(f"agent-alias/{agent_id}/{alias_id}"),
            "routingConfiguration": routing,
            "agentAliasHistoryEvents": [{"routingConfiguration": routing, "startDate": now}],
            "agentAliasStatus": "PREPARED",
            "aliasInvocationState": _ACCEPT,
            "createdAt": now,
            "updatedAt": now,
        }
        names.put_alias(docs, alias)
        put_tags(docs, alias["agentAliasArn"], ask.get("tags") or {})
        return {"agentAlias": {**alias, "agentAliasStatus": "CREATING"}}

    return await resource.once(context, ask, work)


@operation("GetAgentAlias")
async def get_agent_alias(context: Context, ask: Record) -> Result:
    """The alias, also the built-in one.

    Errors: ResourceNotFoundException.
    Source: docs/behaviour/control-plane.md 5 (stated)
    """

    def work(docs: DocumentTransaction) -> Result:
        return {"agentAlias": names.alias(docs, names.agent_id(docs, ask["agentId"]), ask["agentAliasId"])}

    return await context.documents.read(work)


@operation("UpdateAgentAlias")
async def update_agent_alias(context: Context, ask: Record) -> Result:
    """The alias, being updated: what the call leaves out is reset, and no routing means a new version.

    Errors: ResourceNotFoundException; ConflictException where the new name is taken; ValidationException for the
            built-in alias, an agent that is not prepared, a routed version that is none.
    Source: docs/behaviour/control-plane.md 5 (stated; inferred that no routing cuts a version)
    """
    now = resource.stamp(context)

    def work(docs: DocumentTransaction) -> Result:
        agent = names.agent(docs, ask["agentId"])
        before = _own(names.alias(docs, agent["agentId"], ask["agentAliasId"]), "updated")
        _must_be_free(docs, agent["agentId"], ask["agentAliasName"], before["agentAliasId"])
        routing = _routing(docs, agent, ask, "Update", now)
        kept = ("agentId", "agentAliasId", "agentAliasArn", "clientToken", "createdAt")
        alias = {
            "aliasInvocationState": _ACCEPT,
            **resource.echo(ask),
            **resource.only(before, kept),
            "routingConfiguration": routing,
            "agentAliasHistoryEvents": _history(before, routing, now),
            "agentAliasStatus": "PREPARED",
            "updatedAt": now,
        }
        names.put_alias(docs, alias)
        return {"agentAlias": {**alias, "agentAliasStatus": "UPDATING"}}

    return await context.documents.write(work)


@operation("DeleteAgentAlias")
async def delete_agent_alias(context: Context, ask: Record) -> Result:
    """The alias, being deleted; it is gone at once, the version that it served stays.

    Errors: ResourceNotFoundException; ValidationException for the built-in alias.
    Source: docs/behaviour/control-plane.md 5 (stated)
    """

    def work(docs: DocumentTransaction) -> Result:
        agent_id = names.agent_id(docs, ask["agentId"])
        alias = _own(names.alias(docs, agent_id, ask["agentAliasId"]), "deleted")
        drop_tags(docs, alias["agentAliasArn"])
        docs.delete("agent-alias", f"{agent_id}/{alias['agentAliasId']}")
        return {"agentId": agent_id, "agentAliasId": alias["agentAliasId"], "agentAliasStatus": "DELETING"}

    return await context.documents.write(work)


@operation("ListAgentAliases")
async def list_agent_aliases(context: Context, ask: Record) -> Result:
    """The aliases, most recently updated first, then the built-in one.

    Errors: ResourceNotFoundException; ValidationException for a wrong nextToken.
    Source: docs/behaviour/control-plane.md 5 (observed that TSTALIASID is listed; inferred order)
    """

    def work(docs: DocumentTransaction) -> Result:
        agent = names.agent(docs, ask["agentId"])
        rows = [*docs.numbered("agent-alias", parent=agent["agentId"]), (0, names.test_alias(agent))]
        summaries = [(number, resource.only(alias, _SUMMARY)) for number, alias in rows]
        return resource.page(f"agent-alias/{agent['agentId']}", ask, summaries, "agentAliasSummaries")

    return await context.documents.read(work)


def _own(alias: Record, done: str) -> Record:
    if alias["agentAliasId"] == TEST_ALIAS_ID:
        raise resource.invalid("agentAliasId", f"The alias {TEST_ALIAS_ID} is built in and can't be {done}.")
    return alias


def _must_be_free(docs: DocumentTransaction, agent_id: str, name: str, alias_id: str) -> None:
    other = docs.named("agent-alias", name, parent=agent_id)
    if name == names.TEST_ALIAS_NAME or (other is not None and other["agentAliasId"] != alias_id):
        raise ConflictException(f"AgentAlias with name {name} already exists.")


def _routing(docs: DocumentTransaction, agent: Record, ask: Record, verb: str, now: str) -> list[dict[str, Any]]:
    """The route asked for, or one to a version cut now from the prepared draft."""
    routes: list[Record] = ask.get("routingConfiguration") or [{}]
    route = resource.echo(routes[0])
    version = route.get("agentVersion")
    if version == DRAFT:
        raise resource.invalid(
            "routingConfiguration", f"An alias can't route to {DRAFT}; the alias {TEST_ALIAS_ID} serves the draft."
        )
    if version is None:
        if agent["agentStatus"] != "PREPARED":
            state = _STATES[agent["agentStatus"]]
            raise ValidationException(
                f"{verb} operation can't be performed on AgentAlias when Agent is in {state} state."
            )
        version = agent_versions.cut(docs, agent["agentId"], now)
    elif docs.get("agent-version", f"{agent['agentId']}/{version}") is None:
        raise resource.invalid("routingConfiguration", f"The agent has no version {version} to route to.")
    return [{**route, "agentVersion": version}]


def _history(before: Record, routing: list[dict[str, Any]], now: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = before["agentAliasHistoryEvents"]
    if before["routingConfiguration"] == routing:
        return events
    closed = [*events[:-1], {**events[-1], "endDate": now}]
    return [*closed, {"routingConfiguration": routing, "startDate": now}][-MOST_EVENTS:]
