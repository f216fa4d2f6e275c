"""Processes killed with SIGKILL in the middle of a turn: what was done is not done again, and no session is lost."""

from __future__ import annotations

import http.client
import os
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import INSTRUCTION, LAMBDA, ROLE, collect
from botocore.exceptions import EventStreamError
from gated_model import GatedModel, Message, tool_call
from serving import Served

pytestmark = pytest.mark.slow

HANDLER = """
import json, os, time

def handler(event, context):
    with open(os.environ["EFFECTS"], "a") as effects:
        effects.write("paid\\n")
    hold = os.environ["EFFECTS"] + ".hold"
    if os.path.exists(hold):
        open(hold, "w").close()  # a FIFO: tells whoever reads it that we are here
        time.sleep(60)
    body = {"TEXT": {"body": json.dumps({"receipt": "R-1"})}}
    return {"messageVersion": "1.0", "response": {
        "actionGroup": event["actionGroup"], "function": event["function"],
        "functionResponse": {"responseBody": body}}}
"""
PAY = {"name": "pay", "description": "Pay an invoice.", "parameters": {"invoice": {"type": "string", "required": True}}}


def decide(messages: list[Message]) -> Message:
    """Pay once; then say what the tool said."""
    if messages[-1]["role"] == "tool":
        return {"content": f"Done: {messages[-1]['content']}"}
    if messages[-1]["content"] == "Pay INV-7":
        return tool_call("billing__pay", {"invoice": "INV-7"}, len(messages))
    return {"content": f"I have seen {len(messages)} messages."}


class Scene:
    """A data folder, a model that can be held, a function with an effect that can be counted."""

    def __init__(self, folder: Path, model: GatedModel) -> None:
        self.folder, self.model = folder, model
        self.effects = folder / "effects"
        (folder / "billing").mkdir()
        (folder / "billing" / "app.py").write_text(HANDLER)
        self.config = folder / "outcrop.toml"
        self.config.write_text(
            f'[models]\n"*" = {{ provider = "openai", base_url = "{model.url}", model = "m" }}\n'
            '[functions]\n"inventory" = { path = "billing", handler = "app.handler", '
            f'environment = {{ EFFECTS = "{self.effects}" }} }}\n'
        )

    def serve(self) -> Served:
        return Served(self.folder / "data", config=self.config)

    def agent(self, server: Served, *, control: bool = False) -> None:
        client = server.client("bedrock-agent")
        client.create_agent(
            agentName="payer", foundationModel="some.model", instruction=INSTRUCTION, agentResourceRoleArn=ROLE
        )
        executor = {"customControl": "RETURN_CONTROL"} if control else {"lambda": LAMBDA}
        client.create_agent_action_group(
            agentId="payer",
            agentVersion="DRAFT",
            actionGroupName="billing",
            actionGroupExecutor=executor,
            functionSchema={"functions": [PAY]},
        )
        client.prepare_agent(agentId="payer")

    def ask(self, server: Served, text: str = "", **members: Any) -> Any:
        given = {"inputText": text} if text else {}
        runtime = server.client("bedrock-agent-runtime")
        return collect(
            runtime.invoke_agent(agentId="payer", agentAliasId="TSTALIASID", sessionId="s-1", **given, **members)
        )

    def ask_aside(self, server: Served, text: str) -> threading.Thread:
        """Ask without waiting; what comes of it is nobody's business."""

        def ask() -> None:
            try:
                self.ask(server, text)
            except Exception:
                return

        thread = threading.Thread(target=ask)
        thread.start()
        return thread

    def pay_and_kill(self) -> None:
        """A server that is killed once the tool's outcome is written and the next model call is under way."""
        with self.serve() as server:
            self.agent(server)
            self.model.hold(2)
            caller = self.ask_aside(server, "Pay INV-7")
            assert self.model.reached.wait(30)
            server.kill()
            caller.join()

    @property
    def paid(self) -> int:
        return len(self.effects.read_text().splitlines()) if self.effects.exists() else 0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with GatedModel(decide) as model:
        yield Scene(tmp_path, model)


def test_killed_between_a_tools_outcome_and_the_next_model_call(scene: Scene) -> None:
    scene.pay_and_kill()
    assert scene.paid == 1
    scene.model.release()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7")
        later = scene.ask(server, "What did we do?")

    assert answer.text == 'Done: {"receipt": "R-1"}'
    assert scene.paid == 1
    assert later.text == "I have seen 6 messages."


def test_killed_while_the_tool_runs_it_is_not_called_again_and_the_model_is_told(scene: Scene) -> None:
    hold = scene.folder / "effects.hold"
    os.mkfifo(hold)
    with scene.serve() as server:
        scene.agent(server)
        caller = scene.ask_aside(server, "Pay INV-7")
        hold.open().close()
        server.kill()
        caller.join()
    hold.unlink()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7")

    assert scene.paid == 1
    assert "not known whether this action took place" in answer.text


def test_killed_then_another_text_leaves_the_turn_and_keeps_what_it_did(scene: Scene) -> None:
    scene.pay_and_kill()
    scene.model.release()

    with scene.serve() as server:
        answer = scene.ask(server, "Something else")

    assert scene.paid == 1
    # system, user, tool call, tool result, note, user
    assert answer.text == "I have seen 6 messages."
    assert any(message["role"] == "tool" for message in scene.model.requests[-1])


def test_return_of_control_outlives_the_server(scene: Scene) -> None:
    with scene.serve() as server:
        scene.agent(server, control=True)
        asked = scene.ask(server, "Pay INV-7")
        server.kill()
    result = {"actionGroup": "billing", "function": "pay", "responseBody": {"TEXT": {"body": "R-9"}}}
    state = {
        "invocationId": asked.control["invocationId"],
        "returnControlInvocationResults": [{"functionResult": result}],
    }

    with scene.serve() as server:
        answer = scene.ask(server, sessionState=state)

    assert answer.text == "Done: R-9"


def test_killed_twice_the_turn_still_ends_and_nothing_is_done_again(scene: Scene) -> None:
    hold = scene.folder / "effects.hold"
    os.mkfifo(hold)
    with scene.serve() as server:
        scene.agent(server)
        caller = scene.ask_aside(server, "Pay INV-7")
        hold.open().close()
        server.kill()
        caller.join()
    hold.unlink()
    scene.model.hold(2)
    with scene.serve() as server:
        caller = scene.ask_aside(server, "Pay INV-7")
        assert scene.model.reached.wait(30)
        server.kill()
        caller.join()
    scene.model.release()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7")

    assert scene.paid == 1
    assert "not known whether this action took place" in answer.text


def test_a_second_server_on_the_same_data_does_not_start(scene: Scene) -> None:
    with scene.serve():
        second = subprocess.run(scene.serve().command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert "is in use by process" in second.stderr


def test_a_server_told_to_stop_tells_its_callers_and_the_turn_goes_on_later(scene: Scene) -> None:
    scene.config.write_text("[server]\nstop_grace_s = 0.2\n" + scene.config.read_text())
    said: list[str] = []
    with scene.serve() as server:
        scene.agent(server)
        scene.model.hold(2)

        def ask() -> None:
            try:
                scene.ask(server, "Pay INV-7")
            except EventStreamError as error:
                said.append(error.response["Error"]["Message"])

        caller = threading.Thread(target=ask)
        caller.start()
        assert scene.model.reached.wait(30)
        server.process.terminate()
        caller.join()
        server.process.wait(30)
    scene.model.release()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7")

    assert said == ["The server is stopping. Retry the request on the same session."]
    assert answer.text == 'Done: {"receipt": "R-1"}'
    assert scene.paid == 1


def test_an_answer_that_nobody_heard_is_told_again_and_nothing_is_done_again(scene: Scene) -> None:
    with scene.serve() as server:
        scene.agent(server)
        scene.model.hold(2)
        away = http.client.HTTPConnection(server.url.removeprefix("http://"))
        path = "/agents/payer/agentAliases/TSTALIASID/sessions/s-1/text"
        away.request("POST", path, '{"inputText": "Pay INV-7"}', {"content-type": "application/json"})
        assert scene.model.reached.wait(30)
        away.close()
        scene.model.release()
        while 'outcrop_turns_total{outcome="finish"} 1' not in get(f"{server.url}/metrics"):
            pass  # the turn ends without its caller
        server.kill()

    asked = len(scene.model.requests)
    with scene.serve() as server:
        again = scene.ask(server, "Pay INV-7")
        assert len(scene.model.requests) == asked
        anew = scene.ask(server, "Pay INV-7")

    assert again.text == 'Done: {"receipt": "R-1"}'
    assert anew.text == again.text
    assert len(scene.model.requests) > asked  # once heard, the same words are a new turn
    assert scene.paid == 2


def get(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()
