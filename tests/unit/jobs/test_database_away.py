"""A PostgreSQL that goes away and comes back."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from outcrop.jobs.base import JobsUnavailable, Kind

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_jobs_go_on_when_the_database_is_back(database, server, make, seen, state, until) -> None:
    jobs = await make(Kind("hold", seen.hold))
    await jobs.submit("hold", "held", {})
    await until(lambda: seen.now == 1)

    await asyncio.to_thread(server.kill)
    with pytest.raises(JobsUnavailable, match="the jobs database cannot be reached"):
        await jobs.submit("hold", "refused", {})
    with pytest.raises(JobsUnavailable):
        await jobs.find("hold", "held")
    # Nobody knows who else runs it by now, so it is stopped here.
    await until(lambda: seen.cancelled == ["held"])
    await asyncio.to_thread(server.start)

    seen.go_on.set()

    async def submitted() -> bool:
        try:
            await jobs.submit("hold", "after", {})
        except JobsUnavailable:
            return False
        return True

    await until(submitted)
    await state(jobs, "hold", "after", "done")
    await state(jobs, "hold", "held", "done")


def test_dbos_still_has_the_switch_that_makes_it_look_again_soon() -> None:
    from dbos._sys_db import SystemDatabase

    assert "_retry_connection_errors" in inspect.getsource(SystemDatabase.__init__)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_an_outcome_waits_for_the_database(database, server, make, seen, state, until) -> None:
    jobs = await make(Kind("hold", seen.hold), lease_s=60)
    await jobs.submit("hold", "a", {})
    await until(lambda: seen.now == 1)

    await asyncio.to_thread(server.kill)
    seen.go_on.set()
    await until(lambda: seen.now == 0)
    await asyncio.to_thread(server.start)

    await state(jobs, "hold", "a", "done")
    assert seen.keys == ["a"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_closing_does_not_wait_for_a_database_that_is_away(database, server, make, seen, until) -> None:
    jobs = await make(Kind("hold", seen.hold))
    await jobs.submit("hold", "a", {})
    await until(lambda: seen.now == 1)
    await asyncio.to_thread(server.kill)

    try:
        async with asyncio.timeout(15):
            await jobs.close(0)
    finally:
        await asyncio.to_thread(server.start)
    next_ = await make(Kind("hold", seen.hold))
    seen.go_on.set()
    await until(lambda: next_.launched)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_password_with_strange_characters_opens_both(database, server, seen, tmp_path, state) -> None:
    from outcrop.jobs.durable import DurableJobs

    jobs = DurableJobs(server.database(user="guarded"), tmp_path)
    jobs.handle(Kind("note", seen.note))
    await jobs.start()
    await jobs.submit("note", "a", {})
    await state(jobs, "note", "a", "done")
    await jobs.close(0)
