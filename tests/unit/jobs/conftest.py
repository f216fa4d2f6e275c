"""Real DBOS on SQLite and on a real PostgreSQL, in this process and in workers that can be killed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from outcrop.config import JobSettings
from outcrop.jobs.base import Job, Kind
from outcrop.jobs.durable import DurableJobs

TESTS = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0
LEASE_S = 1.5
"""Short, so that the dead are noticed soon; not shorter, because a busy machine silences the living."""


def _support(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, TESTS / "support" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A PostgreSQL, in whose database `made` there is room for jobs."""
    with _support("postgresql").PostgreSQL() as running:
        url = running.database("made")

        async def make() -> None:
            jobs = DurableJobs(url, Path(), JobSettings())
            jobs.handle(Kind("none", _nothing))
            await jobs.start(eager=True)
            await jobs.close(0)

        asyncio.run(make())
        yield running
        running.kill()  # in good order it would write out what is removed now


async def _nothing(job: Job) -> None:
    pass


@pytest.fixture
def postgresql(server: Any) -> str:
    """The [server] database of a PostgreSQL in which there are no jobs."""
    for table in ("workflow_status", "workflow_input", "queues", "outcrop_workers", "outcrop_sweeps"):
        server.execute(f"delete from dbos.{table}", "made")
    return server.url("made")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """[server] database, of either sort."""
    return "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgresql")


class Seen:
    """What handlers were asked to do, in order, and what they do about it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.now = self.most = 0
        self.go_on = asyncio.Event()
        self.cancelled: list[str] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def note(self, job: Job) -> None:
        """Do it at once."""
        self.jobs.append(job)
        self.loops.add(asyncio.get_running_loop())

    async def hold(self, job: Job) -> None:
        """Do it when told to go on."""
        self.jobs.append(job)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job.key)
            raise
        finally:
            self.now -= 1

    @property
    def keys(self) -> list[str]:
        return [job.key for job in self.jobs]


@pytest.fixture
async def seen() -> Seen:
    return Seen()


Make = Callable[..., Awaitable[DurableJobs]]


@pytest.fixture
async def make(database: str, tmp_path: Path) -> AsyncIterator[Make]:
    """Jobs of these kinds on the database, started, and closed at the end."""
    made: list[DurableJobs] = []

    async def start(*kinds: Kind, eager: bool = False, **settings: float) -> DurableJobs:
        jobs = DurableJobs(database, tmp_path, JobSettings(**{"poll_s": 0.05, "lease_s": LEASE_S} | settings))
        made.append(jobs)
        for kind in kinds:
            jobs.handle(kind)
        await jobs.start(eager=eager)
        return jobs

    yield start
    for jobs in made:
        await jobs.close(0)


async def until(condition: Callable[[], Any | Awaitable[Any]], patience_s: float = PATIENCE_S) -> Any:
    """What the condition gives as soon as it gives anything."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, "it never came about"
        await asyncio.sleep(0.02)


@pytest.fixture(name="until")
def _until() -> Any:
    return until


@pytest.fixture
def state() -> Any:
    """Wait for a job to be in a state, and return what is known of it."""

    async def reached(jobs: DurableJobs, kind: str, key: str, wanted: str) -> Any:
        async def there() -> Any:
            found = await jobs.find(kind, key)
            return found if found is not None and found.state == wanted else None

        return await until(there)

    return reached


@dataclass
class Worker:
    """A process of its own with kinds `hold` and `alone`, and what it says."""

    process: subprocess.Popen[bytes]
    notes: Path

    def __post_init__(self) -> None:
        self.pid = self.process.pid

    def lines(self, word: str) -> list[list[str]]:
        """What this worker noted under a word."""
        found = [line.split() for line in self.notes.read_text().splitlines()] if self.notes.exists() else []
        return [line for line in found if line[0] == word and line[1] == str(self.pid)]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Workers:
    """Processes that take jobs of one database."""

    folder: Path
    started: list[Worker] = field(default_factory=list)

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    async def start(self, database: str, *, eager: bool = True, **settings: float) -> Worker:
        """One more, which has started."""
        settings = {"poll_s": 0.05, "lease_s": LEASE_S} | settings
        asked = {"database": database, "folder": str(self.folder), "settings": settings, "eager": eager}
        program = [sys.executable, "-W", "error", str(Path(__file__).with_name("jobs_worker.py")), json.dumps(asked)]
        worker = Worker(await asyncio.to_thread(subprocess.Popen, program, stdin=subprocess.PIPE), self.notes)
        self.started.append(worker)
        await until(lambda: worker.lines("started"))
        return worker

    def all(self, word: str) -> list[list[str]]:
        """What any worker noted under a word."""
        return [line for worker in self.started for line in worker.lines(word)]

    async def submit(self, worker: Worker, kind: str, key: str, **body: Any) -> None:
        """Have a worker submit a job, and wait until it is kept."""
        assert worker.process.stdin is not None
        worker.process.stdin.write(json.dumps([kind, key, body]).encode() + b"\n")
        worker.process.stdin.flush()
        await until(lambda: [line for line in worker.lines("submitted") if line[2] == key])

    def release(self, key: str) -> None:
        """Let the holding handlers of that key end."""
        (self.folder / f"go-{key}").touch()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    for worker in made.started:
        worker.process.kill()
        worker.process.wait()
        assert worker.process.stdin is not None
        worker.process.stdin.close()
