"""Listeners that the turn's own process does not feed: they hear of what it writes, at once or at the next look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from turning import Held, HeldFunctions, HeldModel, Stage, answer_of, hear, memory, plain

from outcrop.events import Answered, ControlReturned, Failed, ModelCalled
from outcrop.ids import TurnId
from outcrop.orchestration.following import Followed, Watch
from outcrop.orchestration.limits import Allowance, Budget
from outcrop.orchestration.policy import Policy
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import ScriptedModel, call

CHECK = call("shop__check", {"sku": "A"})
ASK = call("desk__check", {"sku": "B"})
NEVER_S = 3600.0


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    opened = memory()
    yield opened
    await opened.close()


def follow(stage: Stage, call: int = 0, look_s: float = 0.001) -> Followed:
    """As another process does."""
    watch = Watch(stage.journal, look_s)
    return Followed(stage.turn_id, call, stage.turns.retold, watch, stage.clock)


async def test_a_turn_is_followed_from_its_start_as_it_grows(database: SqliteDatabase) -> None:
    stage = Stage([[CHECK], "42"], database=database, functions=(functions := HeldFunctions()))
    functions.add("shop", "42")
    live = await stage.begin()
    await functions.held.reached.wait()
    followed = follow(stage)
    batches = followed.batches()

    assert [type(event).__name__ for event in await anext(batches)] == ["ModelCalled", "ModelAnswered"]
    functions.held.gate.set()
    rest = [event for batch in [batch async for batch in batches] for event in batch]

    assert [type(event).__name__ for event in rest] == ["ActionReturned", "ModelCalled", "ModelAnswered", "Answered"]
    assert plain(await hear(live), timeless=True)[2:] == plain(rest, timeless=True)
    assert followed.is_over
    assert followed.turn_id == live.turn_id
    await stage.turns.close(5.0)


async def test_a_turn_that_ended_long_ago_is_told_whole(database: SqliteDatabase) -> None:
    stage = Stage(["Hello."], database=database)
    live = await hear(await stage.begin())

    assert plain(await hear(followed := follow(stage)), timeless=True) == plain(live, timeless=True)
    assert followed.is_over


async def test_each_call_of_a_turn_has_its_own_part(database: SqliteDatabase) -> None:
    stage = Stage([[ASK], "42"], database=database)
    asked = await hear(await stage.begin())
    first = follow(stage)
    waiting = asyncio.ensure_future(hear(second := follow(stage, call=1)))
    await asyncio.sleep(0.01)

    assert isinstance((await hear(first))[-1], ControlReturned)
    assert not first.is_over, "the turn goes on once it has its results"
    live = await hear(await stage.resume(answer_of(asked[-1])))
    assert plain(await waiting, timeless=True) == plain(live, timeless=True)
    assert second.is_over
    assert isinstance(live[-1], Answered)


async def test_the_caller_of_a_paused_turn_is_told_so(database: SqliteDatabase) -> None:
    policy = Policy(budget=Budget(turn=Allowance(steps=1), at_limit="pause"))
    stage = Stage([[CHECK]], policy, database)
    live = await hear(await stage.begin())
    told = await hear(followed := follow(stage))

    assert isinstance(told[-1], Failed)
    assert isinstance(live[-1], Failed)
    assert (told[-1].code, told[-1].reason) == (402, live[-1].reason)
    assert f"Turn {stage.turn_id} goes on when it is resumed." in told[-1].reason
    assert not followed.is_over


async def test_a_turn_that_is_forgotten_ends_its_followers(database: SqliteDatabase) -> None:
    stage = Stage([], database=database, model=(held := HeldModel(ScriptedModel([]))))
    await stage.begin()
    await held.held.reached.wait()
    batches = follow(stage).batches()
    assert isinstance((await anext(batches))[0], ModelCalled)
    session, _ = await stage.open()
    await stage.sessions.delete(session)

    assert await anext(batches, None) is None
    assert await hear(follow(stage)) == []
    await stage.turns.close(0.0)


async def test_what_this_process_writes_is_heard_at_once(database: SqliteDatabase) -> None:
    """Given a watch that hardly ever looks, when the turn comes to rest here, then its waiters hear of it."""
    stage = Stage([], database=database, model=(held := HeldModel(ScriptedModel(["Hello."]))))
    stage.turns.watch = watch = Watch(stage.journal, NEVER_S)
    stage.turns.carrier._on_rest = watch.tell
    live = await stage.begin()
    await held.held.reached.wait()
    followed = Followed(stage.turn_id, 0, stage.turns.retold, watch, stage.clock)
    ended, told = asyncio.ensure_future(stage.turns.ended(stage.turn_id)), asyncio.ensure_future(hear(followed))
    settled = asyncio.ensure_future(stage.turns.settled(stage.turn_id))
    while len(watch._waiting.get(stage.turn_id, ())) < 3:
        await asyncio.wait([ended], timeout=0.001)

    held.held.gate.set()

    assert await ended
    await settled
    assert plain(await told, timeless=True) == plain(await hear(live), timeless=True)
    await stage.turns.close(1.0)


async def test_waiting_ends_where_there_is_nothing_to_wait_for(database: SqliteDatabase) -> None:
    stage = Stage(["Hello.", [ASK]], database=database)
    await hear(await stage.begin())
    assert await stage.turns.ended(stage.turn_id, 0.01)
    await stage.turns.settled(stage.turn_id)
    assert await stage.turns.ended(TurnId("unknown"))
    await stage.turns.settled(TurnId("unknown"))

    await hear(await stage.begin("And?"))
    await stage.turns.settled(stage.turn_id)
    assert not await stage.turns.ended(stage.turn_id, 0.01), "it waits for its caller"
    await stage.turns.close(1.0)


async def test_looking_stops_with_its_process_and_whoever_waits_is_cancelled(database: SqliteDatabase) -> None:
    stage = Stage([], database=database, model=(held := HeldModel(ScriptedModel([]))))
    await stage.begin()
    await held.held.reached.wait()
    watch = Watch(stage.journal, NEVER_S)
    waiting = asyncio.ensure_future(watch.moved(stage.turn_id, await watch.place(stage.turn_id)))
    while not watch._waiting:
        await asyncio.wait([waiting], timeout=0.001)

    await watch.close()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    await Watch(stage.journal, NEVER_S).close()
    await stage.turns.close(0.0)


async def test_a_waiter_that_gave_up_is_left_alone(database: SqliteDatabase) -> None:
    stage = Stage([], database=database, model=(held := HeldModel(ScriptedModel([]))))
    await stage.begin()
    await held.held.reached.wait()
    watch = Watch(stage.journal, NEVER_S)
    waiting = asyncio.ensure_future(watch.moved(stage.turn_id, await watch.place(stage.turn_id)))
    while not watch._waiting:
        await asyncio.wait([waiting], timeout=0.001)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    watch.tell(stage.turn_id)
    assert watch._waiting == {}
    await watch.close()
    await stage.turns.close(0.0)


async def test_whoever_follows_where_the_turn_runs_is_fed_by_it(database: SqliteDatabase) -> None:
    stage = Stage([[ASK], "42"], database=database)
    live = await stage.begin()
    assert stage.turns.follow(stage.turn_id, 0) is live
    asked = await hear(live)
    again = await stage.resume(answer_of(asked[-1]))

    assert stage.turns.follow(stage.turn_id, 1) is again
    assert isinstance(stage.turns.follow(stage.turn_id, 0), Followed), "an earlier call of it"
    await hear(again)
    assert isinstance(stage.turns.follow(stage.turn_id, 1), Followed)


async def test_a_turn_that_is_held_while_its_second_tool_runs_is_followed_by_whole_steps(
    database: SqliteDatabase,
) -> None:
    """Given two calls side by side of which one is done, then a follower hears of them when both are."""
    stage = Stage([[CHECK, CHECK], "42"], database=database, functions=(functions := HeldFunctions(held=Held(1))))
    functions.add("shop", "42")
    await stage.begin()
    await functions.held.reached.wait()
    await stage.concluded(2)
    batches = follow(stage).batches()

    assert [type(event).__name__ for event in await anext(batches)] == ["ModelCalled", "ModelAnswered"]
    functions.held.gate.set()
    names = [type(event).__name__ for batch in [batch async for batch in batches] for event in batch]
    assert names == ["ActionReturned", "ActionReturned", "ModelCalled", "ModelAnswered", "Answered"]
    await stage.turns.close(1.0)
