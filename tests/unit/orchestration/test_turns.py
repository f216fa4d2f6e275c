"""What a caller brings to a turn that waits for it, and what two calls of a session know of each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from turning import KEY, HeldModel, Stage, agent, answer_of, hear, memory

from outcrop.events import Answered
from outcrop.ids import SessionKey, TurnId
from outcrop.orchestration import carrier, turns
from outcrop.orchestration.return_control import ResultsMistaken
from outcrop.orchestration.turn import Finish, Opening
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import ScriptedModel, call

ASK = call("desk__check", {"sku": "B"})
BUY = call("shop__buy", {"sku": "A"})


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    opened = memory()
    yield opened
    await opened.close()


async def test_the_attributes_that_come_with_results_are_the_turns_from_then_on(database: SqliteDatabase) -> None:
    stage = Stage([[ASK, ASK], "Done."], database=database)
    asked = await hear(await stage.begin())
    await hear(await stage.resume(answer_of(asked[-1]), {"tone": "kind"}))

    assert (await stage.open())[0].attributes == {"tone": "kind"}
    written = [entry.outcome["session_attributes"] for entry in (await stage.kept()).entries[1:3]]
    assert written == [None, {"tone": "kind"}], "so that another worker knows them too"


async def test_the_attributes_that_come_with_a_consent_are_the_turns_from_then_on(database: SqliteDatabase) -> None:
    stage = Stage([[BUY], "Done."], database=database)
    stage.functions.add("shop", "42")
    asked = await hear(await stage.begin())
    await hear(await stage.resume(answer_of(asked[-1], "CONFIRM"), {"tone": "kind"}))

    [(_, event)] = stage.functions.events
    assert event["sessionAttributes"] == {"tone": "kind"}
    assert (await stage.open())[0].attributes == {"tone": "kind"}


MISTAKES: dict[str, tuple[list[Any], str]] = {
    "too few": ([ASK, ASK], "lacks a result for: desk__check"),
    "none": ([ASK], "lacks a result for: desk__check"),
    "another": ([ASK], "no pending invocation has this action group and function"),
    "no decision": ([BUY], "confirmationState is missing"),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_results_that_answer_something_else_are_refused_and_the_turn_waits_on(
    database: SqliteDatabase, name: str
) -> None:
    calls, told = MISTAKES[name]
    stage = Stage([calls], database=database)
    asked = await hear(await stage.begin())
    members = answer_of(asked[-1])
    if name == "another":
        members[0]["functionResult"]["function"] = "buy"
    before = await stage.kept()

    with pytest.raises(ResultsMistaken, match=told):
        await stage.resume([] if name == "none" else members[:1])
    assert await stage.kept() == before


async def test_a_turn_that_awaits_nothing_takes_no_results(database: SqliteDatabase) -> None:
    stage = Stage(["Hello."], database=database)
    await hear(await stage.begin())

    with pytest.raises(ResultsMistaken, match="nothing is awaited"):
        await stage.resume([])


async def test_a_turn_that_is_forgotten_while_it_is_taken_over_is_nobodys(database: SqliteDatabase) -> None:
    one = Stage(database=database, model=(held := HeldModel(ScriptedModel([]))))
    await one.begin()
    await held.held.reached.wait()
    await one.turns.close(0.0)
    two = Stage(database=database, name="two")
    take_over = two.journal.take_over

    async def then_forgotten(turn: Any) -> Any:
        pages = await take_over(turn)
        await two.sessions.delete((await two.open())[0])
        return pages

    two.journal.take_over = then_forgotten
    assert await two.turns.recover(one.turn_id) is None
    assert len(two.turns.carrier) == 0


async def test_calls_of_a_session_wait_in_one_line_while_anybody_does(database: SqliteDatabase) -> None:
    stage = Stage(database=database)
    line = stage.turns.line(KEY)

    assert stage.turns.line(KEY) is line
    assert stage.turns.line(SessionKey(f"{KEY}2")) is not line
    await stage.turns.close(0.0)


async def test_turns_that_were_heard_are_known_until_the_database_knows(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_MOST_HEARD", 2)
    stage = Stage(["Hello."], database=database)
    await hear(await stage.begin())
    _, unheard = await stage.open()
    assert unheard is not None
    assert not stage.turns.was_heard(unheard)

    stage.turns.heard(KEY, unheard.id)
    assert stage.turns.was_heard(unheard)
    for turn in ("a", "b"):
        stage.turns.heard(KEY, TurnId(turn))
    assert not stage.turns.was_heard(unheard), "the oldest is not remembered for ever"
    await stage.turns.close(1.0)
    assert (await stage.sessions.open(KEY, 600, stage.clock.now()))[1] is None


async def test_a_call_that_is_sent_again_finds_its_turn(database: SqliteDatabase) -> None:
    stage = Stage(["Hello."], database=database)
    session, _ = await stage.open()
    live = await stage.turns.begin(session, agent(), Opening("Hi", "session-1", {}, {}), retry_key="call-1")
    await hear(live)

    assert await stage.turns.retried(KEY, "call-1") == live.turn_id
    assert await stage.turns.retried(KEY, "call-2") is None


async def test_a_turn_that_nothing_can_end_lets_its_listeners_go(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(carrier, "_MOST_LEASES", 1)
    stage = Stage(database=database, model=(held := HeldModel(ScriptedModel([RuntimeError("a bug")]))))
    live = await stage.begin()
    await held.held.reached.wait()
    carried = stage.turns.carrier.find(stage.turn_id)
    assert carried is not None

    async def broken(*_: Any) -> None:
        raise LookupError

    carried.pages.end = broken
    held.held.gate.set()

    assert not isinstance((await hear(live))[-1], Answered)
    assert "it cannot be ended" in caplog.text
    assert not live.is_over
    assert len(stage.turns.carrier) == 0


def test_a_step_that_ends_a_turn_is_never_performed() -> None:
    stage = Stage(database=memory())
    with pytest.raises(AssertionError, match="is not performed"):
        asyncio.run(stage.turns._performer.perform(Finish("Bye."), None, print, None, {}))
    asyncio.run(stage.database.close())
