from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outcrop.clock import StillClock
from outcrop.errors import ConflictException, ResourceNotFoundException

Call = Callable[..., Awaitable[dict[str, Any]]]


async def _cut(call: Call, agent_id: str, name: str) -> str:
    alias = (await call("CreateAgentAlias", agentId=agent_id, agentAliasName=name))["agentAlias"]
    return alias["routingConfiguration"][0]["agentVersion"]


async def _version(call: Call, agent_id: str, version: str) -> dict[str, Any]:
    return (await call("GetAgentVersion", agentId=agent_id, agentVersion=version))["agentVersion"]


async def test_a_version_never_changes(
    call: Call, agent_id: str, add_group: Call, content: dict[str, Any], clock: StillClock
) -> None:
    group = await add_group(agent_id)
    await call("PrepareAgent", agentId=agent_id)
    clock.advance(60)
    await _cut(call, agent_id, "PROD")
    before = await _version(call, agent_id, "1")
    assert before["instruction"] == content["instruction"]
    assert (before["version"], before["agentStatus"]) == ("1", "PREPARED")
    assert before["createdAt"] > group["createdAt"]

    await call("UpdateAgent", agentId=agent_id, agentName="renamed", **{**content, "instruction": "B" * 50})
    path = {"agentId": agent_id, "actionGroupId": group["actionGroupId"]}
    await call("DeleteAgentActionGroup", agentVersion="DRAFT", skipResourceInUseCheck=True, **path)
    await call("PrepareAgent", agentId=agent_id)
    await _cut(call, agent_id, "NEXT")

    assert await _version(call, agent_id, "1") == before
    frozen = (await call("GetAgentActionGroup", agentVersion="1", **path))["agentActionGroup"]
    assert frozen == {**group, "agentVersion": "1"}
    assert (await _version(call, agent_id, "2"))["instruction"] == "B" * 50
    with pytest.raises(ResourceNotFoundException):
        await call("GetAgentActionGroup", agentVersion="2", **path)


async def test_a_version_has_no_members_that_only_the_draft_has(call: Call, create_agent: Call, engine: Any) -> None:
    executor = {"executor": {"lambda": "arn:aws:lambda:us-east-1:123456789012:function:f"}}
    ask = {"orchestrationType": "CUSTOM_ORCHESTRATION", "customOrchestration": executor}
    agent_id = (await create_agent(clientToken="c" * 40, **ask))["agentId"]
    await call("PrepareAgent", agentId=agent_id)
    await _cut(call, agent_id, "PROD")
    shown = await _version(call, agent_id, "1")
    assert shown.keys().isdisjoint({"clientToken", "preparedAt", "agentVersion", *ask})
    kept = await engine.documents.read(lambda docs: docs.get("agent-version", f"{agent_id}/1"))
    assert {member: kept["agentVersion"][member] for member in ask} == ask


async def test_versions_are_listed_newest_first_and_the_draft_last(call: Call, prepared: str) -> None:
    for name in ("A", "B", "C"):
        await _cut(call, prepared, name)
    await call("PrepareAgent", agentId=prepared)
    summaries = (await call("ListAgentVersions", agentId=prepared))["agentVersionSummaries"]
    assert [summary["agentVersion"] for summary in summaries] == ["3", "2", "1", "DRAFT"]


async def test_an_agent_that_was_never_prepared_has_its_draft_to_list(call: Call, agent_id: str) -> None:
    (draft,) = (await call("ListAgentVersions", agentId=agent_id))["agentVersionSummaries"]
    assert (draft["agentVersion"], draft["agentStatus"]) == ("DRAFT", "NOT_PREPARED")


@pytest.mark.parametrize("version", ["DRAFT", "9"])
async def test_what_is_no_version_is_missing(call: Call, prepared: str, version: str) -> None:
    for operation in ("GetAgentVersion", "DeleteAgentVersion"):
        with pytest.raises(ResourceNotFoundException):
            await call(operation, agentId=prepared, agentVersion=version)


async def test_a_version_that_an_alias_serves_is_not_deleted_unasked(call: Call, prepared: str) -> None:
    await _cut(call, prepared, "PROD")
    with pytest.raises(ConflictException, match="PROD"):
        await call("DeleteAgentVersion", agentId=prepared, agentVersion="1")
    answer = await call("DeleteAgentVersion", agentId=prepared, agentVersion="1", skipResourceInUseCheck=True)
    assert answer == {"agentId": prepared, "agentVersion": "1", "agentStatus": "DELETING"}
    alias = (await call("GetAgentAlias", agentId=prepared, agentAliasId="PROD"))["agentAlias"]
    assert alias["agentAliasStatus"] == "DISSOCIATED"


async def test_a_number_is_never_given_twice(call: Call, prepared: str) -> None:
    async def latest() -> str:
        (summary,) = (await call("ListAgents"))["agentSummaries"]
        return summary["latestAgentVersion"]

    for name in ("A", "B"):
        await _cut(call, prepared, name)
    assert await latest() == "2"
    for version in ("2", "1"):
        await call("DeleteAgentVersion", agentId=prepared, agentVersion=version, skipResourceInUseCheck=True)
        assert await latest() == ("1" if version == "2" else "DRAFT")
    assert await _cut(call, prepared, "C") == "3"
    assert await latest() == "3"
