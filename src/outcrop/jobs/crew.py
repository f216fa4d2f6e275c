"""Who is alive: each worker raises its own counter, and watches those of the others.

No clock is compared between machines. A counter that stood still for lease_s, by the watcher's own clock and with the
database in reach all the while, is a dead worker's: whoever sees it queues that worker's jobs again. A worker that
cannot raise its counter for two thirds of that time cancels its handlers, before others run the same jobs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from outcrop.jobs import rows
from outcrop.jobs.base import JobsUnavailable
from outcrop.jobs.database import JobsDatabase
from outcrop.jobs.running import Running

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

LOG = logging.getLogger("outcrop.jobs")


class Unchanged(Generic[K, V]):
    """Which of some changing values have stood still for a while."""

    def __init__(self, for_s: float) -> None:
        """Keep how long, in seconds."""
        self._for_s = for_s
        self._since: dict[K, tuple[V, float]] = {}

    def look(self, values: Mapping[K, V], now: float) -> dict[K, V]:
        """Those that stood still, which are seen anew from here on."""
        seen = {key: self._since.get(key, (value, now)) for key, value in values.items()}
        self._since = {key: then if then[0] == values[key] else (values[key], now) for key, then in seen.items()}
        still = {key: value for key, (value, since) in self._since.items() if now - since >= self._for_s}
        self._since |= {key: (value, now) for key, value in still.items()}
        return still

    def forget(self) -> None:
        """Begin anew: for a time nobody looked."""
        self._since.clear()


class Crew:
    """This worker among the others."""

    def __init__(self, database: JobsDatabase, worker: str, running: Running, lease_s: float) -> None:
        """Keep the name of this worker, and how long a silent one is believed to live."""
        self._database, self._worker, self._running, self._lease_s = database, worker, running, lease_s
        self._workers: Unchanged[str, int] = Unchanged(lease_s)
        self._strays: Unchanged[str, str] = Unchanged(lease_s)
        self._beaten = 0.0
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Beat for the first time and go on; where this is the only process, take over what its predecessor ran.

        Errors: JobsUnavailable.
        """
        await self._database.run(rows.make_tables)
        if not self._database.shared and await self._database.has_jobs():
            await self._database.run(rows.take_all_over)
        self._beaten = time.monotonic()
        await self._database.run(rows.beat, self._worker)
        self._task = asyncio.create_task(self._go_on())

    async def leave(self, patience_s: float) -> None:
        """Beat no more, and queue what is still claimed, unless the database takes longer than that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            async with asyncio.timeout(patience_s):
                await self._database.run(rows.leave, self._worker)
        except (JobsUnavailable, TimeoutError):
            LOG.warning("the jobs database cannot be reached; others take this worker's jobs for a dead worker's")

    async def _go_on(self) -> None:
        reached = True
        while True:
            await asyncio.sleep(self._lease_s / 6)
            try:
                await self._beat()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if reached:
                    LOG.warning("jobs: %s", error if isinstance(error, JobsUnavailable) else type(error).__name__)
                reached = False
                self._workers.forget()
                self._strays.forget()
                if self._database.shared and time.monotonic() - self._beaten >= self._silence_s:
                    self._running.cancel_all()
            else:
                if not reached:
                    LOG.warning("jobs: the database can be reached again")
                reached = True

    @property
    def _silence_s(self) -> float:
        return self._lease_s * 2 / 3

    async def _beat(self) -> None:
        started, held = time.monotonic(), self._running.claims()
        left = max(self._lease_s / 6, self._beaten + self._silence_s - started)
        # The only process has nobody to fear, and a busy disk.
        async with asyncio.timeout(left if self._database.shared else None):
            seen = await self._database.run(rows.beat, self._worker)
        self._beaten = started
        # Only claims from before the look can be missed by it.
        self._running.lost({name: owner for name, owner in held.items() if seen.mine.get(name) != owner})
        strays = self._strays.look(self._running.idle(seen.mine), started)
        if strays:
            await self._database.run(rows.take_back, self._worker, strays)
        for worker, beats in self._workers.look(seen.others, started).items():
            if await self._database.run(rows.take_over, worker, beats):
                LOG.warning("jobs of worker %s, which has gone silent, are queued again", worker)
