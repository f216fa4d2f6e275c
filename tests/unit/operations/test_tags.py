from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outcrop.errors import ResourceNotFoundException, ServiceQuotaExceededException, ValidationException

Call = Callable[..., Awaitable[dict[str, Any]]]
PREFIX = "arn:aws:bedrock:us-east-1:123456789012"


async def _tags(call: Call, arn: str) -> dict[str, str]:
    return (await call("ListTagsForResource", resourceArn=arn))["tags"]


async def test_tags_given_at_birth_are_listed(call: Call, create_agent: Call) -> None:
    agent = await create_agent(tags={"team": "shop"})
    assert await _tags(call, agent["agentArn"]) == {"team": "shop"}
    await call("PrepareAgent", agentId=agent["agentId"])
    ask = {"agentId": agent["agentId"], "agentAliasName": "PROD", "tags": {"stage": "live"}}
    alias = (await call("CreateAgentAlias", **ask))["agentAlias"]
    assert await _tags(call, alias["agentAliasArn"]) == {"stage": "live"}


async def test_tags_are_added_replaced_and_removed(call: Call, agent_id: str) -> None:
    arn = f"{PREFIX}:agent/{agent_id}"
    assert await _tags(call, arn) == {}
    assert await call("TagResource", resourceArn=arn, tags={"a": "1", "b": "2"}) == {}
    await call("TagResource", resourceArn=arn, tags={"b": "3", "c": ""})
    assert await _tags(call, arn) == {"a": "1", "b": "3", "c": ""}
    assert await call("UntagResource", resourceArn=arn, tagKeys=["a", "never there"]) == {}
    assert await _tags(call, arn) == {"b": "3", "c": ""}
    await call("UntagResource", resourceArn=arn, tagKeys=["b", "c"])
    assert await _tags(call, arn) == {}


async def test_a_resource_has_fifty_tags_at_most(call: Call, create_agent: Call, agent_id: str) -> None:
    arn = f"{PREFIX}:agent/{agent_id}"
    await call("TagResource", resourceArn=arn, tags={f"key-{n}": "" for n in range(50)})
    await call("TagResource", resourceArn=arn, tags={"key-0": "again"})
    with pytest.raises(ServiceQuotaExceededException, match="50"):
        await call("TagResource", resourceArn=arn, tags={"one more": ""})
    with pytest.raises(ServiceQuotaExceededException):
        await create_agent("other", tags={f"key-{n}": "" for n in range(51)})
    assert len((await call("ListAgents"))["agentSummaries"]) == 1


async def test_tags_of_a_deleted_resource_do_not_come_back(call: Call, prepared: str) -> None:
    ask = {"agentId": prepared, "agentAliasName": "PROD", "tags": {"a": "b"}}
    alias = (await call("CreateAgentAlias", **ask))["agentAlias"]
    await call("DeleteAgentAlias", agentId=prepared, agentAliasId="PROD")
    with pytest.raises(ResourceNotFoundException):
        await _tags(call, alias["agentAliasArn"])


@pytest.mark.parametrize(
    "arn",
    [
        f"{PREFIX}:agent/NOSUCHAGNT",
        f"{PREFIX}:agent-alias/NOSUCHAGNT/NOSUCHALIS",
        f"{PREFIX}:knowledge-base/ABCDEFGHIJ",
        f"{PREFIX}:flow/ABCDEFGHIJ/alias/ABCDEFGHIJ",
    ],
)
async def test_what_does_not_exist_has_no_tags(call: Call, arn: str) -> None:
    with pytest.raises(ResourceNotFoundException):
        await _tags(call, arn)
    with pytest.raises(ResourceNotFoundException):
        await call("TagResource", resourceArn=arn, tags={"a": "b"})
    with pytest.raises(ResourceNotFoundException):
        await call("UntagResource", resourceArn=arn, tagKeys=["a"])


@pytest.mark.parametrize("place", ["eu-west-1:123456789012", "us-east-1:999999999999"])
async def test_an_agent_of_another_place_is_another_agent(call: Call, agent_id: str, place: str) -> None:
    with pytest.raises(ResourceNotFoundException):
        await _tags(call, f"arn:aws:bedrock:{place}:agent/{agent_id}")


@pytest.mark.parametrize("arn", ["arn:aws:s3:::bucket-of-mine", "agent/ABCDEFGHIJKLMNOP", f"{PREFIX}:agent-ABCDEFGHIJ"])
async def test_what_is_no_arn_of_ours_is_refused(call: Call, arn: str) -> None:
    with pytest.raises(ValidationException, match="resourceArn") as refused:
        await _tags(call, arn)
    assert refused.value.members["fieldList"][0]["name"] == "resourceArn"
