"""A turn's journal, written by several workers at once: who is first is kept, who is late leaves nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from postgresql import PostgreSQL
from workers import DEFINITION, KEY, MODEL, OPENING, Holding, Worker, rows

from outcrop.ids import SessionKey, TurnId
from outcrop.sessions import kept as kept_module
from outcrop.sessions.entries import FORMAT, Conclusion, Entry, Intent, Kept, Moved, NewTurn
from outcrop.sessions.pages import Pages
from outcrop.sessions.state import saving, starting, waiting
from outcrop.storage.database import Database
from outcrop.storage.postgresql import PostgresqlDatabase

NewWorker = Callable[[str], Worker]
REPLIED = Conclusion(0, 0, {"message": "..."})
TOOLS = (Intent(1, 0, "CallTools", {"name": "a"}), Intent(1, 1, "CallTools", {"name": "b"}, "awaiting"))


def nothing(_connection: Any) -> None:
    """Also: nothing else is written."""


# beginning ------------------------------------------------------------------------------------------


async def test_a_turn_is_found_as_it_was_begun(worker: NewWorker) -> None:
    one = worker("one")
    session = await one.session()
    new = NewTurn(TurnId("t1"), KEY, DEFINITION, OPENING, 1.0, base=3, retry_key="call-1", announced=0)
    pages = await one.journal.begin(new, [MODEL], starting(session, new.id, 1.0))

    found = await worker("two").turn("t1")

    assert (found.id, found.session_key, found.state, found.opening) == ("t1", KEY, "running", OPENING)
    assert (found.definition["agent"], found.digest) == ({"foundationModel": "m"}, DEFINITION.digest)
    assert (found.format, found.holder, found.lease, found.base) == (FORMAT, "one", 1, 3)
    assert (found.retry_key, found.stop, found.announced, found.ending) == ("call-1", "", 0, None)
    assert found.entries == (Entry(0, 0, "CallModel", "intended", {"iteration": 0}, None, 1.0, None),)
    assert not found.is_over
    assert (pages.turn_id, pages.lease) == ("t1", 1)
    _, open_turn = await one.sessions.open(KEY, 600, 2.0)
    assert open_turn == found


async def test_a_turn_that_was_never_begun_is_not_found(worker: NewWorker) -> None:
    one = worker("one")
    assert await one.journal.find(TurnId("t1")) is None
    assert await one.journal.places([TurnId("t1")]) == [None]
    assert await one.sessions.of_turn(TurnId("t1")) is None


@pytest.mark.parametrize("first", ["new", "known"])
async def test_a_session_that_began_another_turn_meanwhile_is_left_alone(worker: NewWorker, first: str) -> None:
    one, two = worker("one"), worker("two")
    if first == "known":
        await one.end(await one.begun("t0"))
    read = await one.session()
    await two.begun("t1")
    before = await rows(two.database)

    with pytest.raises(Moved):
        await one.begin(read, "t2")

    assert await rows(two.database) == before
    assert await one.journal.places([TurnId("t2")]) == [None]


@pytest.mark.parametrize("first", ["new", "known"])
async def test_of_turns_that_begin_at_once_on_one_session_one_does(worker: NewWorker, first: str) -> None:
    workers = [worker(f"worker-{number}") for number in range(4)]
    if first == "known":
        await workers[0].end(await workers[0].begun("t0"))
    session = await workers[0].session()

    came = await asyncio.gather(
        *(workers[number % 4].begin(session, f"t{number + 1}") for number in range(8)), return_exceptions=True
    )

    [pages] = [one for one in came if isinstance(one, Pages)]
    assert all(isinstance(one, Moved) for one in came if one is not pages), came
    _, open_turn = await workers[1].sessions.open(KEY, 600, 2.0)
    assert open_turn is not None
    assert open_turn.id == pages.turn_id
    kept = await rows(workers[0].database)
    assert [row[0] for row in kept["steps"]] == [*(["t0"] if first == "known" else []), pages.turn_id]


async def test_turns_of_different_sessions_begin_at_once(worker: NewWorker) -> None:
    workers = [worker(f"worker-{number}") for number in range(4)]
    keys = [SessionKey(f"1/A/T/s{number}") for number in range(20)]

    await asyncio.gather(*(workers[n % 4].begun(f"t{n}", key=key) for n, key in enumerate(keys)))

    for number, key in enumerate(keys):
        _, open_turn = await workers[0].sessions.open(key, 600, 2.0)
        assert open_turn is not None
        assert open_turn.id == f"t{number}"


async def test_a_definition_is_kept_once_however_many_run_on_it(
    worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "_MOST_KNOWN", 1)
    one, two = worker("one"), worker("two")
    other = Kept.of({"identity": {"name": "other"}})
    for number, (who, kept) in enumerate([(one, DEFINITION), (two, DEFINITION), (one, other), (one, DEFINITION)]):
        key = SessionKey(f"1/A/T/s{number}")
        new = NewTurn(TurnId(f"t{number}"), key, kept, OPENING, 1.0)
        await who.journal.begin(new, [], starting(await who.session(key), new.id, 1.0))

    kept = await one.database.read(lambda connection: connection.exec_driver_sql("SELECT * FROM definitions").all())

    assert sorted(row[0] for row in kept) == sorted([DEFINITION.digest, other.digest])
    assert [(await one.turn(f"t{n}")).definition["identity"]["name"] for n in range(4)] == [
        "stock", "stock", "other", "stock",
    ]  # fmt: skip


# carrying -------------------------------------------------------------------------------------------


async def test_outcomes_and_the_intents_that_follow_are_in_order(worker: NewWorker) -> None:
    one = worker("one")
    pages = await one.begun("t1")
    await pages.advance([REPLIED], TOOLS, 2.0)
    await pages.advance([Conclusion(1, 0, {"text": "42"}, "uncertain")], [], 3.0)

    told = [(e.ordinal, e.branch, e.state, e.outcome, e.finished_at) for e in (await one.turn("t1")).entries]

    assert told == [
        (0, 0, "done", {"message": "..."}, 2.0),
        (1, 0, "uncertain", {"text": "42"}, 3.0),
        (1, 1, "awaiting", None, None),
    ]


async def test_a_turn_waits_for_its_caller_and_goes_on_at_another_worker(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    session = await one.session()
    pages = await one.begun("t1", *TOOLS)
    await pages.suspend([Conclusion(1, 0, {"text": "42"})], "invocation-1", 2.0, waiting(session, TurnId("t1"), {}, 2))
    waits = await two.turn("t1")

    again = await two.session(now=2.5)
    agreed = Intent(1, 1, "CallTools", {"name": "b", "agreed": True})
    resumed = await two.journal.resume(waits, [], [agreed], "call-2", 3.0, starting(again, TurnId("t1"), 3.0))
    goes_on = await one.turn("t1")

    assert (waits.state, waits.holder, waits.invocation_id) == ("awaiting", "", "invocation-1")
    assert (goes_on.state, goes_on.holder, goes_on.lease) == ("running", "two", 2)
    assert (goes_on.retry_key, goes_on.invocation_id) == ("call-2", "invocation-1")
    assert [(e.state, e.intent) for e in goes_on.entries] == [("done", {"name": "a"}), ("intended", agreed.body)]
    assert resumed.lease == 2
    with pytest.raises(Moved):
        await one.journal.resume(waits, [], [], "call-3", 4.0, nothing)


async def test_a_paused_turn_says_why_and_goes_on(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    pages = await one.begun("t1")
    await pages.pause([REPLIED], {"reason": "BUDGET_EXCEEDED", "detail": "Enough."}, 2.0, nothing)
    paused = await two.turn("t1")
    await two.journal.take_over(paused)

    assert (paused.state, paused.holder) == ("paused", "")
    assert paused.ending == {"reason": "BUDGET_EXCEEDED", "detail": "Enough."}
    assert paused.entries[0].outcome == {"message": "..."}
    assert ((await two.turn("t1")).state, (await two.turn("t1")).holder) == ("running", "two")


async def test_a_turn_that_ends_early_leaves_no_step_open(worker: NewWorker) -> None:
    one = worker("one")
    session = await one.session()
    pages = await one.begun("t1")
    await pages.advance([REPLIED], TOOLS, 2.0)
    ending = {"code": 500, "reason": "why"}
    await pages.end("failed", (), ending, 3.0, saving(session, {"a": "b"}, (), 3.0, unheard="t1"))

    ended = await one.turn("t1")

    assert (ended.state, ended.ending, ended.finished_at, ended.holder) == ("failed", ending, 3.0, "")
    assert ended.is_over
    assert [entry.state for entry in ended.entries] == ["done", "uncertain", "abandoned"]
    session, open_turn = await one.sessions.open(KEY, 600, 4.0)
    assert (session.attributes, session.open_turn, open_turn) == ({"a": "b"}, "t1", ended)


async def test_a_turn_that_nobody_carries_is_ended_by_whoever_read_it(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    await (await one.begun("t1")).suspend([], "invocation-1", 2.0, nothing)
    waits = await two.turn("t1")
    await two.journal.pages(waits).end("abandoned", (), {"reason": "left"}, 3.0, nothing)

    assert (await one.turn("t1")).state == "abandoned"
    for late in (two.journal.pages(waits).end("abandoned", (), {}, 4.0, nothing), one.journal.take_over(waits)):
        with pytest.raises(Moved):
            await late


# taking over ----------------------------------------------------------------------------------------


async def test_of_workers_that_take_a_turn_over_at_once_one_does(worker: NewWorker) -> None:
    await worker("dead").begun("t1")
    others = [worker(f"worker-{number}") for number in range(4)]
    read = await others[0].turn("t1")

    came = await asyncio.gather(*(one.journal.take_over(read) for one in others), return_exceptions=True)

    assert sorted(type(one).__name__ for one in came) == ["Moved", "Moved", "Moved", "Pages"]
    winner = next(other for other, one in zip(others, came, strict=True) if isinstance(one, Pages))
    taken = await others[0].turn("t1")
    assert (taken.holder, taken.lease, taken.state) == (winner.name, 2, "running")


Late = Callable[[Pages], Awaitable[None]]
LATE: dict[str, Late] = {
    "advance": lambda pages: pages.advance([REPLIED], TOOLS, 9.0),
    "suspend": lambda pages: pages.suspend([REPLIED], "late", 9.0, _spoil),
    "pause": lambda pages: pages.pause([REPLIED], {"reason": "late"}, 9.0, _spoil),
    "done": lambda pages: pages.end("done", [REPLIED], {"text": "late", "kind": "FINISH"}, 9.0, _spoil),
    "failed": lambda pages: pages.end("failed", [REPLIED], {"code": 500}, 9.0, _spoil),
}


def _spoil(connection: Any) -> None:
    connection.exec_driver_sql("UPDATE sessions SET open_turn = 'late'")


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("since", ["taken over", "suspended", "ended", "forgotten"])
async def test_a_worker_whose_lease_is_over_writes_nothing(worker: NewWorker, name: str, since: str) -> None:
    one, two = worker("one"), worker("two")
    late = await one.begun("t1")
    taken = await two.journal.take_over(await two.turn("t1"))
    if since == "suspended":
        await taken.suspend([], "invocation-1", 3.0, nothing)
    elif since == "ended":
        await two.end(taken)
    elif since == "forgotten":
        await two.sessions.delete(await two.session())
    before = await rows(two.database)

    with pytest.raises(Moved):
        await LATE[name](late)

    assert await rows(two.database) == before


async def test_a_worker_whose_lease_is_over_cannot_release_the_turn(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    late = await one.begun("t1")
    taken = await two.journal.take_over(await two.turn("t1"))

    await late.release()
    assert (await one.turn("t1")).holder == "two"
    await taken.release()
    assert (await one.turn("t1")).holder == ""
    assert (await one.turn("t1")).state == "running"


async def test_the_same_worker_may_take_its_own_turn_again_and_its_older_self_cannot_write(worker: NewWorker) -> None:
    one = worker("one")
    before = await one.begun("t1")
    after = await one.journal.take_over(await one.turn("t1"))

    with pytest.raises(Moved):
        await before.advance([REPLIED], [], 2.0)
    await after.advance([REPLIED], [], 2.0)


async def test_a_take_over_waits_for_a_write_that_is_being_committed_and_then_sees_it(
    postgresql: PostgreSQL, url: str
) -> None:
    """Given an outcome that is written and not committed, when another worker takes over, then it knows the outcome."""
    mine, theirs = PostgresqlDatabase(url), PostgresqlDatabase(url)
    name = url.partition("?")[0].rpartition("/")[2]
    slow, two = Worker("slow", Holding(mine, 7)), Worker("two", theirs)
    pages = await slow.begun("t1")

    with psycopg.connect(host=str(postgresql.folder), user="postgres", dbname=name, autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(7)")
        writing = asyncio.ensure_future(pages.advance([REPLIED], TOOLS, 2.0))
        await waiting_for_locks(gate, name, 1)
        taking = asyncio.ensure_future(two.journal.take_over(await two.turn("t1")))
        await waiting_for_locks(gate, name, 2)
        assert not taking.done()
        gate.execute("SELECT pg_advisory_unlock(7)")
        await writing
        taken = await taking

    known = await taken.written()
    assert known is not None
    assert (known.lease, known.holder) == (2, "two")
    assert [(entry.ordinal, entry.state) for entry in known.entries] == [(0, "done"), (1, "intended"), (1, "awaiting")]
    with pytest.raises(Moved):
        await pages.advance([], [], 3.0)
    await mine.close()
    await theirs.close()


async def waiting_for_locks(gate: psycopg.Connection[Any], name: str, number: int) -> None:
    """Return once so many connections to a database wait for a lock."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"

    def look() -> None:
        until = time.monotonic() + 30
        while gate.execute(asked, [name]).fetchone() != (number,):
            assert time.monotonic() < until, "nobody waits"

    await asyncio.to_thread(look)


async def test_what_is_written_is_read_after_what_is_under_way(worker: NewWorker) -> None:
    one = worker("one")
    pages = await one.begun("t1")
    cut = asyncio.ensure_future(pages.advance([REPLIED], TOOLS, 2.0))
    await asyncio.sleep(0)
    cut.cancel()

    known = await pages.written()

    assert known is not None
    assert len(known.entries) == 3
    await one.sessions.delete(await one.session())
    assert await pages.written() is None


# stopping -------------------------------------------------------------------------------------------


async def test_a_turn_can_be_asked_to_stop_until_it_has_ended(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    pages = await one.begun("t1")

    assert await two.journal.ask_to_stop(TurnId("t1"), "cancel")
    assert (await one.turn("t1")).stop == "cancel"
    await one.end(pages)
    assert not await two.journal.ask_to_stop(TurnId("t1"), "cancel")
    assert not await two.journal.ask_to_stop(TurnId("unknown"), "cancel")


async def test_a_turn_that_is_asked_to_stop_says_why_until_it_has_a_better_ending(worker: NewWorker) -> None:
    one = worker("one")
    pages = await one.begun("t1")

    assert await one.journal.ask_to_stop(TurnId("t1"), "cancel", {"reason": "not needed"})
    assert (await one.turn("t1")).ending == {"reason": "not needed"}
    await one.end(pages)
    assert not await one.journal.ask_to_stop(TurnId("t1"), "cancel", {"reason": "too late"})
    assert (await one.turn("t1")).ending == {"text": "Bye.", "kind": "FINISH"}


# the queue ------------------------------------------------------------------------------------------


def to_queue(turn: str, at: float = 1.0, token: str = "", key: SessionKey = KEY) -> NewTurn:
    return NewTurn(TurnId(turn), key, DEFINITION, {"opening": OPENING}, at, retry_key=token)


async def test_a_queued_turn_begins_when_its_session_is_free(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    await one.journal.queue(to_queue("t1"))
    waits = await two.turn("t1")
    begun = NewTurn(TurnId("t1"), KEY, DEFINITION, OPENING, 5.0, base=2)
    pages = await two.journal.begin(begun, [MODEL], starting(await two.session(), begun.id, 5.0), queued=True)
    runs = await one.turn("t1")

    assert (waits.state, waits.holder, waits.lease, waits.entries) == ("queued", "", 0, ())
    assert (runs.state, runs.holder, runs.lease, runs.base, runs.started_at) == ("running", "two", 1, 2, 5.0)
    assert runs.opening == OPENING, "what it began with, in place of what it was asked"
    assert [entry.ordinal for entry in runs.entries] == [0]
    assert pages.lease == 1
    await pages.advance([REPLIED], [], 6.0)


async def test_a_queued_turn_is_begun_once(worker: NewWorker) -> None:
    workers = [worker(f"worker-{number}") for number in range(3)]
    await workers[0].journal.queue(to_queue("t1"))
    session = await workers[0].session()
    begun = NewTurn(TurnId("t1"), KEY, DEFINITION, OPENING, 5.0)

    def begin(one: Worker) -> Awaitable[Pages]:
        return one.journal.begin(begun, [MODEL], starting(session, begun.id, 5.0), queued=True)

    came = await asyncio.gather(*map(begin, workers), return_exceptions=True)

    assert sorted(type(one).__name__ for one in came) == ["Moved", "Moved", "Pages"]
    again = await workers[0].session()
    with pytest.raises(Moved):
        await workers[0].journal.begin(begun, [], starting(again, begun.id, 6.0), queued=True)


async def test_turns_queued_with_one_token_are_one_turn(worker: NewWorker) -> None:
    one = worker("one")
    first = await one.journal.queue(to_queue("t1", token="order-7"))
    same = await worker("two").journal.queue(to_queue("t2", token="order-7"))
    other = await one.journal.queue(to_queue("t3", token="order-8"))
    elsewhere = await one.journal.queue(to_queue("t4", token="order-7", key=SessionKey("1/A/T/s2")))

    assert (first, same, other, elsewhere) == ("t1", "t1", "t3", "t4")
    assert await one.journal.places([TurnId("t2")]) == [None]


async def test_turns_queued_with_one_token_at_once_are_one_turn(worker: NewWorker) -> None:
    workers = [worker(f"worker-{number}") for number in range(4)]

    came = await asyncio.gather(*(workers[n % 4].journal.queue(to_queue(f"t{n}", token="order-7")) for n in range(12)))

    assert len(set(came)) == 1
    kept = await rows(workers[0].database)
    assert [row[0] for row in kept["turns"]] == [came[0]]


async def test_turns_queued_without_a_token_are_turns_of_their_own(worker: NewWorker) -> None:
    one = worker("one")
    assert [await one.journal.queue(to_queue(turn)) for turn in ("t1", "t2")] == ["t1", "t2"]


async def test_queued_turns_of_a_session_come_in_the_order_of_their_ids(worker: NewWorker) -> None:
    one = worker("one")
    for turn, at in (("t2", 2.0), ("t1", 1.0), ("t3", 3.0)):
        await one.journal.queue(to_queue(turn, at))
    await one.journal.queue(to_queue("t0", 0.0, key=SessionKey("1/A/T/s2")))

    assert await one.journal.first_queued(KEY) == "t1"
    assert await one.journal.queued_before(3.0) == ["t0", "t1", "t2"]
    begun = replace(to_queue("t1"), opening=OPENING)
    await one.journal.begin(begun, [], starting(await one.session(), begun.id, 5.0), queued=True)
    assert await one.journal.first_queued(KEY) == "t2"
    assert await one.journal.first_queued(SessionKey("1/A/T/s3")) is None


async def test_a_call_that_is_sent_again_finds_the_turn_that_answers_it(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    for turn in ("t1", "t2"):
        new = NewTurn(TurnId(turn), KEY, DEFINITION, OPENING, 1.0, retry_key="call-1")
        await one.end(await one.journal.begin(new, [], starting(await one.session(), new.id, 1.0)))

    assert await two.journal.retried(KEY, "call-1") == "t2", "the last one that answered it"
    assert await two.journal.retried(KEY, "call-2") is None
    assert await two.journal.retried(SessionKey("1/A/T/s2"), "call-1") is None


# places ---------------------------------------------------------------------------------------------


async def test_a_turns_place_changes_with_every_write(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    seen: list[Any] = []

    async def look() -> None:
        [place, unknown] = await two.journal.places([TurnId("t1"), TurnId("t2")])
        assert unknown is None
        assert place not in seen
        seen.append(place)

    await one.journal.queue(to_queue("t1"))
    await look()
    begun = replace(to_queue("t1"), opening=OPENING)
    pages = await one.journal.begin(begun, [MODEL], starting(await one.session(), begun.id, 1.0), queued=True)
    await look()
    await pages.advance([REPLIED], TOOLS, 2.0)
    await look()
    await pages.advance([Conclusion(1, 0, {"text": "42"})], [], 3.0)
    await look()
    await pages.suspend([], "invocation-1", 4.0, nothing)
    await look()
    again = starting(await two.session(), TurnId("t1"), 5.0)
    allowed = Intent(1, 1, "CallTools", {"name": "b", "agreed": True})
    pages = await two.journal.resume(await two.turn("t1"), [], [allowed], "", 5.0, again)
    await look()
    await pages.advance([Conclusion(1, 1, {"text": "43"})], [Intent(2, 0, "CallModel", {})], 6.0)
    await look()
    pages = await one.journal.take_over(await one.turn("t1"))
    await look()
    await pages.pause([], {}, 7.0, nothing)
    await look()
    pages = await one.journal.take_over(await one.turn("t1"))
    await look()
    await one.end(pages)
    await look()


# a whole life, on a fresh database ------------------------------------------------------------------


async def test_a_forgotten_turn_cannot_be_taken_over(worker: NewWorker, database: Database) -> None:
    one = worker("one")
    await one.begun("t1")
    read = await one.turn("t1")
    await one.sessions.delete(await one.session())

    with pytest.raises(Moved):
        await one.journal.take_over(read)
    assert await rows(database) == {"sessions": [], "history": [], "turns": [], "steps": [], "spend": [(None,)]}
