"""Programs that are started, killed and started again; none outlives this one, for their input ends with it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
START_S = 60.0
_WORD = "listening on "


class SweepFailed(Exception):
    """The sweep cannot go on; the message says why."""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """One program of this folder, which says where it listens once it does."""

    def __init__(self, name: str, log: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        """Describe it; `start` starts it."""
        self.log = log
        self._command = [sys.executable, str(HERE / name), *arguments]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process, the last one where it has ended."""
        assert self._process is not None, "a program that was started"
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def stands_still(self) -> bool:
        """Whether it was stopped by a signal and waits for another one."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def start(self) -> str:
        """Start it; where it listens.

        Errors: SweepFailed with what it said last.
        """
        self.launch()
        return self.listens()

    def launch(self) -> None:
        """Start it, and do not wait for it."""
        self._leave()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def listens(self) -> str:
        """Where it listens, once it does.

        Errors: SweepFailed with what it said last.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline().decode() if ready else ""
        if _WORD not in line:
            raise SweepFailed(f"{' '.join(self._command)} did not come up: {line!r} {self.said()[-2000:]}")
        return line.partition(_WORD)[2].strip()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.is_alive:
            self.signal(signal.SIGKILL)
            self.wait(START_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it alone, where it runs."""
        if self.is_alive:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Whether it ends by itself within that time."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._leave()

    def said(self) -> str:
        """What it wrote to its log."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def _leave(self) -> None:
        if self._process is None:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def until(condition: object, seconds: float, what: str) -> None:
    """Wait for something that a process brings about.

    Shapes: condition is a function without parameters.
    Errors: SweepFailed naming what did not happen.
    """
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SweepFailed(f"after {seconds:g} s: {what}")
        time.sleep(0.01)
