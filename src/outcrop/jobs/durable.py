"""Jobs on DBOS, launched when there is something to do.

    start    notes the loop; launches if jobs are left from before
    submit   launches at the first job
    watch    on PostgreSQL, looks now and then whether other processes have left jobs to do

Until the launch nothing of DBOS is imported, and on SQLite nothing is opened. `engine` builds it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from outcrop.config import JobSettings
from outcrop.jobs import rows
from outcrop.jobs.base import JobMistake, JobStatus, JobsUnavailable, Kind, Place, State, check_key, check_kind
from outcrop.jobs.crew import Crew
from outcrop.jobs.database import JobsDatabase
from outcrop.jobs.running import Running
from outcrop.jobs.runtime import Runtime
from outcrop.jobs.sweeps import Sweeps

_PATIENCE_S = 5.0
"""For each thing that closing asks of a database that may be away."""

_FORGET_EVERY_S = 3600.0
_FORGET_AT_ONCE = 1000


class DurableJobs:
    """The jobs of one engine; see `base.Jobs`."""

    def __init__(
        self, database: str, data_dir: Path, settings: JobSettings | None = None, *, synchronous: str = "normal"
    ) -> None:
        """Keep where the jobs are: database and synchronous are those of [server]."""
        self._settings = settings or JobSettings()
        self._database = JobsDatabase(database, data_dir, synchronous=synchronous)
        # Alone on its database, a process takes up its predecessor's name together with its jobs.
        alone = not self._database.shared
        self.worker = "alone" if alone else f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._kinds: dict[str, Kind] = {}
        self._running = Running(self._database, self.worker)
        self._crew = Crew(self._database, self.worker, self._running, self._settings.lease_s)
        self._runtime = Runtime(self._database, self.worker, self._settings.poll_s)
        self._sweeps = Sweeps(self._database)
        self._sweeps.every("jobs.forget", _FORGET_EVERY_S, self._forget)
        self._launch: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._started = self._closed = False

    @property
    def launched(self) -> bool:
        """Whether this process takes jobs."""
        launch = self._launch
        return launch is not None and launch.done() and not launch.cancelled() and launch.exception() is None

    def handle(self, kind: Kind) -> None:
        """Register who handles a kind; before `start`.

        Errors: JobMistake for a name or a limit that cannot be, or a name that is taken.
        """
        check_kind(kind)
        self._before_start(f"job kind '{kind.name}'")
        if kind.name in self._kinds:
            raise JobMistake(f"there is a job kind '{kind.name}' already")
        self._kinds[kind.name] = kind

    def every(self, name: str, seconds: float, handler: Callable[[], Awaitable[None]]) -> None:
        """Register a sweep; before `start`.

        Errors: JobMistake for a name or a period that cannot be, or a name that is taken.
        """
        self._before_start(f"sweep '{name}'")
        self._sweeps.every(name, seconds, handler)

    async def start(self, *, eager: bool = False) -> None:
        """Begin. What is unfinished goes on; eager also takes jobs when there are none yet.

        Errors: JobsUnavailable; JobsForbidden; JobsInUse.
        """
        self._before_start("the same jobs")
        self._started = True
        if self._database.shared:
            await self._database.run(rows.make_tables)
        if self._kinds and (eager or await self._left()):
            await self._launched()
        elif self._database.shared and self._kinds:
            self._watch = asyncio.create_task(self._look())
        self._sweeps.start()

    async def close(self, grace_s: float) -> None:
        """Take no more jobs, let running ones end within grace_s; the others go on elsewhere or at the next start."""
        if self._closed:
            return
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._launch is not None:
            await asyncio.wait([self._launch], timeout=_PATIENCE_S)
        if self.launched:
            self._runtime.stop_taking()
        await asyncio.gather(self._sweeps.stop(grace_s), self._running.drain(grace_s))
        if self.launched:
            # Last of all, when nothing here can claim a job any more.
            await _beside(self._runtime.destroy, _PATIENCE_S)
            await self._crew.leave(_PATIENCE_S)
        await _beside(self._database.close, _PATIENCE_S)

    async def submit(
        self, kind: str, key: str, body: dict[str, Any], *, tenant: str = "", delay_s: float = 0.0
    ) -> None:
        """Have a job done. Nothing happens where its kind and key are known already, whatever became of it.

        Errors: JobMistake for an unknown kind, a key or a body that cannot be kept; JobsUnavailable; JobsInUse.
        """
        if kind not in self._kinds:
            raise JobMistake(f"nobody handles jobs of kind '{kind}'")
        check_key(kind, key)
        if tenant and not tenant.isprintable():
            raise JobMistake(f"the tenant of job '{kind}:{key}' has characters that cannot be printed")
        try:
            text = orjson.dumps(body)
        except TypeError as error:
            raise JobMistake(f"the body of job '{kind}:{key}' cannot be written as JSON: {error}") from error
        await self._launched()
        await self._database.call(self._runtime.enqueue, kind, key, text, tenant, delay_s)

    async def cancel(self, kind: str, key: str) -> bool:
        """Whether there was a queued or running job to cancel.

        Errors: JobsUnavailable.
        """
        name = rows.job_id(kind, key)
        if not await self._database.has_jobs() or not await self._database.run(rows.cancel, name):
            return False
        self._running.cancel(name)
        return True

    async def find(self, kind: str, key: str) -> JobStatus | None:
        """What has become of a job; None where there is none.

        Errors: JobsUnavailable.
        """
        if not await self._database.has_jobs():
            return None
        return await self._database.run(rows.find, rows.job_id(kind, key))

    async def dead(self, kind: str, limit: int = 100) -> list[JobStatus]:
        """The dead jobs of a kind, the latest first.

        Errors: JobsUnavailable.
        """
        return await self._database.run(rows.dead, kind, limit) if await self._database.has_jobs() else []

    async def listed(
        self, kind: str, tenant: str, states: Collection[State] = (), *, after: Place | None = None, limit: int = 100
    ) -> list[JobStatus]:
        """The jobs of a kind and a tenant, the latest submitted first; only those in these states, if any are named.

        Errors: JobsUnavailable.
        """
        if not await self._database.has_jobs():
            return []
        return await self._database.run(rows.listed, kind, tenant, states, after, limit)

    async def drop(self, kind: str, tenant: str) -> int:
        """Cancel the jobs of a kind and a tenant that are queued or running, forget the dead, and say how many.

        Errors: JobsUnavailable.
        """
        if not await self._database.has_jobs():
            return 0
        dropped = await self._database.run(rows.drop, kind, tenant)
        for name in dropped:
            self._running.cancel(name)
        return len(dropped)

    async def redrive(self, kind: str, key: str) -> bool:
        """Whether there was a dead or cancelled job to queue again, with all its attempts.

        Errors: JobsUnavailable; JobsInUse.
        """
        if not await self._database.has_jobs():
            return False
        found = await self._database.run(rows.redrive, rows.job_id(kind, key), kind)
        if found and kind in self._kinds:
            await self._launched()
        return found

    def _before_start(self, what: str) -> None:
        if self._started or self._closed:
            raise JobMistake(f"{what}: the jobs are started already")

    async def _left(self) -> bool:
        """Whether jobs of ours are left to be done."""
        return await self._database.has_jobs() and await self._database.run(rows.unfinished, list(self._kinds))

    async def _look(self) -> None:
        """Launch when another process has left jobs, or this one could not at its first try."""
        while not self.launched:
            await asyncio.sleep(self._settings.lease_s / 3)
            with suppress(JobsUnavailable):
                if await self._left():
                    await self._launched()

    async def _launched(self) -> None:
        """Return when this process takes jobs; whoever comes first launches.

        Errors: JobsUnavailable; JobsInUse.
        """
        if not self._started or self._closed:
            raise JobsUnavailable("jobs are taken between start and close")
        if self.launched:
            return
        if self._launch is None or self._launch.done():
            self._launch = asyncio.create_task(self._launch_now())
        await asyncio.shield(self._launch)

    async def _launch_now(self) -> None:
        await self._database.call(self._runtime.migrate)
        await self._crew.join()
        try:
            loop = asyncio.get_running_loop()
            await self._database.call(self._runtime.launch, self._kinds.values(), self._running.perform, loop)
        except BaseException:
            await self._crew.leave(_PATIENCE_S)
            raise

    async def _forget(self) -> None:
        before = time.time() - self._settings.keep_done_s
        if await self._database.has_jobs():
            while await self._database.run(rows.forget, before, _FORGET_AT_ONCE) == _FORGET_AT_ONCE:
                pass


async def _beside(function: Callable[[], None], patience_s: float) -> None:
    """Run what blocks in a thread that no exit waits for, and go on without it when it takes too long."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            function()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    thread = threading.Thread(target=run, name="outcrop-jobs-close", daemon=True)
    thread.start()
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await asyncio.shield(asyncio.wrap_future(done))
        thread.join()  # it has nothing left to do
