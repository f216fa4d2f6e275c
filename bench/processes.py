"""Processes under test: started on a processor of their own, timed until they answer, read and stopped.

Everything is read from the kernel: the processor clock of each process (nanoseconds, ended
threads included) and its resident pages. Linux only.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else [0]
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[1 % len(_CORES)]
"""The server under test runs on one processor, the load and the model on another, where there are two."""
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 15.0


class BenchmarkFailed(Exception):
    """The benchmark cannot go on; the message says why."""


def require_linux() -> None:
    """Nothing, where the benchmark can run.

    Errors: BenchmarkFailed.
    """
    if sys.platform != "linux":
        raise BenchmarkFailed("the benchmark reads processor clocks and memory from Linux; run it there")


def percentile(values: Sequence[float], part: float) -> float:
    """The value that this part of all values does not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside runs on this processor only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Tree:
    """A process and all its children."""

    def __init__(self, pid: int) -> None:
        """Name the process; children are looked up anew each time."""
        self.pid = pid

    def server_cpu(self) -> float:
        """Seconds of processor time of the process itself."""
        return _cpu(self.pid)

    def cpu(self) -> float:
        """Seconds of processor time of the process and of the children it has now."""
        return sum(_cpu(pid) for pid in self.pids())

    def rss(self) -> tuple[int, int]:
        """Resident bytes: of the process itself, and of the whole tree."""
        sizes = [_resident(pid) for pid in self.pids()]
        return sizes[0], sum(sizes)

    def files(self) -> int:
        """Open file descriptors of the process itself."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        """Threads of the process itself."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def pids(self) -> list[int]:
        """The process, then all its children and theirs."""
        parents: dict[int, int] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    stat = Path(f"/proc/{entry}/stat").read_text(encoding="latin-1")
                    parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
        found = [self.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found


def _cpu(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the kernel's name for "the processor clock of process pid"
    except OSError:
        return 0.0


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class Started:
    """How long a server took. Units: seconds after its process was made."""

    announced_s: float
    healthy_s: float


class Server:
    """One process with an address, from its start to its stop."""

    def __init__(self, command: Sequence[str], port: int, log: Path, core: int, word: str = "listening on") -> None:
        """Start it and wait until it says that it listens and answers /healthz.

        Errors: BenchmarkFailed with what it said, when it ends or does not come up.
        """
        self.port = port
        self._log = log
        with log.open("wb") as output, on_core(core):
            began = time.perf_counter()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.tree = Tree(self._process.pid)
        try:
            self.started = self._wait(began, word)
        except BaseException:
            self.stop()
            raise
        self.rest_bytes = self.tree.rss()[0]

    def _wait(self, began: float, word: str) -> Started:
        announced = healthy = None
        while announced is None or healthy is None:
            now = time.perf_counter() - began
            if announced is None and word in self.said():
                announced = now
            if healthy is None and _answers(self.port):
                healthy = now
            if self._process.poll() is not None or now > _START_LIMIT_S:
                raise BenchmarkFailed(f"{' '.join(self._process.args)} did not come up: {self.said()[-2000:]}")
            time.sleep(0.001)
        return Started(announced, healthy)

    def said(self) -> str:
        """All it wrote so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End it, politely first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_LIMIT_S)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to do anything more."""
        self._process.kill()
        self._process.wait(_STOP_LIMIT_S)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
