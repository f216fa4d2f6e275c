"""An OpenAI-compatible model server that fails in every way a server can, in a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = Callable[[BaseHTTPRequestHandler], None]


class FailingModel:
    """Answers one request after the other with what `answers` holds, which a test fills."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                model.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                model.answers.pop(0)(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def refusal(status: int, text: str) -> Answer:
    """An error as such servers tell it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _send(handler, status, "application/json", json.dumps({"error": {"message": text}}).encode())

    return answer


def garbage(handler: BaseHTTPRequestHandler) -> None:
    """A page where events should be."""
    _send(handler, 200, "text/event-stream", b"<html>Welcome to the proxy</html>\n\n")


def says(text: str, *, dies: bool = False) -> Answer:
    """A streamed reply; with `dies` the connection ends after the words, before the reply does."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        data = b"".join(_event({"role": "assistant", "content": word}) for word in text.split(" ") if word)
        if not dies:
            _send(handler, 200, "text/event-stream", data + _event({}, "stop") + b"data: [DONE]\n\n")
            return
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("content-length", str(len(data) + 1000))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def _event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def _send(handler: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
