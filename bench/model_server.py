"""A model of no mind, and of no latency unless told: an OpenAI-compatible streaming server for the benchmark.

It decides its reply from the messages after the last user message, so whoever asks really has
to carry out the tools and to send the history. A request or a tool result that is not as it
must be gets an answer that begins with MISMATCH, which the load counts as an error.

    POST /v1/chat/completions     server-sent events; a whole reply in one write unless the workload is paced
    POST /settings                {"delay_s": before each reply, "open": false holds replies back}
    GET  anything                 {"cpu_s": seconds of processor time so far, "waiting": replies held back}
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import httptools
import orjson
import uvloop

from workloads import REGIONS, WORKLOADS, Workload, last_piece

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_FRAME = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1790000000, "model": "bench"}
_CALLS = itertools.count(1)


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _http_chunk(b"data: " + orjson.dumps({**_FRAME, "choices": [choice]}) + b"\n\n")


_USAGE = {"prompt_tokens": 120, "completion_tokens": 24, "total_tokens": 144}
_USED = _http_chunk(b"data: " + orjson.dumps({**_FRAME, "choices": [], "usage": _USAGE}) + b"\n\n")
_DONE = _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_STOP, _ACT = _event({}, "stop"), _event({}, "tool_calls")


def _text(text: str, *, first: bool = False) -> bytes:
    return _event({"role": "assistant", "content": text} if first else {"content": text})


_TEXTS = {
    workload.name: [_text(piece, first=index == 0) for index, piece in enumerate(workload.pieces)]
    for workload in WORKLOADS.values()
}


class Mismatch(Exception):
    """The request is not what a correct engine sends."""


class Refused(Exception):
    """The model says no, as it was asked to."""


class Reply:
    """The events of one reply, its end, and the seconds between events."""

    __slots__ = ("end", "events", "gap_s")

    def __init__(self, events: list[bytes], end: bytes, gap_s: float = 0.0) -> None:
        self.events, self.end, self.gap_s = events, end, gap_s


def decide(request: dict[str, Any]) -> Reply:
    """The reply to a request.

    Errors: Mismatch; Refused.
    """
    messages = request["messages"]
    asked = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if not asked:
        raise Mismatch("no user message")
    question, since = _plain(messages[asked[-1]]["content"]), messages[asked[-1] + 1 :]
    workload = next((one for one in WORKLOADS.values() if one.question == question), None)
    if workload is None:
        raise Mismatch(f"unknown question {question[:80]}")
    if workload.name == "trouble":
        raise Refused
    calls = _next_calls(workload, _results(since))
    if calls:
        return Reply(_call_events(calls, _declared(request)), _ACT)
    return Reply([*_TEXTS[workload.name], _text(last_piece(len(asked)))], _STOP, workload.gap_s)


def _results(since: list[dict[str, Any]]) -> list[str]:
    """The texts of the tool results so far, each of which must answer a call."""
    called: set[str] = set()
    found: list[str] = []
    for message in since:
        called.update(call["id"] for call in message.get("tool_calls") or ())
        if message["role"] == "tool":
            if message["tool_call_id"] not in called:
                raise Mismatch(f"a result of a call that was not made: {message['tool_call_id']}")
            found.append(_plain(message["content"]))
    return found


def _next_calls(workload: Workload, results: list[str]) -> list[tuple[str, str, str]]:
    """What is still to be called: name, parameter, argument of each."""
    if workload.name == "turn":
        wanted = ("DUB-1", "19.99")
        for expected, result in zip(wanted, results, strict=False):
            if expected not in result:
                raise Mismatch(f"a tool answered {result[:80]}")
        return [[("get_inventory", "sku", "SKU-55")], [("get_price", "sku", "SKU-55")], []][len(results)]
    if workload.name == "regions":
        if not results:
            return [(tool, "region", region) for region, tool in REGIONS.items()]
        if len(results) != len(REGIONS) or any(f"stock-{region}" not in "".join(results) for region in REGIONS):
            raise Mismatch(f"the regions are {results}")
    return []


def _declared(request: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in request.get("tools") or ()]


def _call_events(calls: list[tuple[str, str, str]], declared: list[str]) -> list[bytes]:
    """A reply that asks for tools: per call its name, then its input in two pieces."""
    events: list[bytes] = []
    for index, (tool, parameter, argument) in enumerate(calls):
        # An engine may put the action group's name before the tool's own.
        name = next((one for one in declared if one == tool or one.endswith("__" + tool)), None)
        if name is None:
            raise Mismatch(f"tool {tool} is not declared")
        head = {"role": "assistant", "content": None} if index == 0 else {}
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": f"call_{next(_CALLS):08d}", "type": "function", "function": function}
        events.append(_event({**head, "tool_calls": [call]}))
        written = json.dumps({parameter: argument})
        for piece in (written[:8], written[8:]):
            events.append(_event({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    return events


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


class Pace:
    """When replies go out: at once, after a delay, or when they may."""

    def __init__(self) -> None:
        """Hold nothing back."""
        self.delay_s = 0.0
        self._is_open = True
        self._waiting: list[tuple[Connection, Callable[[], None]]] = []

    def set(self, delay_s: float | None = None, open: bool | None = None) -> None:
        """Change it; an opened gate lets out all that wait."""
        self.delay_s = self.delay_s if delay_s is None else delay_s
        self._is_open = self._is_open if open is None else open
        if self._is_open:
            waiting, self._waiting = self._waiting, []
            for _, send in waiting:
                send()

    def waiting(self) -> int:
        """The replies that are held back and still wanted."""
        self._waiting = [(connection, send) for connection, send in self._waiting if connection.is_there]
        return len(self._waiting)

    def when_due(self, connection: Connection, send: Callable[[], None]) -> None:
        """Send a reply at its time."""
        if not self._is_open:
            self._waiting.append((connection, send))
        elif self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, send)
        else:
            send()


PACE = Pace()
_REFUSED = b'{"error": {"message": "trouble was asked for", "type": "invalid_request_error"}}'


class Connection(asyncio.Protocol):
    """One kept connection of a caller."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = b""
        self._body: list[bytes] = []

    @property
    def is_there(self) -> bool:
        """Whether the caller has not hung up."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the transport."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """A request begins."""
        self._path, self._body = url, []

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """It is whole: answer."""
        if not self._path.endswith(b"/chat/completions"):
            if self._path.endswith(b"/settings"):
                PACE.set(**orjson.loads(b"".join(self._body)))
            self._tell({"cpu_s": time.process_time(), "waiting": PACE.waiting()})
            return
        used = b""
        try:
            request = orjson.loads(b"".join(self._body))
            used = _USED if (request.get("stream_options") or {}).get("include_usage") else b""
            reply = decide(request)
        except Refused:
            PACE.when_due(self, self._refuse)
            return
        except (Mismatch, ValueError, KeyError, IndexError) as error:
            reply = Reply([_text(f"MISMATCH {error!r}", first=True)], _STOP)
        PACE.when_due(self, lambda: self._send(reply, reply.end + used + _DONE))

    def _tell(self, value: Any) -> None:
        self._whole(b"200 OK", orjson.dumps(value))

    def _refuse(self) -> None:
        self._whole(b"400 Bad Request", _REFUSED)

    def _whole(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._write(head % (status, len(body)) + body)

    def _send(self, reply: Reply, tail: bytes) -> None:
        if reply.gap_s:
            self._write(_HEAD)
            _paced([*reply.events, tail], reply.gap_s, self._write)
        else:
            self._write(b"".join((_HEAD, *reply.events, tail)))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _paced(events: list[bytes], gap_s: float, write: Callable[[bytes], None]) -> None:
    """Write event n when n gaps have passed, however late the timers are."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0

    def due() -> None:
        nonlocal sent
        upto = min(len(events), int((loop.time() - began) / gap_s) + 1)
        if upto > sent:
            write(b"".join(events[sent:upto]))
            sent = upto
        if sent < len(events):
            loop.call_at(began + sent * gap_s, due)

    due()


async def serve(port: int) -> None:
    """Answer until killed; says so on standard output."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=2048)
    print(f"model listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="the model of the benchmark")
    arguments.add_argument("--port", type=int, default=0)
    uvloop.run(serve(arguments.parse_args().port))
