"""Sessions between turns: what they remember, when they start anew, and who is first when two want to change them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from workers import DEFINITION, KEY, Worker, rows

from outcrop.ids import SessionKey, TurnId
from outcrop.messages import assistant, user
from outcrop.sessions.entries import Moved, NewTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.spend import Spent, add, session_scope
from outcrop.sessions.state import Session, Sessions, saving, starting, waiting
from outcrop.storage.database import Database

NewWorker = Callable[[str], Worker]
TURN = TurnId("t1")
LATER = 1000.0
"""When a session of 600 seconds that was used at 1 has expired."""


def nothing(_connection: Any) -> None:
    """Also: nothing else is written."""


@pytest.fixture
def one(worker: NewWorker) -> Worker:
    return worker("one")


async def remembered(one: Worker, now: float = 3.0) -> list[str]:
    session = await one.session(now=now)
    return [message["content"][0]["text"] for turn in session.history for message in turn]


# what is remembered ---------------------------------------------------------------------------------


async def test_a_session_that_nobody_used_is_new(one: Worker) -> None:
    session, open_turn = await one.sessions.open(KEY, 600, 1.0)

    assert session == Session(KEY, {}, (), (), 600, 1.0, is_new=True)
    assert open_turn is None
    assert await one.sessions.named_turn(KEY) == ""


async def test_a_session_remembers_its_turns_in_order_and_what_it_was_given(one: Worker) -> None:
    seed = [user("I am Ada"), assistant("Hello Ada")]
    session = replace(await one.session(), seed=seed, idle_ttl_s=60)
    pages = await one.begin(session, "t1")
    await pages.end("done", (), {}, 2.0, saving(session, {"a": "b"}, [user("one"), assistant("two")], 2.0))
    again = await one.session(now=3.0)
    pages = await one.begin(again, "t2", 3.0)
    await pages.end("done", (), {}, 4.0, saving(again, {"c": "d"}, [user("three")], 4.0, unheard="t2"))

    found, unheard = await one.sessions.open(KEY, 600, 5.0)

    assert found.history == [[user("one"), assistant("two")], [user("three")]]
    assert (found.seed, found.attributes, found.idle_ttl_s) == (seed, {"c": "d"}, 60)
    assert (found.started_at, found.is_new, found.replaces) == (1.0, False, False)
    assert unheard is not None
    assert unheard.state == "done"
    assert await one.sessions.named_turn(KEY) == "t2"


async def test_a_turn_that_leaves_nothing_is_not_in_the_history(one: Worker) -> None:
    await one.end(await one.begun("t1"))
    await one.end(await one.begun("t2"), KEY, 2.0, "hello")

    assert (await one.session()).history == [[user("hello")]]


async def test_a_waiting_turn_keeps_the_attributes_as_it_left_them(one: Worker) -> None:
    session = await one.session()
    pages = await one.begun("t1")
    await pages.suspend([], "i", 5.0, waiting(session, TURN, {"a": "b"}, 5.0))

    found, open_turn = await one.sessions.open(KEY, 600, 6.0)
    assert (found.attributes, found.open_turn) == ({"a": "b"}, "t1")
    assert open_turn is not None
    assert open_turn.state == "awaiting"


async def test_a_turn_that_was_heard_is_not_open_any_more(one: Worker) -> None:
    session = await one.session()
    pages = await one.begun("t1")
    await pages.end("done", (), {}, 2.0, saving(session, {}, (), 2.0, unheard=TURN))
    await one.sessions.heard(KEY, TURN)

    assert await one.sessions.named_turn(KEY) == ""
    assert (await one.sessions.open(KEY, 600, 3.0))[1] is None


async def test_what_is_heard_late_does_not_close_the_next_turn(one: Worker) -> None:
    await one.end(await one.begun("t1"))
    await one.begun("t2")
    await one.sessions.heard(KEY, TURN)

    assert await one.sessions.named_turn(KEY) == "t2"


# expiry ---------------------------------------------------------------------------------------------


async def test_an_idle_session_starts_anew_after_its_own_time_and_not_before(one: Worker) -> None:
    await one.end(await one.begun("t1"), KEY, 1.0, "hello")

    assert await remembered(one, now=601.0) == ["hello"]
    session, open_turn = await one.sessions.open(KEY, 60_000, 601.5)
    assert session == Session(KEY, {}, (), (), 60_000, 601.5, is_new=True, replaces=True, used_at=1.0)
    assert open_turn is None
    assert await remembered(one, now=600.0) == ["hello"], "nothing is removed by looking"


async def test_a_session_that_starts_anew_leaves_nothing_of_the_old_one(one: Worker) -> None:
    await one.end(await one.begun("t1"), KEY, 1.0, "hello")
    await one.database.write(add(session_scope(KEY), "", Spent(tokens=7)))
    await one.begin(await one.session(now=LATER), "t2", LATER)

    session, open_turn = await one.sessions.open(KEY, 600, LATER + 1)
    assert (session.history, session.started_at, session.open_turn) == ([], LATER, "t2")
    assert open_turn is not None
    kept = await rows(one.database)
    assert (kept["history"], kept["spend"]) == ([], [(None,)])
    assert [row[0] for row in kept["turns"]] == ["t1", "t2"], "journals are kept longer"


@pytest.mark.parametrize("state", ["running", "paused"])
async def test_what_may_have_acted_is_not_forgotten_by_waiting(one: Worker, state: str) -> None:
    pages = await one.begun("t1")
    if state == "paused":
        await pages.pause([], {}, 1.0, nothing)

    session, open_turn = await one.sessions.open(KEY, 600, LATER)

    assert not session.is_new
    assert open_turn is not None
    assert open_turn.state == state


@pytest.mark.parametrize("how", ["awaiting", "unheard"])
async def test_a_turn_whose_caller_stayed_away_goes_with_its_session(one: Worker, how: str) -> None:
    session = await one.session()
    pages = await one.begun("t1")
    if how == "awaiting":
        await pages.suspend([], "i", 1.0, waiting(session, TURN, {}, 1.0))
    else:
        await pages.end("done", (), {"text": "x"}, 1.0, saving(session, {}, (), 1.0, unheard=TURN))

    fresh, open_turn = await one.sessions.open(KEY, 600, LATER)
    assert (fresh.replaces, fresh.open_turn, open_turn) == (True, "t1", None)
    await one.begin(fresh, "t2", LATER)
    left = await one.turn("t1")
    assert (left.state, left.finished_at) == (("abandoned", LATER) if how == "awaiting" else ("done", 1.0))
    assert left.is_over


async def test_queued_turns_outlive_the_session_that_they_were_asked_of(one: Worker) -> None:
    await one.end(await one.begun("t1"))
    queued = NewTurn(TurnId("t2"), KEY, DEFINITION, {}, 1.0)
    await one.journal.queue(queued)
    await one.begin(await one.session(now=LATER), "t3", LATER)

    assert (await one.turn("t2")).state == "queued"


async def test_of_calls_that_find_a_session_expired_at_once_one_starts_it_anew(worker: NewWorker) -> None:
    workers = [worker(f"worker-{number}") for number in range(3)]
    await workers[0].end(await workers[0].begun("t0"), KEY, 1.0, "hello")
    read = [await each.session(now=LATER) for each in workers]

    came = await asyncio.gather(
        *(each.begin(session, f"t{n + 1}", LATER) for n, (each, session) in enumerate(zip(workers, read, strict=True))),
        return_exceptions=True,
    )

    assert sorted(type(each).__name__ for each in came) == ["Moved", "Moved", "Pages"], came
    session, open_turn = await workers[0].sessions.open(KEY, 600, LATER)
    assert session.history == []
    assert open_turn is not None
    assert len((await rows(workers[0].database))["turns"]) == 2


async def test_an_expired_session_that_was_used_again_meanwhile_is_not_replaced(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    await one.end(await one.begun("t1"), KEY, 1.0, "hello")
    expired = await one.session(now=LATER)
    await two.begin(await two.session(now=600.0), "t2", 600.0)

    with pytest.raises(Moved):
        await one.begin(expired, "t3", LATER)
    assert await remembered(two) == ["hello"]


async def test_a_turn_that_ends_after_its_session_was_replaced_leaves_nothing_in_the_new_one(worker: NewWorker) -> None:
    """Given a waiting turn whose session expired, when it is resumed late, then the new session is as it was."""
    one, two = worker("one"), worker("two")
    session = await one.session()
    await (await one.begun("t1")).suspend([], "i", 1.0, waiting(session, TURN, {}, 1.0))
    waits, old = await one.turn("t1"), await one.session(now=2.0)
    await two.begin(await two.session(now=LATER), "t2", LATER)

    with pytest.raises(Moved):
        await one.journal.resume(waits, [], [], "", LATER, starting(old, TURN, LATER))
    with pytest.raises(Moved):
        await one.journal.pages(waits).end("abandoned", (), {}, LATER, saving(old, {"x": "y"}, [user("late")], LATER))
    found, open_turn = await two.sessions.open(KEY, 600, LATER)
    assert (found.attributes, found.history) == ({}, [])
    assert open_turn is not None
    assert open_turn.id == "t2"


# deleting -------------------------------------------------------------------------------------------


async def test_a_deleted_session_is_forgotten_whole_and_others_stay(one: Worker) -> None:
    other = SessionKey(f"{KEY}0")
    for number, key in enumerate((KEY, other)):
        pages = await one.begun(f"t{number}", key=key)
        await one.end(pages, key, 2.0, "hello")
        await one.database.write(add(session_scope(key), "", Spent(tokens=7)))
    before = await rows(one.database, other)

    await one.sessions.delete(await one.session())

    assert await rows(one.database) == {"sessions": [], "history": [], "turns": [], "steps": [], "spend": [(None,)]}
    assert await rows(one.database, other) == before
    assert (await one.session()).is_new
    await one.sessions.delete(await one.session())


@pytest.mark.parametrize("read", ["before it was new", "when it was known"])
async def test_a_session_that_began_a_turn_meanwhile_is_not_deleted(worker: NewWorker, read: str) -> None:
    one, two = worker("one"), worker("two")
    session = await one.session()
    if read == "when it was known":
        await one.end(await one.begun("t0"))
        session = await one.session()
    await two.begun("t1")
    before = await rows(two.database)

    with pytest.raises(Moved):
        await one.sessions.delete(session)
    assert await rows(two.database) == before


async def test_a_turn_cannot_begin_on_a_session_that_was_deleted_meanwhile(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    await one.end(await one.begun("t1"))
    session = await one.session()
    await two.sessions.delete(await two.session())

    with pytest.raises(Moved):
        await one.begin(session, "t2")
    assert (await rows(one.database))["turns"] == []


async def test_a_deletion_and_a_beginning_at_once_are_one_after_the_other(worker: NewWorker) -> None:
    one, two = worker("one"), worker("two")
    for number in range(10):
        await one.end(await one.begun(f"first-{number}"))
        session = await one.session()

        deleted, began = await asyncio.gather(
            one.sessions.delete(session), two.begin(session, f"second-{number}"), return_exceptions=True
        )

        assert isinstance(deleted, Moved) != isinstance(began, Moved), (deleted, began)
        kept = await rows(one.database)
        assert len(kept["sessions"]) == len(kept["steps"]) - (1 if isinstance(deleted, Moved) else 0)
        await one.sessions.delete(await one.session())


async def test_a_session_that_was_deleted_stays_deleted_when_its_turn_ends(one: Worker) -> None:
    session = await one.session()
    await one.database.write(saving(session, {}, [user("hello")], 2.0))

    assert (await rows(one.database))["history"] == []
    assert (await one.session()).is_new


# the session of a turn ------------------------------------------------------------------------------


async def test_a_turn_is_found_with_what_came_before_it_and_nothing_after(one: Worker) -> None:
    for number in range(3):
        session = await one.session()
        pages = await one.begin(session, f"t{number}", 1.0 + number)
        await pages.end("done", (), {}, 1.5 + number, saving(session, {}, [user(f"turn {number}")], 1.5 + number))

    for number in range(3):
        found = await one.sessions.of_turn(TurnId(f"t{number}"))
        assert found is not None
        assert [turn[0] for turn in found[0].history] == [user(f"turn {n}") for n in range(number)]
        assert found[1].id == f"t{number}"


@pytest.mark.parametrize(("is_over", "known"), [(True, 0), (False, 1)])
async def test_a_turn_of_the_first_release_does_not_say_what_came_before(
    one: Worker, is_over: bool, known: int
) -> None:
    await one.end(await one.begun("t0"), KEY, 1.0, "hello")
    old = NewTurn(TURN, KEY, DEFINITION, {}, 1.0)
    assert old.base == -1
    pages = await one.journal.begin(old, [], starting(await one.session(), TURN, 1.0))
    if is_over:
        await one.end(pages, KEY, 2.0, "answer")

    found = await one.sessions.of_turn(TURN)

    assert found is not None
    assert len(found[0].history) == known, "of one that is not over, all of it; of others, nobody knows"


async def test_a_turn_of_a_session_that_started_anew_has_nothing_before_it(one: Worker) -> None:
    await one.end(await one.begun("t1"), KEY, 1.0, "hello")
    await one.begin(await one.session(now=LATER), "t2", LATER)

    found = await one.sessions.of_turn(TURN)
    current = await one.sessions.of_turn(TurnId("t2"))

    assert found is not None
    assert (found[0].history, found[0].is_new, found[0].started_at) == ((), False, 1.0)
    assert current is not None
    assert current[0].started_at == LATER


async def test_a_turn_of_a_session_that_was_never_begun_stands_alone(one: Worker) -> None:
    """Given a turn that is queued for a session that there is not, then it is found with a new one."""
    queued = NewTurn(TURN, KEY, DEFINITION, {}, 3.0)
    await one.journal.queue(queued)

    found = await one.sessions.of_turn(TURN)

    assert found is not None
    assert (found[0].is_new, found[0].key, found[0].started_at) == (True, KEY, 3.0)


async def test_a_turn_of_a_deleted_session_is_gone(one: Worker, database: Database) -> None:
    await one.end(await one.begun("t1"))
    await one.sessions.delete(await one.session())

    assert await one.sessions.of_turn(TURN) is None
    assert await Sessions(database).of_turn(TurnId("unknown")) is None
    assert await Journal(database, "two", 1.0).find(TURN) is None
