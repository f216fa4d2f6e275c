"""One process carries a turn once, whoever else here wants it: callers that come twice, beats, and what it lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from turning import Held, HeldModel, Stage, agent, answer_of, hear, memory
from workers import Breaking

from outcrop.events import Answered, ControlReturned, Failed
from outcrop.ids import SessionKey
from outcrop.models.base import ConverseRequest, Delta, ModelThrottled
from outcrop.orchestration.channel import Channel
from outcrop.orchestration.recovery import Recovery
from outcrop.orchestration.turn import Opening
from outcrop.orchestration.turns import TooManyTurns
from outcrop.sessions.entries import Moved
from outcrop.sessions.leases import Leases
from outcrop.storage.database import Database, Unavailable
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import RecordedFunctions, ScriptedModel, call

BUY = call("shop__buy", {"sku": "A"})
RESUME = 3
"""The number of the write that takes up a confirmation, after the turn, its model call, and that it waits."""


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    opened = memory()
    yield opened
    await opened.close()


class Interrupted(Breaking):
    """A database whose connection breaks at a write, and that says so at once."""

    def __init__(self, database: Database, at: int, how: Any) -> None:
        super().__init__(database, at, how)
        self.broke = asyncio.Event()

    async def write(self, work: Callable[..., Any]) -> Any:
        try:
            return await super().write(work)
        except Unavailable:
            self.broke.set()
            raise


class Late(Breaking):
    """A database that keeps every write, and whose word that number `at` was kept comes late."""

    def __init__(self, database: Database, at: int) -> None:
        super().__init__(database, at, "kept", times=0)
        self.held = Held(after=at)

    async def write(self, work: Callable[..., Any]) -> Any:
        value = await super().write(work)
        await self.held.come()
        return value


class Silent:
    """A model that never answers. `all_asked` once so many wait for it."""

    def __init__(self, expected: int) -> None:
        self.asked, self._expected = 0, expected
        self.all_asked = asyncio.Event()

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        self.asked += 1
        if self.asked == self._expected:
            self.all_asked.set()
        await asyncio.Event().wait()
        yield {}

    async def close(self) -> None:
        """Nothing is open."""


async def begun(stage: Stage, number: int) -> Channel:
    """A turn on a session of its own."""
    name = f"session-{number}"
    key = SessionKey(f"123456789012/ABCDEFGHIJ/TSTALIASID/{name}")
    session, _ = await stage.sessions.open(key, 600, stage.clock.now())
    return await stage.turns.begin(session, agent(), Opening("Check", name, {}, {}))


def shop() -> RecordedFunctions:
    functions = RecordedFunctions()
    functions.add("shop", "42")
    return functions


def recovery(stage: Stage, database: Database) -> Recovery:
    return Recovery(Leases(database, stage.name, 5.0), stage.turns, 0.5)


# callers that come twice ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lost", "kept"])
async def test_a_confirmation_brought_twice_while_its_write_is_tried_again_buys_once(
    database: SqliteDatabase, how: str
) -> None:
    """Given a write that broke off, then the same results that come meanwhile are not taken up beside the first."""
    broken = Interrupted(database, RESUME, how)
    model = HeldModel(ScriptedModel([[BUY], "Bought."]), Held(after=1))
    one = Stage(database=broken, model=model, functions=shop(), patience_s=30.0)
    brought = answer_of((await hear(await one.begin("Buy A")))[-1], "CONFIRM")
    assert broken.writes == RESUME

    first = asyncio.ensure_future(one.resume(brought))
    await broken.broke.wait()
    with pytest.raises(Moved):
        await one.resume(brought)
    model.held.gate.set()
    heard = await hear(await first)

    assert isinstance(heard[-1], Answered)
    assert one.functions.keys == [f"{one.turn_id}/1/0"]
    assert model.held.calls == 2
    assert ((await one.kept()).state, (await one.kept()).lease) == ("done", 2)
    await one.turns.close(5.0)


async def test_of_turns_begun_at_once_a_process_accepts_exactly_as_many_as_it_may(database: SqliteDatabase) -> None:
    one = Stage(database=database, model=Silent(3), most_at_once=3)

    got = await asyncio.gather(*(begun(one, number) for number in range(10)), return_exceptions=True)

    assert sum(isinstance(each, Channel) for each in got) == 3
    assert sum(isinstance(each, TooManyTurns) for each in got) == 7
    assert len(one.turns.carrier) == 3
    await one.turns.close(0.0)
    assert len(one.turns.carrier) == 0


async def test_a_turn_that_could_not_begin_takes_no_room(database: SqliteDatabase) -> None:
    broken = Interrupted(database, 0, "lost")
    one = Stage(["Hello."], database=broken, most_at_once=1)
    with pytest.raises(Unavailable):
        await one.begin()

    heard = await hear(await one.begin())

    assert isinstance(heard[-1], Answered)
    await one.turns.close(5.0)


async def test_a_failure_told_again_counts_as_told_with_its_last_word(database: SqliteDatabase) -> None:
    """Whoever tells a fault onwards reads no further: by then the call is known to be over."""
    one = Stage([ModelThrottled("slow down")], database=database)
    await hear(await one.begin())

    listener = one.turns.follow(one.turn_id, 0)
    told = [(batch[-1], listener.is_over) async for batch in listener.batches()]

    last, is_over = told[-1]
    assert isinstance(last, Failed)
    assert last.fault is not None
    assert is_over
    await one.turns.close(5.0)


# beats ----------------------------------------------------------------------------------------------


async def test_beats_leave_a_turn_alone_that_is_about_to_be_carried(database: SqliteDatabase) -> None:
    """Given a first write that is kept long before its writer knows, then the beats between take nothing up."""
    late = Late(database, 0)
    one = Stage(["Hello."], database=late)
    pulse = recovery(one, database)
    begins = asyncio.ensure_future(one.begin())
    await late.held.reached.wait()

    for _ in range(4):
        await pulse.once()
    late.held.gate.set()
    heard = await hear(await begins)

    assert isinstance(heard[-1], Answered)
    assert ((await one.kept()).state, (await one.kept()).lease) == ("done", 1)
    await one.turns.close(5.0)


async def test_beats_leave_a_confirmed_action_alone_that_is_about_to_be_done(database: SqliteDatabase) -> None:
    late = Late(database, RESUME)
    one = Stage([[BUY], "Bought."], database=late, functions=shop())
    pulse = recovery(one, database)
    asked = (await hear(await one.begin("Buy A")))[-1]
    assert isinstance(asked, ControlReturned)
    resumes = asyncio.ensure_future(one.resume(answer_of(asked, "CONFIRM")))
    await late.held.reached.wait()

    for _ in range(4):
        await pulse.once()
    assert one.functions.keys == []
    late.held.gate.set()
    heard = await hear(await resumes)

    assert isinstance(heard[-1], Answered)
    assert one.functions.keys == [f"{one.turn_id}/1/0"]
    kept = await one.kept()
    assert (kept.state, kept.lease, [entry.state for entry in kept.entries]) == ("done", 2, ["done"] * 3)
    await one.turns.close(5.0)


async def test_a_turn_that_comes_back_is_taken_up_once_its_old_task_is_gone(database: SqliteDatabase) -> None:
    """Given a worker that stood still, and another that had its turn and left, then it begins with the turn anew."""
    model = HeldModel(ScriptedModel(["Hello."]))
    one = Stage(database=database, name="one", model=model)
    two = Stage(database=database, name="two")
    pulse = recovery(one, database)
    first = await one.begin()
    await model.held.reached.wait()
    await (await two.journal.take_over(await one.kept())).release()

    await pulse.once()
    async with asyncio.timeout(30):
        stale = await hear(first)
    await pulse.once()
    async with asyncio.timeout(30):
        heard = await hear(one.turns.follow(one.turn_id, 0))
    for _ in range(3):
        await pulse.once()

    assert isinstance(stale[-1], Failed)
    assert stale[-1].reason == "The turn goes on at another server. Retry the request to join it."
    assert isinstance(heard[-1], Answered)
    assert (model.held.calls, model.held.cancelled) == (2, 1)
    kept = await one.kept()
    assert (kept.state, kept.lease, len(kept.entries)) == ("done", 3, 1)
    assert len(one.turns.carrier) == 0
    await one.turns.close(5.0)


# a server that stops --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5])
async def test_a_server_that_stops_lets_go_of_all_its_turns_and_tells_every_caller(
    database: SqliteDatabase, count: int
) -> None:
    one = Stage(database=database, model=(silent := Silent(count)))
    channels = [await begun(one, number) for number in range(count)]
    await silent.all_asked.wait()

    await one.turns.close(0.0)

    async with asyncio.timeout(30):
        last = [(await hear(channel))[-1] for channel in channels]
    told = [event.reason for event in last if isinstance(event, Failed)]
    assert told == ["The server is stopping. Retry the request on the same session."] * count
    kept = [await one.kept(channel.turn_id) for channel in channels]
    assert [(turn.state, turn.holder) for turn in kept] == [("running", "")] * count
    assert len(one.turns.carrier) == 0
