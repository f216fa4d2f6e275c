from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outcrop.clock import StillClock
from outcrop.errors import ConflictException, ResourceNotFoundException, ValidationException

Call = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def create(call: Call, prepared: str) -> Call:
    async def creating(name: str = "PROD", **more: Any) -> dict[str, Any]:
        return (await call("CreateAgentAlias", agentId=prepared, agentAliasName=name, **more))["agentAlias"]

    return creating


@pytest.fixture
def update(call: Call, prepared: str) -> Call:
    async def updating(alias: str = "PROD", name: str = "PROD", **more: Any) -> dict[str, Any]:
        ask = {"agentId": prepared, "agentAliasId": alias, "agentAliasName": name, **more}
        return (await call("UpdateAgentAlias", **ask))["agentAlias"]

    return updating


def _to(version: str) -> list[dict[str, str]]:
    return [{"agentVersion": version}]


async def test_a_new_alias_cuts_a_version_and_routes_to_it(call: Call, prepared: str, create: Call) -> None:
    created = await create(description="live", clientToken="c" * 40)
    assert created["agentAliasStatus"] == "CREATING"
    assert created["routingConfiguration"] == _to("1")
    assert created["agentAliasHistoryEvents"] == [{"routingConfiguration": _to("1"), "startDate": created["createdAt"]}]
    kept = (await call("GetAgentAlias", agentId=prepared, agentAliasId=created["agentAliasId"]))["agentAlias"]
    assert kept == {**created, "agentAliasStatus": "PREPARED"}
    assert kept["aliasInvocationState"] == "ACCEPT_INVOCATIONS"
    arn = f"arn:aws:bedrock:us-east-1:123456789012:agent-alias/{prepared}/{created['agentAliasId']}"
    assert kept["agentAliasArn"] == arn
    assert (await call("GetAgent", agentId=prepared))["agent"]["agentStatus"] == "PREPARED"


async def test_each_alias_without_routing_cuts_the_next_version(create: Call) -> None:
    assert (await create("A"))["routingConfiguration"] == _to("1")
    assert (await create("B"))["routingConfiguration"] == _to("2")
    assert (await create("C", routingConfiguration=[]))["routingConfiguration"] == _to("3")
    assert (await create("D", routingConfiguration=[{}]))["routingConfiguration"] == _to("4")


async def test_an_alias_may_route_to_a_version_that_exists(call: Call, prepared: str, create: Call) -> None:
    await create("A")
    route = [{"agentVersion": "1", "provisionedThroughput": "reserved"}]
    assert (await create("B", routingConfiguration=route))["routingConfiguration"] == route
    versions = (await call("ListAgentVersions", agentId=prepared))["agentVersionSummaries"]
    assert [version["agentVersion"] for version in versions] == ["1", "DRAFT"]


@pytest.mark.parametrize("version", ["7", "DRAFT"])
async def test_an_alias_routes_to_no_missing_version_and_not_to_the_draft(
    call: Call, prepared: str, create: Call, version: str
) -> None:
    with pytest.raises(ValidationException, match=version) as refused:
        await create(routingConfiguration=_to(version))
    assert refused.value.members["fieldList"][0]["name"] == "routingConfiguration"
    assert len((await call("ListAgentAliases", agentId=prepared))["agentAliasSummaries"]) == 1


async def test_an_agent_that_was_never_prepared_gets_no_alias(call: Call, agent_id: str) -> None:
    with pytest.raises(ValidationException) as refused:
        await call("CreateAgentAlias", agentId=agent_id, agentAliasName="PROD")
    assert refused.value.message == (
        "Create operation can't be performed on AgentAlias when Agent is in Not Prepared state."
    )


async def test_an_edited_agent_gets_no_version_until_it_is_prepared_again(
    call: Call, prepared: str, create: Call, update: Call, add_group: Call
) -> None:
    await create()
    await add_group(prepared)
    with pytest.raises(ValidationException, match=r"Update operation .* Not Prepared"):
        await update()
    assert (await update(routingConfiguration=_to("1")))["routingConfiguration"] == _to("1")
    await call("PrepareAgent", agentId=prepared)
    assert (await update())["routingConfiguration"] == _to("2")


async def test_an_agent_that_failed_says_so(call: Call, create_agent: Call) -> None:
    agent_id = (await create_agent(instruction=None))["agentId"]
    await call("PrepareAgent", agentId=agent_id)
    with pytest.raises(ValidationException, match="Agent is in Failed state"):
        await call("CreateAgentAlias", agentId=agent_id, agentAliasName="PROD")


async def test_names_are_unique_within_an_agent_only(
    call: Call, create: Call, update: Call, create_agent: Call
) -> None:
    await create("PROD")
    await create("TEST")
    with pytest.raises(ConflictException, match="PROD"):
        await create("PROD")
    with pytest.raises(ConflictException, match="PROD"):
        await update("TEST", "PROD")
    with pytest.raises(ConflictException):
        await create("AgentTestAlias")
    other = (await create_agent("other"))["agentId"]
    await call("PrepareAgent", agentId=other)
    await call("CreateAgentAlias", agentId=other, agentAliasName="PROD")


async def test_a_conflict_cuts_no_version(call: Call, prepared: str, create: Call) -> None:
    await create()
    with pytest.raises(ConflictException):
        await create()
    versions = (await call("ListAgentVersions", agentId=prepared))["agentVersionSummaries"]
    assert [version["agentVersion"] for version in versions] == ["1", "DRAFT"]


async def test_each_change_of_routing_closes_one_event_and_opens_the_next(
    create: Call, update: Call, clock: StillClock
) -> None:
    start = (await create())["createdAt"]
    clock.advance(60)
    second = await update()
    assert second["agentAliasStatus"] == "UPDATING"
    assert second["agentAliasHistoryEvents"] == [
        {"routingConfiguration": _to("1"), "startDate": start, "endDate": second["updatedAt"]},
        {"routingConfiguration": _to("2"), "startDate": second["updatedAt"]},
    ]
    clock.advance(60)
    renamed = await update(name="LIVE", routingConfiguration=_to("2"))
    assert renamed["agentAliasHistoryEvents"] == second["agentAliasHistoryEvents"]
    assert renamed["createdAt"] == start


async def test_the_history_keeps_the_last_ten_events(create: Call, update: Call) -> None:
    await create()
    for _ in range(12):
        alias = await update()
    events = alias["agentAliasHistoryEvents"]
    assert [event["routingConfiguration"] for event in events] == [_to(str(n)) for n in range(4, 14)]
    assert ["endDate" in event for event in events] == [True] * 9 + [False]


async def test_invocations_are_stopped_and_resumed_by_updates(create: Call, update: Call) -> None:
    await create(description="live")
    stopped = await update(routingConfiguration=_to("1"), aliasInvocationState="REJECT_INVOCATIONS")
    assert stopped["aliasInvocationState"] == "REJECT_INVOCATIONS"
    assert "description" not in stopped
    assert (await update(routingConfiguration=_to("1")))["aliasInvocationState"] == "ACCEPT_INVOCATIONS"


async def test_a_deleted_alias_is_gone_and_its_version_stays(call: Call, prepared: str, create: Call) -> None:
    alias = await create(tags={"a": "b"})
    answer = await call("DeleteAgentAlias", agentId=prepared, agentAliasId="PROD")
    assert answer == {
        "agentId": prepared,
        "agentAliasId": alias["agentAliasId"],
        "agentAliasStatus": "DELETING",
    }
    with pytest.raises(ResourceNotFoundException):
        await call("GetAgentAlias", agentId=prepared, agentAliasId="PROD")
    await call("GetAgentVersion", agentId=prepared, agentVersion="1")
    assert (await create())["agentAliasId"] != alias["agentAliasId"]


async def test_the_test_alias_is_read_and_listed_last_but_never_changed(
    call: Call, prepared: str, create: Call, update: Call
) -> None:
    await create("A")
    await create("B")
    await update("A", "A", routingConfiguration=_to("1"))
    summaries = (await call("ListAgentAliases", agentId=prepared))["agentAliasSummaries"]
    assert [summary["agentAliasName"] for summary in summaries] == ["A", "B", "AgentTestAlias"]
    own = (await call("GetAgentAlias", agentId=prepared, agentAliasId="TSTALIASID"))["agentAlias"]
    assert {member: own[member] for member in summaries[-1]} == summaries[-1]
    assert own["routingConfiguration"] == _to("DRAFT")
    for way in ("TSTALIASID", "AgentTestAlias"):
        with pytest.raises(ValidationException, match="built in"):
            await update(way, "mine")
        with pytest.raises(ValidationException, match="built in"):
            await call("DeleteAgentAlias", agentId=prepared, agentAliasId=way)


async def test_the_test_alias_closes_the_last_page(call: Call, prepared: str, create: Call) -> None:
    for n in range(10):
        await create(f"alias-{n}")
    first = await call("ListAgentAliases", agentId=prepared)
    assert len(first["agentAliasSummaries"]) == 10
    rest = await call("ListAgentAliases", agentId=prepared, nextToken=first["nextToken"])
    assert [summary["agentAliasId"] for summary in rest["agentAliasSummaries"]] == ["TSTALIASID"]
    assert "nextToken" not in rest
