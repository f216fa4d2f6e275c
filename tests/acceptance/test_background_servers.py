"""Turns without their caller on several servers: started at one, followed, cancelled and resumed at another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from agents import CHECK, INSTRUCTION, ROLE, functions_group
from background import results
from gated_model import GatedModel, Message, tool_call
from postgresql import PostgreSQL
from serving import Served

pytestmark = pytest.mark.slow
AT = {"agentId": "afar", "agentAliasId": "TSTALIASID"}


def decide(messages: list[Message]) -> Message:
    """Check first, then say what came of it."""
    if messages[-1]["role"] == "tool":
        return {"content": f"There are {messages[-1]['content']}."}
    return tool_call("inventory__check", {"sku": "A"})


@pytest.fixture(scope="module")
def model() -> Iterator[GatedModel]:
    with GatedModel(decide) as model:
        yield model


@pytest.fixture(scope="module")
def clients(
    postgresql: PostgreSQL, _migrated: str, tmp_path_factory: pytest.TempPathFactory, model: GatedModel
) -> Iterator[tuple[Any, Any]]:
    """Clients of two servers on one database, on which an agent is prepared."""
    folder, url = tmp_path_factory.mktemp("two"), postgresql.database(template=_migrated)
    config = folder / "outcrop.toml"
    bound = f'{{ provider = "openai", base_url = "{model.url}", model = "m" }}'
    config.write_text(f'[models]\n"*" = {bound}\n')
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(Served(folder / name, "--database", url, config=config)) for name in ("one", "two")
        )
        control = one.client("bedrock-agent")
        made = {"agentName": "afar", "foundationModel": "m", "instruction": INSTRUCTION}
        control.create_agent(**made, agentResourceRoleArn=ROLE)
        group = functions_group(CHECK, control=True)
        named = {**group, "actionGroupName": "inventory"}
        control.create_agent_action_group(agentId="afar", agentVersion="DRAFT", **named)
        control.prepare_agent(agentId="afar")
        yield one.client("outcrop"), two.client("outcrop")
    postgresql.drop(url)


def test_every_server_tells_the_same_of_a_turn_and_takes_its_results(clients: tuple[Any, Any]) -> None:
    one, two = clients

    turn_id = one.start_turn(**AT, sessionId="s-1", inputText="Check A")["turnId"]
    waiting = two.get_turn(turnId=turn_id, waitSeconds=60)
    early = [client.list_turn_events(turnId=turn_id, includeTrace=True) for client in clients]
    two.start_turn(**AT, sessionId="s-1", sessionState=results(waiting["returnControl"], "42"))
    done = one.get_turn(turnId=turn_id, waitSeconds=60)
    late = [client.list_turn_events(turnId=turn_id, includeTrace=True) for client in clients]
    rest = one.list_turn_events(turnId=turn_id, includeTrace=True, nextToken=early[1]["nextToken"])
    listed = two.list_turns(agentId="afar", sessionId="s-1")["turnSummaries"]

    assert done["answer"] == "There are 42."
    assert early[0]["events"] == early[1]["events"]
    assert late[0]["events"] == late[1]["events"] == early[0]["events"] + rest["events"]
    assert [turn["turnId"] for turn in listed] == [turn_id]


def test_a_turn_is_cancelled_at_a_server_that_does_not_carry_it(clients: tuple[Any, Any], model: GatedModel) -> None:
    model.hold(len(model.requests) + 1)
    turn_id = clients[0].start_turn(**AT, sessionId="s-2", inputText="Check A")["turnId"]
    assert model.reached.wait(30)

    # One of the two carries it, and the other one does not.
    asked = clients[1].cancel_turn(turnId=turn_id, reason="Not now.")
    again = clients[0].cancel_turn(turnId=turn_id)
    settled = clients[0].get_turn(turnId=turn_id, waitSeconds=30)

    assert asked["status"] in ("RUNNING", "CANCELLED")
    assert again["status"] == settled["status"] == "CANCELLED"
    assert settled["statusReason"] == "Not now."
    model.release()
