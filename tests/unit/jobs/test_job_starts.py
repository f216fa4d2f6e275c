"""Starting and stopping: nothing is loaded that is not used, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from outcrop.config import JobSettings
from outcrop.jobs.base import JobMistake, JobsInUse, JobsUnavailable, Kind
from outcrop.jobs.durable import DurableJobs

UNUSED = """
import asyncio, sys, threading
from pathlib import Path
from outcrop.jobs.base import Kind
from outcrop.jobs.durable import DurableJobs

async def nothing(*_):
    pass

async def main():
    jobs = DurableJobs(sys.argv[1], Path(sys.argv[2]))
    jobs.handle(Kind("nothing", nothing))
    jobs.every("sweep", 60, nothing)
    await jobs.start()
    assert await jobs.find("nothing", "a") is None
    assert not await jobs.cancel("nothing", "a")
    assert not await jobs.redrive("nothing", "a")
    assert await jobs.dead("nothing") == []
    await jobs.close(1)
    assert "dbos" not in sys.modules
    assert threading.enumerate() == [threading.main_thread()]

asyncio.run(main())
"""

ABANDONED = """
import asyncio, sys
from pathlib import Path
from outcrop.jobs.base import Kind
from outcrop.jobs.durable import DurableJobs

async def main():
    begun = asyncio.Event()
    async def for_ever(job):
        begun.set()
        await asyncio.Event().wait()
    jobs = DurableJobs(sys.argv[1], Path(sys.argv[2]))
    jobs.handle(Kind("hold", for_ever))
    await jobs.start()
    await jobs.submit("hold", "a", {})
    await begun.wait()

asyncio.run(main())
"""


def run(program: str, database: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, database, str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_jobs_that_nobody_uses_load_nothing_and_leave_nothing(database, tmp_path) -> None:
    run(UNUSED, database, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_process_that_closes_nothing_ends_all_the_same(database, tmp_path) -> None:
    run(ABANDONED, database, tmp_path)


async def test_closing_lets_a_running_job_end(make, seen, state, until) -> None:
    jobs = await make(Kind("hold", seen.hold, at_once=1))
    await jobs.submit("hold", "running", {})
    await until(lambda: seen.now == 1)
    await jobs.submit("hold", "queued", {})

    closing = asyncio.create_task(jobs.close(20))
    await asyncio.sleep(0)
    seen.go_on.set()
    await closing

    assert seen.keys == ["running"]
    assert seen.cancelled == []
    next_ = await make(Kind("hold", seen.hold))
    await state(next_, "hold", "queued", "done")
    assert (await next_.find("hold", "running")).state == "done"


async def test_what_is_left_at_the_end_goes_on_at_the_next_start(make, seen, state, until) -> None:
    async def fail(job) -> None:
        await seen.note(job)
        raise OSError("not today")

    kinds = [Kind("hold", seen.hold), Kind("fail", fail, first_wait_s=1, most_wait_s=1, attempts=2)]
    first = await make(*kinds)
    await first.submit("hold", "running", {"n": 1})
    await first.submit("hold", "delayed", {}, delay_s=1)
    await first.submit("fail", "waiting", {})
    await until(lambda: seen.now == 1)

    async def waits() -> bool:
        return (await first.find("fail", "waiting")).attempts == 1

    await until(waits)
    await first.close(0)
    assert "running" in seen.cancelled

    seen.go_on.set()
    second = await make(*kinds)
    assert second.launched
    assert (await state(second, "hold", "running", "done")).attempts == 1
    await state(second, "hold", "delayed", "done")
    assert (await state(second, "fail", "waiting", "dead")).attempts == 2
    assert (seen.keys.count("running"), seen.keys.count("waiting")) == (2, 2)


async def test_engines_follow_each_other_and_leave_no_threads(make, seen, state, until) -> None:
    for number in range(3):
        jobs = await make(Kind("note", seen.note))
        await jobs.submit("note", str(number), {})
        await state(jobs, "note", str(number), "done")
        await jobs.close(1)
        await jobs.close(1)
        with pytest.raises(JobsUnavailable):
            await jobs.submit("note", "late", {})

    def only_us() -> bool:
        return not [thread for thread in threading.enumerate() if "dbos" in thread.name or "jobs" in thread.name]

    await until(only_us)
    assert seen.keys == ["0", "1", "2"]


@pytest.mark.parametrize("database", ["sqlite"])
async def test_one_engine_at_a_time_runs_jobs_in_a_process(make, seen, state, tmp_path) -> None:
    first = await make(Kind("note", seen.note), eager=True)
    second = DurableJobs("sqlite", tmp_path / "other", JobSettings())
    second.handle(Kind("note", seen.note))
    await second.start()

    with pytest.raises(JobsInUse, match="another engine of this process"):
        await second.submit("note", "a", {})
    await first.close(1)
    await second.submit("note", "a", {})

    await state(second, "note", "a", "done")
    await second.close(1)


@pytest.mark.parametrize("database", ["sqlite:memory"])
async def test_jobs_of_a_database_in_memory_live_in_a_file_that_is_removed(
    make, seen, state, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    jobs = await make(Kind("note", seen.note))
    assert list(tmp_path.iterdir()) == []

    await jobs.submit("note", "a", {})
    await state(jobs, "note", "a", "done")

    assert [path.name for path in tmp_path.glob("*/*.db")] == ["outcrop-jobs.db"]
    await jobs.close(1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("database", ["sqlite"])
async def test_the_jobs_of_a_named_file_lie_beside_it(make, seen, tmp_path) -> None:
    jobs = DurableJobs(f"sqlite:///{tmp_path / 'mine.db'}", Path("elsewhere"))
    jobs.handle(Kind("note", seen.note))
    await jobs.start(eager=True)
    await jobs.close(0)

    assert [path.name for path in tmp_path.iterdir()] == ["mine-jobs.db"]


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_sweep_runs_once_per_period_and_survives_its_failures(make, seen, tmp_path, until) -> None:
    jobs = DurableJobs("sqlite", tmp_path)
    swept: list[float] = []

    async def sweep() -> None:
        swept.append(asyncio.get_running_loop().time())
        if len(swept) == 1:
            raise ValueError("the first fails")

    jobs.every("sweep", 0.1, sweep)
    with pytest.raises(JobMistake, match="a sweep 'sweep' already"):
        jobs.every("sweep", 1, sweep)
    with pytest.raises(JobMistake, match="no period"):
        jobs.every("never", 0, sweep)
    await jobs.start()
    await until(lambda: len(swept) >= 4)
    await jobs.close(1)

    assert min(after - before for before, after in itertools.pairwise(swept)) >= 0.09
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("database", ["sqlite"])
def test_kinds_that_could_never_run_are_refused_by_name(seen, tmp_path, database) -> None:
    jobs = DurableJobs(database, tmp_path)
    jobs.handle(Kind("good", seen.note))

    for wrong in (
        Kind("good", seen.note),
        Kind("Bad Name", seen.note),
        Kind("_dbos_x", seen.note),
        Kind("zero", seen.note, at_once=0),
        Kind("zero", seen.note, per_tenant=0),
        Kind("zero", seen.note, attempts=0),
        Kind("backwards", seen.note, backoff=0.5),
    ):
        with pytest.raises(JobMistake, match=wrong.name):
            jobs.handle(wrong)
    asyncio.run(jobs.close(0))
