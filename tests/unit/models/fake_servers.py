"""Model servers on loopback that answer what a test says: OpenAI's, Anthropic's and Bedrock's streaming APIs."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from outcrop.models.base import ModelAccessDenied, ModelNotReady, ModelRejected, ModelThrottled, ModelUnavailable
from outcrop.testing.conformance.models import Answer

STATUS = {
    ModelAccessDenied: 401,
    ModelNotReady: 503,
    ModelRejected: 400,
    ModelThrottled: 429,
    ModelUnavailable: 500,
}
WORDS = {
    ModelAccessDenied: "this key opens nothing",
    ModelNotReady: "Loading model",
    ModelRejected: "messages: at least one message is required",
    ModelThrottled: "too many requests",
    ModelUnavailable: "something went wrong",
}


class FakeServer:
    """Answers one request after the other; `answers` holds an Answer, or a handler of aiohttp's, for each."""

    def __init__(self) -> None:
        self.answers: deque[Any] = deque()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.peers: list[Any] = []
        self.paths: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(json.loads(await request.read()))
        self.headers.append(request.headers)
        self.paths.append(request.raw_path)
        self.peers.append(request.transport.get_extra_info("peername"))
        answer = self.answers.popleft()
        if not isinstance(answer, Answer):
            return await answer(request)
        if answer.failure is not None:
            return self.refusal(answer.failure)
        pieces = self.pieces(answer)
        return await stream(*pieces, content_type=self.content_type, cut=answer.breaks_off)(request)

    content_type = "text/event-stream"

    def refusal(self, kind: Any) -> web.Response:
        return web.json_response({"error": {"message": WORDS[kind], "type": "x"}}, status=STATUS[kind])

    def pieces(self, answer: Answer) -> list[bytes]:
        raise NotImplementedError


def stream(*pieces: bytes, content_type: str = "text/event-stream", cut: bool = False) -> Callable[..., Any]:
    """A handler that sends the pieces one by one; with `cut` the connection ends there."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if cut:
            request.transport.close()
            return response
        await response.write_eof()
        return response

    return answer


def plain(status: int, body: Any, **headers: str) -> Callable[..., Any]:
    """A handler that answers with a status and JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return answer


def words_of(text: str) -> list[str]:
    return [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))] if text else []


def sse(event: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event)}\n\n".encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One chat.completion.chunk as an event."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "fake", "choices": [choice], **more})


USAGE = sse(
    {
        "id": "chatcmpl-1",
        "model": "fake",
        "choices": [],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
    }
)
DONE = b"data: [DONE]\n\n"


class FakeOpenAI(FakeServer):
    def pieces(self, answer: Answer) -> list[bytes]:
        found = [chunk({"role": "assistant", "content": ""})]
        found += [chunk({"content": word}) for word in words_of(answer.text)]
        if answer.breaks_off:
            return found
        for index, (name, given) in enumerate(answer.calls):
            text = json.dumps(given)
            function = {"name": name, "arguments": ""}
            found.append(chunk({"tool_calls": [{"index": index, "id": f"call_{index}", "function": function}]}))
            for piece in (text[:3], text[3:]):
                found.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
        return [*found, chunk({}, "tool_calls" if answer.calls else "stop"), USAGE, DONE]


class FakeAnthropic(FakeServer):
    def refusal(self, kind: Any) -> web.Response:
        body = {"type": "error", "error": {"type": "x", "message": WORDS[kind]}}
        return web.json_response(body, status=STATUS[kind], headers={"Retry-After": "7"})

    def pieces(self, answer: Answer) -> list[bytes]:
        events: list[dict[str, Any]] = [anthropic_start()]
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if answer.text:
            deltas = [{"type": "text_delta", "text": word} for word in words_of(answer.text)]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for index, (name, given) in enumerate(answer.calls):
            text = json.dumps(given)
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in (text[:3], text[3:])]
            blocks.append(({"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}, deltas))
        for index, (block, deltas) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            if not answer.breaks_off:
                events.append({"type": "content_block_stop", "index": index})
        if not answer.breaks_off:
            ended = {"stop_reason": "tool_use" if answer.calls else "end_turn", "stop_sequence": None}
            events.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 5}})
            events.append({"type": "message_stop"})
        return [sse(event, event["type"]) for event in events]


def anthropic_start() -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude"}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 12, "output_tokens": 1}}
    return {"type": "message_start", "message": message}


CODES = {
    ModelAccessDenied: (403, "AccessDeniedException"),
    ModelNotReady: (429, "ModelNotReadyException"),
    ModelRejected: (400, "ValidationException"),
    ModelThrottled: (429, "ThrottlingException"),
    ModelUnavailable: (503, "ServiceUnavailableException"),
}


class FakeBedrock(FakeServer):
    content_type = "application/vnd.amazon.eventstream"

    def refusal(self, kind: Any) -> web.Response:
        status, code = CODES[kind]
        return web.json_response({"message": WORDS[kind]}, status=status, headers={"x-amzn-ErrorType": code})

    def pieces(self, answer: Answer) -> list[bytes]:
        found = [frame("messageStart", {"role": "assistant"})]
        index = 0
        for word in words_of(answer.text):
            found.append(frame("contentBlockDelta", {"contentBlockIndex": index, "delta": {"text": word}}))
        if answer.breaks_off:
            return [*found, frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lost"}})[:-9]]
        if answer.text:
            found.append(frame("contentBlockStop", {"contentBlockIndex": index}))
            index += 1
        for name, given in answer.calls:
            start = {"toolUse": {"toolUseId": f"tooluse_{index}", "name": name}}
            found.append(frame("contentBlockStart", {"contentBlockIndex": index, "start": start}))
            delta = {"toolUse": {"input": json.dumps(given)}}
            found.append(frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}))
            found.append(frame("contentBlockStop", {"contentBlockIndex": index}))
            index += 1
        usage = {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}
        found.append(frame("messageStop", {"stopReason": "tool_use" if answer.calls else "end_turn"}))
        return [*found, frame("metadata", {"usage": usage, "metrics": {"latencyMs": 3}})]


def frame(event: str, payload: Any, kind: str = "event") -> bytes:
    """One message of AWS's event stream."""
    headers = b""
    names = {"event": ":event-type", "exception": ":exception-type"}
    for name, value in ((names[kind], event), (":content-type", "application/json"), (":message-type", kind)):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


@asynccontextmanager
async def serving(server: Any) -> AsyncIterator[Any]:
    """A fake server on a free port of loopback."""
    app = web.Application()
    app.router.add_post("/{rest:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = "http://127.0.0.1:{}".format(*site._server.sockets[0].getsockname()[1:])
    try:
        yield server
    finally:
        await runner.cleanup()
