"""The floor: the same model calls, tools and streamed bytes as a turn of the engine, with no engine.

    none      history in a dict
    wal       SQLite in WAL mode, one commit per step, history read back from the file at every turn
    pool      as wal, and the tools run in the engine's warm processes instead of in place

No authorisation, validation, trace, schema, retry or session lock: only what nobody can leave out.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sqlite3
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import aiohttp
import orjson
import uvloop
from aiohttp import web

import stock
from workloads import INSTRUCTION

Message = dict[str, Any]
CallTool = Callable[[str, str], Awaitable[str]]
_SYSTEM = {"role": "system", "content": INSTRUCTION}


def _declaration(name: str, parameter: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]}
    function = {"name": name, "description": name.replace("_", " "), "parameters": schema}
    return {"type": "function", "function": function}


_TOOLS = [_declaration(*tool) for tool in stock.ARGUMENTS.items()]


def _header(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value


_HEADERS = b"".join(
    _header(*pair)
    for pair in (
        (b":event-type", b"chunk"),
        (b":content-type", b"application/json"),
        (b":message-type", b"event"),
    )
)


def _frame(text: str) -> bytes:
    payload = b'{"bytes":"%b"}' % base64.b64encode(text.encode())
    prelude = struct.pack(">II", 16 + len(_HEADERS) + len(payload), len(_HEADERS))
    message = prelude + struct.pack(">I", crc32(prelude)) + _HEADERS + payload
    return message + struct.pack(">I", crc32(message))


class Memory:
    """Sessions in a dict."""

    def __init__(self) -> None:
        self._sessions: dict[str, list[Message]] = {}

    def load(self, session: str) -> list[Message]:
        """The messages so far; what `step` appends to."""
        return self._sessions.setdefault(session, [])

    def step(self, _session: str, history: list[Message], new: list[Message]) -> None:
        """Append the messages of one step."""
        history.extend(new)


class Durable:
    """Sessions in a SQLite file: one commit per step."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=NORMAL",
            "CREATE TABLE message(session TEXT, n INTEGER, body BLOB, PRIMARY KEY(session, n)) WITHOUT ROWID",
        ):
            self._database.execute(statement)

    def load(self, session: str) -> list[Message]:
        """The messages so far, read from the file."""
        rows = self._database.execute("SELECT body FROM message WHERE session=? ORDER BY n", (session,))
        return [orjson.loads(body) for (body,) in rows]

    def step(self, session: str, history: list[Message], new: list[Message]) -> None:
        """Append the messages of one step, in one commit."""
        rows = [(session, len(history) + index, orjson.dumps(message)) for index, message in enumerate(new)]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO message VALUES(?,?,?)", rows)
        self._database.execute("COMMIT")
        history.extend(new)


async def call_in_place(name: str, argument: str) -> str:
    """A tool, carried out by this process."""
    if name == "check_region":
        await asyncio.sleep(stock.WAIT_S)
    elif name == "check_region_blocking":
        await asyncio.to_thread(time.sleep, stock.WAIT_S)
    return stock.result(name, argument)


class Reply:
    """What one model call came to, and where its text goes while it comes."""

    __slots__ = ("calls", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.calls: list[dict[str, Any]] = []

    def feed(self, event: bytes) -> bytes:
        """Take in one event; the frame that goes to the caller, or nothing."""
        choices = orjson.loads(event)["choices"]
        if not choices:
            return b""
        delta = choices[0]["delta"]
        for part in delta.get("tool_calls") or ():
            function = part["function"]
            if part.get("id"):
                self.calls.append({"id": part["id"], "type": "function", "function": dict(function)})
            else:
                self.calls[part["index"]]["function"]["arguments"] += function["arguments"]
        text = delta.get("content")
        if not text:
            return b""
        self.pieces.append(text)
        return _frame(text)


class Floor:
    """Answers InvokeAgent requests."""

    def __init__(self, model_url: str, sessions: Memory | Durable, call_tool: CallTool) -> None:
        self._url = model_url + "/chat/completions"
        self._sessions = sessions
        self._call_tool = call_tool
        self._model: aiohttp.ClientSession | None = None

    async def connect(self) -> None:
        """Open the client of the model; its connections are kept."""
        self._model = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            headers={"content-type": "application/json"},
            skip_auto_headers=("user-agent", "accept-encoding"),
        )

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        """One turn, streamed."""
        session = request.match_info["session"]
        body = orjson.loads(await request.read())
        response = web.StreamResponse(
            headers={
                "content-type": "application/vnd.amazon.eventstream",
                "x-amzn-bedrock-agent-content-type": "application/json",
                "x-amz-bedrock-agent-session-id": session,
            }
        )
        await response.prepare(request)
        await self._turn(session, body["inputText"], response)
        await response.write_eof()
        return response

    async def _turn(self, session: str, question: str, response: web.StreamResponse) -> None:
        history = self._sessions.load(session)
        self._sessions.step(session, history, [{"role": "user", "content": question}])
        while True:
            reply = await self._ask(history, response)
            said = "".join(reply.pieces)
            if not reply.calls:
                self._sessions.step(session, history, [{"role": "assistant", "content": said}])
                return
            asked = {"role": "assistant", "content": said or None, "tool_calls": reply.calls}
            self._sessions.step(session, history, [asked])
            results = await asyncio.gather(*(self._act(call["function"]) for call in reply.calls))
            told = [
                {"role": "tool", "tool_call_id": call["id"], "content": result}
                for call, result in zip(reply.calls, results, strict=True)
            ]
            self._sessions.step(session, history, told)

    async def _act(self, function: dict[str, str]) -> str:
        (argument,) = orjson.loads(function["arguments"]).values()
        return await self._call_tool(function["name"], argument)

    async def _ask(self, history: list[Message], response: web.StreamResponse) -> Reply:
        assert self._model is not None
        asked = {"model": "bench", "stream": True, "stream_options": {"include_usage": True}}
        data = orjson.dumps({**asked, "messages": [_SYSTEM, *history], "tools": _TOOLS})
        reply, rest = Reply(), b""
        async with self._model.post(self._url, data=data) as answered:
            answered.raise_for_status()
            async for block in answered.content.iter_any():
                *events, rest = (rest + block).split(b"\n\n")
                frames = [reply.feed(event[6:]) for event in events if event != b"data: [DONE]"]
                if out := b"".join(frames):
                    await response.write(out)
        return reply


def _pool(config: Path) -> CallTool:
    """The tools as the engine runs them: event, warm process, response."""
    from engine_tools import PooledTools  # the other floors do without the engine

    return PooledTools(config).call


async def serve(kind: str, port: int, model_url: str, data: Path) -> None:
    """Answer until killed; says so on standard output."""
    sessions = Memory() if kind == "none" else Durable(data / "floor.db")
    floor = Floor(model_url, sessions, _pool(data / "outcrop.toml") if kind == "pool" else call_in_place)
    await floor.connect()

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_post("/agents/{agent}/agentAliases/{alias}/sessions/{session}/text", floor.invoke)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
    print(f"floor listening on http://127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="a floor of the benchmark")
    arguments.add_argument("--kind", choices=["none", "wal", "pool"], required=True)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--model-url", required=True)
    arguments.add_argument("--data", type=Path, required=True)
    given = arguments.parse_args()
    uvloop.run(serve(given.kind, given.port, given.model_url, given.data))
