"""Turns in the background in lists, on bad input, and after a killed server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import CHECK, INSTRUCTION, ROLE, functions_group
from background import CHECK_A, Scene, refusal
from botocore.exceptions import ClientError
from gated_model import GatedModel
from serving import Served

# lists ------------------------------------------------------------------------------------------------


def test_turns_are_listed_newest_first_by_agent_session_and_status(scene: Scene) -> None:
    one, other = scene.some(functions_group(CHECK, control=True)), scene.some()
    scene.model.then("A.", "B.", CHECK_A, "C.")
    first = scene.start(one, "A", session="listed-1")
    scene.get(first)
    second = scene.start(one, "B", session="listed-2")
    scene.get(second)
    third = scene.start(one, "C", session="listed-1")
    scene.get(third)
    foreign = scene.start(other, "D", session="listed-1")
    scene.get(foreign)

    def listed(**members: Any) -> list[str]:
        return [turn["turnId"] for turn in scene.outcrop.list_turns(**members)["turnSummaries"]]

    name = scene.control.get_agent(agentId=one[0])["agent"]["agentName"]
    assert listed()[:4] == [foreign, third, second, first]
    assert listed(agentId=one[0]) == listed(agentId=name) == [third, second, first]
    assert listed(agentId=one[0], agentAliasId="PROD") == [third, second, first]
    assert listed(agentId=one[0], agentAliasId="TSTALIASID") == []
    assert listed(agentId=one[0], sessionId="listed-1") == [third, first]
    assert listed(agentId=one[0], agentAliasId=one[1], sessionId="listed-1") == [third, first]
    assert listed(sessionId="listed-1") == [foreign, third, first]
    assert listed(sessionId="isted-1") == []
    assert listed(agentId=one[0], status="WAITING_FOR_INPUT") == [third]
    assert listed(agentId=one[0], status="COMPLETED", maxResults=1) == [second]
    [summary] = scene.outcrop.list_turns(agentId=one[0], status="COMPLETED", sessionId="listed-2")["turnSummaries"]
    assert summary["agentVersion"] == "1"
    assert not {"inputText", "answer"} & set(summary)
    pages = scene.outcrop.get_paginator("list_turns").paginate(agentId=one[0], PaginationConfig={"PageSize": 1})
    assert [turn["turnId"] for page in pages for turn in page["turnSummaries"]] == [third, second, first]


def test_turns_of_a_deleted_agent_are_still_listed_by_its_id(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("A.")
    turn_id = scene.start(ids, "A")
    scene.get(turn_id)
    scene.control.delete_agent(agentId=ids[0], skipResourceInUseCheck=True)

    [summary] = scene.outcrop.list_turns(agentId=ids[0])["turnSummaries"]

    assert summary["turnId"] == turn_id
    assert refusal(lambda: scene.outcrop.list_turns(agentId="no-such"))[0] == "ResourceNotFoundException"


def test_turns_of_calls_are_turns_too(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.", "Inline.")
    scene.ask(ids, "Hi", session="calls")
    answer = scene.runtime.invoke_inline_agent(
        foundationModel="m", instruction="You answer questions about stock, briefly.", sessionId="inline-calls",
        inputText="Hi",
    )  # fmt: skip
    list(answer["completion"])

    [called] = scene.outcrop.list_turns(agentId=ids[0])["turnSummaries"]
    [inline] = scene.outcrop.list_turns(agentId="INLINE_AGENT", sessionId="inline-calls")["turnSummaries"]

    assert scene.get(called["turnId"])["answer"] == "Hello."
    assert (inline["agentId"], inline["agentAliasId"]) == ("INLINE_AGENT", "TSTALIASID")
    assert scene.get(inline["turnId"])["answer"] == "Inline."


# bad input ----------------------------------------------------------------------------------------------


def test_what_is_missing_or_wrong_is_named(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.")
    turn_id = scene.start(ids, "Hi")
    scene.get(turn_id)
    scene.clock.advance(1)
    client = scene.outcrop
    events = client.list_turn_events(turnId=turn_id, includeTrace=True, maxResults=1)["nextToken"]
    listed = client.list_turns(maxResults=1).get("nextToken", events)

    def naming(field: str, of: Callable[[], Any]) -> None:
        with pytest.raises(ClientError) as raised:
            of()
        assert raised.value.response["Error"]["Code"] == "ValidationException"
        assert [one["name"] for one in raised.value.response["fieldList"]] == [field]

    naming("inputText", lambda: scene.start(ids))
    naming("agentAliasId", lambda: client.list_turns(agentAliasId="PROD"))
    naming("nextToken", lambda: client.list_turns(nextToken="made-up"))
    naming("nextToken", lambda: client.list_turns(nextToken=events))
    naming("nextToken", lambda: client.list_turns(agentId=ids[0], nextToken=listed))
    naming("nextToken", lambda: client.list_turn_events(turnId=turn_id, nextToken=listed[:-4]))
    naming("status", lambda: client.list_turns(status="DONE"))
    naming("busySession", lambda: scene.start(ids, "Hi", busySession="WAIT"))


def test_unknown_things_are_not_found(scene: Scene) -> None:
    ids = scene.some()
    unknown = "0" * 32
    client = scene.outcrop

    for of in (client.get_turn, client.list_turn_events, client.cancel_turn, client.resume_turn):
        assert refusal(lambda of=of: of(turnId=unknown)) == (
            "ResourceNotFoundException",
            f"There is no turn {unknown}.",
        )
    assert refusal(lambda: scene.start(("no-such", ids[1]), "Hi"))[0] == "ResourceNotFoundException"
    assert refusal(lambda: scene.start((ids[0], "no-such"), "Hi"))[0] == "ResourceNotFoundException"


def test_an_agent_that_is_not_prepared_is_refused_before_anything_is_kept(scene: Scene) -> None:
    agent = scene.control.create_agent(agentName=f"raw-{next(scene.numbers)}", foundationModel="m")["agent"]["agentId"]

    code, message = refusal(lambda: scene.start((agent, "TSTALIASID"), "Hi"))

    assert code == "ValidationException"
    assert message.startswith("StartTurn operation can't be performed on Agent when it is in Not Prepared state.")
    assert scene.outcrop.list_turns(agentId=agent)["turnSummaries"] == []


def test_turns_of_another_account_are_not_found(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.")
    turn_id = scene.start(ids, "Hi")
    scene.get(turn_id)

    def move(connection: Any) -> None:
        connection.exec_driver_sql(
            "UPDATE turns SET session_key = replace(session_key, '123456789012/', '999999999999/') WHERE id = ?",
            (turn_id,),
        )

    scene.server.run(scene.server.engine.database.write(move))

    assert refusal(lambda: scene.get(turn_id))[0] == "ResourceNotFoundException"
    assert refusal(lambda: scene.outcrop.cancel_turn(turnId=turn_id))[0] == "ResourceNotFoundException"
    assert scene.outcrop.list_turns(agentId=ids[0])["turnSummaries"] == []


# a server that is killed --------------------------------------------------------------------------------


@pytest.mark.slow
def test_turns_of_a_killed_server_end_after_its_restart_without_anybody_asking(tmp_path: Path) -> None:
    config = tmp_path / "outcrop.toml"
    with GatedModel(lambda messages: {"content": f"I have seen {len(messages)} messages."}) as model:
        bound = f'{{ provider = "openai", base_url = "{model.url}", model = "m" }}'
        config.write_text(f'[models]\n"*" = {bound}\n')
        at = {"agentId": "afar", "agentAliasId": "TSTALIASID", "sessionId": "s-1"}
        with Served(tmp_path / "data", config=config) as server:
            control, client = server.client("bedrock-agent"), server.client("outcrop")
            made = {"agentName": "afar", "foundationModel": "m", "instruction": INSTRUCTION}
            control.create_agent(**made, agentResourceRoleArn=ROLE)
            control.prepare_agent(agentId="afar")
            model.hold(1)
            running = client.start_turn(**at, inputText="First", clientToken="order-1")["turnId"]
            assert model.reached.wait(30)
            queued = client.start_turn(**at, inputText="Second", busySession="ENQUEUE")["turnId"]
            server.kill()
        model.release()

        with Served(tmp_path / "data", config=config) as server:
            client = server.client("outcrop")
            first, second = (client.get_turn(turnId=turn_id, waitSeconds=60) for turn_id in (running, queued))
            again = client.start_turn(**at, inputText="First", clientToken="order-1")["turnId"]

    # The system prompt, what was said before, and the user's words.
    assert first["answer"] == "I have seen 2 messages."
    assert second["answer"] == "I have seen 4 messages."
    assert again == running
    assert len(model.requests) == 3
