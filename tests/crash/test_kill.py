"""Processes killed with SIGKILL in the middle of a turn: what was done is not done again, and no session is lost."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import subprocess
import threading
import time
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
        effects.write(context.client_context.custom["idempotencyKey"] + "\\n")
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
        self.configure()

    def configure(self, function: str = "", **sections: str) -> None:
        """Write the configuration: more settings of the function, and of sections."""
        more = "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items())
        self.config.write_text(
            f'{more}[models]\n"*" = {{ provider = "openai", base_url = "{self.model.url}", model = "m" }}\n'
            f'[functions]\n"inventory" = {{ path = "billing", handler = "app.handler", {function}'
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

    def kill_while_it_pays(self) -> None:
        """A server that is killed while the function runs, when its effect is there and its answer is not."""
        hold = self.folder / "effects.hold"
        os.mkfifo(hold)
        with self.serve() as server:
            self.agent(server)
            caller = self.ask_aside(server, "Pay INV-7")
            hold.open().close()
            server.kill()
            caller.join()
        hold.unlink()

    @property
    def keys(self) -> list[str]:
        """The idempotency keys under which was paid, one for each time."""
        return self.effects.read_text().splitlines() if self.effects.exists() else []

    @property
    def paid(self) -> int:
        return len(self.keys)

    def journal(self) -> list[tuple[str, str]]:
        """Kind and state of every step of the last turn, once no server runs."""
        connection = sqlite3.connect(self.folder / "data" / "outcrop.db")
        try:
            return connection.execute(
                "select kind, state from steps where turn_id = (select max(id) from turns) order by ordinal, branch"
            ).fetchall()
        finally:
            connection.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with GatedModel(decide) as model:
        yield Scene(tmp_path, model)


def get(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        text: str = answer.read().decode()
        return text


def until_counted(server: Served, line: str) -> None:
    """Return once the server's metrics have this line; nothing else is asked of it meanwhile."""
    until = time.monotonic() + 60
    while line not in get(f"{server.url}/metrics").splitlines():
        assert time.monotonic() < until, f"{line} never came"
        time.sleep(0.02)  # another process: there is nothing to wait on


ENDED = 'outcrop_turns_total{outcome="finish"} 1'
WHOLE = ["o.in(0)", "o.out(0)", "o.inv ACTION_GROUP(0)", "o.obs ACTION_GROUP(0)", "o.in(1)", "o.out(1)"]
RECEIPT = 'Done: {"receipt": "R-1"}'


def test_killed_between_a_tools_outcome_and_the_next_model_call(scene: Scene) -> None:
    scene.pay_and_kill()
    assert scene.paid == 1
    scene.model.release()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7", enableTrace=True)
        later = scene.ask(server, "What did we do?")

    assert answer.text == RECEIPT
    assert answer.kinds == [*WHOLE, "o.obs FINISH(1)", "chunk"]
    assert scene.paid == 1
    assert later.text == "I have seen 6 messages."


def test_killed_then_the_turn_ends_without_its_caller_and_other_words_come_after_it(scene: Scene) -> None:
    scene.pay_and_kill()
    scene.model.release()

    with scene.serve() as server:
        until_counted(server, ENDED)
        asked = len(scene.model.requests)
        answer = scene.ask(server, "Something else")

    assert asked == 3  # the call that was under way was made again
    assert scene.paid == 1
    # system, user, tool call, tool result, answer, user
    assert answer.text == "I have seen 6 messages."
    assert scene.model.requests[-1][4]["content"] == RECEIPT


def test_killed_then_the_turn_ends_without_its_caller_who_still_gets_the_answer(scene: Scene) -> None:
    scene.pay_and_kill()
    scene.model.release()

    with scene.serve() as server:
        until_counted(server, ENDED)
        answer = scene.ask(server, "Pay INV-7", enableTrace=True)

    assert answer.text == RECEIPT
    assert answer.kinds == [*WHOLE, "o.obs FINISH(1)", "chunk"]
    assert len(scene.model.requests) == 3
    assert scene.paid == 1


def test_killed_while_the_model_streams_the_caller_hears_everything_from_the_start(scene: Scene) -> None:
    scene.configure(turns="preamble_hold_chars = 0")
    streamed = {"streamingConfigurations": {"streamFinalResponse": True}, "enableTrace": True}
    scene.model.hold(2, after=1)
    with scene.serve() as server:
        scene.agent(server)
        runtime = server.client("bedrock-agent-runtime")
        response = runtime.invoke_agent(
            agentId="payer", agentAliasId="TSTALIASID", sessionId="s-1", inputText="Pay INV-7", **streamed
        )
        heard: list[bytes] = []
        for event in response["completion"]:
            if "chunk" in event:
                heard.append(event["chunk"]["bytes"])
                break
        server.kill()
        response["completion"].close()
    scene.model.release()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7", **streamed)

    assert heard == [b"Done:"]
    assert answer.text == RECEIPT
    assert [kind for kind in answer.kinds if kind != "chunk"] == [*WHOLE, "o.obs FINISH(1)"]
    assert scene.paid == 1


# actions under way -------------------------------------------------------------------------------


def test_killed_while_the_tool_runs_it_is_not_called_again_and_the_model_is_told(scene: Scene) -> None:
    scene.kill_while_it_pays()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7", enableTrace=True)

    assert scene.paid == 1
    assert "not known whether this action took place" in answer.text
    assert answer.kinds == [*WHOLE, "o.obs FINISH(1)", "chunk"]
    assert scene.journal() == [("CallModel", "done"), ("CallTools", "uncertain"), ("CallModel", "done")]


def test_who_joins_while_the_turn_goes_on_hears_what_became_of_the_action(scene: Scene) -> None:
    scene.kill_while_it_pays()
    scene.model.hold(2)

    with scene.serve() as server:
        assert scene.model.reached.wait(30)
        runtime = server.client("bedrock-agent-runtime")
        response = runtime.invoke_agent(
            agentId="payer", agentAliasId="TSTALIASID", sessionId="s-1", inputText="Pay INV-7", enableTrace=True
        )
        scene.model.release()
        answer = collect(response)

    assert answer.kinds == [*WHOLE, "o.obs FINISH(1)", "chunk"]


def test_a_function_that_honours_its_key_is_called_again_with_it(scene: Scene) -> None:
    scene.configure("idempotent = true, ")
    scene.kill_while_it_pays()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7", enableTrace=True)

    assert answer.text == RECEIPT
    assert answer.kinds == [*WHOLE, "o.obs FINISH(1)", "chunk"]
    first, second = scene.keys
    assert first == second != ""
    assert scene.journal() == [("CallModel", "done"), ("CallTools", "done"), ("CallModel", "done")]


def test_where_nobody_may_guess_the_turn_fails(scene: Scene) -> None:
    scene.configure(agents='"payer" = { uncertain = "fail" }')
    scene.kill_while_it_pays()

    with scene.serve() as server:
        with pytest.raises(EventStreamError) as caught:
            scene.ask(server, "Pay INV-7", enableTrace=True)
        later = scene.ask(server, "What did we do?")

    error = caught.value.response["Error"]
    assert error["Code"] == "dependencyFailedException"
    assert "not known whether an action of this turn took place" in error["Message"]
    assert caught.value.answer.kinds[-1] == "failure"
    assert scene.paid == 1
    assert len(scene.model.requests) == 2  # the model is not asked about it
    assert later.text == "I have seen 6 messages."  # and told in the next turn


def test_where_it_counts_as_not_done_it_is_done_again(scene: Scene) -> None:
    scene.configure(agents='"payer" = { uncertain = "not_done" }')
    scene.kill_while_it_pays()

    with scene.serve() as server:
        answer = scene.ask(server, "Pay INV-7")

    assert answer.text == RECEIPT
    assert scene.paid == 2
    assert scene.journal() == [("CallModel", "done"), ("CallTools", "done"), ("CallModel", "done")]


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
    scene.kill_while_it_pays()
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
        until_counted(server, ENDED)  # the turn ends without its caller
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


def test_an_sdk_that_tries_again_after_a_crash_gets_the_answer_that_was_sent(scene: Scene) -> None:
    with scene.serve() as server:
        scene.agent(server)
        first = attempt(server, "attempt=1; max=3")
        server.kill()
    asked = len(scene.model.requests)

    with scene.serve() as server:
        again = attempt(server, "attempt=2; max=3")
        assert (len(scene.model.requests), scene.paid) == (asked, 1)
        attempt(server, "attempt=1; max=3")

    assert b"chunk" in first
    assert again == first
    assert scene.paid == 2  # a first attempt is a call of its own


def attempt(server: Served, number: str) -> bytes:
    """The stream of one attempt of an SDK at one call, in bytes."""
    head = {"content-type": "application/json", "amz-sdk-invocation-id": "one-call", "amz-sdk-request": number}
    url = f"{server.url}/agents/payer/agentAliases/TSTALIASID/sessions/s-1/text"
    request = urllib.request.Request(url, json.dumps({"inputText": "Pay INV-7"}).encode(), head)
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
        return data
