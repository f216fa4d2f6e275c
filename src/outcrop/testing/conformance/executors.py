"""What every tool executor does, whatever carries its calls out.

    class TestMine(ExecutorSuite):
        @pytest.fixture
        async def bind(self, tmp_path): ...     # (handler, **settings) -> Executor

The suite's handlers are Lambda handlers in Python; `write_handlers` puts them into a folder,
and `bind` makes an executor that runs one of them. Settings are timeout_s, concurrency and
max_response_bytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from outcrop.tools.base import (
    Caller,
    Executor,
    IdempotencyKey,
    Parameter,
    Tool,
    ToolAnsweredBadly,
    ToolCall,
    ToolCrashed,
    ToolTimedOut,
    ToolUnreachable,
)
from outcrop.tools.lambda_event import event_of

ARN = "arn:aws:lambda:us-east-1:123456789012:function:shelf"
KEY = IdempotencyKey("turn-1/3/0")
MODULE = "shelf"
HANDLERS = '''
import json, os, socket

def reply(event, body, **members):
    told = {"responseBody": {"TEXT": {"body": body}}, **members}
    response = {"actionGroup": event["actionGroup"], "function": event["function"], "functionResponse": told}
    return {"messageVersion": "1.0", "response": response}

def told(event):
    return {entry["name"]: entry["value"] for entry in event["parameters"]}

def echo(event, context):
    return reply(event, told(event)["text"])

def whole_event(event, context):
    return reply(event, json.dumps(event))

def attributes(event, context):
    seen = int(event["sessionAttributes"].get("seen", "0"))
    return {**reply(event, "counted"), "sessionAttributes": {"seen": str(seen + 1)}, "promptSessionAttributes": {}}

def reprompt(event, context):
    return reply(event, "which shelf?", responseState="REPROMPT")

def failure(event, context):
    return reply(event, "closed", responseState="FAILURE")

def who(event, context):
    return reply(event, json.dumps({
        "key": context.client_context.custom["idempotencyKey"],
        "request": context.aws_request_id,
        "function": context.function_name,
    }))

def sometimes(event, context):
    """Does what the text says, so that one binding can misbehave once."""
    text = told(event)["text"]
    if text == "raise":
        raise RuntimeError("password=hunter2")
    if text == "die":
        os._exit(3)
    if text.startswith("meet "):
        meet(event, context)
    if text == "large":
        return reply(event, "x" * 200_000)
    if text == "rubbish":
        return {"statusCode": 200, "body": "not the contract"}
    if text == "object":
        return reply(event, {"a": 1})
    if text == "unserialisable":
        return reply(event, {1, 2})
    return reply(event, text)

def meet(event, context):
    """Call at the test's door and answer once it is opened."""
    port = int(told(event)["text"].split()[-1])
    with socket.create_connection(("127.0.0.1", port)) as door:
        door.recv(1)
    return reply(event, "met")
'''


class Bind(Protocol):
    """Makes an executor for one of the suite's handlers."""

    def __call__(self, handler: str, **settings: Any) -> Executor:
        """The executor; the fixture that gave this closes it."""
        ...


def write_handlers(folder: Path) -> Path:
    """The folder, with the suite's handlers in the module `shelf`."""
    (folder / f"{MODULE}.py").write_text(HANDLERS, encoding="utf-8")
    return folder


def a_call(text: str = "hello", **attributes: str) -> ToolCall:
    """A call of the function `find` of the action group `shelves`, with one parameter."""
    tool = Tool(
        spec={"name": "shelves__find", "description": "Finds.", "inputSchema": {"json": {"type": "object"}}},
        kind="function",
        action_group="shelves",
        execution="LAMBDA",
        parameters=(Parameter("text", "string"),),
        function="find",
        lambda_arn=ARN,
    )
    agent = {"name": "keeper", "id": "AGENT12345", "alias": "TSTALIASID", "version": "DRAFT"}
    return ToolCall(tool, {"text": text}, Caller(agent, "session-1", "find it", attributes))


class Door:
    """Where handlers that `meet` wait, so that a test sees how many run at the same time."""

    def __init__(self) -> None:
        """Open a door that nobody passes yet."""
        self.port = 0
        self.waiting = 0
        self.most = 0
        self._changed = asyncio.Condition()
        self._opened = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Door:
        server = await asyncio.start_server(self._arrive, "127.0.0.1", 0)
        await self._stack.enter_async_context(server)
        self.port = server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._opened.set()
        await self._stack.aclose()

    def open(self) -> None:
        """Let everybody pass, now and later."""
        self._opened.set()

    async def wait_for(self, count: int) -> None:
        """Return once so many wait at the same time."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.waiting >= count)

    async def wait_until_empty(self) -> None:
        """Return once nobody waits any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.waiting == 0)

    async def _arrive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(1)
        opened, left = asyncio.ensure_future(self._opened.wait()), asyncio.ensure_future(reader.read())
        await asyncio.wait({opened, left}, return_when=asyncio.FIRST_COMPLETED)
        await self._count(-1)
        opened.cancel()
        left.cancel()
        writer.close()

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.waiting += change
            self.most = max(self.most, self.waiting)
            self._changed.notify_all()


class ExecutorSuite:
    """The promises of `Executor`; derive from it and override `bind`."""

    @pytest.fixture
    def bind(self) -> Bind:
        """Makes executors; the derived class's fixture also closes them when the test is over.

        Errors: NotImplementedError until a derived class overrides it.
        """
        raise NotImplementedError

    @pytest.fixture
    async def door(self) -> AsyncIterator[Door]:
        """A door for handlers that meet."""
        async with Door() as door:
            yield door

    async def test_the_answer_is_the_body(self, bind: Bind) -> None:
        """A handler's body comes back as it is, any script of it."""
        result = await bind("echo").execute(a_call("Grüße, 世界 \U0001f30d"), KEY)
        assert (result.text, result.state) == ("Grüße, 世界 \U0001f30d", "success")
        assert result.session_attributes is None

    async def test_the_event_is_the_contracts(self, bind: Bind) -> None:
        """A handler sees Lambda's event, no member more or less."""
        call = a_call("one", tenant="blue")
        result = await bind("whole_event").execute(call, KEY)
        assert json.loads(result.text) == event_of(call)

    async def test_attributes_come_back(self, bind: Bind) -> None:
        """A handler's attribute maps are the new ones, an empty one too."""
        result = await bind("attributes").execute(a_call(seen="4"), KEY)
        assert (result.session_attributes, result.prompt_session_attributes) == ({"seen": "5"}, {})

    async def test_a_reprompt_is_a_result(self, bind: Bind) -> None:
        """A handler may send the model back for more."""
        result = await bind("reprompt").execute(a_call(), KEY)
        assert (result.text, result.state) == ("which shelf?", "reprompt")

    async def test_a_failure_is_a_result(self, bind: Bind) -> None:
        """A handler may end the turn."""
        assert (await bind("failure").execute(a_call(), KEY)).state == "failure"

    async def test_the_key_reaches_the_handler(self, bind: Bind) -> None:
        """The idempotency key travels with the call, in the client context."""
        told = json.loads((await bind("who").execute(a_call(), KEY)).text)
        assert told["key"] == KEY
        assert told["function"] == "shelf"
        assert told["request"]

    async def test_a_crash_is_typed_and_tells_callers_nothing(self, bind: Bind) -> None:
        """What the handler raised is for the log; the next call works."""
        executor = bind("sometimes")
        with pytest.raises(ToolCrashed) as crash:
            await executor.execute(a_call("raise"), KEY)
        assert "hunter2" not in str(crash.value)
        assert "RuntimeError" in crash.value.detail
        assert "hunter2" in crash.value.detail
        assert (await executor.execute(a_call("again"), KEY)).text == "again"

    async def test_a_dead_process_is_a_crash(self, bind: Bind) -> None:
        """A handler that takes its process with it does not take the next call."""
        executor = bind("sometimes")
        with pytest.raises(ToolCrashed):
            await executor.execute(a_call("die"), KEY)
        assert (await executor.execute(a_call("again"), KEY)).text == "again"

    async def test_an_overrun_is_typed_and_the_next_call_works(self, bind: Bind, door: Door) -> None:
        """A handler that does not answer in time is given up."""
        executor = bind("sometimes", timeout_s=0.5, concurrency=1)
        with pytest.raises(ToolTimedOut):
            await executor.execute(a_call(f"meet {door.port}"), KEY)
        assert (await executor.execute(a_call("again"), KEY)).text == "again"

    @pytest.mark.parametrize(("text", "wrong"), [("rubbish", "'response'"), ("object", "body")])
    async def test_a_bad_answer_names_the_member(self, bind: Bind, text: str, wrong: str) -> None:
        """An answer outside the contract says where."""
        with pytest.raises(ToolAnsweredBadly, match=wrong):
            await bind("sometimes").execute(a_call(text), KEY)

    async def test_an_unserialisable_answer_is_a_crash(self, bind: Bind) -> None:
        """Lambda's runtime reports what it cannot serialise as an error of the function."""
        with pytest.raises(ToolCrashed) as crash:
            await bind("sometimes").execute(a_call("unserialisable"), KEY)
        assert "not JSON serializable" in crash.value.detail

    async def test_too_large_an_answer_is_a_crash(self, bind: Bind) -> None:
        """The limit is on the response's bytes; within it, size does not matter."""
        executor = bind("sometimes", max_response_bytes=100_000)
        with pytest.raises(ToolCrashed) as crash:
            await executor.execute(a_call("large"), KEY)
        assert "Function.ResponseSizeTooLarge" in crash.value.detail
        assert (await executor.execute(a_call("small"), KEY)).text == "small"
        assert len((await bind("sometimes").execute(a_call("large"), KEY)).text) == 200_000

    async def test_calls_run_at_the_same_time_up_to_the_limit(self, bind: Bind, door: Door) -> None:
        """Seven calls at concurrency three: three at once, never four, all answered."""
        executor = bind("meet", concurrency=3)
        calls = [asyncio.ensure_future(executor.execute(a_call(f"meet {door.port}"), KEY)) for _ in range(7)]
        await door.wait_for(3)
        door.open()
        assert [result.text for result in await asyncio.gather(*calls)] == ["met"] * 7
        assert door.most <= 3

    async def test_nobody_gets_the_answer_of_an_abandoned_call(self, bind: Bind, door: Door) -> None:
        """A call whose caller went away leaves nothing behind for the next one."""
        executor = bind("sometimes", concurrency=2)
        abandoned = asyncio.ensure_future(executor.execute(a_call(f"meet {door.port}"), KEY))
        await door.wait_for(1)
        abandoned.cancel()
        with pytest.raises(asyncio.CancelledError):
            await abandoned
        assert (await executor.execute(a_call("mine"), KEY)).text == "mine"

    async def test_a_closed_executor_refuses(self, bind: Bind) -> None:
        """After close nothing is called."""
        executor = bind("echo")
        await executor.close()
        with pytest.raises(ToolUnreachable):
            await executor.execute(a_call(), KEY)
