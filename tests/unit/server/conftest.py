"""A small application on a real server in this process, and a client that speaks HTTP/2 over a plain socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import uvicorn
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes, Settings

from outcrop.config import ServerSettings
from outcrop.server.limits import Gate
from outcrop.server.protocol import EitherHttp
from outcrop.telemetry.metrics import Metrics


@dataclass
class Answer:
    """What one stream brought."""

    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str:
        return self.headers[":status"]

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class _Lasting(H2ConnectionStateMachine):
    """h2 drops what comes after a GOAWAY; a client that waits for its answer does not."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        return [] if input_ is ConnectionInputs.RECV_GOAWAY else super().process_input(input_)


class Http2Client:
    """HTTP/2 with prior knowledge, one blocking read at a time."""

    def __init__(self, url: str, window: int = 65_535) -> None:
        address = urlsplit(url)
        self.authority = address.netloc
        self.socket = socket.create_connection((address.hostname, address.port), timeout=20)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.state_machine = _Lasting()
        self.h2.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.answers: dict[int, Answer] = {}
        self.goaway: ConnectionTerminated | None = None
        self.pongs = 0
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def open(self, method: str, path: str, *headers: tuple[str, str], end: bool = True) -> int:
        """Send the headers of a request: its stream."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "http"), (":authority", self.authority)]
        self.h2.send_headers(stream, [*pseudo, *headers], end_stream=end)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def upload(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send a body as the server's windows allow."""
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if not room:
                self.read()
                continue
            part, data = data[:room], data[room:]
            self.h2.send_data(stream, part, end_stream=end and not data)
            self.flush()

    def ask(self, method: str, path: str, body: bytes | None = None, *headers: tuple[str, str]) -> Answer:
        """One request, answered to its end."""
        stream = self.open(method, path, *headers, end=body is None)
        if body is not None:
            self.upload(stream, body)
        return self.wait(stream)

    def wait(self, stream: int, until: Callable[[Answer], bool] = lambda answer: answer.over) -> Answer:
        """Read until a stream has come that far."""
        answer = self.answers[stream]
        while not until(answer):
            assert not self.closed, f"the server closed the connection; so far: {answer}"
            self.read()
        return answer

    def read_to_end(self) -> None:
        """Read until the server closes the connection."""
        while not self.closed:
            self.read()

    def read(self) -> None:
        """Take in what the server sent, at least one byte or its end."""
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            data = b""
        self.closed = not data
        for event in self.h2.receive_data(data):
            self._take(event)
        if not self.closed:
            self.flush()

    def flush(self) -> None:
        """Send what h2 has for the server."""
        self.socket.sendall(self.h2.data_to_send())

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived(stream_id=stream):
                self.answers[stream].headers = dict(event.headers)
            case DataReceived(stream_id=stream):
                self.answers[stream].parts += [event.data] if event.data else []
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            case StreamEnded(stream_id=stream):
                self.answers[stream].ended = True
            case StreamReset(stream_id=stream):
                self.answers[stream].reset = int(event.error_code)
            case ConnectionTerminated():
                self.goaway = event
            case PingAckReceived():
                self.pongs += 1
            case _:
                pass


class Application:
    """Answers by path, and keeps what it was told."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what other tests did."""
        self.told: list[str] = []
        self.heard = threading.Event()
        self.reached = threading.Event()
        self._gate = threading.Semaphore(0)

    def let(self) -> None:
        """Let `/steps` go one step further, or `/held` end."""
        self._gate.release()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await getattr(self, scope["path"].strip("/").partition("/")[0])(scope, receive, send)

    async def echo(self, _scope: Any, receive: Any, send: Any) -> None:
        body, parts, more = b"", 0, True
        while more:
            message = await receive()
            body, parts, more = body + message["body"], parts + 1, message["more_body"]
        await _start(send, ("content-length", str(len(body))), ("x-parts", str(parts)))
        await send({"type": "http.response.body", "body": body})

    async def scope(self, scope: Any, _receive: Any, send: Any) -> None:
        await _start(send, ("Connection", "close"), ("X-Upper", "yes"))
        seen = {name: value for name, value in scope.items() if name not in ("state", "headers")}
        seen["headers"] = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        await send({"type": "http.response.body", "body": json.dumps(seen, default=bytes.decode).encode()})

    async def steps(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _start(send)
        for number in range(3):
            await self._wait()
            await send({"type": "http.response.body", "body": b"step %d" % number, "more_body": True})
        await send({"type": "http.response.body"})

    async def held(self, scope: Any, receive: Any, send: Any) -> None:
        """Start, wait, and work to the end although the client may be gone."""
        await _start(send)
        await self._wait()
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "http.response.body"})
        self.told.append("worked to the end")
        self.heard.set()

    async def watching(self, _scope: Any, receive: Any, send: Any) -> None:
        await _start(send)
        while (message := await receive())["type"] == "http.request":
            pass
        self.told.append(message["type"])
        self.heard.set()

    async def watching_first(self, _scope: Any, receive: Any, _send: Any) -> None:
        """Wait for the request; answer nothing."""
        self.told.append((await receive())["type"])
        self.told.append((await receive())["type"])
        self.heard.set()

    async def unread(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _start(send)
        await send({"type": "http.response.body", "body": b"no, thank you"})

    async def quick(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answer whole, before anything of the body is read."""
        await _start(send, ("content-length", "2"))
        await send({"type": "http.response.body", "body": b"no"})

    async def flood(self, _scope: Any, receive: Any, send: Any) -> None:
        """Send 64 MiB, or as much as is taken while the client is there."""
        await receive()
        await _start(send)
        gone = asyncio.ensure_future(receive())
        self.flooded = 0
        while not gone.done() and self.flooded < 1024:
            await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
            self.flooded += 1
        gone.cancel()
        await send({"type": "http.response.body"})
        self.heard.set()

    async def fails(self, _scope: Any, _receive: Any, _send: Any) -> None:
        raise ValueError("it fails")

    async def breaks(self, _scope: Any, _receive: Any, send: Any) -> None:
        await _start(send)
        await send({"type": "http.response.body", "body": b"so far", "more_body": True})
        raise ValueError("it breaks")

    async def _wait(self) -> None:
        self.reached.set()
        await asyncio.to_thread(self._gate.acquire)


async def _start(send: Any, *headers: tuple[str, str]) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": 200, "headers": pairs})


class Server:
    """uvicorn in a thread of its own."""

    def __init__(
        self, app: Any = None, limits: ServerSettings | None = None, gate: Gate | None = None, **settings: Any
    ) -> None:
        self.app = Application()
        self.metrics = Metrics()
        self.gate = gate or Gate(limits or ServerSettings(), self.metrics)
        listening = socket.create_server(("127.0.0.1", 0))

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await (self.app if app is None or scope["type"] == "lifespan" else app)(scope, receive, send)

        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            served, http=partial(EitherHttp, gate=self.gate), lifespan="on",
            log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=10, **settings,
        )  # fmt: skip
        self.uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.uvicorn.run, kwargs={"sockets": [listening]})
        self._thread.start()

    def client(self, **settings: Any) -> Http2Client:
        return Http2Client(self.url, **settings)

    def stop(self) -> None:
        """As SIGTERM does."""
        self.uvicorn.should_exit = True

    def ended(self) -> None:
        """Wait for the end."""
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def loop() -> str:
    """The event loop that servers run on; a test may name others."""
    return "uvloop"


def _stop(servers: list[Server]) -> None:
    for server in servers:
        server.stop()
        for _ in range(300):
            server.app.let()
    for server in servers:
        server.ended()


@pytest.fixture
def serving(loop: str) -> Iterator[Callable[..., Server]]:
    """Starts servers for one test alone, and stops them."""
    servers: list[Server] = []

    def start(**settings: Any) -> Server:
        servers.append(Server(loop=loop, **settings))
        return servers[-1]

    yield start
    _stop(servers)


@pytest.fixture(scope="module")
def _running() -> Iterator[dict[str, Server]]:
    servers: dict[str, Server] = {}
    yield servers
    _stop(list(servers.values()))


@pytest.fixture
def server(loop: str, _running: dict[str, Server]) -> Server:
    """A server that tests share, one after the other: starting and stopping one takes a third of a second."""
    server = _running.get(loop) or _running.setdefault(loop, Server(loop=loop))
    server.app.begin()
    return server


@pytest.fixture
def http2() -> type[Http2Client]:
    """The client, for servers that are started otherwise."""
    return Http2Client
