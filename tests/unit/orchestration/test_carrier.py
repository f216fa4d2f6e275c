"""Turns under way: an engine that fails, a database that goes away, what is stopped, what outlives its limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from turning import Held, HeldFunctions, HeldModel, Stage, answer_of, hear, memory, plain
from workers import Breaking

from outcrop.events import Answered, ControlReturned, Event, Failed
from outcrop.ids import TurnId
from outcrop.orchestration import carrier
from outcrop.orchestration.encoding import UNCERTAIN
from outcrop.orchestration.limits import Allowance, Budget
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.turns import TooManyTurns
from outcrop.sessions.entries import Moved
from outcrop.storage.database import Unavailable
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import ScriptedModel, call

CHECK = call("shop__check", {"sku": "A"})
ASK = call("desk__check", {"sku": "B"})
AWAY = "The turn could not be written down and goes on later. Retry the request to join it."


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    opened = memory()
    yield opened
    await opened.close()


def failed(events: list[Event]) -> Failed:
    assert isinstance(events[-1], Failed)
    return events[-1]


async def check_retold(stage: Stage, heard: list[Event]) -> None:
    told = await stage.told()
    assert plain(told[-1], timeless=True) == plain(heard, timeless=True)


# the engine fails -----------------------------------------------------------------------------------


async def test_a_turn_that_makes_the_engine_fail_is_tried_again_and_then_fails(database: SqliteDatabase) -> None:
    stage = Stage([RuntimeError("a bug")] * 5 + ["Hello."], database=database)
    heard = [await hear(await stage.begin())]
    for _ in range(4):
        between = await stage.kept()
        assert (between.state, between.holder) == ("running", "")
        channel = await stage.turns.recover(stage.turn_id)
        assert channel is not None
        assert not channel.is_over
        heard.append(await hear(channel))

    assert {(failed(one).code, type(failed(one).fault).__name__) for one in heard} == {(500, "InternalServerException")}
    assert "a bug" not in str([failed(one).reason for one in heard])
    kept = await stage.kept()
    assert (kept.state, kept.lease) == ("failed", 5)
    await check_retold(stage, heard[-1])
    assert isinstance((await hear(await stage.begin("Anybody?")))[-1], Answered), "the session is free"


async def test_an_engine_that_failed_once_has_not_failed_the_turn(database: SqliteDatabase) -> None:
    stage = Stage([[CHECK], RuntimeError("a bug"), "There are 42."], database=database)
    stage.functions.add("shop", "42")
    await hear(await stage.begin())
    channel = await stage.turns.recover(stage.turn_id)
    assert channel is not None

    heard = await hear(channel)

    assert isinstance(heard[-1], Answered)
    assert len(stage.functions.events) == 1
    await check_retold(stage, heard)


async def test_what_cannot_be_written_down_fails_the_turn_and_not_its_session(database: SqliteDatabase) -> None:
    """Given a reply after an action that no journal can hold, when all tries fail, then the turn has an end."""
    stage = Stage([[CHECK], *["half a character: \ud83d"] * 5, "Hello."], database=database)
    stage.functions.add("shop", "42")
    heard = await hear(await stage.begin())
    for _ in range(4):
        channel = await stage.turns.recover(stage.turn_id)
        assert channel is not None
        heard = await hear(channel)

    assert failed(heard).code == 500
    assert (await stage.kept()).state == "failed"
    assert len(stage.turns.carrier) == 0
    assert len(stage.functions.events) == 1
    assert isinstance((await hear(await stage.begin("Anybody?")))[-1], Answered)


@pytest.mark.parametrize("how", ["taken over", "away"])
async def test_a_failure_that_cannot_be_written_down_is_told(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(carrier, "_MOST_LEASES", 1)
    stage = Stage([], database=database, model=(held := HeldModel(ScriptedModel([RuntimeError("a bug")]))))
    stage.database = database
    live = await stage.begin()
    await held.held.reached.wait()
    if how == "taken over":
        await Stage(database=database, name="two").journal.take_over(await stage.kept())
    else:
        carried = stage.turns.carrier.find(stage.turn_id)
        assert carried is not None
        carried.pages._writer._database = Breaking(database, 0, "lost", times=10)
    held.held.gate.set()

    assert failed(await hear(live)).code == 500
    assert (await stage.kept()).state == "running"
    assert not live.is_over


async def test_a_timeout_that_is_not_the_turns_own_is_a_failure_of_the_engine(database: SqliteDatabase) -> None:
    class Slow(Breaking):
        async def write(self, work: Any) -> Any:
            try:
                return await super().write(work)
            except Unavailable:
                raise TimeoutError from None

    stage = Stage([[CHECK], "Hello."], database=Slow(database, 1, "lost"))
    stage.functions.add("shop", "42")

    assert failed(await hear(await stage.begin())).code == 500
    channel = await stage.turns.recover(stage.turn_id)
    assert channel is not None


# the database is away -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kept", "lost"])
@pytest.mark.parametrize("at", range(1, 4))
async def test_a_turn_goes_on_from_where_its_database_went_away(database: SqliteDatabase, at: int, how: Any) -> None:
    """Given a write that fails for longer than anybody waits, then another worker goes on from there."""
    one = Stage([[CHECK], "There are 42."], database=Breaking(database, at, how))
    one.functions.add("shop", "42")

    first = await hear(await one.begin())
    again = [[CHECK], "There are 42."] if (at, how) == (1, "lost") else ["There are 42."]
    two = Stage(again, database=database, name="two", functions=one.functions)
    two.turn_id = one.turn_id
    channel = await two.turns.recover(one.turn_id)
    second = await hear(channel if channel is not None else two.turns.follow(one.turn_id, 0))

    assert failed(first).reason == AWAY
    assert isinstance(second[-1], Answered)
    assert len(one.functions.events) == (0 if (at, how) == (1, "kept") else 1)
    is_uncertain = (at, how) in ((1, "kept"), (2, "lost"))
    assert ("uncertain" in [entry.state for entry in (await two.kept()).entries]) == is_uncertain
    assert (channel is None) == (at == 3 and how == "kept"), "only the end was kept"
    await check_retold(two, second)
    assert len((await two.open())[0].history) == 1


async def test_a_turn_that_could_not_even_be_released_is_released_later(database: SqliteDatabase) -> None:
    away = Breaking(database, 1, "lost", times=3)
    stage = Stage([[CHECK]], database=away)
    stage.functions.add("shop", "42")

    assert failed(await hear(await stage.begin())).reason == AWAY
    assert (await stage.kept()).holder == "one"
    with pytest.raises(Unavailable):
        await stage.turns.carrier.release_dropped()
    await stage.turns.carrier.release_dropped()
    assert (await stage.kept()).holder == ""
    writes = away.writes
    await stage.turns.carrier.release_dropped()
    assert away.writes == writes, "once"


# stopping -------------------------------------------------------------------------------------------


async def stopped(stage: Stage, how: str = "cancel", why: str = "") -> list[Event]:
    live = stage.turns.follow(stage.turn_id, 0)
    assert await stage.turns.stop(stage.turn_id, how, why)
    heard = await hear(live)
    assert live.is_over
    return heard


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("cancel", "The turn was cancelled."),
        ("interrupt", "The turn was interrupted by a newer request of its session."),
        ("deadline", "The turn was stopped at the deadline of its call."),
        ("otherwise", "The turn was stopped."),
    ],
)
async def test_a_turn_is_stopped_in_the_middle_of_a_model_call(database: SqliteDatabase, how: str, told: str) -> None:
    stage = Stage(database=database, model=(held := HeldModel(ScriptedModel(["Hello."]), Held())))
    await stage.begin()
    await held.held.reached.wait()

    heard = await stopped(stage, how)

    assert (failed(heard).code, failed(heard).reason) == (499, told)
    assert str(failed(heard).fault) == f"{told} (turn {stage.turn_id})"
    assert held.held.cancelled == 1
    kept = await stage.kept()
    assert (kept.state, kept.stop, kept.entries[0].state) == ("abandoned", how, "uncertain")
    await check_retold(stage, heard)
    assert (await stage.open())[0].history == [], "nothing was done"
    assert not await stage.turns.stop(stage.turn_id, how), "it has ended"
    held.held.after = -1
    assert isinstance((await hear(await stage.begin("Anybody?")))[-1], Answered)


async def test_whoever_stops_a_turn_may_say_why(database: SqliteDatabase) -> None:
    stage = Stage(database=database, model=(held := HeldModel(ScriptedModel([]))))
    await stage.begin()
    await held.held.reached.wait()

    heard = await stopped(stage, "cancel", "The customer hung up.")

    assert failed(heard).reason == "The customer hung up."
    await check_retold(stage, heard)


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_turn_is_stopped_while_its_tools_run_and_remembers_them(database: SqliteDatabase, calls: int) -> None:
    """Given actions of which one is under way, when the turn is stopped, then the next turn knows what is uncertain."""
    functions = HeldFunctions(held=Held(calls - 1))
    stage = Stage([[CHECK] * calls, "Fine."], database=database, functions=functions)
    functions.add("shop", "42")
    await stage.begin()
    await functions.held.reached.wait()
    await stage.concluded(calls)

    heard = await stopped(stage)
    await check_retold(stage, heard)
    assert [entry.state for entry in (await stage.kept()).entries] == ["done", *["done"] * (calls - 1), "uncertain"]
    await hear(await stage.begin("And?"))

    blocks = [block for message in stage.model.requests[-1].messages for block in message["content"]]
    told = [block["toolResult"]["content"][0]["text"] for block in blocks if "toolResult" in block]
    assert told == ["42"] * (calls - 1) + [UNCERTAIN]


async def test_a_turn_that_is_stopped_before_it_could_do_anything_does_nothing(database: SqliteDatabase) -> None:
    stage = Stage(["Hello."], database=database)
    live = await stage.begin()
    stage.turns.stop_here(stage.turn_id, "cancel")
    stage.turns.stop_here(stage.turn_id, "interrupt")

    assert failed(await hear(live)).reason == "The turn was cancelled."
    assert stage.model.requests == []
    stage.turns.stop_here(stage.turn_id, "cancel")


async def test_a_turn_that_is_stopped_twice_ends_once(database: SqliteDatabase) -> None:
    """Given a function that takes its time to let go, when the turn is stopped again, then it ends once."""
    letting_go = asyncio.Event()

    class Stubborn(Held):
        async def come(self) -> None:
            try:
                await super().come()
            finally:
                await letting_go.wait()

    functions = HeldFunctions(held=(held := Stubborn()))
    stage = Stage([[CHECK]], database=database, functions=functions)
    functions.add("shop", "42")
    live = await stage.begin()
    await held.reached.wait()

    assert await stage.turns.stop(stage.turn_id, "cancel")
    while not held.cancelled:
        await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0))])
    assert await stage.turns.stop(stage.turn_id, "cancel")
    letting_go.set()

    assert failed(await hear(live)).code == 499
    await check_retold(stage, await hear(live))


@pytest.mark.parametrize("state", ["awaiting", "paused"])
async def test_a_turn_that_rests_is_stopped_at_once(database: SqliteDatabase, state: str) -> None:
    policy = Policy(budget=Budget(turn=Allowance(steps=2), at_limit="pause"))
    stage = Stage([[CHECK, ASK] if state == "awaiting" else [CHECK], "Fine."], policy, database)
    stage.functions.add("shop", "42")
    await hear(await stage.begin())
    assert (await stage.kept()).state == state

    assert await stage.turns.stop(stage.turn_id, "cancel", "No need.")

    kept = await stage.kept()
    assert (kept.state, kept.ending["why"]) == ("abandoned", "No need.")
    assert failed((await stage.told())[-1]).reason == "No need."
    assert len((await stage.open())[0].history) == 1, "what was done is remembered"


async def test_a_turn_that_goes_on_while_it_is_stopped_is_stopped_where_it_runs(database: SqliteDatabase) -> None:
    """Given a waiting turn that is stopped just as its caller brings the results, then it is stopped all the same."""
    stage = Stage([[ASK]], database=database)
    asked = await hear(await stage.begin())
    of_turn, sent = stage.sessions.of_turn, []

    async def after_the_results(turn_id: TurnId) -> Any:
        found = await of_turn(turn_id)
        if not sent:
            sent.append(await stage.resume(answer_of(asked[-1])))
        return found

    stage.sessions.of_turn = after_the_results
    await stage.turns.stop(stage.turn_id, "cancel")

    [channel] = sent
    assert failed(await hear(channel)).reason == "The turn was cancelled."
    assert isinstance(asked[-1], ControlReturned)
    assert [entry.outcome["text"] for entry in (await stage.kept()).entries[1:]] == ["42"]
    assert len(stage.model.requests) == 1


async def test_a_turn_that_nobody_knows_cannot_be_stopped(database: SqliteDatabase) -> None:
    assert not await Stage(database=database).turns.stop(TurnId("unknown"), "cancel")


async def test_a_turn_that_is_forgotten_while_it_is_stopped_ends(database: SqliteDatabase) -> None:
    stage = Stage(database=database, model=(held := HeldModel(ScriptedModel([]))))
    live = await stage.begin()
    await held.held.reached.wait()
    await stage.sessions.delete((await stage.open())[0])
    stage.turns.stop_here(stage.turn_id, "cancel")

    assert failed(await hear(live)).reason == "The turn goes on at another server. Retry the request to join it."
    assert len(stage.turns.carrier) == 0


async def test_a_turn_that_runs_again_cannot_be_left(database: SqliteDatabase) -> None:
    stage = Stage([[ASK], "42"], database=database)
    asked = await hear(await stage.begin())
    session, waits = await stage.open()
    assert waits is not None
    await hear(await stage.resume(answer_of(asked[-1])))

    with pytest.raises(Moved):
        await stage.turns.leave(session, waits)
    assert (await stage.kept()).state == "done"


# limits ---------------------------------------------------------------------------------------------


async def test_a_turn_that_reaches_its_time_fails_and_what_it_did_is_known(database: SqliteDatabase) -> None:
    stage = Stage([[CHECK]], Policy(max_seconds=0.05), database, functions=(functions := HeldFunctions()))
    functions.add("shop", "42")

    heard = await hear(await stage.begin())

    assert (failed(heard).code, failed(heard).reason) == (408, "The turn reached its limit of 0.05 seconds.")
    assert failed(heard).canned
    assert (await stage.kept()).entries[1].state == "uncertain"
    await check_retold(stage, heard)
    assert len((await stage.open())[0].history) == 1


async def test_a_turn_has_no_more_time_than_it_was_given(database: SqliteDatabase) -> None:
    stage = Stage(database=database, model=HeldModel(ScriptedModel([])))

    heard = await hear(await stage.begin(deadline_s=0.05))

    assert (failed(heard).code, failed(heard).reason) == (
        408, "The turn did not end within the 0.05 seconds it was given.",
    )  # fmt: skip
    await check_retold(stage, heard)


async def test_a_process_carries_no_more_turns_than_it_may(database: SqliteDatabase) -> None:
    stage = Stage(database=database, model=(held := HeldModel(ScriptedModel(["Hello."]))), most_at_once=1)
    live = await stage.begin()
    await held.held.reached.wait()

    with pytest.raises(TooManyTurns):
        await stage.begin("Another")
    held.held.gate.set()
    await hear(live)
    assert len(stage.turns.carrier) == 0


# closing --------------------------------------------------------------------------------------------


async def test_turns_may_end_within_the_grace_and_the_others_are_handed_over(database: SqliteDatabase) -> None:
    quick = Stage(database=database, model=(held := HeldModel(ScriptedModel(["Hello."]))))
    live = await quick.begin()
    await held.held.reached.wait()
    closing = asyncio.ensure_future(quick.turns.close(30.0))
    await asyncio.sleep(0)
    held.held.gate.set()
    await closing
    assert isinstance((await hear(live))[-1], Answered)

    slow = Stage(database=database, model=(held := HeldModel(ScriptedModel([]))))
    live = await slow.begin("Something else")
    await held.held.reached.wait()
    await slow.turns.close(0.0)
    assert failed(await hear(live)).reason == "The server is stopping. Retry the request on the same session."
    assert ((await slow.kept()).state, (await slow.kept()).holder) == ("running", "")


async def test_observers_see_every_event_in_order(database: SqliteDatabase) -> None:
    seen: list[Event] = []
    stage = Stage([[CHECK], "Hello there."], database=database, observers=[seen.append])
    stage.functions.add("shop", "42")

    heard = await hear(await stage.begin(stream_answer=True))

    assert seen == heard
