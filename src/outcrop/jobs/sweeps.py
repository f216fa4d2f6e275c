"""What is done every so often, by some one process.

On PostgreSQL a row per sweep says when it was last begun, and whoever moves that on runs it. On SQLite there is one
process, so there is nothing to ask. A sweep is due when its process starts, unless another has just run it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from outcrop.jobs import rows
from outcrop.jobs.base import JobMistake, JobsUnavailable, check_name
from outcrop.jobs.database import JobsDatabase

LOG = logging.getLogger("outcrop.jobs")


@dataclass(frozen=True, slots=True)
class _Sweep:
    name: str
    seconds: float
    handler: Callable[[], Awaitable[None]]


class Sweeps:
    """The sweeps of this process."""

    def __init__(self, database: JobsDatabase) -> None:
        """Keep where the rows are, where there are any."""
        self._database = database
        self._sweeps: dict[str, _Sweep] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    def every(self, name: str, seconds: float, handler: Callable[[], Awaitable[None]]) -> None:
        """Register a sweep.

        Errors: JobMistake for a name or a period that cannot be, or a name that is taken.
        """
        check_name("sweep", name)
        if name in self._sweeps:
            raise JobMistake(f"there is a sweep '{name}' already")
        if seconds <= 0:
            raise JobMistake(f"sweep '{name}': every {seconds} s is no period")
        self._sweeps[name] = _Sweep(name, seconds, handler)

    def start(self) -> None:
        """Begin; the tables are there."""
        self._tasks = [asyncio.create_task(self._repeat(sweep)) for sweep in self._sweeps.values()]

    async def stop(self, grace_s: float) -> None:
        """Begin no more, wait for what runs, cancel what is left after grace_s."""
        self._stopping.set()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    async def _repeat(self, sweep: _Sweep) -> None:
        while not self._stopping.is_set():
            try:
                if not self._database.shared or await self._database.run(rows.begin_sweep, sweep.name, sweep.seconds):
                    await sweep.handler()
            except JobsUnavailable:
                pass  # the crew says so
            except Exception as error:
                LOG.error("sweep %s failed: %s", sweep.name, type(error).__name__, exc_info=error)
            try:
                async with asyncio.timeout(sweep.seconds):
                    await self._stopping.wait()
            except TimeoutError:
                continue
