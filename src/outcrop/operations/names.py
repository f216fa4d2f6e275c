"""Agents and aliases by id or by name: wherever AWS takes an id, a name is good too, and an id wins.

Control-plane and runtime operations call it inside their transaction. TSTALIASID is made
here from its agent; it is never stored.
"""

from __future__ import annotations

from outcrop.errors import ResourceNotFoundException
from outcrop.ids import DRAFT, TEST_ALIAS_ID
from outcrop.storage.documents import DocumentTransaction, Record

TEST_ALIAS_NAME = "AgentTestAlias"
"""The built-in alias's name: docs/behaviour/control-plane.md 5 (observed)."""


def agent(docs: DocumentTransaction, id_or_name: str) -> Record:
    """The `agent` record of that id, else of that name.

    Errors: ResourceNotFoundException where there is neither.
    """
    record = docs.get("agent", id_or_name) or docs.named("agent", id_or_name)
    if record is None:
        raise ResourceNotFoundException
    return record


def agent_id(docs: DocumentTransaction, id_or_name: str) -> str:
    """The id of the agent of that id, else of that name.

    Errors: ResourceNotFoundException where there is neither.
    """
    return agent(docs, id_or_name)["agentId"]


def alias(docs: DocumentTransaction, agent_id: str, id_or_name: str) -> Record:
    """The `agentAlias` record of an agent's alias by id, else by name; the built-in test alias too.

    Shapes: agent_id is an id, as `agent_id` gives it, not a name.
    Errors: ResourceNotFoundException where the agent has no such alias.
    """
    if id_or_name == TEST_ALIAS_ID:
        return test_alias(agent(docs, agent_id))
    found = docs.get("agent-alias", f"{agent_id}/{id_or_name}")
    record = found or docs.named("agent-alias", id_or_name, parent=agent_id)
    if record is None and id_or_name == TEST_ALIAS_NAME:
        return test_alias(agent(docs, agent_id))
    if record is None:
        raise ResourceNotFoundException
    return record


def put_agent(docs: DocumentTransaction, agent: Record) -> None:
    """Write an `agent` record where `agent` finds it."""
    docs.put("agent", agent["agentId"], agent, name=agent["agentName"])


def put_alias(docs: DocumentTransaction, alias: Record) -> None:
    """Write an `agentAlias` record where `alias` finds it."""
    agent_id, alias_id = alias["agentId"], alias["agentAliasId"]
    docs.put("agent-alias", f"{agent_id}/{alias_id}", alias, parent=agent_id, name=alias["agentAliasName"])


def test_alias(agent: Record) -> Record:
    """The built-in alias that serves what PrepareAgent last made of the draft.

    Source: docs/behaviour/control-plane.md 5 (observed in lists; inferred for the members that lists lack)
    """
    return {
        "agentId": agent["agentId"],
        "agentAliasId": TEST_ALIAS_ID,
        "agentAliasName": TEST_ALIAS_NAME,
        "agentAliasArn": f"{agent['agentArn'].replace(':agent/', ':agent-alias/')}/{TEST_ALIAS_ID}",
        "routingConfiguration": [{"agentVersion": DRAFT}],
        "createdAt": agent["createdAt"],
        "updatedAt": agent.get("preparedAt", agent["createdAt"]),
        "agentAliasStatus": "PREPARED",
        "aliasInvocationState": "ACCEPT_INVOCATIONS",
    }
