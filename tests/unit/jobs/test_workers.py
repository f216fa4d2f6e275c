"""Several processes, some of which die."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from outcrop.jobs.base import Kind

pytestmark = pytest.mark.slow


async def running_a_job(workers, database, until, **settings) -> tuple:
    """Two workers, the first of which holds job a."""
    both = await asyncio.gather(*[workers.start(database, **settings) for _ in range(2)])
    await workers.submit(both[0], "hold", "a")
    await until(lambda: workers.all("begin"))
    return tuple(sorted(both, key=lambda worker: worker.lines("begin"), reverse=True))


async def test_a_killed_workers_job_goes_on_elsewhere(postgresql, workers, until) -> None:
    first, second = await running_a_job(workers, postgresql, until)

    first.kill()
    killed = time.monotonic()
    await until(lambda: second.lines("begin"))
    took = time.monotonic() - killed
    workers.release("a")
    await until(lambda: second.lines("end"))

    assert second.lines("begin") == [["begin", str(second.pid), "a", "1"]]
    assert took < 10


async def test_a_killed_process_continues_at_its_next_start(database, workers, until) -> None:
    first = await workers.start(database)
    await workers.submit(first, "hold", "a")
    await until(lambda: first.lines("begin"))

    first.kill()
    # Not eager: what is left is reason enough.
    second = await workers.start(database, eager=False)
    await until(lambda: second.lines("begin"))
    workers.release("a")
    await until(lambda: second.lines("end"))


async def test_a_worker_that_stops_hands_its_jobs_over_at_once(postgresql, workers, until) -> None:
    first, second = await running_a_job(workers, postgresql, until, lease_s=60)

    first.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.process.wait, 10) == 0

    assert first.lines("cancelled")
    await until(lambda: second.lines("begin"))


async def test_a_worker_that_stood_still_stops_what_others_took_over(postgresql, workers, until) -> None:
    first, second = await running_a_job(workers, postgresql, until)

    first.process.send_signal(signal.SIGSTOP)
    await until(lambda: second.lines("begin"))
    first.process.send_signal(signal.SIGCONT)
    await until(lambda: first.lines("cancelled"))

    workers.release("a")
    await until(lambda: second.lines("end"))
    await workers.submit(first, "hold", "b")
    await until(lambda: len(workers.all("begin")) == 3)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_cancelled_job_stops_in_whichever_process_runs_it(database, workers, make, seen, until) -> None:
    worker = await workers.start(database)
    await workers.submit(worker, "hold", "a")
    await until(lambda: worker.lines("begin"))
    jobs = await make(Kind("other", seen.note))

    assert await jobs.cancel("hold", "a")

    await until(lambda: worker.lines("cancelled"))
    assert (await jobs.find("hold", "a")).state == "cancelled"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_limit_for_all_holds_over_processes(database, workers, until) -> None:
    both = await asyncio.gather(*[workers.start(database, lease_s=20) for _ in range(2)])
    for number in range(8):
        await workers.submit(both[number % 2], "alone", str(number))
    await until(lambda: len(workers.all("end")) == 8)

    lines = [line.split() for line in workers.notes.read_text().splitlines()]
    words = [line[0] for line in lines if line[0] in ("begin", "end")]
    assert words == ["begin", "end"] * 8


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_sweep_runs_on_some_one_process_per_period(database, workers, until) -> None:
    first, second = await asyncio.gather(*[workers.start(database, eager=False) for _ in range(2)])
    before, begun = len(workers.all("swept")), time.monotonic()

    await until(lambda: len(workers.all("swept")) >= before + 3)
    assert time.monotonic() - begun >= 0.8, "three runs at 0.5 s each, from some time within the first"

    workers_left = second if len(first.lines("swept")) >= len(second.lines("swept")) else first
    (first if workers_left is second else second).kill()
    others = len(workers_left.lines("swept"))
    await until(lambda: len(workers_left.lines("swept")) > others)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_process_without_jobs_notices_those_that_others_leave(database, workers, until) -> None:
    idle, busy = await asyncio.gather(workers.start(database, eager=False), workers.start(database))
    assert idle.lines("started") == [["started", str(idle.pid), "False"]]
    await workers.submit(busy, "hold", "a")
    await until(lambda: busy.lines("begin"))

    busy.kill()

    await until(lambda: idle.lines("begin"))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_job_that_kills_its_workers_is_dead_in_the_end(database, server, make, seen, workers, until) -> None:
    killer = await workers.start(database)
    await workers.submit(killer, "hold", "a")
    await until(lambda: killer.lines("begin"))
    # As if ten workers had been killed by it already.
    server.execute("update dbos.workflow_status set recovery_attempts = 11", "made")
    killer.kill()
    jobs = await make(Kind("hold", seen.note))

    async def dead() -> bool:
        found = await jobs.find("hold", "a")
        return found.state == "dead" and found.error_class == "WorkerLost"

    await until(dead)
    assert seen.jobs == []
