"""What becomes of a job, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from outcrop.jobs.base import Again, GiveUp, Job, JobMistake, Kind, Place


async def test_a_submitted_job_is_handled_on_the_engines_own_loop(make, seen, state) -> None:
    jobs = await make(Kind("note", seen.note))

    await jobs.submit("note", "a", {"text": "Ärger \0 😀", "n": 1}, tenant="acme")

    status = await state(jobs, "note", "a", "done")
    assert seen.jobs == [Job("note", "a", {"text": "Ärger \0 😀", "n": 1}, "acme", 1)]
    assert seen.loops == {asyncio.get_running_loop()}
    assert (status.tenant, status.attempts, status.error_class) == ("acme", 1, "")


async def test_a_key_is_taken_once_whatever_has_become_of_its_job(make, seen, state) -> None:
    jobs = await make(Kind("hold", seen.hold, at_once=1))

    await asyncio.gather(*[jobs.submit("hold", "a", {"n": n}) for n in range(5)])
    await state(jobs, "hold", "a", "running")
    await jobs.submit("hold", "b", {})
    await jobs.submit("hold", "b", {})
    seen.go_on.set()
    await state(jobs, "hold", "b", "done")
    await jobs.submit("hold", "a", {})
    await jobs.submit("hold", "last", {})
    await state(jobs, "hold", "last", "done")

    assert seen.keys == ["a", "b", "last"]


async def test_a_failed_attempt_is_tried_again_with_its_number(make, state) -> None:
    tried: list[int] = []

    async def second_time_lucky(job: Job) -> None:
        tried.append(job.attempt)
        if job.attempt == 1:
            raise Again("not yet", after_s=0.01)

    jobs = await make(Kind("try", second_time_lucky, attempts=2, first_wait_s=600, most_wait_s=600))

    await jobs.submit("try", "a", {})

    status = await state(jobs, "try", "a", "done")
    assert tried == [1, 2]
    assert (status.attempts, status.error_class, status.error_message) == (2, "Again", "not yet")


async def test_a_job_out_of_attempts_is_dead_until_it_is_driven_again(make, state) -> None:
    healed = False

    async def ill(job: Job) -> None:
        if not healed:
            raise LookupError("no\0thing " + "x" * 1000)

    jobs = await make(Kind("ill", ill, attempts=1), Kind("other", ill, attempts=1))
    await jobs.submit("ill", "a", {}, tenant="acme")
    await jobs.submit("other", "b", {})

    status = await state(jobs, "ill", "a", "dead")
    await state(jobs, "other", "b", "dead")
    assert (status.attempts, status.error_class) == (1, "LookupError")
    assert status.error_message.startswith("nothing xxx")
    assert len(status.error_message) == 500
    assert await jobs.dead("ill", 10) == [status]
    await jobs.submit("ill", "a", {})
    assert (await jobs.find("ill", "a")).state == "dead"

    healed = True
    assert await jobs.redrive("ill", "a")
    status = await state(jobs, "ill", "a", "done")
    assert (status.attempts, status.tenant) == (1, "acme")
    assert await jobs.dead("ill", 10) == []
    assert not await jobs.redrive("ill", "a")


async def test_a_job_that_waits_for_its_next_attempt_holds_no_place(make, seen, state) -> None:
    async def fail_the_first(job: Job) -> None:
        await seen.note(job)
        if job.key == "first":
            raise ConnectionError("away")

    jobs = await make(Kind("one", fail_the_first, at_once=1, per_tenant=1, first_wait_s=600, most_wait_s=600))

    await jobs.submit("one", "first", {})
    await jobs.submit("one", "second", {})

    await state(jobs, "one", "second", "done")
    waiting = await jobs.find("one", "first")
    assert (waiting.state, waiting.attempts, waiting.error_class) == ("queued", 1, "ConnectionError")


async def test_a_delayed_job_comes_after_its_delay(make, seen, state) -> None:
    jobs = await make(Kind("note", seen.note))
    begun = time.monotonic()

    await jobs.submit("note", "later", {}, delay_s=0.7)
    await jobs.submit("note", "now", {})

    await state(jobs, "note", "now", "done")
    assert (await jobs.find("note", "later")).state == "queued"
    await state(jobs, "note", "later", "done")
    assert time.monotonic() - begun >= 0.7
    assert seen.keys == ["now", "later"]


async def test_queued_and_running_jobs_can_be_cancelled(make, seen, state, until) -> None:
    jobs = await make(Kind("hold", seen.hold, at_once=1))
    await jobs.submit("hold", "running", {})
    await until(lambda: seen.keys == ["running"])
    await jobs.submit("hold", "queued", {})

    assert await jobs.cancel("hold", "queued")
    assert await jobs.cancel("hold", "running")
    await until(lambda: seen.cancelled == ["running"])

    assert not await jobs.cancel("hold", "running")
    assert not await jobs.cancel("hold", "unknown")
    assert (await jobs.find("hold", "running")).state == "cancelled"
    seen.go_on.set()
    await jobs.submit("hold", "after", {})
    await state(jobs, "hold", "after", "done")
    assert seen.keys == ["running", "after"]
    assert await jobs.redrive("hold", "queued")
    await state(jobs, "hold", "queued", "done")


async def test_a_handler_cancelled_from_within_has_failed(make, state) -> None:
    async def waits_for_what_is_cancelled(job: Job) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    jobs = await make(Kind("inner", waits_for_what_is_cancelled, attempts=1))
    await jobs.submit("inner", "a", {})

    assert (await state(jobs, "inner", "a", "dead")).error_class == "CancelledError"


async def test_no_more_run_at_once_than_the_kind_allows(make, seen, state, until) -> None:
    jobs = await make(Kind("hold", seen.hold, at_once=3))
    for number in range(7):
        await jobs.submit("hold", str(number), {})

    await until(lambda: seen.now == 3)
    seen.go_on.set()

    for number in range(7):
        await state(jobs, "hold", str(number), "done")
    assert seen.most == 3


async def test_a_tenant_with_many_jobs_leaves_room_for_the_others(make, seen, until) -> None:
    jobs = await make(Kind("hold", seen.hold, at_once=10, per_tenant=2))
    for number in range(5):
        await jobs.submit("hold", f"big{number}", {}, tenant="big")
    await jobs.submit("hold", "small", {}, tenant="small")
    await jobs.submit("hold", "none", {})

    await until(lambda: seen.now == 4)

    assert {job.tenant for job in seen.jobs} == {"big", "small", ""}
    seen.go_on.set()
    await until(lambda: len(seen.jobs) == 7 and seen.now == 0)


async def test_many_waiting_jobs_take_no_threads(make, seen, until) -> None:
    import threading

    jobs = await make(Kind("hold", seen.hold, at_once=200))
    await jobs.submit("hold", "first", {})
    before = threading.active_count()

    await asyncio.gather(*[jobs.submit("hold", str(number), {}) for number in range(150)])
    await until(lambda: seen.now == 151)

    assert threading.active_count() - before < 10
    seen.go_on.set()
    await until(lambda: seen.now == 0)


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_cannot_be_a_job_is_refused_by_name(make, seen) -> None:
    jobs = await make(Kind("note", seen.note))

    with pytest.raises(JobMistake, match="kind 'nobody'"):
        await jobs.submit("nobody", "a", {})
    for key in ("", "x" * 513, "line\nbreak"):
        with pytest.raises(JobMistake, match="kind 'note' needs a key"):
            await jobs.submit("note", key, {})
    with pytest.raises(JobMistake, match="body of job 'note:a'"):
        await jobs.submit("note", "a", {"set": {1}})
    with pytest.raises(JobMistake, match="tenant of job 'note:a'"):
        await jobs.submit("note", "a", {}, tenant="\0")
    with pytest.raises(JobMistake, match="started already"):
        jobs.handle(Kind("late", seen.note))
    with pytest.raises(JobMistake, match="started already"):
        jobs.every("late", 1, _nothing)
    assert not jobs.launched


@pytest.mark.parametrize("database", ["sqlite"])
async def test_done_jobs_are_forgotten_in_time_and_dead_ones_are_not(make, seen, state, until) -> None:
    async def fail(job: Job) -> None:
        raise ValueError

    first = await make(Kind("note", seen.note), Kind("fail", fail, attempts=1))
    await first.submit("note", "a", {})
    await first.submit("fail", "b", {})
    await state(first, "note", "a", "done")
    await state(first, "fail", "b", "dead")
    await first.close(1)

    second = await make(Kind("note", seen.note), Kind("fail", fail), keep_done_s=0)

    async def gone() -> bool:
        return await second.find("note", "a") is None

    await until(gone)
    assert [status.key for status in await second.dead("fail")] == ["b"]
    await second.submit("note", "a", {})
    await state(second, "note", "a", "done")
    assert seen.keys == ["a", "a"]


async def test_a_failed_attempt_is_logged_without_its_message(make, state, caplog) -> None:
    async def fail(job: Job) -> None:
        raise ValueError("secret")

    jobs = await make(Kind("fail", fail, attempts=1))
    with caplog.at_level(logging.DEBUG):
        await jobs.submit("fail", "a", {})
        await state(jobs, "fail", "a", "dead")

    assert "fail job a failed, attempt 1 of 1: ValueError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("raised", [Again("it answered 503"), GiveUp("it answered 503")])
async def test_what_a_handler_says_of_its_failure_is_in_the_log_with_the_jobs_key(make, state, caplog, raised) -> None:
    async def fail(job: Job) -> None:
        raise raised

    jobs = await make(Kind("fail", fail, attempts=1))
    await jobs.submit("fail", "target-1/turn-1:7", {})
    await state(jobs, "fail", "target-1/turn-1:7", "dead")

    assert "fail job target-1/turn-1:7 failed, attempt 1 of 1: it answered 503" in caplog.text


async def _nothing() -> None:
    pass


async def test_a_handler_may_give_up_before_its_last_attempt(make, state) -> None:
    async def hopeless(job: Job) -> None:
        raise GiveUp("the receiver wants nothing")

    jobs = await make(Kind("hopeless", hopeless, attempts=5, first_wait_s=0.01))

    await jobs.submit("hopeless", "a", {})

    status = await state(jobs, "hopeless", "a", "dead")
    assert (status.attempts, status.error_class, status.error_message) == (1, "GiveUp", "the receiver wants nothing")


async def test_the_jobs_of_a_tenant_are_listed_the_latest_first_and_in_pages(make, state) -> None:
    async def perform(job: Job) -> None:
        if job.body["fails"]:
            raise Again("later", after_s=600)

    jobs = await make(Kind("list", perform), Kind("other", perform))
    assert await jobs.listed("list", "acme") == []
    for key in ("a", "b", "c"):
        await jobs.submit("list", key, {"fails": key == "b", "text": "Ärger"}, tenant="acme")
        await state(jobs, "list", key, "queued" if key == "b" else "done")
    await jobs.submit("list", "d", {"fails": False}, tenant="evil")
    await jobs.submit("other", "e", {"fails": False}, tenant="acme")
    await state(jobs, "list", "d", "done")
    await state(jobs, "other", "e", "done")

    whole = await jobs.listed("list", "acme")
    first = await jobs.listed("list", "acme", limit=2)
    last = first[-1]
    rest = await jobs.listed("list", "acme", after=Place(last.submitted_at, last.key), limit=2)

    assert [one.key for one in whole] == ["c", "b", "a"]
    assert [one.key for one in [*first, *rest]] == ["c", "b", "a"]
    assert whole[1].body == {"fails": True, "text": "Ärger"}
    waits = whole[1]
    assert waits.next_at is not None
    assert waits.changed_at + 590 < waits.next_at < waits.changed_at + 610
    assert whole[0].next_at is None
    assert [one.key for one in await jobs.listed("list", "acme", ["done"])] == ["c", "a"]
    assert [one.key for one in await jobs.listed("list", "acme", ["queued", "running"])] == ["b"]


async def test_what_a_tenant_still_wanted_can_be_dropped(make, seen, state) -> None:
    async def perform(job: Job) -> None:
        if job.body.get("dies"):
            raise GiveUp("no")
        await seen.hold(job)

    jobs = await make(Kind("drop", perform, at_once=1))
    await jobs.submit("drop", "dead", {"dies": True}, tenant="acme")
    await state(jobs, "drop", "dead", "dead")
    await jobs.submit("drop", "under way", {}, tenant="acme")
    await state(jobs, "drop", "under way", "running")
    await jobs.submit("drop", "queued", {}, tenant="acme")
    await jobs.submit("drop", "another's", {}, tenant="evil")

    assert await jobs.drop("drop", "acme") == 3
    await state(jobs, "drop", "another's", "running")
    seen.go_on.set()
    await state(jobs, "drop", "another's", "done")

    assert {one.state for one in await jobs.listed("drop", "acme")} == {"cancelled"}
    assert seen.cancelled == ["under way"]
    assert seen.keys == ["under way", "another's"]
    assert await jobs.drop("drop", "acme") == 0
