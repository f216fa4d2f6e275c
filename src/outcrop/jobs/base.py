"""What a room may ask of jobs, and what a job may assume.

    submit -> queued -> running -> done
                 ^         |-----> dead        after its last attempt, or GiveUp; `redrive` queues it again
                 `- wait --'                   a failed attempt waits in the database, and holds no place
    cancel: queued, running -> cancelled

A job is known by its kind and key, and is kept once. It runs at least once: when its process dies, some worker runs
it again from the start, so a handler goes on from what it finds in the journal. It never runs twice at the same time
on workers that live and can reach the database.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from outcrop.errors import RoomError

State = Literal["queued", "running", "done", "dead", "cancelled"]

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_LONGEST_KEY = 512


class JobMistake(RoomError):
    """A job, a kind or a sweep that cannot be: the message names it."""


class JobsUnavailable(RoomError):
    """The jobs database cannot be reached; a job may or may not have been kept, and submitting it again is safe."""


class JobsForbidden(RoomError):
    """The user of the jobs database may not do there what jobs need."""


class JobsInUse(RoomError):
    """Another engine of this process runs jobs already; there is one at a time per process."""


class Again(Exception):
    """Raised by a handler whose job is to be tried again; counts as a failed attempt."""

    def __init__(self, message: str = "", *, after_s: float | None = None) -> None:
        """Keep the wait in seconds; none takes the kind's own."""
        self.after_s = after_s
        super().__init__(message)


class GiveUp(Exception):
    """Raised by a handler whose job is not to be tried again: it is dead, whatever attempts it has left."""


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a job, as its handler gets it."""

    kind: str
    key: str
    body: dict[str, Any]
    tenant: str = ""
    attempt: int = 1


Handler = Callable[[Job], Awaitable[None]]
"""Runs on the engine's event loop. Returning is done; any exception is a failed attempt."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs of one sort: who handles them, how many at once, how often they are tried.

    Units: at_once per process, at_once_everywhere and per_tenant over all processes; waits in seconds. A failed
           attempt n waits first_wait_s * backoff ** (n - 1), at most most_wait_s, less up to half of it by chance.
    """

    name: str
    handler: Handler
    at_once: int = 10
    at_once_everywhere: int | None = None
    per_tenant: int | None = None
    attempts: int = 5
    first_wait_s: float = 1.0
    backoff: float = 2.0
    most_wait_s: float = 300.0
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def wait_s(self, failed: int) -> float:
        """How long the job waits after its failed attempt of that number, in seconds."""
        # The exponent is bounded, because a float is not.
        longest = min(self.most_wait_s, self.first_wait_s * self.backoff ** min(failed - 1, 64))
        return longest * (1 - self.chance() / 2)


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What has become of a job.

    Shapes: error_class and error_message are the last failed attempt's, "" where there is none; never a stack trace.
    Units: times in seconds since the epoch; attempts counts those that failed and the one that is running or ran last;
           next_at is when a job that waits is tried again, None for any other.
    """

    kind: str
    key: str
    tenant: str
    state: State
    attempts: int
    error_class: str
    error_message: str
    submitted_at: float
    changed_at: float
    next_at: float | None = None
    body: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a list of jobs goes on: after this one.

    Units: submitted_at in seconds since the epoch, as its status has it.
    """

    submitted_at: float
    key: str


class Jobs(Protocol):
    """Calls that some worker will surely make."""

    def handle(self, kind: Kind) -> None:
        """Register who handles a kind; before `start`, and the same in every process.

        Errors: JobMistake for a name or a limit that cannot be, or a name that is taken.
        """
        ...

    def every(self, name: str, seconds: float, handler: Callable[[], Awaitable[None]]) -> None:
        """Register a sweep, run about every so often on some one process; before `start`.

        One that takes longer than its period may meet the next one on another process. One that raises is logged.

        Errors: JobMistake for a name or a period that cannot be, or a name that is taken.
        """
        ...

    async def start(self, *, eager: bool = False) -> None:
        """Begin. What is unfinished goes on; eager also takes jobs when there are none yet.

        Errors: JobsUnavailable; JobsForbidden; JobsInUse.
        """
        ...

    async def close(self, grace_s: float) -> None:
        """Take no more jobs, let running ones end within grace_s; the others go on elsewhere or at the next start."""
        ...

    async def submit(
        self, kind: str, key: str, body: dict[str, Any], *, tenant: str = "", delay_s: float = 0.0
    ) -> None:
        """Have a job done. Nothing happens where its kind and key are known already, whatever became of it.

        It is kept when this returns. A delayed job starts up to about a second late.

        Errors: JobMistake for an unknown kind, a key or a body that cannot be kept; JobsUnavailable; JobsInUse.
        """
        ...

    async def cancel(self, kind: str, key: str) -> bool:
        """Whether there was a queued or running job to cancel; a handler under way is cancelled, within a second if it
        runs elsewhere.

        Errors: JobsUnavailable.
        """
        ...

    async def find(self, kind: str, key: str) -> JobStatus | None:
        """What has become of a job; None where there never was one, or its time to be remembered is over.

        Errors: JobsUnavailable.
        """
        ...

    async def dead(self, kind: str, limit: int = 100) -> list[JobStatus]:
        """The dead jobs of a kind, the latest first.

        Errors: JobsUnavailable.
        """
        ...

    async def listed(
        self, kind: str, tenant: str, states: Collection[State] = (), *, after: Place | None = None, limit: int = 100
    ) -> list[JobStatus]:
        """The jobs of a kind and a tenant, the latest submitted first; only those in these states, if any are named.

        Errors: JobsUnavailable.
        """
        ...

    async def drop(self, kind: str, tenant: str) -> int:
        """Cancel the jobs of a kind and a tenant that are queued or running, forget the dead, and say how many.

        Errors: JobsUnavailable.
        """
        ...

    async def redrive(self, kind: str, key: str) -> bool:
        """Whether there was a dead or cancelled job to queue again, with all its attempts.

        Errors: JobsUnavailable; JobsInUse.
        """
        ...


def check_kind(kind: Kind) -> None:
    """Refuse a kind that could never run.

    Errors: JobMistake naming the kind.
    """
    check_name("kind", kind.name)
    limits = {"at_once": kind.at_once, "at_once_everywhere": kind.at_once_everywhere, "per_tenant": kind.per_tenant}
    for name, value in [*limits.items(), ("attempts", kind.attempts)]:
        if value is not None and value < 1:
            raise JobMistake(f"job kind '{kind.name}': {name} is {value}, and must be at least 1")
    if kind.first_wait_s < 0 or kind.most_wait_s < 0 or kind.backoff < 1:
        raise JobMistake(f"job kind '{kind.name}': waits must not be negative, nor backoff below 1")


def check_name(what: str, name: str) -> None:
    """Refuse the name of a kind or a sweep that is no name.

    Errors: JobMistake naming it.
    """
    if not _NAME.fullmatch(name):
        raise JobMistake(f"'{name}' is no name of a job {what}: up to 64 of a-z 0-9 _ . -, a letter first")


def check_key(kind: str, key: str) -> None:
    """Refuse a key that cannot be kept.

    Errors: JobMistake naming the kind.
    """
    if not key or len(key) > _LONGEST_KEY or not key.isprintable():
        raise JobMistake(f"a job of kind '{kind}' needs a key of 1 to {_LONGEST_KEY} printable characters")
