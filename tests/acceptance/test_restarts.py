"""A server that stops in the middle of a turn, and the next one on the same data."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import CHECK, World, functions_group
from botocore.exceptions import ClientError, EventStreamError

from outcrop.clock import StillClock
from outcrop.config import Config, ServerSettings, TurnSettings
from outcrop.messages import text_of
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel, call

Serve = Callable[[ScriptedModel, RecordedFunctions], LocalServer]
CHECK_A = [call("inventory__check", {"sku": "A"})]
STOPPING = "The server is stopping. Retry the request on the same session."


@pytest.fixture
def settings(tmp_path: Path, database_setting: str) -> ServerSettings:
    """What outlives a server: a file, or a database elsewhere."""
    kept = "sqlite" if database_setting == "sqlite:memory" else database_setting
    return ServerSettings(data_dir=str(tmp_path), database=kept, stop_grace_s=0.05)


@pytest.fixture
def serve(settings: ServerSettings) -> Serve:
    # A turn that was interrupted is taken up at once: what comes in meanwhile waits for it.
    turns = TurnSettings(busy_session="enqueue")
    return lambda model, functions: LocalServer(model, functions, config=Config(server=settings, turns=turns))


class Interrupted:
    """A first server that is stopped while a function runs, after another one has answered."""

    def __init__(self, serve: Serve, *groups: dict[str, Any]) -> None:
        entered, leave = threading.Event(), threading.Event()
        functions = RecordedFunctions()
        functions.add("inventory", lambda event: self.answer(event, entered, leave))
        self.functions = functions
        model = ScriptedModel([CHECK_A, [call("inventory__check", {"sku": "B"})]])
        self.said: list[Exception] = []
        with serve(model, functions) as server:
            self.world = World(server, model, functions)
            self.ids = self.world.agent(*groups)
            caller = threading.Thread(target=self.ask)
            caller.start()
            assert entered.wait(30)
        caller.join()
        leave.set()

    def answer(self, event: dict[str, Any], entered: threading.Event, leave: threading.Event) -> str:
        if event["parameters"][0]["value"] == "B":
            entered.set()
            leave.wait(30)
        return "42"

    def ask(self) -> None:
        try:
            self.world.ask(self.ids, "Check A and B")
        except EventStreamError as error:
            self.said.append(error)


def test_the_caller_is_told_and_the_same_words_go_on_where_the_turn_was(serve: Serve) -> None:
    before = Interrupted(serve, functions_group(CHECK))
    assert [error.response["Error"]["Message"] for error in before.said] == [STOPPING]

    model, functions = ScriptedModel(["Both are there."]), RecordedFunctions()
    with serve(model, functions) as server:
        answer = World(server, model, functions).ask(before.ids, "Check A and B")

    assert answer.text == "Both are there."
    assert functions.events == []
    told = [
        b["toolResult"]["content"][0]["text"]
        for m in model.requests[0].messages
        for b in m["content"]
        if "toolResult" in b
    ]
    assert told[0] == "42"
    assert "not known whether this action took place" in told[1]


def test_the_turn_ends_without_its_caller_and_other_words_come_after_it(serve: Serve) -> None:
    before = Interrupted(serve, functions_group(CHECK))

    model, functions = ScriptedModel(["Both are there.", "Hello."]), RecordedFunctions()
    with serve(model, functions) as server:
        answer = World(server, model, functions).ask(before.ids, "Something else")

    assert answer.text == "Hello."
    messages = model.requests[1].messages
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3 + ["user"]
    assert text_of(messages[-2]) == "Both are there."


def test_an_interrupted_turn_outlives_the_sessions_idle_time(serve: Serve, settings: ServerSettings) -> None:
    before = Interrupted(serve, functions_group(CHECK))

    model, functions = ScriptedModel(["Both are there."]), RecordedFunctions()
    later = StillClock(time.time() + 100_000)
    with LocalServer(model, functions, config=Config(server=settings), clock=later) as server:
        answer = World(server, model, functions).ask(before.ids, "Check A and B")

    assert answer.text == "Both are there."
    assert functions.events == []


def test_results_for_an_interrupted_turn_that_never_asked_are_refused(serve: Serve) -> None:
    before = Interrupted(serve, functions_group(CHECK))
    made_up = {"functionResult": {"actionGroup": "inventory", "function": "check"}}

    model, functions = ScriptedModel([]), RecordedFunctions()
    with serve(model, functions) as server, pytest.raises(ClientError, match="not the pending invocation"):
        World(server, model, functions).ask(
            before.ids, sessionState={"invocationId": "bogus", "returnControlInvocationResults": [made_up]}
        )


def test_an_ended_session_forgets_a_turn_that_was_interrupted(serve: Serve) -> None:
    before = Interrupted(serve, functions_group(CHECK))

    model, functions = ScriptedModel(["Both are there.", "Hello."]), RecordedFunctions()
    with serve(model, functions) as server:
        world = World(server, model, functions)
        world.ask(before.ids, endSession=True)
        world.ask(before.ids, "Check A and B")

    assert [text_of(message) for message in model.requests[1].messages] == ["Check A and B"]
