"""`outcrop serve` under a profiler; `profiling.py` starts it and says when to look.

    SIGUSR1 begins, SIGUSR2 ends and writes FILE.      profiled_server.py sample|calls FILE serve ...

`sample` notes where the event loop's thread stands after each millisecond of its own processor
time, and how much each thread used: times are true, nothing is slowed down. `calls` runs
cProfile on every thread by its own processor clock: counts are true, times are inflated.
"""

from __future__ import annotations

import contextlib
import cProfile
import ctypes
import json
import pstats
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from outcrop.cli.main import main

_EVERY_NS = 1_000_000
_THREAD_CLOCK = 3
"""CLOCK_THREAD_CPUTIME_ID: what the calling thread has used."""

Place = tuple[str, str, int]
"""File, function, line."""


class _Event(ctypes.Structure):
    """The kernel's sigevent: which signal a timer sends."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Times(ctypes.Structure):
    """The kernel's itimerspec: the interval and the first time, each in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns"))


class Sampler:
    """Stacks of the event loop's thread, by the processor time spent in them."""

    def __init__(self, out: Path) -> None:
        """Take the file to write; nothing happens yet."""
        self._out = out
        self._seen: Counter[tuple[Place, ...]] = Counter()
        self._used: dict[str, float] = {}
        self._timer = ctypes.c_void_p()
        signal.signal(signal.SIGPROF, self._look)

    def begin(self) -> None:
        """Look until `end`."""
        self._used = _threads()
        asked = _Event(signal=signal.SIGPROF)
        system = ctypes.CDLL(None, use_errno=True)
        if system.timer_create(_THREAD_CLOCK, ctypes.byref(asked), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "no timer")
        self._set(_EVERY_NS)

    def end(self) -> None:
        """Stop looking; write the file."""
        self._set(0)
        used = {name: total - self._used.get(name, 0.0) for name, total in _threads().items()}
        _write(self._out, json.dumps({"threads": used, "seen": list(self._seen.items())}))

    def _set(self, every_ns: int) -> None:
        times = _Times(every_ns=every_ns, first_ns=every_ns)
        ctypes.CDLL(None).timer_settime(self._timer, 0, ctypes.byref(times), None)

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        places: list[Place] = []
        while frame is not None:
            places.append((frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))
            frame = frame.f_back
        self._seen[tuple(places)] += 1


def _threads() -> dict[str, float]:
    """Seconds of processor time by thread."""
    found: dict[str, float] = {}
    for thread in threading.enumerate():
        with contextlib.suppress(OSError, TypeError):  # one that is just ending, or not started
            clock = (~thread.native_id << 3) | 6  # the kernel's name for "the processor clock of a thread"
            found[thread.name] = time.clock_gettime(clock)
    return found


class Calls:
    """cProfile of every thread: the event loop's between the signals, the others' for their whole lives."""

    def __init__(self, out: Path) -> None:
        """Take the file to write, and wait for threads to start."""
        self._out = out
        self._mine = cProfile.Profile(time.thread_time)
        self._others: list[cProfile.Profile] = []
        threading.setprofile(self._join)

    def _join(self, *_: Any) -> None:
        """A thread's first call: from here on its own profile replaces this function."""
        profile = cProfile.Profile(time.thread_time)
        with contextlib.suppress(ValueError):  # from Python 3.12 on there is one profile in a process
            profile.enable()
            self._others.append(profile)

    def begin(self) -> None:
        """Count from here."""
        self._mine.enable()

    def end(self) -> None:
        """Count no more; write the files: FILE, and FILE.threads of all other threads together."""
        self._mine.disable()
        if self._others:
            pstats.Stats(*map(_Finished, self._others)).dump_stats(f"{self._out}.threads")
        part = self._out.with_suffix(".part")
        self._mine.dump_stats(part)
        part.replace(self._out)


class _Finished:
    """The calls of a running profile that have returned, in the form that pstats reads."""

    def __init__(self, profile: cProfile.Profile) -> None:
        self._profile = profile
        self.stats: dict[Any, Any] = {}

    def create_stats(self) -> None:
        """Copy, and leave the profile running: its thread's open calls cannot be ended from here."""
        self._profile.snapshot_stats()
        self.stats = vars(self._profile)["stats"]


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    profiler = {"sample": Sampler, "calls": Calls}[sys.argv[1]](Path(sys.argv[2]))
    signal.signal(signal.SIGUSR1, lambda *_: profiler.begin())
    signal.signal(signal.SIGUSR2, lambda *_: profiler.end())
    sys.exit(main(sys.argv[3:]))
