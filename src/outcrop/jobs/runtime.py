"""DBOS in this process: the only module that imports it, and only when it is launched.

DBOS claims queued jobs within the limits of their queues, lets delays pass, keeps its tables, and calls `perform` on
the engine's event loop for each claim. Everything that becomes of a claimed job is written by `perform` itself, which
is why a workflow ends as cancelled here: DBOS then leaves its row alone.

DBOS keeps its instance, executor and version in globals, so there is one per process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, cast

import orjson

from outcrop.jobs import rows
from outcrop.jobs.base import Job, JobsInUse, Kind
from outcrop.jobs.database import JobsDatabase

if TYPE_CHECKING:
    from dbos import DBOS, DBOSClient

Perform = Callable[[Kind, Job], Coroutine[Any, Any, None]]

LOG = logging.getLogger("outcrop.jobs")

_VERSION = "outcrop-1"
"""Of the calling convention below. The same for all releases, so that each takes the jobs of the others."""

_NEVER_S = 3600.0
"""For DBOS's own schedules, which are not used."""

_DIED_AT_MOST = 10
"""How often in a row the process under one job may die before the job is dead."""

_one = threading.Lock()
"""Held by the runtime of this process."""


class Runtime:
    """DBOS between `launch` and `destroy`; all methods block, and belong in a thread."""

    def __init__(self, database: JobsDatabase, worker: str, poll_s: float) -> None:
        """Keep what to launch with: worker is this process's name among the claims."""
        self._database, self._worker, self._poll_s = database, worker, poll_s
        self._dbos: DBOS | None = None
        self._client: DBOSClient | None = None

    def migrate(self) -> None:
        """Make the tables of DBOS, or bring them to the installed release.

        Errors: what the database raises.
        """
        from dbos import DBOS

        logger = logging.getLogger("dbos")
        if not logger.handlers:  # or DBOS writes to the console itself
            logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.ERROR)
        DBOS.migrate(self._database.url, schema=rows.SCHEMA)

    def launch(self, kinds: Iterable[Kind], perform: Perform, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take jobs of these kinds; the tables are there.

        Errors: JobsInUse; JobsUnavailable and what else the database raises, with nothing left running.
        """
        if not _one.acquire(blocking=False):
            raise JobsInUse("another engine of this process runs jobs already; close it first")
        try:
            self._launch(list(kinds), perform, loop)
        except BaseException:
            self.destroy()
            raise

    def _launch(self, kinds: list[Kind], perform: Perform, loop: asyncio.AbstractEventLoop) -> None:
        from dbos import DBOS, DBOSClient

        serializer = cast("Any", _Json())
        self._client = DBOSClient(
            system_database_engine=self._database.engine,
            dbos_system_schema=rows.SCHEMA,
            serializer=serializer,
            application_name=rows.APPLICATION,
            lazy=True,
            retry_connection_errors=False,
        )
        self._dbos = DBOS(
            config={
                "name": rows.APPLICATION,
                "application_version": _VERSION,
                "executor_id": self._worker,
                "system_database_engine": self._database.engine,
                "dbos_system_schema": rows.SCHEMA,
                "serializer": serializer,
                "max_executor_threads": 4,
                "use_listen_notify": False,
                "notification_listener_polling_interval_sec": 0.1,
                "scheduler_polling_interval_sec": _NEVER_S,
                "enable_otlp": False,
                "log_level": "ERROR",
            }
        )
        for kind in kinds:
            DBOS.workflow(name=kind.name, max_recovery_attempts=_DIED_AT_MOST)(_workflow(kind, perform, loop))
            # Before the launch, which looks for queues once a second only.
            self._client.register_queue(kind.name, **_limits(kind), polling_interval_sec=self._poll_s)
        DBOS.listen_queues([kind.name for kind in kinds])
        DBOS.launch()
        # Left to itself, DBOS sleeps through up to a minute of a database that is back; what it does not retry here,
        # it does again at its next look.
        cast("Any", self._dbos)._sys_db._retry_connection_errors = False

    def enqueue(self, kind: str, key: str, body: bytes, tenant: str, delay_s: float) -> None:
        """Keep a job, unless its kind and key are known.

        Errors: what the database raises.
        """
        assert self._client is not None, "DBOS is not launched"
        options: dict[str, Any] = {
            "workflow_name": kind,
            "queue_name": kind,
            "workflow_id": rows.job_id(kind, key),
            "app_version": _VERSION,
            "authenticated_user": tenant,
            # Also where the queue has no limit per tenant: it may get one while the job waits.
            "queue_partition_key": f"tenant {tenant}",
        }
        if delay_s > 0:
            options["delay_seconds"] = delay_s
        self._client.enqueue(cast("Any", options), key, body.decode(), tenant)

    def stop_taking(self) -> None:
        """Claim no more jobs."""
        if self._dbos is not None:
            for stop in self._dbos.background_thread_stop_events:
                stop.set()

    def destroy(self) -> None:
        """Stop DBOS, cancelling what still runs; another engine may launch afterwards."""
        from dbos import DBOS

        try:
            if self._client is not None:
                self._client.destroy()
            DBOS.destroy(destroy_registry=True)
        finally:
            self._client = self._dbos = None
            _one.release()


def _workflow(
    kind: Kind, perform: Perform, loop: asyncio.AbstractEventLoop
) -> Callable[[str, str, str], Awaitable[None]]:
    async def run(key: str, body: str, tenant: str) -> None:
        """On the event loop of DBOS: one claim."""
        job = Job(kind.name, key, orjson.loads(body), tenant)
        try:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(perform(kind, job), loop))
        except Exception as error:
            LOG.error("a %s job could not be performed: %s", kind.name, type(error).__name__)
        raise asyncio.CancelledError

    return run


def _limits(kind: Kind) -> dict[str, Any]:
    everywhere = kind.at_once_everywhere
    limits: dict[str, Any] = {
        "worker_concurrency": kind.at_once if everywhere is None else min(kind.at_once, everywhere),
        "global_concurrency": everywhere,
    }
    if kind.per_tenant is not None:
        limits["partition_concurrency"] = kind.per_tenant if everywhere is None else min(kind.per_tenant, everywhere)
    return limits


class _Json:
    """Arguments as JSON, where DBOS would pickle."""

    def serialize(self, data: Any) -> str:
        # Only a fault of DBOS itself is anything but JSON here.
        return orjson.dumps(data, default=repr).decode()

    def deserialize(self, serialized_data: str) -> Any:
        return orjson.loads(serialized_data)

    def name(self) -> str:
        return "json"
