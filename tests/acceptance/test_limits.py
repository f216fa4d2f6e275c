"""The edges of a turn: too long a wait, too long an answer, a server that stops meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from agents import CHECK, World, functions_group
from botocore.exceptions import EventStreamError

from outcrop.config import Config, ServerSettings, TurnSettings
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel, call

MEMORY = ServerSettings(database="sqlite:memory")


def test_a_turn_over_its_seconds_ends_with_a_canned_answer_and_the_session_goes_on() -> None:
    leave = threading.Event()

    def slow(_event: dict[str, Any]) -> str:
        leave.wait(30)
        return "late"

    functions = RecordedFunctions({"inventory": slow})
    model = ScriptedModel([[call("inventory__check", {"sku": "A"})], "Fine."])
    config = Config(server=MEMORY, turns=TurnSettings(max_seconds=0.2))
    with LocalServer(model, functions, config=config) as server:
        world = World(server, model, functions)
        ids = world.agent(functions_group(CHECK))

        answer = world.ask(ids, "Check A")
        leave.set()

        assert answer.kinds[-2:] == ["failure", "chunk"]
        failure = answer.traces[-1]["trace"]["failureTrace"]
        assert (failure["failureCode"], failure["failureReason"]) == (408, "The turn reached its limit of 0.2 seconds.")
        assert world.ask(ids, "Again").text == "Fine."


def test_what_ran_when_the_time_was_up_is_not_forgotten() -> None:
    leave = threading.Event()

    def act(event: dict[str, Any]) -> str:
        if event["parameters"][0]["value"] == "slow":
            leave.wait(30)
        return "done"

    functions = RecordedFunctions({"inventory": act})
    model = ScriptedModel([[call("inventory__check", {"sku": sku}) for sku in ("quick", "slow")], "Fine."])
    config = Config(server=MEMORY, turns=TurnSettings(max_seconds=0.3))
    with LocalServer(model, functions, config=config) as server:
        world = World(server, model, functions)
        ids = world.agent(functions_group(CHECK))
        world.ask(ids, "Act")
        leave.set()
        world.ask(ids, "Again")

    sent = model.requests[-1].messages
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    told = [block["toolResult"]["content"][0]["text"] for block in sent[2]["content"]]
    assert told[0] == "done"
    assert "not known whether this action took place" in told[1]


def test_an_answer_over_a_million_bytes_comes_in_several_chunks(world: World) -> None:
    ids = world.agent()
    long = "é" * 700_000
    world.model.then(long)

    answer = world.ask(ids, "Long", enableTrace=False)

    assert len(answer.chunks) > 1
    assert all(len(chunk.encode()) <= 1_000_000 for chunk in answer.chunks)
    assert answer.text == long


def test_large_attributes_and_texts_make_the_round_trip(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    big = "x" * 2_000_000
    world.functions.add("inventory", big)
    world.model.then([call("inventory__check", {"sku": big})], "Fine.", "Still.")

    world.ask(ids, big, sessionState={"sessionAttributes": {"big": big}}, enableTrace=False)
    world.ask(ids, "Again", enableTrace=False)

    assert world.functions.events[0][1]["sessionAttributes"] == {"big": big}
    assert world.model.requests[-1].messages[0]["content"][0]["text"] == big


def test_a_preamble_before_a_tool_call_is_not_streamed(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", "42")
    world.model.then(["Let me look that up.", call("inventory__check", {"sku": "A"})], "There are forty-two of them.")

    answer = world.ask(ids, "Check A", streamingConfigurations={"streamFinalResponse": True})

    assert answer.text == "There are forty-two of them."
    rationale = [t for t in answer.traces if "rationale" in t["trace"]["orchestrationTrace"]]
    assert rationale[0]["trace"]["orchestrationTrace"]["rationale"]["text"] == "Let me look that up."


def test_tokens_are_counted_without_a_trace(world: World) -> None:
    ids = world.agent()
    world.model.then("Hello.")

    world.ask(ids, "Hi", enableTrace=False)

    assert world.server.engine.metrics.value("outcrop_input_tokens_total") > 0
    assert world.server.engine.metrics.value("outcrop_output_tokens_total") > 0
    assert 'outcrop_turns_total{outcome="finish"} 1' in world.server.request("GET", "/metrics").raw.read().decode()
    assert world.server.request("GET", "/healthz").status_code == 200


def test_a_mistake_of_the_engine_is_told_in_general_words_and_the_session_goes_on(world: World) -> None:
    ids = world.agent()
    world.model.then(ValueError("secret detail"), "Hello.", "Fine.")

    with pytest.raises(EventStreamError) as caught:
        world.ask(ids, "Hi")
    assert caught.value.response["Error"]["Code"] == "internalServerException"
    assert "secret" not in str(caught.value)

    assert world.ask(ids, "Hi").text == "Hello."
    assert world.ask(ids, "Again").text == "Fine."
