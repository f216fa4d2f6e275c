"""`outcrop.client` against the engine: steps and tokens, return of control, failures, killed servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from agents import CHECK, INSTRUCTION, RESERVE, ROLE, World, functions_group
from botocore.exceptions import ReadTimeoutError
from gated_model import GatedModel, Message, tool_call
from serving import Served

from outcrop.client import (
    ActionCall,
    ActionFailed,
    AgentClient,
    AgentDependencyFailed,
    AgentNotFound,
    AgentRequestInvalid,
    AgentThrottled,
    Answer,
    Step,
)
from outcrop.models.base import ModelThrottled, ModelUnavailable
from outcrop.testing import call

CAREFUL = {**CHECK, "name": "buy", "requireConfirmation": "ENABLED"}


@pytest.fixture
def agents(world: World) -> AgentClient:
    return AgentClient(session=world.server, backoff_s=0.0)


def test_an_answer_with_every_step_and_every_token(world: World, agents: AgentClient) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", '{"in_stock": 42}')
    world.model.then(["<thinking>Look it up.</thinking>", call("inventory__check", {"sku": "SKU-55"})], "There are 42.")
    heard: list[Step] = []
    words: list[str] = []

    answer = agents.ask(*ids, "session-1", "Check SKU-55", on_chunk=words.append, on_step=heard.append)

    assert answer.text == "".join(words) == "There are 42."
    assert [(step.kind, step.name, step.text) for step in heard] == [
        ("model", "anthropic.claude-3-haiku", ""),
        ("thought", "", "Look it up."),
        ("action", "inventory.check", "sku=SKU-55"),
        ("result", "inventory.check", '{"in_stock": 42}'),
        ("model", "anthropic.claude-3-haiku", ""),
        ("answer", "FINISH", "There are 42."),
    ]
    assert answer.input_tokens == sum(step.input_tokens for step in heard) > 0
    assert answer.output_tokens > 0


def test_without_streaming_and_traces_there_is_the_answer_alone(world: World) -> None:
    ids = world.agent()
    world.model.then("Good morning to you.")
    words: list[str] = []

    answer = AgentClient(session=world.server, trace=False, stream=False).ask(
        *ids, "session-1", "Hello", on_chunk=words.append
    )

    assert words == ["Good morning to you."]
    assert (answer.steps, answer.input_tokens) == ([], 0)


def test_two_rounds_of_control_returned(world: World, agents: AgentClient) -> None:
    ids = world.agent(functions_group(CHECK, RESERVE, name="orders", control=True))
    both = [call("orders__check", {"sku": "A"}), call("orders__reserve", {"sku": "A", "quantity": 2})]
    world.model.then(both, [call("orders__reserve", {"sku": "B", "quantity": 1})], "Done.")
    done: list[tuple[str, Any]] = []

    def act(action: ActionCall) -> Any:
        done.append((action.name, dict(action.parameters)))
        if action.parameters["sku"] == "B":
            raise ActionFailed("there is no B")
        return {"ok": True}

    answer = agents.ask(*ids, "session-1", "Reserve", on_return_control=act)

    assert answer.text == "Done."
    assert done == [
        ("check", {"sku": "A"}),
        ("reserve", {"sku": "A", "quantity": 2}),
        ("reserve", {"sku": "B", "quantity": 1}),
    ]
    results = [(step.kind, step.name, step.text) for step in answer.steps if step.kind in ("result", "reprompt")]
    assert results == [
        ("result", "orders.check", '{"ok": true}'),
        ("result", "orders.reserve", '{"ok": true}'),
        ("reprompt", "orders.reserve", "there is no B"),
    ]


@pytest.mark.parametrize("agrees", [True, False])
def test_a_confirmation_is_a_yes_or_a_no(world: World, agents: AgentClient, agrees: bool) -> None:
    ids = world.agent(functions_group(CAREFUL, name="orders"))
    world.functions.add("inventory", "bought")
    world.model.then([call("orders__buy", {"sku": "A"})], "Done.")

    assert agents.ask(*ids, "session-1", "Buy", on_return_control=lambda _: agrees).text == "Done."
    assert len(world.functions.events) == int(agrees)


def test_control_comes_back_to_a_caller_without_a_callback(world: World, agents: AgentClient) -> None:
    ids = world.agent(functions_group(CHECK, name="orders", control=True))
    world.model.then([call("orders__check", {"sku": "A"})], "Done.")

    asked = agents.ask(*ids, "session-1", "Check")
    assert asked.return_control is not None
    state = asked.return_control.session_state(["42"])

    assert agents.ask(*ids, "session-1", "", session_state=state).text == "Done."


def test_an_action_that_breaks_leaves_a_session_that_works(world: World, agents: AgentClient) -> None:
    ids = world.agent(functions_group(CHECK, name="orders", control=True))
    world.model.then([call("orders__check", {"sku": "A"})], "Good morning.")

    def breaks(_: ActionCall) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        agents.ask(*ids, "session-1", "Check", on_return_control=breaks)
    assert agents.ask(*ids, "session-1", "Hello").text == "Good morning."


def test_a_function_that_crashes_is_not_asked_again(world: World, agents: AgentClient) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", lambda event: event["nothing"])
    world.model.then([call("inventory__check", {"sku": "A"})])

    with pytest.raises(AgentDependencyFailed, match="Unhandled"):
        agents.ask(*ids, "session-1", "Check")
    assert len(world.functions.events) == 1


def test_a_throttled_model_is_asked_again_while_nothing_was_done(world: World, agents: AgentClient) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", "42")
    check = [call("inventory__check", {"sku": "A"})]
    world.model.then(ModelThrottled("slow down"), "Good morning.", check, ModelThrottled("slow down"))

    answer = agents.ask(*ids, "session-1", "Hello")
    assert answer.text == "Good morning."
    assert [step.kind for step in answer.steps if step.kind in ("failure", "retry")] == ["failure", "retry"]
    with pytest.raises(AgentThrottled):
        agents.ask(*ids, "session-1", "Check")
    assert len(world.functions.events) == 1


def test_a_model_that_is_gone_is_a_failed_dependency(world: World, agents: AgentClient) -> None:
    ids = world.agent()
    world.model.then(ModelUnavailable("gone"))

    with pytest.raises(AgentDependencyFailed) as caught:
        agents.ask(*ids, "session-1", "Hello")
    assert caught.value.has_begun
    assert caught.value.request_id


def test_agents_that_are_missing_and_requests_that_are_wrong(world: World, agents: AgentClient) -> None:
    ids = world.agent()

    with pytest.raises(AgentNotFound):
        agents.ask("nobody", "PROD", "session-1", "Hello")
    with pytest.raises(AgentRequestInvalid, match="inputText"):
        agents.ask(*ids, "session-1", "")
    with pytest.raises(AgentRequestInvalid, match="sessionId"):
        agents.ask(*ids, "no spaces please", "Hello")


def test_a_session_that_ended_is_forgotten(world: World, agents: AgentClient) -> None:
    ids = world.agent()
    world.model.then("Hello Ada.", "Who are you?")

    agents.ask(*ids, "session-1", "I am Ada")
    agents.end(*ids, "session-1")
    agents.ask(*ids, "session-1", "Who am I?")

    assert len(world.model.requests[-1].messages) == 1


# servers that are killed, and models that keep silent ------------------------------------------------

HANDLER = """
import os

def handler(event, context):
    with open(os.environ["EFFECTS"], "a") as effects:
        effects.write("paid\\n")
    return {"messageVersion": "1.0", "response": {
        "actionGroup": event["actionGroup"], "function": event["function"],
        "functionResponse": {"responseBody": {"TEXT": {"body": "receipt R-1"}}}}}
"""


def decide(messages: list[Message]) -> Message:
    """Pay once; then say what the tool said."""
    if messages[-1]["role"] == "tool":
        return {"content": f"Done: {messages[-1]['content']}"}
    return tool_call("billing__pay", {"invoice": "INV-7"}, len(messages))


class Billing:
    """An agent with one action that has an effect, on a server that always comes back on the same port."""

    def __init__(self, folder: Path, model: GatedModel) -> None:
        self.folder, self.model, self.effects = folder, model, folder / "effects"
        (folder / "billing").mkdir()
        (folder / "billing" / "app.py").write_text(HANDLER)
        self.config = folder / "outcrop.toml"
        self.config.write_text(
            f'[models]\n"*" = {{ provider = "openai", base_url = "{model.url}", model = "m" }}\n'
            f'[functions]\n"billing" = {{ path = "billing", environment = {{ EFFECTS = "{self.effects}" }} }}\n'
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def serve(self) -> Served:
        return Served(self.folder / "data", "--port", str(self.port), config=self.config)

    def agent(self, server: Served, *, control: bool = False) -> None:
        client = server.client("bedrock-agent")
        client.create_agent(
            agentName="payer", foundationModel="some.model", instruction=INSTRUCTION, agentResourceRoleArn=ROLE
        )
        arn = "arn:aws:lambda:us-east-1:123456789012:function:billing"
        pay = {"name": "pay", "parameters": {"invoice": {"type": "string", "required": True}}}
        client.create_agent_action_group(
            agentId="payer",
            agentVersion="DRAFT",
            actionGroupName="billing",
            actionGroupExecutor={"customControl": "RETURN_CONTROL"} if control else {"lambda": arn},
            functionSchema={"functions": [pay]},
        )
        client.prepare_agent(agentId="payer")

    def client(self, **settings: Any) -> AgentClient:
        return AgentClient(f"http://127.0.0.1:{self.port}", **{"backoff_s": 0.1, "attempts": 100, **settings})

    @property
    def paid(self) -> int:
        return len(self.effects.read_text().splitlines())


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Billing]:
    with GatedModel(decide) as model:
        yield Billing(tmp_path, model)


WHO = ("payer", "TSTALIASID", "session-1")


STEPS = ["model", "action", "result", "model", "answer"]


class Accident:
    """A server that is killed as soon as the model is held, and the next one that is there at once."""

    def __init__(self, billing: Billing, **agent: Any) -> None:
        self.billing, self.agent = billing, agent
        self._revived: list[Served] = []
        self._server = billing.serve()
        self._thread = threading.Thread(target=self._happen)

    def __enter__(self) -> Self:
        self._server.__enter__()
        self.billing.agent(self._server, **self.agent)
        self._thread.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._thread.join()
        for server in (*self._revived, self._server):
            server.__exit__(None, None, None)

    def _happen(self) -> None:
        assert self.billing.model.reached.wait(30)
        self._server.kill()
        self.billing.model.release()
        self._revived.append(self.billing.serve().__enter__())


@pytest.mark.slow
def test_the_server_is_killed_and_the_caller_gets_its_answer_once_and_pays_once(billing: Billing) -> None:
    billing.model.hold(2)

    with Accident(billing):
        answer = billing.client().ask(*WHO, "Pay INV-7")

    assert answer.text == "Done: receipt R-1"
    assert billing.paid == 1
    kinds = [step.kind for step in answer.steps]
    assert "retry" in kinds
    assert [kind for kind in kinds if kind != "retry"] == STEPS


@pytest.mark.slow
def test_the_server_is_killed_in_the_middle_of_a_word_and_the_text_is_told_once(billing: Billing) -> None:
    billing.config.write_text("[turns]\npreamble_hold_chars = 0\n" + billing.config.read_text())
    billing.model.hold(2, after=2)
    words: list[str] = []

    with Accident(billing):
        answer = billing.client().ask(*WHO, "Pay INV-7", on_chunk=words.append)

    assert "".join(words) == answer.text == "Done: receipt R-1"
    assert "AnswerVoid" not in [step.name for step in answer.steps]
    assert [step.kind for step in answer.steps if step.kind != "retry"] == STEPS
    assert billing.paid == 1


@pytest.mark.slow
def test_the_server_is_killed_after_it_was_given_results_and_the_action_is_not_done_again(billing: Billing) -> None:
    billing.model.hold(2)
    done: list[str] = []

    with Accident(billing, control=True):
        answer = billing.client().ask(
            *WHO, "Pay INV-7", on_return_control=lambda action: done.append(action.name) or "receipt R-9"
        )

    assert answer.text == "Done: receipt R-9"
    assert done == ["pay"]
    assert [step.kind for step in answer.steps if step.kind != "retry"] == STEPS


@pytest.mark.slow
def test_a_turn_that_is_slower_than_its_callers_patience_is_joined(billing: Billing) -> None:
    billing.model.hold(2)

    def impatient(step: Step) -> None:
        if step.kind == "retry":
            billing.model.release()

    with billing.serve() as server:
        billing.agent(server)
        answer = billing.client(read_timeout_s=0.5).ask(*WHO, "Pay INV-7", on_step=impatient)

    assert answer.text == "Done: receipt R-1"
    assert [step.kind for step in answer.steps if step.kind != "retry"] == STEPS
    assert billing.paid == 1
    assert len(billing.model.requests) == 2


@pytest.mark.slow
def test_a_call_with_other_words_waits_until_the_session_is_free(billing: Billing) -> None:
    billing.model.hold(2)
    first: list[Answer] = []

    def polite(step: Step) -> None:
        if step.kind == "retry":
            billing.model.release()

    with billing.serve() as server:
        billing.agent(server)
        caller = threading.Thread(target=lambda: first.append(billing.client().ask(*WHO, "Pay INV-7")))
        caller.start()
        assert billing.model.reached.wait(30)
        second = billing.client().ask(*WHO, "And now?", on_step=polite)
        caller.join()

    assert first[0].text == second.text == "Done: receipt R-1"
    assert second.steps[0].name == "ConflictException"
    history = [message["content"] for message in billing.model.requests[-1] if message["role"] != "system"]
    assert history[0] == "Pay INV-7"
    assert history[3] == "Done: receipt R-1"
    assert history[4] == "And now?"


def test_an_answer_that_was_lost_on_its_way_is_told_again_though_the_server_thinks_it_was_heard(
    world: World, agents: AgentClient
) -> None:
    """The connection was cut when all had been sent and nothing had been read."""
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", "42")
    world.model.then([call("inventory__check", {"sku": "A"})], "There are 42.")
    lost: list[bool] = []

    def lose(parsed: dict[str, Any], **_: Any) -> None:
        if not lost:
            lost.append(True)
            list(parsed["completion"])
            raise ReadTimeoutError(endpoint_url="")

    agents._client.meta.events.register("after-call.bedrock-agent-runtime.InvokeAgent", lose)
    answer = agents.ask(*ids, "session-1", "Check A")

    assert answer.text == "There are 42."
    assert [step.kind for step in answer.steps] == ["retry", *STEPS]
    assert len(world.functions.events) == 1
