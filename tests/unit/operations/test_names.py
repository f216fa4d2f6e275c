from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outcrop.errors import ResourceNotFoundException
from outcrop.operations import names

Call = Callable[..., Awaitable[dict[str, Any]]]
MISSING = (
    "Failed to retrieve resource because it doesn't exist. Retry the request with a different resource identifier."
)


async def test_an_agent_is_found_by_id_and_by_name(engine: Any, agent_id: str) -> None:
    for way in (agent_id, "AX123"):
        assert await engine.documents.read(lambda docs, way=way: names.agent_id(docs, way)) == agent_id


async def test_an_id_wins_over_a_name(engine: Any, create_agent: Call, agent_id: str) -> None:
    await create_agent(agent_id)
    assert await engine.documents.read(lambda docs: names.agent_id(docs, agent_id)) == agent_id


async def test_an_unknown_agent_is_missing_in_the_words_of_the_service(engine: Any) -> None:
    with pytest.raises(ResourceNotFoundException) as missing:
        await engine.documents.read(lambda docs: names.agent_id(docs, "NOBODY"))
    assert missing.value.message == MISSING


async def test_an_alias_is_found_by_id_and_by_name_under_its_own_agent_only(
    call: Call, engine: Any, create_agent: Call, prepared: str
) -> None:
    alias = (await call("CreateAgentAlias", agentId=prepared, agentAliasName="PROD"))["agentAlias"]
    for way in (alias["agentAliasId"], "PROD"):
        found = await engine.documents.read(lambda docs, way=way: names.alias(docs, prepared, way))
        assert found["agentAliasId"] == alias["agentAliasId"]
    other = (await create_agent("other"))["agentId"]
    for way in (alias["agentAliasId"], "PROD"):
        with pytest.raises(ResourceNotFoundException):
            await engine.documents.read(lambda docs, way=way: names.alias(docs, other, way))


@pytest.mark.parametrize("way", ["TSTALIASID", "AgentTestAlias"])
async def test_every_agent_has_the_test_alias(engine: Any, agent_id: str, way: str) -> None:
    alias = await engine.documents.read(lambda docs: names.alias(docs, agent_id, way))
    assert alias["agentAliasArn"] == f"arn:aws:bedrock:us-east-1:123456789012:agent-alias/{agent_id}/TSTALIASID"
    assert alias["routingConfiguration"] == [{"agentVersion": "DRAFT"}]
    assert alias["agentAliasStatus"] == "PREPARED"


async def test_every_operation_takes_names(call: Call, prepared: str, add_group: Call) -> None:
    await add_group("AX123")
    await call("PrepareAgent", agentId="AX123")
    await call("CreateAgentAlias", agentId="AX123", agentAliasName="PROD")
    assert (await call("GetAgent", agentId="AX123"))["agent"]["agentId"] == prepared
    assert (await call("GetAgentAlias", agentId="AX123", agentAliasId="PROD"))["agentAlias"]["agentId"] == prepared
    assert (await call("GetAgentVersion", agentId="AX123", agentVersion="1"))["agentVersion"]["agentId"] == prepared
    update = {"agentId": "AX123", "agentAliasId": "PROD", "agentAliasName": "LIVE"}
    assert (await call("UpdateAgentAlias", **update))["agentAlias"]["agentId"] == prepared
    assert (await call("DeleteAgentAlias", agentId="AX123", agentAliasId="LIVE"))["agentId"] == prepared
    for operation in ("ListAgentAliases", "ListAgentVersions"):
        await call(operation, agentId="AX123")
    await call("ListAgentActionGroups", agentId="AX123", agentVersion="1")
    assert (await call("DeleteAgent", agentId="AX123"))["agentId"] == prepared
