"""Records journals: a server that is killed in the middle of turns leaves its database, kept as SQL for later releases.

    git worktree add ../release v0.2
    PYTHONPATH=tests/support .venv/bin/python tests/replay/record.py 0.2 ../release/src

Without the second argument it records the code at hand. README.md beside this file says what is recorded.
"""

from __future__ import annotations

import http.client
import os
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agents import INSTRUCTION, LAMBDA, ROLE, collect
from gated_model import GatedModel, Message
from serving import Served

HERE = Path(__file__).parent
_PATIENCE_S = 60.0
_CLIENT = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_FUNCTION = """
import json, os, time

def handler(event, context):
    invoice = event["parameters"][0]["value"]
    reached = os.path.join(os.environ["GATE"], invoice)
    if os.path.exists(reached):
        with open(reached + ".reached", "w"):
            pass
        time.sleep(3600)
    body = {"TEXT": {"body": json.dumps({"receipt": "R-" + invoice})}}
    return {"messageVersion": "1.0", "sessionAttributes": {"last": invoice}, "response": {
        "actionGroup": event["actionGroup"], "function": event["function"],
        "functionResponse": {"responseBody": body}}}
"""
_INVOICE = {"invoice": {"type": "string", "required": True}}
_PAY = {"name": "pay", "description": "Pay an invoice.", "parameters": _INVOICE}
_REFUND = {"name": "refund", "description": "Refund one.", "parameters": _INVOICE, "requireConfirmation": "ENABLED"}
_GROUPS = {
    "billing": ({"lambda": LAMBDA}, [_PAY, _REFUND]),
    "desk": ({"customControl": "RETURN_CONTROL"}, [_PAY]),
}
ASKED = {
    "Pay INV-7": ["billing__pay INV-7"],
    "Pay INV-7 and INV-8": ["billing__pay INV-7", "billing__pay INV-8"],
    "Refund INV-7": ["billing__refund INV-7"],
    "Let the desk pay INV-9": ["desk__pay INV-9"],
    "Pay INV-7, and let the desk pay INV-9": ["billing__pay INV-7", "desk__pay INV-9"],
}
"""What a user says, and the calls that the model answers with."""


def decide(messages: list[Message]) -> Message:
    """The calls that the user's words want, and then what came of them."""
    last = messages[-1]
    if last["role"] == "tool":
        return {"content": f"Done: {last['content']}"}
    calls = ASKED.get(last["content"], [])
    if not calls:
        return {"content": f"You said: {last['content']}"}
    made = []
    for index, one in enumerate(calls):
        name, _, invoice = one.partition(" ")
        function = {"name": name, "arguments": f'{{"invoice": "{invoice}"}}'}
        made.append({"index": index, "id": f"call_{len(messages)}_{index}", "type": "function", "function": function})
    return {"content": None, "tool_calls": made}


class Studio:
    """A data folder, a model and a function that can be held, and servers of one release."""

    def __init__(self, folder: Path, source: Path, model: GatedModel) -> None:
        self.folder, self.model, self._source = folder, model, source
        (folder / "billing").mkdir()
        (folder / "gate").mkdir()
        (folder / "billing" / "app.py").write_text(_FUNCTION)
        config = folder / "outcrop.toml"
        config.write_text(
            f'[models]\n"*" = {{ provider = "openai", base_url = "{model.url}", model = "m" }}\n'
            '[functions]\n"inventory" = { path = "billing", handler = "app.handler", '
            f'environment = {{ GATE = "{folder / "gate"}" }} }}\n'
        )
        self._config = config
        self.server: Served

    def start(self) -> None:
        os.environ |= {**_CLIENT, "PYTHONPATH": str(self._source)}
        self.server = Served(self.folder / "data", config=self._config).__enter__()

    def make_agent(self) -> None:
        control = self.server.client("bedrock-agent")
        made = control.create_agent(
            agentName="payer", foundationModel="some.model", instruction=INSTRUCTION, agentResourceRoleArn=ROLE
        )
        self.agent = made["agent"]["agentId"]
        for name, (executor, functions) in _GROUPS.items():
            control.create_agent_action_group(
                agentId=self.agent,
                agentVersion="DRAFT",
                actionGroupName=name,
                actionGroupExecutor=executor,
                functionSchema={"functions": functions},
            )
        control.prepare_agent(agentId=self.agent)

    def ask(self, text: str) -> Any:
        runtime = self.server.client("bedrock-agent-runtime")
        return collect(
            runtime.invoke_agent(
                agentId=self.agent,
                agentAliasId="TSTALIASID",
                sessionId="session-1",
                inputText=text,
                sessionState={"sessionAttributes": {"user": "ada"}},
            )
        )

    def ask_aside(self, text: str) -> None:
        """Ask without waiting for what comes of it."""

        def ask() -> None:
            try:
                self.ask(text)
            except Exception:
                return

        threading.Thread(target=ask, daemon=True).start()

    def hold_function(self, invoice: str) -> None:
        (self.folder / "gate" / invoice).touch()

    def reached(self, invoice: str) -> None:
        until(lambda: (self.folder / "gate" / f"{invoice}.reached").exists())

    def rows(self, query: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.folder / 'data' / 'outcrop.db'}?mode=ro", uri=True) as database:
            return database.execute(query).fetchall()


def until(condition: Callable[[], object]) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "this never happens"
        time.sleep(0.01)


# the states that are recorded -----------------------------------------------------------------------


def first_model_call(studio: Studio) -> None:
    studio.model.hold(1)
    studio.ask_aside("Pay INV-7")
    assert studio.model.reached.wait(_PATIENCE_S)


def tool_call(studio: Studio) -> None:
    studio.hold_function("INV-7")
    studio.ask_aside("Pay INV-7")
    studio.reached("INV-7")


def next_model_call(studio: Studio) -> None:
    studio.model.hold(2)
    studio.ask_aside("Pay INV-7")
    assert studio.model.reached.wait(_PATIENCE_S)


def one_of_two_tools(studio: Studio) -> None:
    studio.hold_function("INV-8")
    studio.ask_aside("Pay INV-7 and INV-8")
    studio.reached("INV-8")
    until(lambda: studio.rows("SELECT 1 FROM steps WHERE kind = 'CallTools' AND outcome IS NOT NULL"))


def awaiting_control(studio: Studio) -> None:
    assert studio.ask("Let the desk pay INV-9").control


def awaiting_control_beside_a_tool(studio: Studio) -> None:
    assert studio.ask("Pay INV-7, and let the desk pay INV-9").control


def awaiting_confirmation(studio: Studio) -> None:
    assert studio.ask("Refund INV-7").control


def ended_unheard(studio: Studio) -> None:
    studio.model.hold(2)
    away = http.client.HTTPConnection(studio.server.url.removeprefix("http://"))
    path = f"/agents/{studio.agent}/agentAliases/TSTALIASID/sessions/session-1/text"
    away.request("POST", path, '{"inputText": "Pay INV-7"}', {"content-type": "application/json"})
    assert studio.model.reached.wait(_PATIENCE_S)
    away.close()
    studio.model.release()
    until(lambda: 'outcrop_turns_total{outcome="finish"} 1' in read(f"{studio.server.url}/metrics"))


def finished(studio: Studio) -> None:
    assert studio.ask("Pay INV-7").text
    assert studio.ask("Thanks").text
    until(lambda: studio.rows("SELECT 1 FROM sessions WHERE open_turn = ''"))


STATES = (
    first_model_call,
    tool_call,
    next_model_call,
    one_of_two_tools,
    awaiting_control,
    awaiting_control_beside_a_tool,
    awaiting_confirmation,
    ended_unheard,
    finished,
)


def record(state: Callable[[Studio], None], source: Path) -> str:
    """The database of a server that was killed in that state, as SQL."""
    with tempfile.TemporaryDirectory() as folder, GatedModel(decide) as model:
        studio = Studio(Path(folder), source, model)
        studio.start()
        try:
            studio.make_agent()
            state(studio)
            studio.server.kill()
            database = sqlite3.connect(Path(folder) / "data" / "outcrop.db")
            text = "\n".join(database.iterdump()) + "\n"
            database.close()
        finally:
            studio.server.__exit__(None, None, None)
        told = text.replace(socket.gethostname()[:30], "recorder")
        for secret in (folder, str(Path.home()), str(source)):
            assert secret not in told
            assert secret.encode().hex().upper() not in told
        return told


def read(url: str) -> str:
    """A page of the server."""
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def main(release: str, source: str = "") -> None:
    """Record every state anew."""
    out = HERE / "recordings" / release
    out.mkdir(parents=True, exist_ok=True)
    for state in STATES:
        text = record(state, Path(source or HERE.parents[1] / "src").resolve())
        (out / f"{state.__name__}.sql").write_text(text, encoding="utf-8")
        print(f"{release}/{state.__name__}.sql: {len(text):,} characters", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
