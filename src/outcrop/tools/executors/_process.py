"""One worker process of a local function: started, asked, killed.

    start --> [idle] --ask--> [busy] --answer--> [idle]
                 |              |
                 '-- kill / death / hang-up --> gone, never used again

`local_function` keeps a pool of these. Frames travel over a socket pair of their own, so
whatever a handler prints goes to the log and cannot be mistaken for an answer. A process
that broke off in the middle of a call is killed with everything it started: it can never
answer a later call with an earlier result.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

PROGRAM = Path(__file__).with_name("_worker.py")
_HEADER = 4
_ERROR_ROOM_BYTES = 1_000_000
"""An error's frame may be longer than the largest result: it carries a stack trace."""
_TAIL_BYTES = 4_000
_LAST_WORDS_S = 0.5
_LOG = logging.getLogger("outcrop.tools.executors.local_function")


class WorkerGone(Exception):
    """The process ended, or broke the protocol, before it answered."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a process of one function."""

    folder: Path
    handler: str
    environment: Mapping[str, str]
    max_bytes: int
    label: str
    python: str


Frame = tuple[bytes, bytes]
"""A frame's kind and payload."""


class _Channel(asyncio.Protocol):
    """Our end of the socket pair: one question at a time, one frame back."""

    __slots__ = ("_buffer", "_limit", "_transport", "_waiting", "lost")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's do not derive from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < _HEADER:
            return
        end = _HEADER + int.from_bytes(self._buffer[:_HEADER], "big")
        if self._waiting.done() or not _HEADER < end <= self._limit or len(self._buffer) > end:
            self.close()  # nobody asked, or no frame of ours
        elif len(self._buffer) == end:
            frame = bytes(self._buffer)
            self._buffer.clear()
            self._waiting.set_result((frame[_HEADER : _HEADER + 1], frame[_HEADER + 1 :]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self._waiting.done():
            self._waiting.set_result(None)

    async def answer(self) -> Frame:
        """The frame that is awaited."""
        frame = await self._waiting
        if frame is None:
            raise WorkerGone
        return frame

    async def ask(self, question: bytes) -> Frame:
        """The frame that answers one question."""
        if self.lost or self._transport is None:
            raise WorkerGone
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(len(question).to_bytes(_HEADER, "big") + question)
        return await self.answer()

    def close(self) -> None:
        """Hang up."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()


class _Output(asyncio.Protocol):
    """What the process prints: whole lines to the log, the last of it kept for a crash's detail."""

    __slots__ = ("_label", "_line", "ended", "tail", "transport")

    def __init__(self, label: str) -> None:
        self._label = label
        self._line = b""
        self.tail = b""
        self.ended = asyncio.Event()
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._write(line)
        if len(self._line) > _TAIL_BYTES:
            self._write(self._line)
            self._line = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._line:
            self._write(self._line)
        self.ended.set()

    def _write(self, line: bytes) -> None:
        _LOG.info("%s: %s", self._label, line.decode(errors="replace").rstrip())


class Worker:
    """A running process."""

    __slots__ = ("_channel", "_output", "_process")

    def __init__(self, process: asyncio.subprocess.Process, channel: _Channel, output: _Output) -> None:
        """Keep the process and both of its channels; `start` makes them."""
        self._process = process
        self._channel = channel
        self._output = output

    @property
    def pid(self) -> int:
        """The process's id, which is also its group's."""
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it can take a call."""
        return not self._channel.lost

    async def loaded(self) -> Frame:
        """The first frame: kind S when the handler is loaded, F and the error when it cannot be.

        Errors: WorkerGone.
        """
        return await self._channel.answer()

    async def ask(self, question: bytes) -> Frame:
        """The answer to one call: kind R and the result's JSON, or E and the error's.

        Errors: WorkerGone.
        """
        return await self._channel.ask(question)

    def kill(self) -> None:
        """End the process and everything it started; returns at once, `gone` waits."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def gone(self) -> str:
        """How the process ended, in the words of Lambda's runtime, once it has."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._output.ended.wait()
        if self._output.transport is not None:
            self._output.transport.close()  # a process that left the group may still hold the other end
        if code < 0:
            return f"signal: {signal.strsignal(-code) or -code}".lower()
        return f"exit status {code}"

    @property
    def last_words(self) -> str:
        """The end of what it printed."""
        return self._output.tail.decode(errors="replace")


async def start(launch: Launch) -> Worker:
    """A new process, importing its handler; `Worker.loaded` says when it can take calls.

    Errors: OSError when it cannot be started. A cancelled start leaves no process behind.
    """
    task = asyncio.ensure_future(_start(launch))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_discard)
        raise


def _discard(started: asyncio.Future[Worker]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result().kill()


async def _start(launch: Launch) -> Worker:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    readable, writable = os.pipe()
    channel = _Channel(launch.max_bytes + _ERROR_ROOM_BYTES)
    output = _Output(launch.label)
    options = {
        "fd": theirs.fileno(),
        "folder": str(launch.folder),
        "handler": launch.handler,
        "max_bytes": launch.max_bytes,
    }
    with contextlib.ExitStack() as failed:
        failed.callback(ours.close)
        reading = failed.enter_context(os.fdopen(readable, "rb", 0))
        with theirs, os.fdopen(writable, "wb", 0) as writing:
            process = await asyncio.create_subprocess_exec(
                launch.python,
                "-P",  # the program's own folder stays off sys.path
                str(PROGRAM),
                json.dumps(options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd=launch.folder,
                env=dict(launch.environment),
            )
        ours.setblocking(False)
        await loop.create_unix_connection(lambda: channel, sock=ours)
        await loop.connect_read_pipe(lambda: output, reading)
        failed.pop_all()
    return Worker(process, channel, output)
