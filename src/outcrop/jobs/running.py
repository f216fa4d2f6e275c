"""The jobs under way in this process: one task each, on the engine's event loop.

    claimed by DBOS -> perform: read the claim -> the handler -> write what became of it

A task that is cancelled writes nothing. Its row is then somebody else's already, or is queued again by `crew`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from outcrop.jobs import rows
from outcrop.jobs.base import Again, GiveUp, Job, JobsUnavailable, Kind
from outcrop.jobs.database import JobsDatabase

T = TypeVar("T")

LOG = logging.getLogger("outcrop.jobs")

_FIRST_WAIT_S = 0.1
_MOST_WAIT_S = 2.0


@dataclass(slots=True)
class _UnderWay:
    task: asyncio.Task[None]
    owner: str | None = None
    """The claim's token; None until it is read."""


class Running:
    """The jobs under way; all of it belongs to the event loop."""

    def __init__(self, database: JobsDatabase, worker: str) -> None:
        """Keep the name under which this process claims jobs."""
        self._database, self._worker = database, worker
        self._under_way: dict[str, _UnderWay] = {}
        self._stopping = False

    async def perform(self, kind: Kind, job: Job) -> None:
        """One claimed job, from its claim to what became of it."""
        if self._stopping:
            return
        task = asyncio.current_task()
        assert task is not None
        name = rows.job_id(job.kind, job.key)
        if (earlier := self._under_way.get(name)) is not None:
            # Cancelled and queued again, or taken over and back: its handler has to be out of the way first.
            earlier.task.cancel()
            await asyncio.wait([earlier.task])
        self._under_way[name] = here = _UnderWay(task)
        try:
            claim = await self._surely(rows.claimed, name, self._worker)
            if claim is not None:
                here.owner = claim.owner
                await self._attempt(kind, replace(job, attempt=claim.failed + 1), claim.owner)
        finally:
            if self._under_way.get(name) is here:
                del self._under_way[name]

    async def _attempt(self, kind: Kind, job: Job, owner: str) -> None:
        error = await _outcome(kind, job)
        name = rows.job_id(job.kind, job.key)
        if error is None:
            kept = await self._surely(rows.finish, name, owner)
        else:
            last = job.attempt >= kind.attempts or isinstance(error, GiveUp)
            wait = error.after_s if isinstance(error, Again) else None
            wait = kind.wait_s(job.attempt) if wait is None else wait
            # Asked for by the handler, it is no news.
            level = logging.DEBUG if isinstance(error, Again) and not last else logging.WARNING
            told = (kind.name, job.key, job.attempt, kind.attempts, _told(error))
            LOG.log(level, "%s job %s failed, attempt %d of %d: %s", *told)
            kept = await self._surely(rows.fail, name, owner, rows.Failure(job.attempt, error, None if last else wait))
        if not kept:
            LOG.warning("a %s job was cancelled or taken over while it ran; its outcome counts elsewhere", kind.name)

    async def _surely(self, work: Callable[..., T], *arguments: object) -> T:
        """What work returns, however long the database is away."""
        wait = _FIRST_WAIT_S
        while True:
            try:
                return await self._database.run(work, *arguments)
            except JobsUnavailable:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _MOST_WAIT_S)

    def cancel(self, name: str) -> None:
        """Cancel a job's handler, if it runs here."""
        if (here := self._under_way.get(name)) is not None:
            here.task.cancel()

    def cancel_all(self) -> None:
        """Cancel every handler; their jobs stay claimed."""
        for here in self._under_way.values():
            here.task.cancel()

    def claims(self) -> dict[str, str]:
        """The claims' tokens of the jobs under way, by the jobs' ids."""
        return {name: here.owner for name, here in self._under_way.items() if here.owner is not None}

    def lost(self, claims: dict[str, str]) -> None:
        """Cancel handlers that still run under these claims, which are somebody else's or nobody's now."""
        for name, owner in claims.items():
            here = self._under_way.get(name)
            if here is not None and here.owner == owner:
                here.task.cancel()

    def idle(self, claims: dict[str, str]) -> dict[str, str]:
        """Those of these claims for which nothing is under way."""
        return {name: owner for name, owner in claims.items() if name not in self._under_way}

    async def drain(self, grace_s: float) -> None:
        """Start nothing more, wait for what runs, and cancel what is left after grace_s."""
        self._stopping = True
        if tasks := [here.task for here in self._under_way.values()]:
            _, left = await asyncio.wait(tasks, timeout=grace_s)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=_MOST_WAIT_S)


def _told(error: BaseException) -> str:
    """What the log says of a failed attempt: the handler's own words, and of what it did not expect no words at all."""
    told = str(error).partition("\n")[0] if isinstance(error, Again | GiveUp) else ""
    return told or type(error).__name__


async def _outcome(kind: Kind, job: Job) -> BaseException | None:
    """What the handler raised, if anything.

    Errors: CancelledError where this task is cancelled, not only something the handler waited for.
    """
    task = asyncio.current_task()
    assert task is not None
    try:
        await kind.handler(job)
    except asyncio.CancelledError as error:
        if task.cancelling():
            raise
        return error
    except Exception as error:
        return error
    return None
