"""Turns without their caller: kept first, begun once, in the order they came, by whichever worker has the job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from turning import KEY, HeldModel, Stage, agent, hear, memory

from outcrop.events import Failed
from outcrop.ids import SessionKey, TurnId
from outcrop.jobs.base import Again, Job, Kind
from outcrop.messages import assistant, user
from outcrop.orchestration.queueing import TURN, Asked, Queue, is_token, token_key
from outcrop.orchestration.turn import Opening
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import ScriptedModel, call

ASK = call("desk__check", {"sku": "B"})


class Jobs:
    """Keeps what it is given; a test runs it."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        self.sweeps: dict[str, Callable[[], Awaitable[None]]] = {}
        self.submitted: list[tuple[str, str, dict[str, Any], str]] = []
        self.cancelled: list[tuple[str, str]] = []

    def handle(self, kind: Kind) -> None:
        self.kinds[kind.name] = kind

    def every(self, name: str, seconds: float, handler: Callable[[], Awaitable[None]]) -> None:
        self.sweeps[name] = handler

    async def submit(self, kind: str, key: str, body: dict[str, Any], *, tenant: str = "", delay_s: float = 0) -> None:
        self.submitted.append((kind, key, body, tenant))

    async def cancel(self, kind: str, key: str) -> bool:
        self.cancelled.append((kind, key))
        return True


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    opened = memory()
    yield opened
    await opened.close()


class Desk(Stage):
    """A worker with a queue."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queue = Queue(self.journal, self.sessions, self.turns, self.clock)
        self.jobs = Jobs()
        self.queue.registered_with(self.jobs, at_once=3, per_tenant=2)

    async def put(self, text: str = "Check", *, token: str = "", key: SessionKey = KEY, **opening: Any) -> TurnId:
        asked = Asked(Opening(text, "session-1", {}, {}, **opening), None, (), 600)
        return (await self.queue.put(key, agent(), asked, token=token))[0]

    async def said(self) -> list[str]:
        """The user's words that the session remembers."""
        return [turn[0]["content"][0]["text"] for turn in (await self.open())[0].history]


async def test_a_queued_turn_is_begun_and_seen_through(database: SqliteDatabase) -> None:
    desk = Desk(["Hello."], database=database)
    turn_id = await desk.put()
    waits = await desk.kept(turn_id)

    assert await desk.queue.is_busy(KEY)
    assert await desk.queue.take(turn_id, 1.0)

    assert (waits.state, waits.holder) == ("queued", "")
    done = await desk.kept(turn_id)
    assert (done.state, done.opening["input_text"], done.base) == ("done", "Check", 0)
    assert not await desk.queue.is_busy(KEY)
    assert await desk.queue.take(turn_id, 1.0), "a job that is run again finds nothing to do"
    assert await desk.queue.take(TurnId("unknown"), 1.0)
    assert len(desk.model.requests) == 1


async def test_queued_turns_of_a_session_begin_in_the_order_they_came(database: SqliteDatabase) -> None:
    desk = Desk(["one", "two", "three"], database=database)
    turns = [await desk.put(text) for text in ("first", "second", "third")]

    assert not await desk.queue.take(turns[2], 0.01), "two are before it"
    takes = [asyncio.ensure_future(desk.queue.take(turn, 10.0)) for turn in reversed(turns)]

    assert await asyncio.gather(*takes) == [True] * 3
    assert await desk.said() == ["first", "second", "third"]


async def test_a_queued_turn_waits_for_the_one_that_runs(database: SqliteDatabase) -> None:
    held = HeldModel(ScriptedModel(["Hello.", "And hello."]))
    desk = Desk(database=database, model=held)
    live = await desk.begin("first")
    await held.held.reached.wait()
    turn_id = await desk.put("second")

    assert await desk.queue.is_busy(KEY)
    assert not await desk.queue.take(turn_id, 0.01)
    taking = asyncio.ensure_future(desk.queue.take(turn_id, 10.0))
    held.held.gate.set()
    await hear(live)
    assert await taking
    assert await desk.said() == ["first", "second"]


async def test_a_turn_that_somebody_carries_is_waited_for(database: SqliteDatabase) -> None:
    held = HeldModel(ScriptedModel(["Hello."]))
    desk = Desk(database=database, model=held)
    turn_id = await desk.put()
    first = asyncio.ensure_future(desk.queue.take(turn_id, 10.0))
    await held.held.reached.wait()
    other = Desk(database=database, name="two")
    second = asyncio.ensure_future(other.queue.take(turn_id, 0.01))
    await asyncio.sleep(0.02)
    assert not second.done()
    held.held.gate.set()

    assert await first
    assert await second
    await other.turns.close(0.0)


async def test_a_turn_whose_job_runs_twice_is_begun_once(database: SqliteDatabase) -> None:
    desks = [Desk(["Hello."], database=database, name=f"desk-{number}") for number in range(3)]
    turn_id = await desks[0].put()

    assert await asyncio.gather(*(desk.queue.take(turn_id, 10.0) for desk in desks)) == [True] * 3
    assert sum(len(desk.model.requests) for desk in desks) == 1
    for desk in desks:
        await desk.turns.close(0.0)


async def test_a_turn_that_returns_control_has_been_seen_through(database: SqliteDatabase) -> None:
    desk = Desk([[ASK]], database=database)
    turn_id = await desk.put()

    assert await desk.queue.take(turn_id, 1.0)
    assert (await desk.kept(turn_id)).state == "awaiting"
    assert not await desk.queue.take(await desk.put("Another"), 0.01), "the session is not free"


async def test_a_token_names_one_turn(database: SqliteDatabase) -> None:
    desk = Desk(database=database)
    asked = Asked(Opening("Check", "session-1", {}, {}), None, (), 600)
    first = await desk.queue.put(KEY, agent(), asked, token=token_key("order-7"))
    again = await desk.queue.put(KEY, agent(), asked, token=token_key("order-7"))
    other = await desk.queue.put(KEY, agent(), asked, token=token_key("order-8"))

    assert (first[1], again, other[1]) == (True, (first[0], False), True)
    assert other[0] > first[0], "they sort as they came"
    assert is_token((await desk.kept(first[0])).retry_key)
    assert not is_token("a7c0a0e4-6c1f-4b6e-9b0e-1d7c5f0c9a11")


async def test_a_queued_turn_begins_with_what_it_was_given_and_else_with_its_sessions_own(
    database: SqliteDatabase,
) -> None:
    desk = Desk(["one", "two", "three"], database=database)
    seed = [user("I am Ada"), assistant("Hello Ada")]
    opening = Opening("Check", "session-1", {}, {})
    for asked in (
        Asked(opening, {"tone": "kind"}, seed, 60),
        Asked(opening, None, (), 60),
        Asked(opening, {}, [user("I am Eve"), assistant("Hello Eve")], 60),
    ):
        turn_id, _ = await desk.queue.put(KEY, agent(), asked)
        assert await desk.queue.take(turn_id, 1.0)

    sent = [request.messages[0]["content"][0]["text"] for request in desk.model.requests]
    assert sent == ["I am Ada", "I am Ada", "I am Eve"]
    session, _ = await desk.open()
    assert (session.attributes, session.idle_ttl_s) == ({}, 60)


async def test_a_turn_whose_time_is_over_before_its_session_is_free_fails(database: SqliteDatabase) -> None:
    held = HeldModel(ScriptedModel([]))
    desk = Desk(database=database, model=held)
    await desk.begin("first")
    await held.held.reached.wait()
    turn_id = await desk.put("second", deadline_s=5.0)
    assert not await desk.queue.take(turn_id, 0.01)
    desk.clock.at += 6.0

    assert await desk.queue.take(turn_id, 0.01)

    kept = await desk.kept(turn_id)
    assert (kept.state, kept.ending["reason"]) == ("failed", "The turn did not end within the 5 seconds it was given.")
    [[last]] = await desk.told(turn_id)
    assert isinstance(last, Failed)
    assert last.code == 408
    await desk.turns.close(0.0)


async def test_a_turn_whose_time_is_over_when_its_session_becomes_free_asks_no_model(database: SqliteDatabase) -> None:
    held = HeldModel(ScriptedModel(["Hello."]))
    desk = Desk(database=database, model=held)
    live = await desk.begin("first")
    await held.held.reached.wait()
    turn_id = await desk.put("second", deadline_s=5.0)
    taking = asyncio.ensure_future(desk.queue.take(turn_id, 30.0))
    desk.clock.at += 6.0
    held.held.gate.set()
    await hear(live)

    assert await taking

    kept = await desk.kept(turn_id)
    assert (kept.state, kept.ending["reason"]) == ("failed", "The turn did not end within the 5 seconds it was given.")
    assert kept.entries == ()
    assert held.held.calls == 1
    await desk.turns.close(5.0)


async def test_a_queued_turn_that_nobody_took_in_time_does_not_begin_on_a_free_session(
    database: SqliteDatabase,
) -> None:
    desk = Desk(["Never said."], database=database)
    turn_id = await desk.put(deadline_s=5.0)
    desk.clock.at += 6.0

    assert await desk.queue.take(turn_id, 1.0)

    assert (await desk.kept(turn_id)).state == "failed"
    assert desk.model.requests == []
    assert await desk.said() == []


async def test_a_queued_turn_that_is_cancelled_does_not_begin(database: SqliteDatabase) -> None:
    desk = Desk(database=database)
    turn_id = await desk.put()

    assert await desk.turns.stop(turn_id, "cancel", "Not needed.")
    await desk.queue.cancel(turn_id)

    assert desk.jobs.cancelled == [(TURN, turn_id)]
    assert await desk.queue.take(turn_id, 1.0)
    assert (await desk.kept(turn_id)).state == "abandoned"
    [[last]] = await desk.told(turn_id)
    assert isinstance(last, Failed)
    assert last.reason == "Not needed."


# jobs -----------------------------------------------------------------------------------------------


async def test_a_job_begins_a_turn_or_makes_room_for_others(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outcrop.orchestration import queueing

    monkeypatch.setattr(queueing, "_PATIENCE_S", 0.01)
    desk = Desk(["Hello.", "And hello."], database=database)
    kind = desk.jobs.kinds[TURN]
    first, second = await desk.put("first"), await desk.put("second")
    await desk.queue.submit(first, "tenant")

    assert (kind.at_once, kind.per_tenant) == (3, 2)
    assert desk.jobs.submitted == [(TURN, first, {"turnId": first}, "tenant")]
    with pytest.raises(Again, match="busy with another turn"):
        await kind.handler(Job(TURN, second, {"turnId": second}))
    for turn_id in (first, second):
        await kind.handler(Job(TURN, turn_id, {"turnId": turn_id}))
    assert await desk.said() == ["first", "second"]


async def test_a_turn_that_was_kept_and_never_submitted_is_found(database: SqliteDatabase) -> None:
    desk = Desk(database=database)
    left = await desk.put("left")
    desk.clock.at += 31.0
    await desk.put("just now")

    await desk.jobs.sweeps["turns.queued"]()

    assert [key for _, key, _, _ in desk.jobs.submitted] == [left]
