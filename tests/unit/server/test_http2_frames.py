"""A connection without a socket: whatever frames a peer makes up, it takes them or ends, and it writes no more than
the transport wants."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.config import ServerSettings
from outcrop.server.http2 import Http2Protocol
from outcrop.server.limits import Gate
from outcrop.server.protocol import PREFACE
from outcrop.telemetry.metrics import Metrics

HEADERS = bytes.fromhex("82 84 86 41 01 61")
"""GET / over http to the authority `a`, as HPACK writes it."""
POST = bytes.fromhex("83 84 86 41 01 61")

payloads = st.one_of(
    st.sampled_from([b"", HEADERS, POST, bytes(4), bytes(8), b"\0\0\0\1", b"\0\3\0\0\0\1", b"\0\4\0\0\0\0"]),
    st.binary(max_size=40),
)
frames = st.tuples(st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 8, 32, 255]), st.integers(0, 9), payloads)
# Half of them make sense: a request, more of its body, its end, a reset, a window, a goodbye.
sensible = st.sampled_from(
    [
        (1, 4, 1, POST), (1, 5, 3, HEADERS), (1, 5, 5, HEADERS), (0, 0, 1, b"some"), (0, 1, 1, b"last"),
        (3, 0, 1, bytes(4)), (3, 0, 3, bytes(4)), (8, 0, 1, b"\0\0\1\0"), (7, 0, 0, bytes(8)), (4, 0, 0, b""),
    ]
)  # fmt: skip


class Transport:
    """Takes what is written, and says when it was closed."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2), "socket": None}[name]


async def _echo(_scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (message := await receive())["type"] == "http.request":
        await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})


async def _long(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(1_000_000)})


class Connected:
    """A connection of a server that has no other."""

    def __init__(self, app: Any, transport: Any) -> None:
        self.state = SimpleNamespace(total_requests=0, connections=set(), tasks=set(), default_headers=[])
        config = SimpleNamespace(loaded_app=app, limit_concurrency=None)
        gate = Gate(ServerSettings(), Metrics())
        self.protocol = Http2Protocol(config, self.state, {}, asyncio.get_running_loop(), gate)
        self.transport = transport
        self.protocol.connection_made(transport)

    async def close(self) -> None:
        self.transport.closed = True
        self.protocol.connection_lost(None)
        await asyncio.gather(*self.state.tasks)


def _frames(*parts: tuple[int, int, int, bytes]) -> bytes:
    heads = (struct.pack(">I", len(part[3]))[1:] + struct.pack(">BBI", *part[:3]) for part in parts)
    return PREFACE + b"".join(head + part[3] for head, part in zip(heads, parts, strict=True))


@given(st.lists(st.one_of(frames, sensible), max_size=12), st.integers(1, 200), st.booleans())
@settings(max_examples=400, deadline=None)
def test_no_frames_break_it(made_up: list[tuple[int, int, int, bytes]], piece: int, stop: bool) -> None:
    data = _frames((4, 0, 0, b""), *made_up)
    asyncio.run(_converse([data[start : start + piece] for start in range(0, len(data), piece)], stop))


async def _converse(reads: list[bytes], stop: bool) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    connected = Connected(_echo, Transport())
    for number, data in enumerate(reads):
        if connected.transport.closed:
            break
        connected.protocol.data_received(data)
        if number % 3 == 0:
            await asyncio.sleep(0)
    if stop and not connected.transport.closed:
        connected.protocol.shutdown()
    await connected.close()
    assert not failures
    assert not connected.state.connections
    assert not connected.protocol._streams


class Full(Transport):
    """Wants no more after each 100,000 bytes."""

    protocol: Http2Protocol

    def write(self, data: bytes) -> None:
        before = len(self.written) // 100_000
        super().write(data)
        if len(self.written) // 100_000 > before:
            self.protocol.pause_writing()


async def test_an_answer_waits_while_the_transport_is_full() -> None:
    transport = Full()
    connected = Connected(_long, transport)
    transport.protocol = connected.protocol
    window = struct.pack(">I", 2**30)
    connected.protocol.data_received(_frames((4, 0, 0, b"\0\4" + window), (8, 0, 0, window), (1, 5, 1, HEADERS)))
    [answer] = connected.state.tasks
    rounds = 0
    while not answer.done():
        for _ in range(3):
            await asyncio.sleep(0)
        rounds += 1
        assert len(transport.written) < rounds * 200_000
        connected.protocol.resume_writing()
    assert (rounds > 5, len(transport.written) > 1_000_000) == (True, True)
    await connected.close()
