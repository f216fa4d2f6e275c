"""An OpenAI-compatible model server that answers from a script and can be held at a call, in a thread of its own."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]
Decide = Callable[[list[Message]], Message]


class GatedModel:
    """Serves /v1/chat/completions; `hold(n)` lets call number n (from 1) wait until `release`.

    With `after` it waits in the middle of its reply, when that many words are out.
    """

    def __init__(self, decide: Decide) -> None:
        self.decide = decide
        self.requests: list[list[Message]] = []
        self.reached = threading.Event()
        self._held: int | None = None
        self._after = 0
        self._gate = threading.Event()
        self._lock = threading.Lock()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                message, after = model.answer(body["messages"])
                try:
                    self.reply(message, after)
                except OSError:
                    self.close_connection = True

            def reply(self, message: Message, after: int) -> None:
                reason = "tool_calls" if "tool_calls" in message else "stop"
                deltas = pieces(message, after)
                choices = [{"delta": delta, "finish_reason": None} for delta in deltas]
                choices.append({"delta": {}, "finish_reason": reason})
                events: list[dict[str, Any]] = [{"choices": [{"index": 0, **choice}]} for choice in choices]
                usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
                events.append({"choices": [], "usage": usage})
                told = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("content-length", str(sum(len(one) for one in told)))
                self.end_headers()
                self.wfile.write(b"".join(told[:after]))
                if after:
                    model.wait()
                self.wfile.write(b"".join(told[after:]))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def hold(self, call: int, *, after: int = 0) -> None:
        """Let that call wait."""
        self._gate.clear()
        self.reached.clear()
        self._held, self._after = call, after

    def release(self) -> None:
        """Let it go on, and all that follow."""
        self._held = None
        self._gate.set()

    def answer(self, messages: list[Message]) -> tuple[Message, int]:
        """What to reply, and after how many words to wait."""
        with self._lock:
            self.requests.append(messages)
            number = len(self.requests)
        after = self._after if number == self._held else 0
        if number == self._held and not after:
            self.wait()
        return self.decide(messages), after

    def wait(self) -> None:
        self.reached.set()
        self._gate.wait(60)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def pieces(message: Message, after: int) -> list[Message]:
    """A message as it is streamed: whole, or by the word where it is to wait after some of them."""
    if not after:
        return [{"role": "assistant", **message}]
    return [{"role": "assistant", "content": word} for word in re.findall(r" *[^ ]+", message["content"])]


def tool_call(name: str, arguments: dict[str, Any], number: int = 0) -> Message:
    """An assistant message that asks for one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "content": None,
        "tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": function}],
    }
