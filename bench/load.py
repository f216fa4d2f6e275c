"""The load: InvokeAgent calls over kept connections, every answer checked whole.

    Target -> Client.invoke -> Sample                 phase(...) -> Figures of many

An answer is right when its text is, to the last piece (which names the number of turns the
model was shown), and both checksums of every frame hold. Anything else is an error.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import secrets
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

import httptools
import orjson

from processes import percentile
from workloads import WORKLOADS, Workload

_SIGNED = (
    "authorization: AWS4-HMAC-SHA256 Credential=AKIDBENCH/20261120/us-east-1/bedrock/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}\r\nx-amz-date: 20261120T000000Z\r\n"
)
_LIMIT_S = 120.0
_MOST_ERRORS = 20
_SESSIONS = itertools.count(1)
_RUN = secrets.token_hex(4)


class WrongAnswer(Exception):
    """The answer is not what the workload says."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an agent is invoked. Shapes: path is up to the alias id."""

    port: int
    path: str = "/agents/BENCHAGENT/agentAliases/BENCHALIAS"
    trace: bool = False

    def request(self, session: str, workload: Workload, headers: str = "") -> bytes:
        """One InvokeAgent request. Shapes: headers are more lines, each with its end."""
        return self.invocation(session, {"inputText": workload.question, "endSession": False}, headers)

    def invocation(self, session: str, members: dict[str, Any], headers: str = "") -> bytes:
        """One InvokeAgent request with these members of its body."""
        asked = {**members, "enableTrace": self.trace, "streamingConfigurations": {"streamFinalResponse": True}}
        body = orjson.dumps(asked)
        head = (
            f"POST {self.path}/sessions/{session}/text HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n{_SIGNED}{headers}"
            "content-type: application/json\r\naccept: application/vnd.amazon.eventstream\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Shapes: text of all chunks joined; chunks and traces counted."""

    text: str
    chunks: int
    traces: int


def decode(body: bytes) -> Answer:
    """The frames of an answer.

    Errors: WrongAnswer when a checksum fails, a frame is cut off, or one is an exception.
    """
    texts: list[bytes] = []
    traces = 0
    for kind, payload in frames(body):
        if kind == "chunk":
            texts.append(base64.b64decode(orjson.loads(payload)["bytes"], validate=True))
        elif kind == "trace":
            traces += 1
        else:
            raise WrongAnswer(f"a frame {kind}: {payload[:300]!r}")
    return Answer(b"".join(texts).decode(), len(texts), traces)


def frames(body: bytes) -> Iterator[tuple[str, bytes]]:
    """What each frame is, and its payload.

    Errors: WrongAnswer when a checksum fails or a frame is cut off.
    """
    at = 0
    while at < len(body):
        kind, payload, size = _message(body, at)
        at += size
        yield kind, payload


def _message(body: bytes, at: int) -> tuple[str, bytes, int]:
    """One frame: what it is, its payload and its size."""
    size, length, checksum = struct.unpack_from(">III", body, at)
    end = at + size - 4
    if crc32(body[at : at + 8]) != checksum or end + 4 > len(body):
        raise WrongAnswer(f"the frame at {at} is broken")
    if crc32(body[at:end]) != struct.unpack_from(">I", body, end)[0]:
        raise WrongAnswer(f"the checksum of the frame at {at} is wrong")
    headers, where = {}, at + 12
    while where < at + 12 + length:
        name_end = where + 1 + body[where]
        (value_size,) = struct.unpack_from(">H", body, name_end + 1)
        headers[body[where + 1 : name_end]] = body[name_end + 3 : name_end + 3 + value_size].decode()
        where = name_end + 3 + value_size
    kind = headers.get(b":event-type") or headers.get(b":exception-type") or str(headers)
    return kind, body[at + 12 + length : end], size


class _Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[int] | None = None
        self._body: list[bytes] = []
        self.first_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError(f"the server closed the connection: {error}"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self.first_at = time.perf_counter()
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(self._parser.get_status_code())

    async def ask(self, request: bytes) -> tuple[int, list[bytes]]:
        assert self._transport is not None
        self._body = []
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done, self._body

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class Sample:
    """One right answer. Units: seconds."""

    wall_s: float
    first_s: float
    chunks: int
    traces: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer of any kind. Units: seconds."""

    status: int
    body: bytes
    wall_s: float
    first_s: float


class Client:
    """Invokes one target."""

    def __init__(self, target: Target) -> None:
        """Connect when first needed."""
        self.target = target
        self._idle: list[_Connection] = []

    async def invoke(self, session: str, workload: Workload, turn: int = 1, headers: str = "") -> Sample:
        """One turn.

        Errors: WrongAnswer; OSError; TimeoutError.
        """
        reply = await self.post(self.target.request(session, workload, headers))
        if reply.status != 200:
            raise WrongAnswer(f"HTTP {reply.status}: {reply.body[:300]!r}")
        answer = decode(reply.body)
        if answer.text != workload.answer(turn):
            raise WrongAnswer(f"the answer is {answer.text[-200:]!r} instead of {workload.answer(turn)[-80:]!r}")
        if self.target.trace != (answer.traces > 0):
            raise WrongAnswer(f"{answer.traces} traces came")
        return Sample(reply.wall_s, reply.first_s, answer.chunks, answer.traces)

    async def hang_up_after(self, request: bytes, seconds: float) -> None:
        """Ask, and be gone before the answer, or in the middle of it.

        Errors: OSError.
        """
        connection = await self._connection()
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                await connection.ask(request)
        connection.close()

    async def post(self, request: bytes) -> Reply:
        """What a request is answered with, whatever it is.

        Errors: OSError; TimeoutError.
        """
        connection = await self._connection()
        try:
            async with asyncio.timeout(_LIMIT_S):
                began = time.perf_counter()
                status, parts = await connection.ask(request)
                wall = time.perf_counter() - began
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return Reply(status, b"".join(parts), wall, connection.first_at - began)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", self.target.port)
        return connection

    def close(self) -> None:
        """Hang up."""
        for connection in self._idle:
            connection.close()


def new_session() -> str:
    """A session id that nobody used."""
    return f"bench-{_RUN}-{next(_SESSIONS):08d}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one phase came to.

    Units: processor and wall times in milliseconds per turn; server_cpu of the server's own process,
           tree_cpu with its children's.
    """

    turns: int
    errors: int
    first_error: str
    server_cpu_ms: float
    tree_cpu_ms: float
    wall_p50_ms: float
    wall_p99_ms: float
    first_p50_ms: float
    per_second: float
    chunks: float
    traces: float


@dataclass(frozen=True, slots=True)
class Job:
    """One turn to take: in which session, and the how-manieth of it."""

    session: str
    turn: int = 1


def fresh(count: int) -> list[Job]:
    """Turns in sessions of their own."""
    return [Job(new_session()) for _ in range(count)]


class Invoking(Protocol):
    """Whoever takes a turn: one client, or several in turn."""

    async def invoke(self, session: str, workload: Workload, turn: int = 1) -> Sample:
        """One turn.

        Errors: WrongAnswer; OSError; TimeoutError.
        """
        ...


class Clocks(Protocol):
    """The processor time of what is under test."""

    def server_cpu(self) -> float:
        """Seconds of the servers' own processes."""
        ...

    def cpu(self) -> float:
        """Seconds with their children's."""
        ...


async def phase(client: Invoking, tree: Clocks, workload: str, at_once: int, jobs: Iterable[Job]) -> Figures:
    """All jobs, at most `at_once` under way; a wrong answer is counted and the others go on."""
    samples: list[Sample] = []
    wrong: list[str] = []
    waiting = iter(list(jobs))

    async def work() -> None:
        for job in waiting:
            try:
                samples.append(await client.invoke(job.session, WORKLOADS[workload], job.turn))
            except (WrongAnswer, OSError, TimeoutError) as error:
                wrong.append(f"{type(error).__name__}: {error}")
                if len(wrong) > _MOST_ERRORS:
                    return

    server, whole, began = tree.server_cpu(), tree.cpu(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    took = time.perf_counter() - began
    server, whole = tree.server_cpu() - server, tree.cpu() - whole
    count = len(samples)
    walls, firsts = [sample.wall_s for sample in samples] or [0.0], [sample.first_s for sample in samples] or [0.0]
    each = max(1, count)
    return Figures(
        turns=count,
        errors=len(wrong),
        first_error=wrong[0] if wrong else "",
        server_cpu_ms=server / each * 1e3,
        tree_cpu_ms=whole / each * 1e3,
        wall_p50_ms=percentile(walls, 0.5) * 1e3,
        wall_p99_ms=percentile(walls, 0.99) * 1e3,
        first_p50_ms=percentile(firsts, 0.5) * 1e3,
        per_second=count / took,
        chunks=sum(sample.chunks for sample in samples) / each,
        traces=sum(sample.traces for sample in samples) / each,
    )


async def seed(client: Client, sessions: list[str], turns: int) -> None:
    """Fill sessions with earlier turns, the sessions side by side.

    Errors: WrongAnswer; OSError; TimeoutError.
    """

    async def fill(session: str) -> None:
        for turn in range(1, turns + 1):
            await client.invoke(session, WORKLOADS["chat"], turn)

    await asyncio.gather(*(fill(session) for session in sessions))
