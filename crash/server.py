"""`outcrop serve` with one thing added: it kills itself with SIGKILL at a chosen write of its turns' journal.

    CRASH_PLAN     a file that arms it: "4 before" or "4 after", counted from the first write that finds the file;
                   "4 during" lets it stand still (SIGSTOP) with that write's transaction open
    CRASH_WRITES   a file that gets a line per write: its number, its name

The product knows nothing of this: the program wraps the database's `write`. Before the commit means that the
statements have run and nothing is kept; after it, that all is kept and nobody was told. It also ends when its standard
input does, so that it never outlives whoever started it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from outcrop import engine
from outcrop.cli.main import main
from outcrop.sessions.durable import Durable
from outcrop.storage.opening import open_database

T = TypeVar("T")
COUNTED = {
    "Journal.begin": "begin",
    "Journal.queue": "queue",
    "Journal.resume": "resume",
    "Journal._take": "take over",
    "Pages.advance": "advance",
    "Pages._rest": "suspend",
    "Pages.end": "end",
    "Pages.release": "release",
    "Sessions.heard": "heard",
}
"""Which functions write for turns, and what their writes are called in reports. Beats and resources do not count."""

_ASKED: ContextVar[str] = ContextVar("_ASKED", default="")
"""The function whose write goes through `Durable` at the moment."""


class Plan:
    """When to die, as a file says."""

    def __init__(self, file: str, writes: str) -> None:
        """Look at these files; "" for none."""
        self._file = Path(file) if file else None
        self._writes = writes
        self._armed: tuple[int, str] | None = None
        self._number = 0

    def next(self, name: str) -> str:
        """Count one write: "before" or "after" where this is the one to die at, else ""."""
        if self._armed is None and self._file is not None and self._file.exists():
            number, moment = self._file.read_text(encoding="ascii").split()
            self._armed, self._number = (int(number), moment), 0
        self._number += 1
        moment = ""
        if self._file is not None and self._armed is not None and self._armed[0] == self._number:
            moment, self._armed = self._armed[1], None
            self._file.unlink(missing_ok=True)
        if self._writes:
            line = f"{self._number} {name.replace(' ', '_')} {moment}\n".encode()
            log = os.open(self._writes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(log, line)
            os.close(log)
        return moment


def die() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def counted(write: Callable[[Any], Awaitable[Any]], plan: Plan) -> Callable[[Any], Awaitable[Any]]:
    """The database's `write`, which dies where the plan says so."""

    async def counting(work: Callable[[Connection], Any]) -> Any:
        name = COUNTED.get(_ASKED.get() or _owner(work), "")
        moment = plan.next(name) if name else ""
        if moment in ("before", "during"):

            def dying(connection: Connection) -> Any:
                value = work(connection)
                os.kill(os.getpid(), signal.SIGKILL if moment == "before" else signal.SIGSTOP)
                return value

            return await write(dying)
        value = await write(work)
        if moment == "after":
            die()
        return value

    return counting


def _owner(work: Callable[..., Any]) -> str:
    """The function that a work was made in."""
    return work.__qualname__.partition(".<locals>")[0]


def _name_writes() -> None:
    """Let `Durable` say whose write it makes, for the database sees only its wrapping."""
    plain = Durable.write

    async def write(self: Durable, work: Callable[[Connection, bool], T]) -> T:
        token = _ASKED.set(_owner(work))
        try:
            return await plain(self, work)
        finally:
            _ASKED.reset(token)

    Durable.write = write


def _end_with_standard_input() -> None:
    def wait() -> None:
        while os.read(0, 1024):
            pass
        die()

    threading.Thread(target=wait, daemon=True).start()


def serve() -> int:
    """Run `outcrop` with this process's arguments."""
    plan = Plan(os.environ.pop("CRASH_PLAN", ""), os.environ.pop("CRASH_WRITES", ""))
    _end_with_standard_input()
    _name_writes()

    def opened(*settings: Any) -> Any:
        database: Any = open_database(*settings)
        database.write = counted(database.write, plan)
        return database

    engine.open_database = opened
    return main()


if __name__ == "__main__":
    sys.exit(serve())
