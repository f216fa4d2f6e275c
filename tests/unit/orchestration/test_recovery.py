"""Turns whose worker is gone: another one goes on with them from the journal, and nothing is done again or lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from turning import KEY, Held, HeldFunctions, HeldModel, Stage, Ticking, agent, answer_of, hear, memory, plain
from workers import Breaking

from outcrop.events import ActionReturned, Answered, ControlReturned, Event, Failed, ModelCalled
from outcrop.ids import SessionKey, TurnId
from outcrop.messages import tool_uses
from outcrop.orchestration.encoding import UNCERTAIN, UNCERTAIN_FAILED
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.recovery import Recovery
from outcrop.orchestration.turn import Opening
from outcrop.orchestration.turns import JournalTooNew
from outcrop.sessions.leases import Leases, Sight
from outcrop.storage.database import Database, Unavailable
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import RecordedFunctions, ScriptedModel, call

CHECK = call("shop__check", {"sku": "A"})
BUY = call("shop__buy", {"sku": "A"})
ASK = call("desk__check", {"sku": "B"})


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    opened = memory()
    yield opened
    await opened.close()


NewStage = Callable[..., Stage]


@pytest.fixture
async def worker(database: SqliteDatabase) -> AsyncIterator[NewStage]:
    """Workers on one database, by name; they end with the test."""
    made: list[Stage] = []

    def make(name: str, script: Sequence[Any] = (), **members: Any) -> Stage:
        made.append(Stage(script, database=database, name=name, **members))
        return made[-1]

    yield make
    for stage in made:
        await stage.turns.close(0.0)


async def taken_over(one: Stage, two: Stage) -> list[Event]:
    """The events of a turn from its start, as the worker tells them that goes on with it."""
    two.turn_id = one.turn_id
    channel = await two.turns.recover(one.turn_id)
    assert channel is not None
    return await hear(channel)


async def check_retold(stage: Stage, heard: Sequence[Event]) -> None:
    """What the last call heard is what its journal tells."""
    told = await stage.told()
    assert plain(told[-1], timeless=True) == plain(heard, timeless=True)


def results(model: Any) -> list[str]:
    """What a model was last told of its calls."""
    blocks = [block for message in model.requests[-1].messages for block in message["content"]]
    return [block["toolResult"]["content"][0]["text"] for block in blocks if "toolResult" in block]


# where it was ---------------------------------------------------------------------------------------


async def test_a_turn_interrupted_at_its_first_model_call_asks_the_model_again(worker: NewStage) -> None:
    one = worker("one", model=(held := HeldModel(ScriptedModel([]))))
    listener = await one.begin()
    await held.held.reached.wait()
    await one.turns.close(0.0)
    stopped = await hear(listener)

    heard = await taken_over(one, two := worker("two", ["Hello."]))

    assert isinstance(stopped[-1], Failed)
    assert stopped[-1].reason == "The server is stopping. Retry the request on the same session."
    assert [type(event).__name__ for event in heard] == ["ModelCalled", "ModelAnswered", "Answered"]
    await check_retold(two, heard)
    kept = await two.kept()
    assert (kept.state, kept.lease) == ("done", 2)
    assert (await two.open())[0].history[0][-1]["content"] == [{"text": "Hello."}]


async def test_a_turn_interrupted_after_a_tool_does_not_call_it_again(worker: NewStage) -> None:
    one = worker("one", model=(held := HeldModel(ScriptedModel([[CHECK]]), Held(after=1))))
    one.functions.add("shop", "42")
    await one.begin()
    await held.held.reached.wait()
    await one.turns.close(0.0)

    heard = await taken_over(one, two := worker("two", ["There are 42."]))

    assert results(two.model) == ["42"]
    assert [type(event).__name__ for event in heard] == [
        "ModelCalled", "ModelAnswered", "ActionReturned", "ModelCalled", "ModelAnswered", "Answered",
    ]  # fmt: skip
    await check_retold(two, heard)


@pytest.mark.parametrize("uncertain", ["ask", "fail", "not_done"])
@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_tool_that_was_under_way(worker: NewStage, uncertain: str, idempotent: bool) -> None:
    """Given a call of which nobody knows whether it took place, then its function or the agent's policy decides."""
    one = worker("one", [[CHECK]], functions=(functions := HeldFunctions()))
    functions.add("shop", "42")
    await one.begin()
    await functions.held.reached.wait()
    await one.turns.close(0.0)
    again = RecordedFunctions(idempotent=idempotent)
    again.add("shop", "42")
    is_told = uncertain != "fail" or idempotent
    two = worker("two", ["Done."] if is_told else [], functions=again, policy=Policy(uncertain=uncertain))

    heard = await taken_over(one, two)

    is_repeated = idempotent or uncertain == "not_done"
    assert again.keys == ([f"{one.turn_id}/1/0"] if is_repeated else [])
    assert (await two.kept()).entries[1].state == ("done" if is_repeated else "uncertain")
    if is_told:
        assert results(two.model) == ["42" if is_repeated else UNCERTAIN]
        assert isinstance(heard[-1], Answered)
    else:
        assert isinstance(heard[-1], Failed)
        assert heard[-1].reason == UNCERTAIN_FAILED
    assert [event.text for event in heard if isinstance(event, ActionReturned)] == ["42" if is_repeated else UNCERTAIN]
    await check_retold(two, heard)


@pytest.mark.parametrize("done", [0, 1])
async def test_of_two_tools_the_one_that_was_done_is_known(worker: NewStage, done: int) -> None:
    """Given two calls side by side of which one had ended, then that one is not done again, and both are told of."""
    one = worker("one", [[CHECK, CHECK]], functions=(functions := HeldFunctions(held=Held(after=1 - done))))
    functions.add("shop", "42")
    await one.begin()
    await functions.held.reached.wait()
    await one.concluded(2)
    await one.turns.close(0.0)

    heard = await taken_over(one, two := worker("two", ["Done."]))

    known = [entry.state for entry in (await two.kept()).entries[1:3]]
    assert known == (["uncertain", "done"] if done else ["done", "uncertain"])
    told = [event.text for event in heard if isinstance(event, ActionReturned)]
    assert told == results(two.model) == ([UNCERTAIN, "42"] if done else ["42", UNCERTAIN])
    await check_retold(two, heard)


async def test_a_turn_that_was_interrupted_after_its_caller_agreed(worker: NewStage) -> None:
    """Given allowed actions of which one was done, when another worker goes on, then the call's events are whole."""
    functions = HeldFunctions(held=Held(after=1))
    one = worker("one", [[CHECK, BUY, BUY, ASK]], functions=functions)
    functions.add("shop", "42")
    functions.held.after = 2
    asked = await hear(await one.begin())
    await one.resume(answer_of(asked[-1], "CONFIRM", "CONFIRM", ""))
    await functions.held.reached.wait()
    await one.concluded(4)
    await one.turns.close(0.0)

    heard = await taken_over(one, two := worker("two", ["Done."]))

    assert [entry.state for entry in (await two.kept()).entries[1:5]] == ["done", "done", "uncertain", "done"]
    assert results(two.model) == ["42", "42", UNCERTAIN, "42"]
    assert [type(event).__name__ for event in heard] == [
        "ActionReturned", "ActionReturned", "ActionReturned", "ModelCalled", "ModelAnswered", "Answered",
    ]  # fmt: skip
    await check_retold(two, heard)
    assert [plain(one, timeless=True) for one in (await two.told())[:1]] == [plain(asked, timeless=True)]


async def test_a_turn_interrupted_with_a_step_done_and_the_next_not_begun(worker: NewStage) -> None:
    """Given a worker whose last write was lost, when another one goes on, then it decides the next step itself."""
    one = worker("one", [[CHECK, CHECK]], functions=(functions := HeldFunctions(held=Held(after=1))))
    functions.add("shop", "42")
    await one.begin()
    await functions.held.reached.wait()
    functions.held.gate.set()
    await one.concluded(3)
    await one.turns.close(0.0)
    if (await one.kept()).state != "running":
        return

    heard = await taken_over(one, two := worker("two", ["Done."]))
    assert isinstance(heard[-1], Answered)
    await check_retold(two, heard)


async def test_a_turn_that_had_only_begun_to_fill_its_template(worker: NewStage) -> None:
    """Given a turn whose prompt cannot be filled, when its worker dies before it says so, then another one does."""
    stage = {"promptType": "ORCHESTRATION", "promptCreationMode": "OVERRIDDEN", "basePromptTemplate": '{"system": '}
    definition = agent(promptOverrideConfiguration={"promptConfigurations": [stage]})
    one = worker("one")
    one.turns.carrier.carry = lambda carried, pending: carried.channel  # it dies before it has done anything
    await one.begin(definition=definition)
    await (await _pages(one)).release()

    heard = await taken_over(one, two := worker("two"))

    assert isinstance(heard[-1], Failed)
    assert heard[-1].code == 400
    await check_retold(two, heard)


async def _pages(stage: Stage) -> Any:
    return stage.journal.pages(await stage.kept())


# who may --------------------------------------------------------------------------------------------


async def interrupted(worker: NewStage, **members: Any) -> Stage:
    """A worker that has left a turn at its first model call."""
    one = worker("one", model=(held := HeldModel(ScriptedModel([]))))
    await one.begin(**members)
    await held.held.reached.wait()
    await one.turns.close(0.0)
    return one


async def test_a_turn_is_taken_up_once(worker: NewStage) -> None:
    one = await interrupted(worker)
    others = [worker(f"worker-{number}", ["Hello."]) for number in range(3)]

    came = await asyncio.gather(*(other.turns.recover(one.turn_id) for other in others))

    [channel] = [each for each in came if each is not None]
    assert isinstance((await hear(channel))[-1], Answered)
    assert [len(other.model.requests) for other in others].count(1) == 1
    assert await others[0].turns.recover(one.turn_id) is None, "it has ended"
    assert await others[0].turns.recover(TurnId("unknown")) is None


async def test_a_worker_that_was_taken_for_dead_writes_nothing_and_tells_its_caller_where_to_ask(
    worker: NewStage,
) -> None:
    """Given a worker that was cut off, when another one has taken its turn over, then its late outcome is not kept."""
    one = worker("one", model=(held := HeldModel(ScriptedModel([[CHECK]]))))
    one.functions.add("shop", "42")
    listener = await one.begin()
    await held.held.reached.wait()
    two = worker("two", ["Hello."])

    heard = await taken_over(one, two)
    before = await two.kept()
    held.held.gate.set()
    late = await hear(listener)

    assert isinstance(heard[-1], Answered)
    assert isinstance(late[-1], Failed)
    assert late[-1].reason == "The turn goes on at another server. Retry the request to join it."
    assert await two.kept() == before
    assert one.functions.events == []
    assert len(one.turns.carrier) == 0


async def test_a_journal_that_is_too_new_is_left_for_others(worker: NewStage, database: Database) -> None:
    one = await interrupted(worker)
    await database.write(lambda connection: connection.exec_driver_sql("UPDATE turns SET format = 99"))
    before, two = await one.kept(), worker("two")

    for reads in (two.turns.recover, two.turns.retold):
        with pytest.raises(JournalTooNew, match="journal format 99, this release reads up to"):
            await reads(one.turn_id)
    assert await one.kept() == before


async def test_a_journal_that_cannot_be_read_fails_the_turn_and_frees_its_session(
    worker: NewStage, database: Database
) -> None:
    one = await interrupted(worker)

    def spoil(connection: Any) -> None:
        connection.exec_driver_sql("""UPDATE steps SET intent = '{"no": "step"}'""")

    await database.write(spoil)
    two = worker("two", ["Hello."])

    assert await two.turns.recover(one.turn_id) is None
    kept = await one.kept()
    assert (kept.state, kept.ending["reason"]) == (
        "failed", "The turn was begun by another release and cannot be carried on.",
    )  # fmt: skip
    [told] = await hear(two.turns.follow(one.turn_id, 0))
    assert isinstance(told, Failed)
    assert told.reason == kept.ending["reason"]
    assert isinstance((await hear(await two.begin("Something else")))[-1], Answered)


# the pulse ------------------------------------------------------------------------------------------


def pulse(stage: Stage, beat_s: float = 0.001) -> Recovery:
    return Recovery(Leases(stage.database, stage.name, 5.0), stage.turns, beat_s)


async def test_a_beat_takes_up_what_nobody_carries(worker: NewStage) -> None:
    one = await interrupted(worker)
    two = worker("two", ["Hello."])

    await pulse(two).once()

    carried = two.turns.carrier.find(one.turn_id)
    assert carried is not None
    assert isinstance((await hear(carried.channel))[-1], Answered)


async def test_a_beat_stops_what_another_process_asked_to_stop(worker: NewStage) -> None:
    one = worker("one", model=(held := HeldModel(ScriptedModel([]))))
    recovery = pulse(one)
    await recovery.once()
    listener = await one.begin()
    await held.held.reached.wait()

    assert await worker("two").turns.stop(one.turn_id, "cancel")
    await recovery.once()
    heard = await hear(listener)
    await recovery.once()

    assert isinstance(heard[-1], Failed)
    assert heard[-1].code == 499
    assert held.held.cancelled == 1
    kept = await one.kept()
    assert (kept.state, kept.stop) == ("abandoned", "cancel")


async def test_a_turn_that_was_to_stop_when_its_worker_died_stops(worker: NewStage) -> None:
    """Given a cancelled turn whose worker is dead, when another one takes it up, then it does nothing but end it."""
    one = await interrupted(worker)
    two = worker("two")
    assert await two.turns.stop(one.turn_id, "cancel")

    await pulse(two).once()
    heard = await hear(two.turns.follow(one.turn_id, 0))

    assert isinstance(heard[-1], Failed)
    assert heard[-1].code == 499
    assert (await one.kept()).state == "abandoned"
    assert two.model.requests == []


async def test_a_turn_that_cannot_be_read_does_not_keep_others_from_being_taken_up(
    worker: NewStage, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    one = await interrupted(worker)
    first = one.turn_id

    def spoil(connection: Any) -> None:
        connection.exec_driver_sql("UPDATE turns SET definition = 'gone'")

    await database.write(spoil)
    three = worker("three", model=(held := HeldModel(ScriptedModel([]))), clock=Ticking(one.clock.at + 1))
    session, _ = await three.sessions.open(SessionKey(f"{KEY}2"), 600, 1.0)
    second = (await three.turns.begin(session, agent(), Opening("Hi", "s2", {}, {}))).turn_id
    await held.held.reached.wait()
    await three.turns.close(0.0)
    assert first < second

    two = worker("two", ["Hello."])
    recovery = pulse(two)
    for _ in range(3):
        await recovery.once()

    assert caplog.text.count("it cannot be taken up here") == 1
    assert isinstance((await hear(two.turns.follow(second, 0)))[-1], Answered)


async def test_turns_of_a_large_worker_are_taken_up_in_portions(worker: NewStage) -> None:
    """Given more turns than a beat can take up in its time, then the next beats take the others."""
    one = worker("one", model=HeldModel(ScriptedModel([]), Held(after=-1)))
    one.turns.carrier.carry = lambda carried, pending: carried.channel
    for number in range(300):
        session, _ = await one.sessions.open(SessionKey(f"{KEY}{number}"), 600, 1.0)
        await one.turns.begin(session, agent(), Opening("Hi", "s", {}, {}))
    two = worker("two", ["Hello."] * 300, most_at_once=1000)
    recovery, seen = pulse(two), []

    for _ in range(6):
        await recovery.once()
        seen.append(len(two.model.requests))

    await two.turns.close(30.0)
    assert len(two.model.requests) == 300
    assert seen[0] <= 64


async def test_a_turn_that_is_this_workers_and_that_it_does_not_carry_is_taken_up(worker: NewStage) -> None:
    """Given a turn that was begun while its caller was cut off, when nobody carries it, then its worker goes on."""
    one = worker("one", ["Hello."])
    recovery = pulse(one)
    await recovery.once()
    carry, one.turns.carrier.carry = one.turns.carrier.carry, lambda carried, pending: carried.channel
    turn = (await one.begin()).turn_id
    one.turns.carrier.carry = carry

    await recovery.once()
    assert one.turns.carrier.find(turn) is None, "it may just be about to be carried"
    await recovery.once()

    carried = one.turns.carrier.find(turn)
    assert carried is not None
    assert isinstance((await hear(carried.channel))[-1], Answered)


async def test_the_pulse_goes_on_while_the_database_is_away_and_after_a_failure(
    worker: NewStage, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    one = await interrupted(worker)
    two = worker("two", ["Hello."])

    class Troubled(Leases):
        beats = 0

        async def beat(self) -> Any:
            self.beats += 1
            if self.beats == 2:
                raise Unavailable("away")
            if self.beats == 3:
                raise LookupError("a mistake")
            if self.beats == 1:
                return Sight((), {})
            return await super().beat()

    recovery = Recovery(Troubled(database, "two", 5.0), two.turns, 0.001)
    await recovery.start()
    assert await two.turns.ended(one.turn_id, 30)
    await recovery.stop()
    await recovery.stop()

    assert "the database is away; no beat" in caplog.text
    assert "a beat failed" in caplog.text
    assert (await two.kept(one.turn_id)).state == "done"


async def test_a_worker_that_drains_lives_on_and_takes_nothing_up(worker: NewStage, database: Database) -> None:
    one = await interrupted(worker)
    two = worker("two", ["Hello."])

    class Counted(Leases):
        beats = 0

        async def beat(self) -> Any:
            self.beats += 1
            return await super().beat()

    leases = Counted(database, "two", 5.0)
    recovery = Recovery(leases, two.turns, 1.0)
    recovery.drain()
    await recovery.once()

    assert leases.beats == 1
    assert two.turns.carrier.find(one.turn_id) is None
    assert (await two.kept(one.turn_id)).state == "running"


async def test_a_worker_that_leaves_does_not_wait_for_a_database_that_is_away(
    worker: NewStage, caplog: pytest.LogCaptureFixture
) -> None:
    one = worker("one")
    away = Breaking(one.database, 0, "lost", times=100)

    await Recovery(Leases(away, "one", 5.0), one.turns, 1.0).stop()

    assert "others notice by themselves" in caplog.text


# what waits -----------------------------------------------------------------------------------------


async def test_control_that_was_returned_waits_for_its_caller_whoever_carried_it(worker: NewStage) -> None:
    one = worker("one", [[ASK]])
    asked = await hear(await one.begin())
    await one.turns.close(0.0)
    two = worker("two", ["42."])
    two.turn_id = one.turn_id
    assert await two.turns.recover(one.turn_id) is None

    heard = await hear(await two.resume(answer_of(asked[-1])))

    assert isinstance(asked[-1], ControlReturned)
    assert isinstance(heard[-1], Answered)
    assert isinstance(heard[1], ModelCalled)
    assert tool_uses(heard[1].messages[1])
    await check_retold(two, heard)
