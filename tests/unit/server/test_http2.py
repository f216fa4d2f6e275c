"""HTTP/2 with prior knowledge on the port that speaks HTTP/1.1: windows, resets, shutdown, nonsense."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from outcrop.config import ServerSettings
from outcrop.server.protocol import PREFACE

MEGABYTES_5 = bytes(range(256)) * 20_480
GOAWAY = bytes.fromhex("000008 07 00 00000000") + bytes(8)
"""What Node sends when a session is closed whose streams are still open."""
EITHER_LOOP = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8


def frame(kind: int, payload: bytes, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    try:
        while part := connection.recv(65_536):
            data += part
    except ConnectionResetError:
        pass
    return data


# Requests and answers ----------------------------------------------------------------------------


@EITHER_LOOP
def test_one_request_is_an_asgi_call(server: Any) -> None:
    with server.client() as client:
        answer = client.ask("GET", "/scope/a%20b/?x=%2F&y", None, ("x-own", "1"))

        seen = json.loads(answer.body)
        assert (answer.status, answer.headers["x-upper"], "connection" in answer.headers) == ("200", "yes", False)
        assert answer.headers["date"]
        assert (seen["type"], seen["http_version"], seen["method"], seen["scheme"]) == ("http", "2", "GET", "http")
        assert (seen["path"], seen["raw_path"], seen["query_string"]) == ("/scope/a b/", "/scope/a%20b/", "x=%2F&y")
        assert seen["headers"] == [["host", client.authority], ["x-own", "1"]]
        assert seen["client"] == list(client.socket.getsockname())


def test_a_head_request_gets_no_body(server: Any) -> None:
    with server.client() as client:
        answer = client.ask("HEAD", "/unread")
        assert (answer.status, answer.body, answer.ended) == ("200", b"", True)


@EITHER_LOOP
def test_a_streamed_answer_comes_as_it_is_made(server: Any) -> None:
    with server.client() as client:
        stream = client.open("GET", "/steps")
        for number in range(3):
            assert len(client.answers[stream].parts) == number
            server.app.let()
            client.wait(stream, lambda answer, so_far=number: len(answer.parts) > so_far)
        assert client.wait(stream).parts == [b"step 0", b"step 1", b"step 2"]


def test_two_streams_at_once(server: Any) -> None:
    with server.client() as client:
        slow = client.open("GET", "/steps")
        client.wait(slow, lambda answer: bool(answer.headers))

        assert client.ask("POST", "/echo", b"meanwhile").body == b"meanwhile"
        assert not client.answers[slow].parts

        for _ in range(3):
            server.app.let()
        assert client.wait(slow).body == b"step 0step 1step 2"


def test_as_many_streams_as_the_settings_allow(server: Any) -> None:
    with server.client() as client:
        client.ask("GET", "/unread")
        assert client.h2.remote_settings.max_concurrent_streams == 100
        streams = [client.open("POST", "/echo", end=False) for _ in range(100)]
        for stream in streams:
            client.upload(stream, b"%d" % stream)
        assert [client.wait(stream).body for stream in streams] == [b"%d" % stream for stream in streams]


def test_a_ping_is_answered(server: Any) -> None:
    with server.client() as client:
        client.h2.ping(b"12345678")
        client.flush()
        while not client.pongs:
            client.read()


# Windows -----------------------------------------------------------------------------------------


@EITHER_LOOP
def test_a_large_body_and_a_large_answer_through_a_small_window(server: Any) -> None:
    with server.client(window=16_000) as client:
        answer = client.ask("POST", "/echo", MEGABYTES_5)

        assert (answer.status, answer.ended) == ("200", True)
        assert answer.body == MEGABYTES_5
        assert int(answer.headers["x-parts"]) > 1
        assert max(len(part) for part in answer.parts) <= 16_000


@EITHER_LOOP
def test_an_answer_waits_for_its_window_and_others_do_not(server: Any) -> None:
    with server.client(window=0) as client:
        stuck = client.open("POST", "/echo", end=False)
        client.upload(stuck, b"0123456789")
        client.wait(stuck, lambda answer: bool(answer.headers))
        assert client.ask("HEAD", "/unread").status == "200"
        assert client.answers[stuck].parts == []

        client.h2.increment_flow_control_window(4, stuck)
        client.flush()
        assert client.wait(stuck, lambda answer: bool(answer.parts)).parts == [b"0123"]
        client.h2.update_settings({4: 100})  # SETTINGS_INITIAL_WINDOW_SIZE
        client.flush()
        assert client.wait(stuck).body == b"0123456789"


def test_a_body_that_nobody_reads_is_given_back_to_the_connection(server: Any) -> None:
    """More than the connection's window holds, on streams whose application answers without reading."""
    with server.client() as client:
        client.ask("GET", "/unread")
        for _ in range(10):
            stream = client.open("POST", "/unread", end=False)
            client.upload(stream, bytes(900_000), end=False)
            answer = client.wait(stream, lambda answer: answer.reset is not None)
            assert (answer.body, answer.reset) == (b"no, thank you", NO_ERROR)


# What goes wrong ---------------------------------------------------------------------------------


@EITHER_LOOP
def test_an_application_hears_of_a_reset_and_the_connection_lives_on(server: Any) -> None:
    with server.client() as client:
        stream = client.open("POST", "/watching", end=False)
        client.wait(stream, lambda answer: bool(answer.headers))
        client.h2.reset_stream(stream, CANCEL)
        client.flush()

        assert server.app.heard.wait(20)
        assert server.app.told == ["http.disconnect"]
        assert client.ask("POST", "/echo", b"still here").body == b"still here"


@EITHER_LOOP
def test_an_application_hears_of_a_lost_connection(server: Any) -> None:
    with server.client() as client:
        client.wait(client.open("GET", "/watching"), lambda answer: bool(answer.headers))
    assert server.app.heard.wait(20)
    assert server.app.told == ["http.disconnect"]


@pytest.mark.parametrize("how", ["reset", "close"])
def test_an_application_works_to_its_end_when_nobody_reads(server: Any, how: str) -> None:
    with server.client() as client:
        stream = client.open("GET", "/held")
        client.wait(stream, lambda answer: bool(answer.headers))
        if how == "reset":
            client.h2.reset_stream(stream, CANCEL)
            client.ask("GET", "/unread")
        else:
            client.socket.close()
        server.app.let()
        assert server.app.heard.wait(20)


def test_failures_stay_with_their_stream(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as client:
        failed, broken = client.ask("GET", "/fails"), client.ask("GET", "/breaks")

        assert (failed.status, failed.body) == ("500", b"Internal Server Error")
        assert (broken.status, broken.body, broken.reset) == ("200", b"so far", INTERNAL_ERROR)
        assert client.ask("POST", "/echo", b"still here").body == b"still here"
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["it fails", "it breaks"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0" + b"\xff" * 70_000,
        frame(4, b"") + frame(0, b"data for no stream", stream=1),
        frame(4, b"") + frame(1, b"\xff\xff\xff\xff", flags=5, stream=1),
        frame(4, b"\x00\x04\xff\xff\xff\xff"),
        frame(4, b"") + frame(8, bytes(4)),
        frame(4, b"") + frame(1, b"", flags=1, stream=1) + frame(0, b"in between headers", stream=1),
        frame(4, b"") + frame(6, b"short"),
        frame(4, b"") + frame(1, b"\x82", flags=5, stream=2),
    ],
    ids=["noise", "idle stream", "bad headers", "bad setting", "no increment", "broken headers", "ping", "even stream"],
)
def test_nonsense_closes_its_connection_quietly(server: Any, nonsense: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with connect(server.url) as connection, server.client() as other:
        connection.sendall(PREFACE + nonsense)
        assert read_all(connection)  # settings, then goodbye
        assert other.ask("POST", "/echo", b"unharmed").body == b"unharmed"
    assert not caplog.records


@EITHER_LOOP
def test_a_peer_that_reads_nothing_is_dropped(server: Any) -> None:
    with connect(server.url) as connection:
        connection.sendall(PREFACE + frame(4, b""))
        pings = frame(6, b"12345678") * 2_000_000
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(pings)


def test_requests_given_up_at_once_do_not_pile_up(serving: Callable[..., Any]) -> None:
    server = serving()
    with server.client() as client:
        client.ask("GET", "/unread")
        for _ in range(300):
            client.h2.reset_stream(client.open("GET", "/held"), CANCEL)
        client.flush()
        assert client.ask("GET", "/unread").reset == REFUSED_STREAM
        assert len(server.uvicorn.server_state.tasks) == 200


# Ends --------------------------------------------------------------------------------------------


def test_an_answer_goes_on_after_the_clients_goodbye(server: Any) -> None:
    """AWS's JavaScript SDK says it as soon as it has the head of an event stream."""
    with server.client() as client:
        stream = client.open("GET", "/steps")
        client.wait(stream, lambda answer: bool(answer.headers))
        client.socket.sendall(GOAWAY)
        for _ in range(3):
            server.app.let()
        assert client.wait(stream).body == b"step 0step 1step 2"
        client.read_to_end()


def test_a_goodbye_without_streams_ends_the_connection(server: Any) -> None:
    with server.client() as client:
        client.ask("GET", "/unread")
        client.socket.sendall(GOAWAY)
        client.read_to_end()


@EITHER_LOOP
def test_shutdown_lets_the_stream_end_and_takes_no_more(serving: Callable[..., Any]) -> None:
    server = serving()
    with server.client() as client, server.client() as idle, connect(server.url) as silent:
        stream = client.open("GET", "/steps")
        client.wait(stream, lambda answer: bool(answer.headers))
        idle.ask("GET", "/unread")

        server.stop()
        idle.read_to_end()
        assert idle.goaway is not None
        assert read_all(silent) == b""
        while client.goaway is None or client.goaway.last_stream_id != stream:
            client.read()
        assert client.goaway.error_code == NO_ERROR
        assert client.wait(client.open("GET", "/unread")).reset == REFUSED_STREAM

        for _ in range(3):
            server.app.let()
        assert client.wait(stream).body == b"step 0step 1step 2"
        client.read_to_end()
    server.ended()


@pytest.mark.parametrize("said", [PREFACE, PREFACE[:10]], ids=["preface", "half of it"])
def test_idle_connections_are_closed(serving: Callable[..., Any], said: bytes) -> None:
    server = serving(limits=ServerSettings(keep_alive_s=0.05, request_timeout_s=0.05))
    with connect(server.url) as connection:
        connection.sendall(said)
        read_all(connection)


def test_a_busy_server_says_so(serving: Callable[..., Any]) -> None:
    server = serving(limit_concurrency=2)
    with server.client() as first:
        assert first.ask("GET", "/unread").status == "200"
        with server.client() as second:
            assert second.ask("GET", "/unread").status == "503"
            assert server.uvicorn.server_state.total_requests == 2


# HTTP/1.1 beside it ------------------------------------------------------------------------------


def test_http_1_is_unchanged(server: Any) -> None:
    address = urlsplit(server.url)
    with server.client() as newer:
        older = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
        for _ in range(2):
            older.request("POST", "/echo", b"PRI * HTTP/2.0")
            assert older.getresponse().read() == b"PRI * HTTP/2.0"
            assert newer.ask("POST", "/echo", b"newer").body == b"newer"
        older.request("GET", "/scope/a%20b/?x=%2F&y")
        seen = json.loads(older.getresponse().read())
        assert (seen["http_version"], seen["raw_path"]) == ("1.1", "/scope/a%20b/")
        older.close()
    with connect(server.url) as silent:
        silent.shutdown(socket.SHUT_WR)
        assert read_all(silent) == b""


@EITHER_LOOP
@pytest.mark.parametrize("size", [1, 2, 7, 23, 24, 25])
def test_the_first_bytes_may_come_in_pieces(server: Any, size: int) -> None:
    slow = b"PUT /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with ExitStack() as open_connections:
        older, newer = (open_connections.enter_context(connect(server.url)) for _ in range(2))
        newer_says = PREFACE + frame(4, b"") + frame(6, b"12345678") + GOAWAY
        for connection, words in ((older, slow), (newer, newer_says)):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for start in range(0, len(words), size):
                connection.sendall(words[start : start + size])
        assert read_all(older).endswith(b"\r\n\r\nok")
        assert frame(6, b"12345678", flags=1) in read_all(newer)


def test_what_is_neither_is_refused_as_before(server: Any) -> None:
    with connect(server.url) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
