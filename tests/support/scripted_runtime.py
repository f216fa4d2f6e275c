"""A runtime on loopback that answers InvokeAgent with what a test says, over real sockets to real boto3."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from outcrop.wire.eventstream import event_frame, exception_frame
from outcrop.wire.services import services

INVOKE = services()["bedrock-agent-runtime"].operation_model("InvokeAgent")


@dataclass
class Reply:
    """One answer: an error status, or a stream of frames that ends well or is cut."""

    frames: list[bytes] = field(default_factory=list)
    error: tuple[int, str, str] | None = None
    is_cut: bool = False
    hang: threading.Event | None = None


def stream(*events: tuple[str, Any], cut: bool = False) -> Reply:
    """A stream of events; a name that ends in Exception is an exception frame."""
    make = {True: exception_frame, False: event_frame}
    frames = [make[name.endswith("Exception")](INVOKE, name, member) for name, member in events]
    return Reply(frames, is_cut=cut)


def refusal(status: int, code: str, message: str = "no") -> Reply:
    return Reply(error=(status, code, message))


def chunk(text: str | bytes, **members: Any) -> tuple[str, Any]:
    return "chunk", {"bytes": text.encode() if isinstance(text, str) else text, **members}


def trace(**parts: Any) -> tuple[str, Any]:
    """One orchestration trace: trace(rationale={...})."""
    [(kind, body)] = parts.items()
    told = {"traceId": "r-0", **body}
    return "trace", {"trace": {"orchestrationTrace": {kind: told}}}


def failed(code: str, message: str = "no") -> tuple[str, Any]:
    return code, {"message": message}


ACTED = trace(
    invocationInput={
        "invocationType": "ACTION_GROUP",
        "actionGroupInvocationInput": {"actionGroupName": "stock", "function": "check", "executionType": "LAMBDA"},
    }
)


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other from the script of its server."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        runtime: Runtime = self.server.runtime
        runtime.asks.append((self.path, body))
        runtime.names.append((self.headers["amz-sdk-invocation-id"], self.headers["amz-sdk-request"]))
        reply = runtime.replies.popleft()
        if reply.hang is not None:
            reply.hang.wait(30)
            self.close_connection = True
        elif reply.error is not None:
            self.refuse(*reply.error)
        else:
            self.stream(reply, f"request-{len(runtime.asks)}")

    def refuse(self, status: int, code: str, message: str) -> None:
        data = json.dumps({"message": message}).encode()
        self.send_response(status)
        if code:
            self.send_header("x-amzn-ErrorType", code)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, reply: Reply, request_id: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/vnd.amazon.eventstream")
        self.send_header("x-amzn-RequestId", request_id)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for frame in reply.frames:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))
        if reply.is_cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Does not mind clients that go away."""

    daemon_threads = True
    runtime: Runtime

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Runtime:
    """The scripted server: `replies` are given one per request, `asks` are what it was sent, `names` under which id."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.asks: list[tuple[str, dict[str, Any]]] = []
        self.names: list[tuple[str, str]] = []
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.runtime = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def then(self, *replies: Reply) -> None:
        self.replies += replies

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
