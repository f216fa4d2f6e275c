"""HTTP/1.1 against peers that are slow, endless or gone: every request has its time, every connection its end."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from outcrop.config import ServerSettings
from outcrop.server.http1 import MOST_DRAINED, MOST_HEAD

EITHER_LOOP = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
SOON = ServerSettings(request_timeout_s=0.05)
POST = b"POST /%s HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n"
GET = b"GET /unread HTTP/1.1\r\nhost: here\r\n\r\n"


def connect(server: Any) -> socket.socket:
    address = urlsplit(server.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    data = b""
    try:
        while part := connection.recv(65_536):
            data += part
    except ConnectionResetError:
        pass
    return data


def read_until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = connection.recv(65_536)
        assert part, f"closed after {data!r}"
        data += part
    return data


def pour(connection: socket.socket, piece: bytes, most: int) -> int:
    """Send the same again and again until the server has had enough: how much that was."""
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < most:
            connection.sendall(piece)
            sent += len(piece)
    return sent


# Requests that do not come ------------------------------------------------------------------------


@EITHER_LOOP
@pytest.mark.parametrize("half", [b"G", b"POST /echo HT", POST[:-4] % (b"echo", 5), POST % (b"echo", 5) + b"hal"])
def test_a_request_that_stops_half_way_is_answered_408(serving: Callable[..., Any], half: bytes) -> None:
    server = serving(limits=SOON)
    with connect(server) as connection:
        connection.sendall(half)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nconnection: close\r\n" in answer


def test_an_application_that_waits_for_the_body_hears_that_it_will_not_come(serving: Callable[..., Any]) -> None:
    server = serving(limits=SOON)
    with connect(server) as connection:
        connection.sendall(POST % (b"watching_first", 5) + b"hal")
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
    assert server.app.heard.wait(20)
    assert server.app.told == ["http.request", "http.disconnect"]


def test_a_request_that_trickles_in_has_no_longer_than_one_that_stops(serving: Callable[..., Any]) -> None:
    server = serving(limits=SOON)
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        while not select.select([connection], [], [], 0.01)[0]:
            connection.sendall(b"x: and more\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("said", [b"", b"\r\n\r\n"])
def test_a_connection_on_which_nothing_is_asked_is_closed(serving: Callable[..., Any], said: bytes) -> None:
    server = serving(limits=ServerSettings(keep_alive_s=0.05))
    with connect(server) as connection:
        connection.sendall(said)
        assert read_all(connection) == b""


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"x" * 1_000),
        (b"GET / HTTP/1.1\r\n", b"x-more: and more\r\n" * 100),
        (
            POST.replace(b"content-length: %d", b"transfer-encoding: chunked") % b"echo" + b"1\r\nx\r\n0\r\n",
            b"x: y\r\n",
        ),
    ],
    ids=["path", "headers", "trailers"],
)
def test_a_head_without_end_is_refused(serving: Callable[..., Any], start: bytes, more: bytes) -> None:
    server = serving()
    with connect(server) as connection:
        connection.sendall(start)
        assert pour(connection, more, 50 * MOST_HEAD) < 50 * MOST_HEAD


def test_the_refusal_of_a_long_head_says_so(serving: Callable[..., Any]) -> None:
    server = serving()
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * (MOST_HEAD - 18))
        connection.sendall(b"y")
        assert read_all(connection).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


def test_a_slow_answer_is_no_slow_request(serving: Callable[..., Any]) -> None:
    """The time is the request's alone, also that of a half request behind one whose answer goes on."""
    server = serving(limits=SOON)
    with connect(server) as connection, connect(server) as half:
        connection.sendall(b"GET /steps HTTP/1.1\r\nhost: here\r\n\r\nGET /unread HTT")
        half.sendall(b"GET /unread HTT")
        assert read_all(half).startswith(b"HTTP/1.1 408 ")  # so much time has passed
        for _ in range(3):
            server.app.let()
        assert b"step 2" in read_until(connection, b"0\r\n\r\n")


# Answers before the body --------------------------------------------------------------------------


@EITHER_LOOP
def test_a_body_that_nobody_wants_is_read_so_that_the_answer_is(serving: Callable[..., Any]) -> None:
    server = serving()
    body = bytes(3_000_000)
    with connect(server) as connection:
        connection.sendall(POST % (b"quick", len(body)) + body)
        read_until(connection, b"\r\n\r\nno")
        connection.sendall(POST % (b"echo", 5) + b"hello")
        read_until(connection, b"\r\n\r\nhello")


def test_a_body_that_nobody_wants_must_come_in_time_too(serving: Callable[..., Any]) -> None:
    server = serving(limits=SOON)
    with connect(server) as connection:
        connection.sendall(POST % (b"quick", 1_000_000) + b"some of it")
        assert read_all(connection).endswith(b"\r\n\r\nno")


def test_a_body_that_nobody_wants_has_an_end(serving: Callable[..., Any]) -> None:
    server = serving()
    with connect(server) as connection:
        connection.sendall(POST % (b"quick", 2 * MOST_DRAINED))
        read_until(connection, b"\r\n\r\nno")
        assert pour(connection, bytes(1_048_576), 2 * MOST_DRAINED) < 2 * MOST_DRAINED


@EITHER_LOOP
def test_a_last_answer_waits_for_the_body_that_nobody_wants(serving: Callable[..., Any]) -> None:
    server = serving()
    body = bytes(3_000_000)
    head = (POST % (b"quick", len(body))).replace(b"host: here", b"host: here\r\nconnection: close")
    with connect(server) as connection:
        connection.sendall(head)
        assert read_until(connection, b"\r\n\r\nno").startswith(b"HTTP/1.1 200 ")
        connection.sendall(body)
        assert connection.recv(1) == b""


def test_a_client_that_was_not_told_to_go_on_gets_its_answer_and_the_end(serving: Callable[..., Any]) -> None:
    server = serving()
    head = (POST % (b"quick", 5)).replace(b"host: here", b"host: here\r\nexpect: 100-continue")
    with connect(server) as connection:
        connection.sendall(head)
        answer = read_all(connection)
    assert (answer.startswith(b"HTTP/1.1 200 "), answer.endswith(b"\r\n\r\nno")) == (True, True)


# Kept connections ---------------------------------------------------------------------------------


@EITHER_LOOP
def test_a_kept_connection_says_for_how_long_and_is_closed_then(serving: Callable[..., Any]) -> None:
    server = serving(limits=ServerSettings(keep_alive_s=1))
    with connect(server) as connection:
        connection.sendall(GET)
        answer = read_all(connection)
    assert b"\r\nkeep-alive: timeout=1\r\n" in answer
    assert answer.endswith(b"0\r\n\r\n")


def test_more_requests_than_anybody_pipelines_end_the_connection(serving: Callable[..., Any]) -> None:
    server = serving()
    with connect(server) as connection:
        connection.sendall(b"GET /steps HTTP/1.1\r\n\r\n" + GET * 5)
        for _ in range(3):
            server.app.let()
        assert read_until(connection, b"no, thank you\r\n0\r\n\r\n").count(b"HTTP/1.1 200 ") >= 1
    with connect(server) as connection:
        connection.sendall(b"GET /steps HTTP/1.1\r\n\r\n" + GET * 500)
        assert b"step 2" not in read_all(connection)


# Ends ---------------------------------------------------------------------------------------------


@EITHER_LOOP
def test_a_request_that_is_coming_when_the_server_stops_is_answered(serving: Callable[..., Any]) -> None:
    server = serving()
    with connect(server) as half, connect(server) as idle:
        half.sendall(POST[:20] % b"echo")
        idle.sendall(GET)
        read_until(idle, b"0\r\n\r\n")

        server.stop()
        assert read_all(idle) == b""
        half.sendall((POST % (b"echo", 5))[20 - 2 + 4 :] + b"hello")
        answer = read_all(half)
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhello")
    server.ended()


def test_while_it_drains_a_server_answers_and_sends_away(serving: Callable[..., Any]) -> None:
    server = serving()
    with connect(server) as kept:
        kept.sendall(GET)
        read_until(kept, b"0\r\n\r\n")
        server.gate.drain()
        kept.sendall(GET)
        answer = read_all(kept)
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"no, thank you\r\n0\r\n\r\n")
