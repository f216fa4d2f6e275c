"""A receiver of notices on this machine, in a thread of its own: a webhook, or an event bus."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Taken:
    """One POST, as it came in."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.message["id"]


class Receiver:
    """Takes every POST and keeps it. `answers` holds the statuses of the next ones, else it is 204; None holds one."""

    def __init__(self, body: bytes = b"") -> None:
        self.answers: deque[int | None] = deque()
        self.taken: list[Taken] = []
        self.body = body
        self._came = threading.Condition()
        self._let_go = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/turns"

    @property
    def ids(self) -> list[str]:
        return [taken.id for taken in self.taken]

    def wait(self, count: int) -> list[Taken]:
        """All that was taken, once there are so many."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.taken) >= count, PATIENCE_S), f"{len(self.taken)} came"
            return list(self.taken)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver._came:
                    receiver.taken.append(Taken(dict(self.headers), body))
                    status = receiver.answers.popleft() if receiver.answers else (200 if receiver.body else 204)
                    receiver._came.notify_all()
                if status is None:
                    receiver._let_go.wait(PATIENCE_S)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler


def until(condition: Any, patience_s: float = PATIENCE_S) -> Any:
    """What the condition gives as soon as it gives anything: for what another process or thread brings about."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)
    return value
