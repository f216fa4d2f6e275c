"""Clients that do not take their answers: an answer waits, holds little, and in time its client is cut off.

The turn behind it does not wait: it goes on to its end.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from outcrop.config import Config, ServerSettings
from outcrop.operations.registry import Batch, Stream
from outcrop.server.app import Door
from outcrop.server.limits import Gate
from outcrop.server.protocol import PREFACE
from outcrop.telemetry.metrics import Metrics

EITHER_LOOP = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
IMPATIENT = ServerSettings(slow_client_s=0.2)
CANCEL = 8
REQUEST = (
    b"POST /agents/a/agentAliases/TSTALIASID/sessions/s-1/text HTTP/1.1\r\nhost: here\r\n"
    b'content-type: application/json\r\ncontent-length: 18\r\n\r\n{"inputText":"Hi"}'
)
PART, PARTS = 65_536, 400
"""An answer of 26 MB: far more than the buffers of two sockets hold."""


def connect(server: Any, window: int = 4_096) -> socket.socket:
    """A client that takes little before it is asked to read."""
    address = urlsplit(server.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(20)
    connection.connect((address.hostname, address.port))
    return connection


class Turns:
    """An InvokeAgent whose turns write long answers, behind the real door; it counts what becomes bytes."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        settings = ServerSettings(slow_client_s=0.5)
        engine: Any = SimpleNamespace(config=Config(server=settings), metrics=self.metrics)
        self.gate = Gate(settings, self.metrics)
        self._door = Door(engine, {("bedrock-agent-runtime", "InvokeAgent"): self._invoke}, self.gate)
        self.ended = threading.Semaphore(0)
        self.told = 0  # parts that turns have told, to whomever
        self.sent: list[int] = []  # bytes handed to the server, by client
        self.most_waiting = 0  # bytes waiting in the server for any one client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        number = len(self.sent)
        self.sent.append(0)

        async def counted(message: Any) -> None:
            await send(message)
            self.sent[number] += len(message.get("body", b""))
            waiting = [c.transport.get_write_buffer_size() for c in self.connections if hasattr(c, "transport")]
            self.most_waiting = max(self.most_waiting, *waiting, 0)

        await self._door(scope, receive, counted)
        self.ended.release()

    async def _invoke(self, _context: Any, _ask: Any) -> Stream:
        return Stream({"contentType": "application/json", "sessionId": "s"}, self._answer())

    async def _answer(self) -> AsyncIterator[Batch]:
        for _ in range(PARTS):
            self.told += 1
            yield [("chunk", {"bytes": bytes(PART)})]


def test_two_hundred_clients_that_never_read(serving: Callable[..., Any]) -> None:
    turns = Turns()
    server = serving(app=turns, gate=turns.gate)
    turns.connections = server.uvicorn.server_state.connections
    with ExitStack() as open_connections:
        for _ in range(200):
            open_connections.enter_context(connect(server)).sendall(REQUEST)
        for _ in range(200):
            assert turns.ended.acquire(timeout=60)

    assert turns.metrics.value("outcrop_slow_clients_cut_total") == 200
    assert turns.told == 200 * PARTS  # no turn waited for its listener in the end
    assert turns.most_waiting < 4 * PART  # what the server holds for one client
    assert sum(turns.sent) < 200 * PART * PARTS / 4  # the rest was never made into bytes
    assert "outcrop_requests_in_flight 0\n" in turns.metrics.text()


@EITHER_LOOP
def test_one_that_reads_slowly_is_not_cut(serving: Callable[..., Any]) -> None:
    server = serving(limits=IMPATIENT)
    with connect(server, window=65_536) as connection:
        connection.sendall(b"GET /flood HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        pace, taken = threading.Event(), 0
        while taken < 2_000_000:  # at this pace it takes five times as long as anybody waits for one that takes nothing
            part = connection.recv(100_000)
            assert part, f"closed after {taken} bytes"
            taken += len(part)
            pace.wait(0.05)
        while part := connection.recv(1_048_576):
            taken += len(part)
    assert taken > 1024 * 65_536
    assert server.app.flooded == 1024
    assert server.metrics.value("outcrop_slow_clients_cut_total") == 0


@EITHER_LOOP
def test_one_that_asks_for_the_end_and_does_not_read_it_is_cut(serving: Callable[..., Any]) -> None:
    """The answer is whole for the application, and no more is written: the last of it is waited for all the same."""
    server = serving(limits=IMPATIENT)
    with connect(server) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: 8000000\r\n\r\n")
        connection.sendall(bytes(8_000_000))
        ended = select.poll()
        ended.register(connection, 0)  # tells of errors and hang-ups alone
        assert ended.poll(20_000)
    assert 'outcrop_slow_clients_cut_total{protocol="http/1.1"} 1\n' in server.metrics.text()


# HTTP/2 -------------------------------------------------------------------------------------------


@EITHER_LOOP
def test_a_stream_whose_window_stays_shut_is_reset_and_its_connection_lives_on(serving: Callable[..., Any]) -> None:
    server = serving(limits=IMPATIENT)
    with server.client(window=0) as client:
        stream = client.open("POST", "/held", end=False)
        server.app.let()
        assert client.wait(stream, lambda answer: answer.reset is not None).reset == CANCEL
        assert server.app.heard.wait(20)  # the application worked to its end
        assert client.ask("HEAD", "/unread").status == "200"
    assert 'outcrop_slow_clients_cut_total{protocol="http/2"} 1\n' in server.metrics.text()


@EITHER_LOOP
def test_a_connection_whose_peer_reads_nothing_is_cut(serving: Callable[..., Any]) -> None:
    server = serving(limits=IMPATIENT)
    window = struct.pack(">I", 2**30)
    settings = b"\0\0\6\4\0\0\0\0\0\0\4" + window
    more = b"\0\0\4\x08\0\0\0\0\0" + window
    head = b"\x82\x86\x41\x01a\x44\x06/flood"  # GET, http, authority a, path /flood
    with connect(server) as connection:
        connection.sendall(PREFACE + settings + more + struct.pack(">I", len(head))[1:] + b"\1\5\0\0\0\1" + head)
        assert server.app.heard.wait(20)
    assert server.app.flooded < 512
    assert 'outcrop_slow_clients_cut_total{protocol="http/2"} 1\n' in server.metrics.text()


@EITHER_LOOP
def test_a_body_that_stops_half_way_resets_its_stream(serving: Callable[..., Any]) -> None:
    server = serving(limits=ServerSettings(request_timeout_s=0.05))
    with server.client() as client:
        stream = client.open("POST", "/watching", end=False)
        client.upload(stream, b"hal", end=False)
        assert client.wait(stream, lambda answer: answer.reset is not None).reset == CANCEL
        assert server.app.heard.wait(20)
        assert server.app.told == ["http.disconnect"]
        assert client.ask("POST", "/echo", b"still here").body == b"still here"


def test_a_whole_request_has_all_the_time_for_its_answer(serving: Callable[..., Any]) -> None:
    server = serving(limits=ServerSettings(request_timeout_s=0.05, slow_client_s=0.05))
    with server.client() as client:
        whole = client.open("GET", "/steps")
        half = client.open("POST", "/watching", end=False)
        assert client.wait(half).reset == CANCEL  # so much time has passed
        for _ in range(3):
            server.app.let()
        assert client.wait(whole).body == b"step 0step 1step 2"


def test_a_request_that_is_on_its_way_at_the_goodbye_is_answered(serving: Callable[..., Any]) -> None:
    server = serving()
    with server.client() as client:
        client.ask("GET", "/unread")
        server.stop()
        while b"\7\0\0\0\0\0" not in (seen := client.socket.recv(65_536, socket.MSG_PEEK)):  # the first GOAWAY
            assert seen
        assert client.ask("POST", "/echo", b"just in time").body == b"just in time"
        client.read_to_end()
        assert client.goaway is not None
        assert (client.goaway.error_code, client.goaway.last_stream_id) == (0, 3)
    server.ended()
