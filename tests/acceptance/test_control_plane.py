"""The life of an agent as boto3 sees it: made, prepared, versioned, routed, tagged, listed and deleted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import CHECK, INSTRUCTION, RESERVE, ROLE, World, functions_group
from botocore.exceptions import ClientError

RHYMES = "You answer questions about the stock of a warehouse, always in rhymes."
SCHEMA = {
    "openapi": "3.0.0",
    "info": {"title": "Orders", "version": "1"},
    "paths": {
        "/orders/{id}": {
            "get": {
                "operationId": "getOrder",
                "description": "One order",
                "parameters": [
                    {
                        "name": "id", "in": "path", "description": "its id", "required": True,
                        "schema": {"type": "string"},
                    }
                ],
                "responses": {"200": {"description": "the order"}},
            }
        }
    },
}  # fmt: skip


def refused(code: str, status: int, work: Any, /, *arguments: Any, **members: Any) -> str:
    """Call what the service must refuse in that way: its message."""
    with pytest.raises(ClientError) as caught:
        work(*arguments, **members)
    response = caught.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    return response["Error"]["Message"]


def described(**members: Any) -> dict[str, Any]:
    return {"foundationModel": "anthropic.claude-3-haiku", "instruction": INSTRUCTION, **members}


def create(world: World, name: str, **members: Any) -> dict[str, Any]:
    return world.control.create_agent(agentName=name, agentResourceRoleArn=ROLE, **described(**members))["agent"]


def state(world: World, agent: str) -> str:
    return world.control.get_agent(agentId=agent)["agent"]["agentStatus"]


def routed(alias: dict[str, Any]) -> str:
    return alias["routingConfiguration"][0]["agentVersion"]


def test_an_agent_goes_from_a_draft_to_a_served_version_and_back(world: World, outcrop_clock: Any) -> None:
    control = world.control
    made = create(world, "stock", idleSessionTTLInSeconds=120, description="knows the shelves")
    agent = made["agentId"]
    assert made["agentStatus"] == "CREATING"
    assert made["agentArn"] == f"arn:aws:bedrock:us-east-1:123456789012:agent/{agent}"
    assert (made["orchestrationType"], made["agentCollaboration"]) == ("DEFAULT", "DISABLED")
    assert state(world, agent) == "NOT_PREPARED"

    preparing = control.prepare_agent(agentId=agent)
    assert (preparing["agentStatus"], preparing["agentVersion"]) == ("PREPARING", "DRAFT")
    assert state(world, agent) == "PREPARED"
    created = control.create_agent_alias(agentId=agent, agentAliasName="PROD")["agentAlias"]
    assert (created["agentAliasStatus"], routed(created)) == ("CREATING", "1")
    alias = created["agentAliasId"]

    outcrop_clock.advance(60)
    control.update_agent(agentId=agent, agentName="stock", agentResourceRoleArn=ROLE, **described(instruction=RHYMES))
    assert state(world, agent) == "NOT_PREPARED"
    control.prepare_agent(agentId=agent)
    moved = control.update_agent_alias(agentId=agent, agentAliasId=alias, agentAliasName="PROD")["agentAlias"]
    assert routed(moved) == "2"
    outcrop_clock.advance(60)
    back = [{"agentVersion": "1"}]
    control.update_agent_alias(agentId=agent, agentAliasId=alias, agentAliasName="PROD", routingConfiguration=back)

    found = control.get_agent_alias(agentId=agent, agentAliasId=alias)["agentAlias"]
    events = found["agentAliasHistoryEvents"]
    assert [routed(event) for event in events] == ["1", "2", "1"]
    assert [event.get("endDate") for event in events] == [events[1]["startDate"], events[2]["startDate"], None]
    assert (found["agentAliasStatus"], found["aliasInvocationState"]) == ("PREPARED", "ACCEPT_INVOCATIONS")
    versions = control.list_agent_versions(agentId=agent)["agentVersionSummaries"]
    assert [version["agentVersion"] for version in versions] == ["2", "1", "DRAFT"]
    texts = {
        number: control.get_agent_version(agentId=agent, agentVersion=number)["agentVersion"]["instruction"]
        for number in ("1", "2")
    }
    assert texts == {"1": INSTRUCTION, "2": RHYMES}


def test_what_an_update_leaves_out_is_reset(world: World) -> None:
    agent = create(world, "stock", description="knows the shelves", idleSessionTTLInSeconds=120)["agentId"]

    world.control.update_agent(
        agentId=agent, agentName="stores", agentResourceRoleArn=ROLE, foundationModel="other.model"
    )

    found = world.control.get_agent(agentId=agent)["agent"]
    assert (found["agentName"], found["foundationModel"]) == ("stores", "other.model")
    assert found["idleSessionTTLInSeconds"] == 600
    assert not {"description", "instruction"} & set(found)


def test_an_agent_without_an_instruction_fails_to_prepare_and_says_why(world: World) -> None:
    agent = world.control.create_agent(agentName="stock", foundationModel="some.model")["agent"]["agentId"]

    world.control.prepare_agent(agentId=agent)

    found = world.control.get_agent(agentId=agent)["agent"]
    assert found["agentStatus"] == "FAILED"
    assert found["failureReasons"] == ["Exception: Agent Instruction cannot be null"]
    message = refused(
        "ValidationException", 400, world.control.create_agent_alias, agentId=agent, agentAliasName="PROD"
    )
    assert message == "Create operation can't be performed on AgentAlias when Agent is in Failed state."


def test_an_alias_needs_a_prepared_agent(world: World) -> None:
    agent = create(world, "stock")["agentId"]

    message = refused(
        "ValidationException", 400, world.control.create_agent_alias, agentId=agent, agentAliasName="PROD"
    )

    assert message == "Create operation can't be performed on AgentAlias when Agent is in Not Prepared state."
    aliases = world.control.list_agent_aliases(agentId=agent)["agentAliasSummaries"]
    assert [alias["agentAliasId"] for alias in aliases] == ["TSTALIASID"]


def test_an_alias_routes_only_to_versions_that_exist(world: World) -> None:
    agent, alias = world.agent()
    given = {"agentId": agent, "agentAliasId": alias, "agentAliasName": "PROD"}
    for version in ("DRAFT", "7"):
        message = refused(
            "ValidationException", 400, world.control.update_agent_alias, **given,
            routingConfiguration=[{"agentVersion": version}],
        )  # fmt: skip
        assert version in message
    found = world.control.get_agent_alias(agentId=agent, agentAliasId=alias)["agentAlias"]
    assert (routed(found), len(found["agentAliasHistoryEvents"])) == ("1", 1)


def test_names_are_good_where_ids_are(world: World) -> None:
    agent, alias = world.agent(name="AX123")
    world.model.then("By name.")

    assert world.control.get_agent(agentId="AX123")["agent"]["agentId"] == agent
    # boto3 itself lets no alias through that is shorter than ten characters, where it is not the runtime's client.
    long = world.control.create_agent_alias(agentId="AX123", agentAliasName="PRODUCTION")["agentAlias"]
    found = world.control.get_agent_alias(agentId="AX123", agentAliasId="PRODUCTION")["agentAlias"]
    assert (found["agentId"], found["agentAliasId"]) == (agent, long["agentAliasId"])
    assert world.control.prepare_agent(agentId="AX123")["agentId"] == agent
    answer = world.ask(("AX123", "PROD"), "Check inventory for SKU-55", session="session-789")
    assert answer.text == "By name."
    assert (answer.traces[0]["agentId"], answer.traces[0]["agentAliasId"]) == (agent, alias)


def test_the_test_alias_serves_the_draft_as_it_was_last_prepared(world: World) -> None:
    agent, _ = world.agent()
    world.model.then("one", "two")
    world.control.update_agent(
        agentId=agent, agentName="stock", agentResourceRoleArn=ROLE, **described(instruction=RHYMES)
    )

    before = world.ask((agent, "TSTALIASID"), "Hi", session="session-1")
    world.control.prepare_agent(agentId=agent)
    after = world.ask((agent, "TSTALIASID"), "Hi", session="session-2")

    systems = [request.system for request in world.model.requests]
    assert systems[0].startswith(INSTRUCTION)
    assert systems[1].startswith(RHYMES)
    assert {answer.traces[0]["agentVersion"] for answer in (before, after)} == {"DRAFT"}
    found = world.control.get_agent_alias(agentId=agent, agentAliasId="TSTALIASID")["agentAlias"]
    assert (found["agentAliasName"], routed(found)) == ("AgentTestAlias", "DRAFT")
    at = {"agentId": agent, "agentAliasId": "TSTALIASID"}
    refused("ValidationException", 400, world.control.update_agent_alias, **at, agentAliasName="mine")
    refused("ValidationException", 400, world.control.delete_agent_alias, **at)


def test_an_alias_may_refuse_invocations(world: World) -> None:
    agent, alias = world.agent()
    world.model.then("open again")
    given = {"agentId": agent, "agentAliasId": alias, "agentAliasName": "PROD"}
    route = {"routingConfiguration": [{"agentVersion": "1"}]}

    world.control.update_agent_alias(**given, **route, aliasInvocationState="REJECT_INVOCATIONS")
    message = refused("ValidationException", 400, world.ask, (agent, alias), "Hi")
    world.control.update_agent_alias(**given, **route)

    assert alias in message
    assert world.ask((agent, alias), "Hi").text == "open again"


def test_deleting_follows_the_rules_of_use(world: World) -> None:
    control = world.control
    agent, alias = world.agent()

    message = refused("ConflictException", 409, control.delete_agent, agentId=agent)
    assert "PROD" in message
    message = refused("ConflictException", 409, control.delete_agent_version, agentId=agent, agentVersion="1")
    assert "PROD" in message
    gone = control.delete_agent_alias(agentId=agent, agentAliasId=alias)
    assert gone["agentAliasStatus"] == "DELETING"
    assert control.delete_agent_version(agentId=agent, agentVersion="1")["agentStatus"] == "DELETING"
    assert control.delete_agent(agentId=agent)["agentStatus"] == "DELETING"

    for work, members in (
        (control.get_agent, {}),
        (control.get_agent_alias, {"agentAliasId": alias}),
        (control.get_agent_version, {"agentVersion": "1"}),
        (control.list_agent_aliases, {}),
        (control.delete_agent, {}),
    ):
        assert "it doesn't exist" in refused("ResourceNotFoundException", 404, work, agentId=agent, **members)
    assert control.list_agents()["agentSummaries"] == []


def test_deleting_without_the_check_takes_everything_along(world: World) -> None:
    agent, alias = world.agent(functions_group(CHECK))
    arn = world.control.get_agent_alias(agentId=agent, agentAliasId=alias)["agentAlias"]["agentAliasArn"]
    world.control.tag_resource(resourceArn=arn, tags={"stage": "prod"})

    world.control.delete_agent(agentId=agent, skipResourceInUseCheck=True)

    refused("ResourceNotFoundException", 404, world.ask, (agent, alias), "Hi")
    refused("ResourceNotFoundException", 404, world.control.list_tags_for_resource, resourceArn=arn)
    create(world, "stock")  # the name is free again


def test_a_number_is_never_given_to_two_versions(world: World) -> None:
    agent, alias = world.agent()

    world.control.delete_agent_version(agentId=agent, agentVersion="1", skipResourceInUseCheck=True)
    left = world.control.get_agent_alias(agentId=agent, agentAliasId=alias)["agentAlias"]
    again = world.control.create_agent_alias(agentId=agent, agentAliasName="NEXT")["agentAlias"]

    assert left["agentAliasStatus"] == "DISSOCIATED"
    assert routed(again) == "2"
    assert "DISSOCIATED" in refused("ValidationException", 400, world.ask, (agent, alias), "Hi")


def test_names_are_taken_once(world: World) -> None:
    agent, _ = world.agent(functions_group(CHECK))
    other = create(world, "stores")["agentId"]

    assert "stock" in refused("ConflictException", 409, create, world, "stock")
    refused(
        "ConflictException", 409, world.control.update_agent, agentId=other, agentName="stock",
        agentResourceRoleArn=ROLE, foundationModel="some.model",
    )  # fmt: skip
    refused("ConflictException", 409, world.control.create_agent_alias, agentId=agent, agentAliasName="PROD")
    refused(
        "ConflictException", 409, world.control.create_agent_action_group, agentId=agent, agentVersion="DRAFT",
        **functions_group(RESERVE),
    )  # fmt: skip

    assert world.control.get_agent(agentId=other)["agent"]["agentName"] == "stores"
    groups = world.control.list_agent_action_groups(agentId=agent, agentVersion="DRAFT")["actionGroupSummaries"]
    assert len(groups) == 1


def test_a_repeated_client_token_makes_nothing_twice(world: World, outcrop_clock: Any) -> None:
    token = "t" * 40
    first = create(world, "stock", clientToken=token)
    again = create(world, "stock", clientToken=token)
    different = create(world, "stores", clientToken=token)

    assert again["agentId"] == different["agentId"] == first["agentId"]
    assert [agent["agentName"] for agent in world.control.list_agents()["agentSummaries"]] == ["stock"]

    outcrop_clock.advance(25 * 3600)
    assert create(world, "stores", clientToken=token)["agentId"] != first["agentId"]


def test_a_token_of_a_refused_call_is_good_for_another(world: World) -> None:
    create(world, "stock")
    token = "u" * 40

    refused("ConflictException", 409, create, world, "stock", clientToken=token)

    assert create(world, "stores", clientToken=token)["agentName"] == "stores"


def test_lists_come_in_pages(world: World, outcrop_clock: Any) -> None:
    for number in range(12):
        create(world, f"agent-{number}")
        outcrop_clock.advance(1)
    newest_first = [f"agent-{number}" for number in reversed(range(12))]

    first = world.control.list_agents()
    assert len(first["agentSummaries"]) == 10
    assert len(world.control.list_agents(maxResults=100)["agentSummaries"]) == 12
    pages = list(world.control.get_paginator("list_agents").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page["agentSummaries"]) for page in pages] == [5, 5, 2]
    assert [agent["agentName"] for page in pages for agent in page["agentSummaries"]] == newest_first
    assert {agent["latestAgentVersion"] for agent in first["agentSummaries"]} == {"DRAFT"}

    message = refused("ValidationException", 400, world.control.list_agents, nextToken="nonsense")
    assert "nextToken" in message
    foreign = {"agentId": "agent-1", "nextToken": first["nextToken"]}
    refused("ValidationException", 400, world.control.list_agent_aliases, **foreign)


def test_an_action_group_lives_in_the_draft_until_it_is_prepared(world: World) -> None:
    control = world.control
    agent, alias = world.agent()
    made = control.create_agent_action_group(agentId=agent, agentVersion="DRAFT", **functions_group(CHECK))
    group = made["agentActionGroup"]
    assert (group["actionGroupState"], group["agentVersion"]) == ("ENABLED", "DRAFT")
    assert state(world, agent) == "NOT_PREPARED"
    world.model.then("none yet", "one now", "none again")

    world.ask((agent, alias), "Hi", session="session-1")
    control.prepare_agent(agentId=agent)
    control.update_agent_alias(agentId=agent, agentAliasId=alias, agentAliasName="PROD")
    world.ask((agent, alias), "Hi", session="session-2")
    at = {"agentId": agent, "agentVersion": "DRAFT", "actionGroupId": group["actionGroupId"]}
    control.update_agent_action_group(**at, actionGroupState="DISABLED", **functions_group(CHECK))
    control.prepare_agent(agentId=agent)
    world.ask((agent, "TSTALIASID"), "Hi", session="session-3")

    tools = [[tool["name"] for tool in request.tools] for request in world.model.requests]
    assert tools == [[], ["inventory__check"], []]
    frozen = control.get_agent_action_group(**{**at, "agentVersion": "2"})["agentActionGroup"]
    assert frozen["actionGroupState"] == "ENABLED"


def test_an_action_group_is_replaced_whole_and_deleted_when_disabled(world: World) -> None:
    control = world.control
    agent = create(world, "stock")["agentId"]
    made = control.create_agent_action_group(
        agentId=agent, agentVersion="DRAFT", description="the shelves", **functions_group(CHECK)
    )
    at = {
        "agentId": agent,
        "agentVersion": "DRAFT",
        "actionGroupId": made["agentActionGroup"]["actionGroupId"],
    }
    orders = {
        "actionGroupName": "orders",
        "actionGroupExecutor": {"customControl": "RETURN_CONTROL"},
        "apiSchema": {"payload": json.dumps(SCHEMA)},
    }

    refused("ConflictException", 409, control.delete_agent_action_group, **at)
    control.update_agent_action_group(**at, actionGroupState="DISABLED", **orders)
    found = control.get_agent_action_group(**at)["agentActionGroup"]
    control.delete_agent_action_group(**at)

    assert found["actionGroupName"] == "orders"
    assert not {"description", "functionSchema"} & set(found)
    refused("ResourceNotFoundException", 404, control.get_agent_action_group, **at)
    assert control.list_agent_action_groups(agentId=agent, agentVersion="DRAFT")["actionGroupSummaries"] == []


def test_a_signature_stands_alone(world: World) -> None:
    agent = create(world, "stock")["agentId"]
    at = {"agentId": agent, "agentVersion": "DRAFT", "parentActionGroupSignature": "AMAZON.UserInput"}

    message = refused(
        "ValidationException", 400, world.control.create_agent_action_group, **at, actionGroupName="ask",
        description="asks the user",
    )  # fmt: skip
    group = world.control.create_agent_action_group(**at, actionGroupName="ask")["agentActionGroup"]

    assert "description" in message
    assert group["parentActionSignature"] == "AMAZON.UserInput"


def test_tags_belong_to_agents_and_aliases(world: World) -> None:
    control = world.control
    made = create(world, "stock", tags={"team": "stock", "stage": "test"})
    agent = made["agentId"]
    control.prepare_agent(agentId=agent)
    alias = control.create_agent_alias(agentId=agent, agentAliasName="PROD", tags={"stage": "prod"})["agentAlias"]

    def tags(arn: str) -> dict[str, str]:
        return control.list_tags_for_resource(resourceArn=arn)["tags"]

    control.tag_resource(resourceArn=made["agentArn"], tags={"stage": "live", "cost": "42"})
    control.untag_resource(resourceArn=made["agentArn"], tagKeys=["team", "absent"])

    assert tags(made["agentArn"]) == {"stage": "live", "cost": "42"}
    assert tags(alias["agentAliasArn"]) == {"stage": "prod"}
    elsewhere = made["agentArn"].replace("us-east-1", "eu-west-1")
    refused("ResourceNotFoundException", 404, control.list_tags_for_resource, resourceArn=elsewhere)
    many = {f"key-{number}": "" for number in range(60)}
    refused("ServiceQuotaExceededException", 402, control.tag_resource, resourceArn=made["agentArn"], tags=many)
    assert tags(made["agentArn"]) == {"stage": "live", "cost": "42"}
