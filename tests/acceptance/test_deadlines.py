"""Turns that last longer than one call may, and steps that last longer than a step may."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from agents import CHECK, World, collect, functions_group
from botocore.exceptions import EventStreamError
from held_model import HeldModel
from refusals import broken

from outcrop.client import AgentClient, AgentDependencyFailed, AgentStillRunning, Step
from outcrop.clock import StillClock
from outcrop.config import Binding, Config, ServerSettings, TurnSettings
from outcrop.errors import DependencyFailedException
from outcrop.models.providers.scripted import Reply
from outcrop.operations.context import Context
from outcrop.operations.registry import Stream, load
from outcrop.testing import LocalServer, RecordedFunctions, call

CHECK_A = [call("inventory__check", {"sku": "A"})]
LATE = r"^Turn (\w+) did not end within the 0.3 seconds of one call. "
GOES_ON = LATE + "It goes on; retry the request to join it.$"


class Office(World):
    """A world whose model can be held."""

    model: HeldModel

    def __init__(self, server: LocalServer, model: HeldModel, functions: RecordedFunctions) -> None:
        super().__init__(server, model, functions)
        functions.add("inventory", "42")
        self.ids = self.agent(functions_group(CHECK))

    def ended(self) -> None:
        """Return once no turn is under way."""
        self.server.run(self.server.engine.turns.carrier.close(30))


Open = Callable[..., Office]


@pytest.fixture
def office() -> Iterator[Open]:
    """Makes such a world with these settings of turns, on a model with these replies."""
    with ExitStack() as stack:

        def make(*replies: Reply, agents: tuple[Binding, ...] = (), **turns: Any) -> Office:
            server = ServerSettings(database="sqlite:memory")
            config = Config(server=server, turns=TurnSettings(**turns), agents=agents)
            model, functions = HeldModel(*replies), RecordedFunctions()
            stack.callback(model.assert_finished)
            made = LocalServer(model, functions, config=config, clock=StillClock())
            return Office(stack.enter_context(made), model, functions)

        yield make


def late(world: Office, text: str) -> str:
    """What a call is told at its deadline."""
    with pytest.raises(EventStreamError) as caught:
        world.ask(world.ids, text)
    error = caught.value.response["Error"]
    assert error["Code"] == "dependencyFailedException"
    return error["Message"]


# calls -------------------------------------------------------------------------------------------


def test_a_turn_goes_on_beyond_its_call_and_the_same_words_join_it(office: Open) -> None:
    world = office(CHECK_A, "There are 42.", call_deadline_s=0.3)
    hold = world.model.hold(2)

    first, second = late(world, "How many?"), late(world, "How many?")
    hold.release()
    world.ended()
    answer = world.ask(world.ids, "How many?")

    assert re.match(GOES_ON, first)
    assert first == second
    assert answer.text == "There are 42."
    assert answer.kinds[:2] == ["o.in(0)", "o.out(0)"]
    assert len(world.functions.events) == 1
    assert len(world.model.requests) == 2


def test_the_client_joins_again_until_the_turn_has_ended(office: Open) -> None:
    world = office(CHECK_A, "There are 42.", call_deadline_s=0.3)
    hold = world.model.hold(2)
    agents = AgentClient(session=world.server, attempts=1)

    def patient(step: Step) -> None:
        if step.kind == "retry":
            hold.release()

    answer = agents.ask(*world.ids, "session-1", "How many?", on_step=patient)

    assert answer.text == "There are 42."
    assert [step.kind for step in answer.steps if step.kind != "retry"] == [
        "model", "action", "result", "model", "answer",
    ]  # fmt: skip
    assert len(world.functions.events) == 1


def test_a_client_without_patience_is_told_that_the_turn_goes_on(office: Open) -> None:
    world = office("Hello.", call_deadline_s=0.3)
    hold = world.model.hold(1)

    with pytest.raises(AgentStillRunning):
        AgentClient(session=world.server, patience_s=0).ask(*world.ids, "session-1", "Hi")
    hold.release()

    assert AgentClient(session=world.server).ask(*world.ids, "session-1", "Hi").text == "Hello."


def test_a_turn_that_stops_with_its_call_and_the_same_words_are_a_new_one(office: Open) -> None:
    binding = Binding("sto*", {"call_deadline_s": 0.3, "at_call_deadline": "stop"})
    world = office(CHECK_A, "Never said.", "Once more.", agents=(binding,))
    world.model.hold(2)

    message = late(world, "How many?")
    answer = world.ask(world.ids, "How many?")

    assert re.match(LATE + "It was stopped.$", message)
    assert answer.text == "Once more."
    told = world.model.requests[-1].messages
    assert any("toolResult" in block for message in told for block in message["content"])


def test_the_client_does_not_join_a_turn_that_was_stopped(office: Open) -> None:
    world = office("Never said.", call_deadline_s=0.3, at_call_deadline="stop")
    world.model.hold(1)

    with pytest.raises(AgentDependencyFailed, match="It was stopped") as caught:
        AgentClient(session=world.server).ask(*world.ids, "session-1", "Hi")
    assert not isinstance(caught.value, AgentStillRunning)


def test_a_call_that_waits_for_its_session_does_not_stop_the_turn_before_it(office: Open) -> None:
    patient = Binding("stock", {"call_deadline_s": 0, "busy_session": "enqueue"})
    world = office("Hello.", agents=(patient,))
    hold = world.model.hold(1)
    response = world.runtime.invoke_agent(
        agentId=world.ids[0], agentAliasId=world.ids[1], sessionId="session-1", inputText="Hi"
    )
    hold.reached()
    hasty = {"call_deadline_s": 0.3, "at_call_deadline": "stop", "busy_session": "enqueue"}
    object.__setattr__(world.server.engine.config, "agents", (Binding("stock", hasty),))

    message = late(world, "Something else")
    hold.release()

    assert re.match(GOES_ON, message)
    assert collect(response).text == "Hello."


def test_an_answer_that_came_just_after_the_deadline_is_not_taken_for_heard(office: Open) -> None:
    world = office("Hello.", call_deadline_s=0.3)
    hold = world.model.hold(1)
    agent, alias = world.ids
    ask = {"agentId": agent, "agentAliasId": alias, "sessionId": "session-1", "inputText": "Hi"}

    async def front_door() -> None:
        """What the front door does, with a turn that ends between its last two steps."""
        context = Context(world.server.engine, "InvokeAgent", "request-1", "us-east-1", "123456789012")
        stream = await load()["bedrock-agent-runtime", "InvokeAgent"](context, ask)
        assert isinstance(stream, Stream)
        with pytest.raises(DependencyFailedException):
            async for _ in stream.events:
                pass
        hold.release()
        await world.server.engine.turns.carrier.close(30)
        assert stream.delivered is not None
        stream.delivered()

    world.server.run(front_door())

    assert world.ask(world.ids, "Hi").text == "Hello."


# steps -------------------------------------------------------------------------------------------


def test_a_model_call_that_lasts_too_long_fails_the_turn(office: Open) -> None:
    world = office("Never said.", max_step_seconds=0.2)
    world.model.hold(1)

    code, message = broken(world, world.ids, "Hi")

    assert code == "dependencyFailedException"
    assert "model timeout" in message


def test_an_action_that_lasts_too_long_fails_the_turn(office: Open) -> None:
    world = office(CHECK_A, "Hello.", max_step_seconds=0.2)
    leave = threading.Event()
    world.functions.add("inventory", lambda _: str(leave.wait(30)))

    code, message = broken(world, world.ids, "How many?")
    leave.set()

    assert code == "dependencyFailedException"
    assert "Lambda function" in message
    assert world.ask(world.ids, "Hi").text == "Hello."
