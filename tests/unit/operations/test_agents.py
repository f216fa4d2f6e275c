from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outcrop.clock import StillClock
from outcrop.errors import ConflictException, ResourceNotFoundException, ValidationException

Call = Callable[..., Awaitable[dict[str, Any]]]
PARSER = "arn:aws:lambda:us-east-1:123456789012:function:parser"


async def _get(call: Call, agent_id: str) -> dict[str, Any]:
    return (await call("GetAgent", agentId=agent_id))["agent"]


async def test_a_new_agent_is_being_created_and_then_not_prepared(call: Call, create_agent: Call) -> None:
    created = await create_agent(description="stock", clientToken="c" * 40)
    assert created["agentStatus"] == "CREATING"
    assert re.fullmatch(r"[A-Z0-9]{10}", created["agentId"])
    assert created["agentArn"] == f"arn:aws:bedrock:us-east-1:123456789012:agent/{created['agentId']}"
    assert await _get(call, created["agentId"]) == {**created, "agentStatus": "NOT_PREPARED"}


async def test_an_agent_needs_only_a_name_and_says_the_defaults(call: Call) -> None:
    agent = (await call("CreateAgent", agentName="bare"))["agent"]
    assert agent["agentCollaboration"] == "DISABLED"
    assert agent["orchestrationType"] == "DEFAULT"
    assert agent["idleSessionTTLInSeconds"] == 600
    assert agent["agentVersion"] == "DRAFT"
    assert agent["agentResourceRoleArn"].startswith("arn:aws:iam::123456789012:role/")


async def test_what_is_configured_is_echoed_but_tags_are_not_part_of_it(create_agent: Call) -> None:
    given = {
        "memoryConfiguration": {"enabledMemoryTypes": ["SESSION_SUMMARY"], "storageDays": 7},
        "guardrailConfiguration": {"guardrailIdentifier": "gr", "guardrailVersion": "1"},
        "idleSessionTTLInSeconds": 1800,
        "orchestrationType": "CUSTOM_ORCHESTRATION",
        "customOrchestration": {"executor": {"lambda": PARSER}},
    }
    agent = await create_agent(tags={"team": "shop"}, **given)
    assert {member: agent[member] for member in given} == given
    assert "tags" not in agent


async def test_two_agents_cannot_have_one_name(create_agent: Call, agent_id: str) -> None:
    with pytest.raises(ConflictException, match="AX123"):
        await create_agent("AX123")


async def test_of_many_creations_of_one_name_one_succeeds(call: Call) -> None:
    attempts = (call("CreateAgent", agentName="same") for _ in range(8))
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, ConflictException) for result in results) == 7


async def test_an_update_resets_what_it_leaves_out(
    call: Call, create_agent: Call, content: dict[str, Any], clock: StillClock
) -> None:
    before = await create_agent(description="old", idleSessionTTLInSeconds=60, agentCollaboration="SUPERVISOR")
    del content["instruction"]
    clock.advance(60)
    after = (await call("UpdateAgent", agentId=before["agentId"], agentName="renamed", **content))["agent"]
    assert after["agentStatus"] == "UPDATING"
    assert "instruction" not in after
    assert "description" not in after
    assert (after["idleSessionTTLInSeconds"], after["agentCollaboration"]) == (600, "DISABLED")
    assert after["createdAt"] == before["createdAt"] < after["updatedAt"]
    assert await _get(call, "renamed") == {**after, "agentStatus": "NOT_PREPARED"}
    with pytest.raises(ResourceNotFoundException):
        await _get(call, "AX123")


async def test_an_update_may_keep_the_name_but_not_take_another_s(
    call: Call, create_agent: Call, agent_id: str, content: dict[str, Any]
) -> None:
    await create_agent("taken")
    await call("UpdateAgent", agentId=agent_id, agentName="AX123", **content)
    with pytest.raises(ConflictException, match="taken"):
        await call("UpdateAgent", agentId=agent_id, agentName="taken", **content)


async def test_preparing_freezes_the_draft(call: Call, agent_id: str, engine: Any, add_group: Call) -> None:
    group = await add_group(agent_id)
    answer = await call("PrepareAgent", agentId=agent_id)
    assert (answer["agentStatus"], answer["agentVersion"]) == ("PREPARING", "DRAFT")
    agent = await _get(call, agent_id)
    assert agent["agentStatus"] == "PREPARED"
    assert agent["preparedAt"] == answer["preparedAt"]
    frozen = await engine.documents.read(lambda docs: docs.get("agent-version", f"{agent_id}/DRAFT"))
    assert frozen["agentVersion"]["version"] == "DRAFT"
    assert frozen["agentVersion"]["agentStatus"] == "PREPARED"
    assert frozen["actionGroups"] == [group]
    assert (frozen["agentKnowledgeBases"], frozen["agentCollaborators"]) == ([], [])


async def test_what_is_edited_after_preparing_is_not_served(
    call: Call, prepared: str, engine: Any, content: dict[str, Any]
) -> None:
    await call("UpdateAgent", agentId=prepared, agentName="AX123", **{**content, "instruction": "B" * 50})
    assert (await _get(call, prepared))["agentStatus"] == "NOT_PREPARED"
    frozen = await engine.documents.read(lambda docs: docs.get("agent-version", f"{prepared}/DRAFT"))
    assert frozen["agentVersion"]["instruction"] == content["instruction"]
    await call("PrepareAgent", agentId=prepared)
    frozen = await engine.documents.read(lambda docs: docs.get("agent-version", f"{prepared}/DRAFT"))
    assert frozen["agentVersion"]["instruction"] == "B" * 50


async def test_without_an_instruction_preparing_fails_in_the_words_of_the_service(
    call: Call, create_agent: Call, content: dict[str, Any]
) -> None:
    agent_id = (await create_agent(instruction=None))["agentId"]
    assert (await call("PrepareAgent", agentId=agent_id))["agentStatus"] == "PREPARING"
    failed = await _get(call, agent_id)
    assert failed["agentStatus"] == "FAILED"
    assert failed["failureReasons"] == ["Exception: Agent Instruction cannot be null"]
    assert failed["recommendedActions"]
    await call("UpdateAgent", agentId=agent_id, agentName="AX123", **content)
    assert "failureReasons" not in await _get(call, agent_id)


async def test_a_failure_leaves_no_trace_in_the_next_preparation(call: Call, create_agent: Call, engine: Any) -> None:
    agent_id = (await create_agent(foundationModel=None))["agentId"]
    await call("PrepareAgent", agentId=agent_id)
    assert (await _get(call, agent_id))["failureReasons"] == ["Exception: Agent Foundation Model cannot be null"]
    assert await engine.documents.read(lambda docs: docs.get("agent-version", f"{agent_id}/DRAFT")) is None
    await call("PrepareAgent", agentId=agent_id)
    assert (await _get(call, agent_id))["agentStatus"] == "FAILED"


async def test_a_failed_preparation_goes_on_serving_the_last_good_one(
    call: Call, prepared: str, engine: Any, content: dict[str, Any]
) -> None:
    kept = content.pop("instruction")
    await call("UpdateAgent", agentId=prepared, agentName="AX123", **content)
    await call("PrepareAgent", agentId=prepared)
    assert (await _get(call, prepared))["agentStatus"] == "FAILED"
    frozen = await engine.documents.read(lambda docs: docs.get("agent-version", f"{prepared}/DRAFT"))
    assert frozen["agentVersion"]["instruction"] == kept
    await call("UpdateAgent", agentId=prepared, agentName="AX123", instruction=kept, **content)
    await call("PrepareAgent", agentId=prepared)
    frozen = await engine.documents.read(lambda docs: docs.get("agent-version", f"{prepared}/DRAFT"))
    assert "failureReasons" not in frozen["agentVersion"]


async def test_tools_that_collide_fail_the_preparation(
    call: Call, agent_id: str, add_group: Call, openapi: str
) -> None:
    for group, operation in (("stock", "_check"), ("stock_", "check")):
        api = {"payload": openapi.replace("checkStock", operation)}
        await add_group(agent_id, group, functionSchema=None, apiSchema=api)
    await call("PrepareAgent", agentId=agent_id)
    failed = await _get(call, agent_id)
    assert failed["agentStatus"] == "FAILED"
    assert "GET__stock___check" in failed["failureReasons"][0]


async def test_a_group_that_this_release_lacks_fails_the_preparation_by_name(
    call: Call, agent_id: str, add_group: Call
) -> None:
    built_in = {"parentActionGroupSignature": "AMAZON.CodeInterpreter"}
    await add_group(agent_id, "code", actionGroupExecutor=None, functionSchema=None, **built_in)
    await call("PrepareAgent", agentId=agent_id)
    failed = await _get(call, agent_id)
    assert failed["agentStatus"] == "FAILED"
    assert "AMAZON.CodeInterpreter" in failed["failureReasons"][0]


@pytest.mark.parametrize("role", ["SUPERVISOR", "SUPERVISOR_ROUTER"])
async def test_a_supervisor_without_collaborators_cannot_be_prepared(call: Call, create_agent: Call, role: str) -> None:
    agent_id = (await create_agent(agentCollaboration=role))["agentId"]
    with pytest.raises(ValidationException) as refused:
        await call("PrepareAgent", agentId=agent_id)
    assert refused.value.message == (
        f"This agent cannot be prepared. The AgentCollaboration attribute is set to {role} "
        "but no agent collaborators are added."
    )
    assert (await _get(call, agent_id))["agentStatus"] == "NOT_PREPARED"


async def test_an_edit_during_the_preparation_is_prepared_too(
    call: Call, agent_id: str, engine: Any, content: dict[str, Any]
) -> None:
    for instruction in ("A" * 50, "B" * 50):
        edit = {"agentId": agent_id, "agentName": "AX123", **content, "instruction": instruction}
        engine.documents.interruptions.append(lambda edit=edit: call("UpdateAgent", **edit))
    await call("PrepareAgent", agentId=agent_id)
    assert engine.documents.interruptions == []
    assert (await _get(call, agent_id))["agentStatus"] == "PREPARED"
    frozen = await engine.documents.read(lambda docs: docs.get("agent-version", f"{agent_id}/DRAFT"))
    assert frozen["agentVersion"]["instruction"] == "B" * 50


async def test_deleting_takes_everything_of_the_agent_along(
    call: Call, prepared: str, engine: Any, add_group: Call, openapi: str
) -> None:
    engine.buckets["schemas", "stock.yaml"] = openapi.encode()
    api = {"s3": {"s3BucketName": "schemas", "s3ObjectKey": "stock.yaml"}}
    await add_group(prepared, functionSchema=None, apiSchema=api)
    await call("PrepareAgent", agentId=prepared)
    arn = (await _get(call, prepared))["agentArn"]
    await call("TagResource", resourceArn=arn, tags={"a": "b"})
    await call("CreateAgentAlias", agentId=prepared, agentAliasName="PROD", tags={"c": "d"})
    with pytest.raises(ConflictException, match="PROD"):
        await call("DeleteAgent", agentId=prepared)
    answer = await call("DeleteAgent", agentId=prepared, skipResourceInUseCheck=True)
    assert answer == {"agentId": prepared, "agentStatus": "DELETING"}

    def left(docs: Any) -> dict[str, list[Any]]:
        parents = {"action-group": f"{prepared}/DRAFT", "schema-text": f"{prepared}/DRAFT"}
        kinds = ("agent", "agent-alias", "agent-version", "action-group", "schema-text", "tags", "version-numbers")
        found = {kind: docs.list(kind, parent=parents.get(kind, prepared)) + docs.list(kind) for kind in kinds}
        return {kind: rows for kind, rows in found.items() if rows}

    assert await engine.documents.read(left) == {}
    with pytest.raises(ResourceNotFoundException):
        await _get(call, prepared)


async def test_lists_begin_with_the_last_updated_and_name_the_latest_version(
    call: Call, create_agent: Call, prepared: str, content: dict[str, Any]
) -> None:
    await create_agent("second", description="two", guardrailConfiguration={"guardrailIdentifier": "gr"})
    await call("CreateAgentAlias", agentId=prepared, agentAliasName="PROD")
    await call("UpdateAgent", agentId=prepared, agentName="AX123", **content)
    first, second = (await call("ListAgents"))["agentSummaries"]
    assert (first["agentName"], first["latestAgentVersion"]) == ("AX123", "1")
    assert (second["agentName"], second["latestAgentVersion"]) == ("second", "DRAFT")
    assert second["description"] == "two"
    assert second["guardrailConfiguration"] == {"guardrailIdentifier": "gr"}


async def test_agents_are_listed_in_pages(call: Call) -> None:
    for n in range(25):
        await call("CreateAgent", agentName=f"agent-{n}")
    seen: list[str] = []
    ask: dict[str, Any] = {}
    while True:
        answer = await call("ListAgents", **ask)
        seen += [summary["agentName"] for summary in answer["agentSummaries"]]
        if "nextToken" not in answer:
            break
        ask["nextToken"] = answer["nextToken"]
    assert seen == [f"agent-{n}" for n in reversed(range(25))]


@pytest.mark.parametrize("operation", ["GetAgent", "PrepareAgent", "DeleteAgent", "ListAgentAliases"])
async def test_an_unknown_agent_is_missing(call: Call, operation: str) -> None:
    with pytest.raises(ResourceNotFoundException):
        await call(operation, agentId="NOSUCHAGENT")


def _stage(**members: Any) -> dict[str, Any]:
    return {"promptType": "ORCHESTRATION", **members}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ({"promptConfigurations": [_stage(promptCreationMode="OVERRIDDEN")]}, "basePromptTemplate"),
        ({"promptConfigurations": [_stage(), _stage()]}, "2 entries for promptType ORCHESTRATION"),
        ({"promptConfigurations": [_stage(parserMode="OVERRIDDEN")]}, "overrideLambda is required"),
        ({"promptConfigurations": [_stage()], "overrideLambda": PARSER}, "parserMode OVERRIDDEN"),
    ],
)
async def test_prompt_overrides_that_contradict_themselves_are_refused(
    call: Call, create_agent: Call, agent_id: str, content: dict[str, Any], override: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationException, match=named) as refused:
        await create_agent("other", promptOverrideConfiguration=override)
    assert refused.value.members["fieldList"][0]["name"] == "promptOverrideConfiguration"
    with pytest.raises(ValidationException, match=named):
        await call("UpdateAgent", agentId=agent_id, agentName="AX123", promptOverrideConfiguration=override, **content)


async def test_defaults_that_a_client_sends_back_are_no_contradiction(create_agent: Call) -> None:
    override = {
        "overrideLambda": PARSER,
        "promptConfigurations": [
            _stage(promptCreationMode="DEFAULT", basePromptTemplate="ignored", parserMode="DEFAULT"),
            {
                "promptType": "POST_PROCESSING",
                "promptCreationMode": "OVERRIDDEN",
                "basePromptTemplate": "$latest_response$",
                "parserMode": "OVERRIDDEN",
            },
        ],
    }
    assert (await create_agent(promptOverrideConfiguration=override))["promptOverrideConfiguration"] == override


async def test_a_custom_orchestration_needs_its_function(create_agent: Call) -> None:
    with pytest.raises(ValidationException, match=r"customOrchestration\.executor"):
        await create_agent(orchestrationType="CUSTOM_ORCHESTRATION")
