from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outcrop.clock import StillClock
from outcrop.errors import ConflictException, ResourceNotFoundException, ValidationException

Call = Callable[..., Awaitable[dict[str, Any]]]
RETURN_CONTROL = {"customControl": "RETURN_CONTROL"}
S3 = {"s3": {"s3BucketName": "schemas", "s3ObjectKey": "stock.yaml"}}
USER_INPUT = {"parentActionGroupSignature": "AMAZON.UserInput", "actionGroupExecutor": None, "functionSchema": None}


@pytest.fixture
def on(call: Call, agent_id: str) -> Call:
    """An operation on a group of the agent's draft."""

    async def calling(operation: str, group: dict[str, Any], **more: Any) -> dict[str, Any]:
        path = {"agentId": agent_id, "agentVersion": "DRAFT", "actionGroupId": group["actionGroupId"]}
        return await call(operation, **{**path, **more})

    return calling


async def _status(call: Call, agent_id: str) -> str:
    return (await call("GetAgent", agentId=agent_id))["agent"]["agentStatus"]


async def test_a_group_comes_back_as_it_was_made(agent_id: str, add_group: Call, on: Call) -> None:
    group = await add_group(agent_id, description="stock", clientToken="c" * 40)
    assert group["actionGroupState"] == "ENABLED"
    assert (group["agentId"], group["agentVersion"]) == (agent_id, "DRAFT")
    assert (await on("GetAgentActionGroup", group))["agentActionGroup"] == group


async def test_the_signature_has_another_name_in_answers(agent_id: str, add_group: Call) -> None:
    group = await add_group(agent_id, "ask", **USER_INPUT)
    assert group["parentActionSignature"] == "AMAZON.UserInput"
    assert "parentActionGroupSignature" not in group


async def test_every_change_asks_for_a_new_preparation(call: Call, prepared: str, add_group: Call, on: Call) -> None:
    group = await add_group(prepared)
    assert await _status(call, prepared) == "NOT_PREPARED"
    await call("PrepareAgent", agentId=prepared)
    update = {"actionGroupName": "stock", "actionGroupExecutor": RETURN_CONTROL, "actionGroupState": "DISABLED"}
    await on("UpdateAgentActionGroup", group, functionSchema=group["functionSchema"], **update)
    assert await _status(call, prepared) == "NOT_PREPARED"
    await call("PrepareAgent", agentId=prepared)
    assert await on("DeleteAgentActionGroup", group) == {}
    assert await _status(call, prepared) == "NOT_PREPARED"
    with pytest.raises(ResourceNotFoundException):
        await on("GetAgentActionGroup", group)


async def test_an_update_resets_what_it_leaves_out(
    agent_id: str, add_group: Call, on: Call, openapi: str, clock: StillClock
) -> None:
    before = await add_group(agent_id, description="old", actionGroupState="DISABLED", clientToken="c" * 40)
    clock.advance(60)
    update = {"actionGroupName": "renamed", "actionGroupExecutor": RETURN_CONTROL, "apiSchema": {"payload": openapi}}
    after = (await on("UpdateAgentActionGroup", before, **update))["agentActionGroup"]
    assert after.keys().isdisjoint({"description", "functionSchema"})
    assert after["actionGroupState"] == "ENABLED"
    assert after["createdAt"] == before["createdAt"] < after["updatedAt"]
    assert after["clientToken"] == before["clientToken"]
    assert (await on("GetAgentActionGroup", before))["agentActionGroup"] == after


async def test_names_are_unique_within_an_agent_only(
    agent_id: str, add_group: Call, create_agent: Call, on: Call
) -> None:
    await add_group(agent_id, "one")
    two = await add_group(agent_id, "two")
    with pytest.raises(ConflictException, match="one"):
        await add_group(agent_id, "one")
    update = {"actionGroupExecutor": RETURN_CONTROL, "functionSchema": two["functionSchema"]}
    with pytest.raises(ConflictException, match="one"):
        await on("UpdateAgentActionGroup", two, actionGroupName="one", **update)
    await on("UpdateAgentActionGroup", two, actionGroupName="two", **update)
    await add_group((await create_agent("other"))["agentId"], "one")


async def test_an_agent_has_one_group_of_each_signature(agent_id: str, add_group: Call, on: Call) -> None:
    group = await add_group(agent_id, "ask", **USER_INPUT)
    with pytest.raises(ConflictException, match=r"AMAZON\.UserInput"):
        await add_group(agent_id, "ask-again", **USER_INPUT)
    await add_group(agent_id, "code", **{**USER_INPUT, "parentActionGroupSignature": "AMAZON.CodeInterpreter"})
    await on("UpdateAgentActionGroup", group, actionGroupName="ask", parentActionGroupSignature="AMAZON.UserInput")


async def test_an_enabled_group_is_disabled_before_it_is_deleted(agent_id: str, add_group: Call, on: Call) -> None:
    enabled = await add_group(agent_id, "enabled")
    disabled = await add_group(agent_id, "disabled", actionGroupState="DISABLED")
    with pytest.raises(ConflictException, match="ENABLED"):
        await on("DeleteAgentActionGroup", enabled)
    assert await on("DeleteAgentActionGroup", disabled) == {}
    assert await on("DeleteAgentActionGroup", enabled, skipResourceInUseCheck=True) == {}


async def test_groups_are_listed_for_the_draft_and_for_each_version(call: Call, agent_id: str, add_group: Call) -> None:
    async def listed(version: str, **ask: Any) -> list[str]:
        answer = await call("ListAgentActionGroups", agentId=agent_id, agentVersion=version, **ask)
        return [summary["actionGroupName"] for summary in answer["actionGroupSummaries"]]

    await add_group(agent_id, "one")
    await add_group(agent_id, "two", description="second")
    await call("PrepareAgent", agentId=agent_id)
    await call("CreateAgentAlias", agentId=agent_id, agentAliasName="PROD")
    await add_group(agent_id, "three")
    assert await listed("DRAFT") == ["three", "two", "one"]
    assert await listed("1") == ["two", "one"]
    first = await call("ListAgentActionGroups", agentId=agent_id, agentVersion="1", maxResults=1)
    assert first["actionGroupSummaries"][0]["description"] == "second"
    assert await listed("1", nextToken=first["nextToken"]) == ["one"]
    with pytest.raises(ValidationException, match="nextToken"):
        await listed("DRAFT", nextToken=first["nextToken"])
    with pytest.raises(ResourceNotFoundException):
        await listed("2")


async def test_writes_to_what_does_not_exist_are_refused(call: Call, agent_id: str, add_group: Call) -> None:
    with pytest.raises(ResourceNotFoundException):
        await add_group("NOBODY")
    group = {"agentId": agent_id, "agentVersion": "DRAFT", "actionGroupId": "NOSUCHGRUP"}
    for operation in ("GetAgentActionGroup", "DeleteAgentActionGroup"):
        with pytest.raises(ResourceNotFoundException):
            await call(operation, **group)
    with pytest.raises(ResourceNotFoundException):
        await call(
            "UpdateAgentActionGroup", actionGroupName="x", parentActionGroupSignature="AMAZON.UserInput", **group
        )


@pytest.mark.parametrize(
    ("changed", "member"),
    [
        ({"functionSchema": None}, "apiSchema"),
        ({"apiSchema": {"payload": "{}"}}, "apiSchema"),
        ({"actionGroupExecutor": None}, "actionGroupExecutor"),
        ({"parentActionGroupSignatureParams": {"type": "bash_20241022"}}, "parentActionGroupSignatureParams"),
        ({**USER_INPUT, "description": "ask"}, "description"),
        ({**USER_INPUT, "actionGroupExecutor": RETURN_CONTROL}, "actionGroupExecutor"),
        ({**USER_INPUT, "functionSchema": {"functions": [{"name": "f"}]}}, "functionSchema"),
        ({**USER_INPUT, "apiSchema": {"payload": "{}"}}, "apiSchema"),
        ({"functionSchema": None, "apiSchema": {"s3": {"s3BucketName": "schemas"}}}, "apiSchema"),
        ({"functionSchema": None, "apiSchema": {"payload": "openapi: 3.0.0\npaths: {bad: {}}"}}, "apiSchema"),
        ({"functionSchema": {"functions": [{"name": "f"}, {"name": "f"}]}}, "functionSchema"),
    ],
)
async def test_members_that_do_not_go_together_are_refused_by_name(
    call: Call, agent_id: str, add_group: Call, changed: dict[str, Any], member: str
) -> None:
    with pytest.raises(ValidationException) as refused:
        await add_group(agent_id, **changed)
    assert refused.value.members["fieldList"] == [{"name": member, "message": refused.value.message}]
    listed = await call("ListAgentActionGroups", agentId=agent_id, agentVersion="DRAFT")
    assert listed["actionGroupSummaries"] == []


async def test_a_disabled_group_with_a_mistake_is_refused_too(agent_id: str, add_group: Call) -> None:
    api = {"payload": "openapi: 3.0.0\npaths: {bad: {}}"}
    with pytest.raises(ValidationException):
        await add_group(agent_id, functionSchema=None, apiSchema=api, actionGroupState="DISABLED")


async def test_computer_use_groups_take_their_parameters(agent_id: str, add_group: Call) -> None:
    signature = {
        "parentActionGroupSignature": "ANTHROPIC.Computer",
        "parentActionGroupSignatureParams": {"type": "computer_20241022"},
    }
    group = await add_group(agent_id, **{**USER_INPUT, **signature})
    assert group["parentActionGroupSignatureParams"] == {"type": "computer_20241022"}


async def test_a_schema_in_a_bucket_is_read_once_and_kept(
    call: Call, engine: Any, agent_id: str, add_group: Call, on: Call, openapi: str
) -> None:
    engine.buckets["schemas", "stock.yaml"] = openapi.encode()
    group = await add_group(agent_id, functionSchema=None, apiSchema=S3)
    engine.buckets.clear()
    assert group["apiSchema"] == S3
    assert (await on("GetAgentActionGroup", group))["agentActionGroup"] == group
    await call("PrepareAgent", agentId=agent_id)
    assert await _status(call, agent_id) == "PREPARED"
    await call("CreateAgentAlias", agentId=agent_id, agentAliasName="PROD")
    for version in ("DRAFT", "1"):
        frozen = await engine.documents.read(lambda docs, v=version: docs.get("agent-version", f"{agent_id}/{v}"))
        assert frozen["actionGroups"][0]["schemaText"] == openapi
    of_version = (await on("GetAgentActionGroup", group, agentVersion="1"))["agentActionGroup"]
    assert of_version == {**group, "agentVersion": "1"}


async def test_the_kept_text_goes_when_the_schema_no_longer_comes_from_a_bucket(
    engine: Any, agent_id: str, add_group: Call, on: Call, openapi: str
) -> None:
    engine.buckets["schemas", "stock.yaml"] = openapi.encode()
    group = await add_group(agent_id, functionSchema=None, apiSchema=S3)
    kept = f"{agent_id}/DRAFT/{group['actionGroupId']}"
    assert await engine.documents.read(lambda docs: docs.get("schema-text", kept)) == {"payload": openapi}
    update = {"actionGroupName": "stock", "actionGroupExecutor": RETURN_CONTROL, "apiSchema": {"payload": openapi}}
    await on("UpdateAgentActionGroup", group, **update)
    assert await engine.documents.read(lambda docs: docs.get("schema-text", kept)) is None


@pytest.mark.parametrize("body", [None, b"\xff\xfe\x00", b"openapi: 3.0.0\npaths: {bad: {}}"])
async def test_an_unusable_object_is_refused_by_name(
    engine: Any, agent_id: str, add_group: Call, body: bytes | None
) -> None:
    if body is not None:
        engine.buckets["schemas", "stock.yaml"] = body
    with pytest.raises(ValidationException) as refused:
        await add_group(agent_id, functionSchema=None, apiSchema=S3)
    assert refused.value.members["fieldList"][0]["name"] == "apiSchema"
    assert "s3://schemas/stock.yaml" in refused.value.message or "bad" in refused.value.message


async def test_a_repeated_creation_is_answered_without_reading_the_bucket_again(
    engine: Any, agent_id: str, add_group: Call, openapi: str
) -> None:
    engine.buckets["schemas", "stock.yaml"] = openapi.encode()
    ask = {"functionSchema": None, "apiSchema": S3, "clientToken": "c" * 40}
    first = await add_group(agent_id, **ask)
    engine.buckets.clear()
    assert await add_group(agent_id, **ask) == first


async def test_an_agent_deleted_while_its_schema_is_checked_gets_no_group(
    call: Call, engine: Any, agent_id: str, add_group: Call, openapi: str
) -> None:
    engine.documents.interruptions.append(lambda: call("DeleteAgent", agentId=agent_id))
    with pytest.raises(ResourceNotFoundException):
        await add_group(agent_id, functionSchema=None, apiSchema={"payload": openapi})
    assert engine.documents.interruptions == []
    left = await engine.documents.read(lambda docs: docs.list("action-group", parent=f"{agent_id}/DRAFT"))
    assert left == []
