"""A turn that the next server takes up: whoever joins it meanwhile hears what a journal's reader would."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from agents import CHECK, World, collect, functions_group
from held_model import HeldModel

from outcrop.client import AgentClient
from outcrop.config import Config, ServerSettings
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel, call

BOTH = [call("inventory__check", {"sku": "A"}), call("inventory__check", {"sku": "B"})]
CALLED = ["o.inv ACTION_GROUP(0)", "o.obs ACTION_GROUP(0)"]


def test_of_two_actions_one_was_done_and_one_was_under_way(tmp_path: Path) -> None:
    config = Config(server=ServerSettings(data_dir=str(tmp_path), stop_grace_s=0.05))
    done, leave = threading.Event(), threading.Event()

    def check(event: dict[str, Any]) -> str:
        if event["parameters"][0]["value"] == "B":
            leave.wait(30)
            return "too late"
        done.set()
        return "42 of A"

    functions = RecordedFunctions()
    functions.add("inventory", check)
    with LocalServer(ScriptedModel([BOTH]), functions, config=config) as server:
        world = World(server, ScriptedModel(), functions)
        ids = world.agent(functions_group(CHECK))
        ask = {"agentId": ids[0], "agentAliasId": ids[1], "sessionId": "session-1", "inputText": "Check both"}
        abandoned = world.runtime.invoke_agent(**ask)
        assert done.wait(30)
        first_is_written(server)
    leave.set()
    abandoned["completion"].close()

    model = HeldModel("One is there.")
    hold = model.hold(1)
    with LocalServer(model, RecordedFunctions(), config=config) as server:
        hold.reached()
        response = server.client("bedrock-agent-runtime").invoke_agent(**ask, enableTrace=True)
        hold.release()
        answer = collect(response)

    assert answer.kinds == ["o.in(0)", "o.out(0)", *CALLED, *CALLED, "o.in(1)", "o.out(1)", "o.obs FINISH(1)", "chunk"]
    told = [part["trace"]["orchestrationTrace"].get("observation", {}) for part in answer.traces]
    first, second = [one["actionGroupInvocationOutput"]["text"] for one in told if one.get("type") == "ACTION_GROUP"]
    assert first == "42 of A"
    assert "not known whether this action took place" in second


def first_is_written(server: LocalServer) -> None:
    """Return once the journal has the result of one of the two actions."""

    async def wait() -> None:
        turns = server.engine.turns
        [turn_id] = turns.carrier._carried
        while (place := await turns.watch.place(turn_id)) is None or place[3] < 2:
            await turns.watch.moved(turn_id, place)

    server.run(wait())


def test_a_client_that_was_told_nothing_of_an_action_is_told_once(tmp_path: Path) -> None:
    """The same through the careful client, which was cut off by the stop."""
    config = Config(server=ServerSettings(data_dir=str(tmp_path), stop_grace_s=0.05))
    entered, leave = threading.Event(), threading.Event()
    functions = RecordedFunctions()

    def check(_event: dict[str, Any]) -> str:
        entered.set()
        leave.wait(30)
        return "too late"

    functions.add("inventory", check)
    heard: list[str] = []
    model = HeldModel("Please check.")

    with LocalServer(ScriptedModel([BOTH[:1]]), functions, config=config) as server:
        ids = World(server, ScriptedModel(), functions).agent(functions_group(CHECK))
        agents = AgentClient(session=server, backoff_s=0.0, attempts=1)

        def ask() -> None:
            try:
                agents.ask(*ids, "session-1", "Check A", on_step=lambda step: heard.append(step.kind))
            except Exception as error:
                heard.append(type(error).__name__)

        caller = threading.Thread(target=ask)
        caller.start()
        assert entered.wait(30)
    caller.join()
    leave.set()
    assert heard == ["model", "failure", "AgentServerFailed"]

    with LocalServer(model, RecordedFunctions(), config=config) as server:
        answer = AgentClient(session=server).ask(*ids, "session-1", "Check A")
    assert [step.kind for step in answer.steps] == ["model", "action", "result", "model", "answer"]
