"""A model that decides from the messages alone: an OpenAI-compatible server without a memory.

    "one INV-1"      pays INV-1                       then says what the functions said
    "two INV-1"      pays INV-1-a and INV-1-b at once
    "nested INV-1"   lets another agent pay INV-1
    anything else    says how many messages it has seen

It keeps nothing, so any number of servers may ask it, killed or not. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

import httptools

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
_USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
SEEN = "I have seen"


def decide(request: dict[str, Any]) -> dict[str, Any]:
    """The model's next message."""
    messages = request["messages"]
    last = max(number for number, message in enumerate(messages) if message["role"] == "user")
    words = _plain(messages[last]["content"]).split()
    told = [_plain(message["content"]) for message in messages[last:] if message["role"] == "tool"]
    if told:
        return {"content": f"Done: {' | '.join(told)}"}
    invoice = words[-1]
    wanted = {
        "one": [("pay", invoice)],
        "two": [("pay", f"{invoice}-a"), ("pay", f"{invoice}-b")],
        "nested": [("delegate", invoice)],
    }.get(words[0], [])
    if not wanted:
        return {"content": f"{SEEN} {len(messages)} messages."}
    names = {tool["function"]["name"].rpartition("__")[2]: tool["function"]["name"] for tool in request["tools"]}
    calls = [
        {
            "index": index,
            "id": f"call_{len(messages)}_{index}",
            "type": "function",
            "function": {"name": names[name], "arguments": json.dumps({"invoice": what})},
        }
        for index, (name, what) in enumerate(wanted)
    ]
    return {"content": None, "tool_calls": calls}


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def reply(message: dict[str, Any]) -> bytes:
    """A message as server-sent events, with an HTTP head."""
    reason = "tool_calls" if "tool_calls" in message else "stop"
    events = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", **message}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        {"choices": [], "usage": _USAGE},
    ]
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"
    return _HEAD % len(data) + data


class Connection(asyncio.Protocol):
    """One kept connection of a server."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._body = []

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """It is whole: answer."""
        self._transport.write(reply(decide(json.loads(b"".join(self._body)))))


async def serve() -> None:
    """Answer until killed; says where on standard output."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def end_with_standard_input() -> None:
    """End this process when whoever started it is gone."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_standard_input()
    asyncio.run(serve())
