"""Writes whose connection breaks are tried again, and come to the same rows whether the first try was kept or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from workers import DEFINITION, KEY, MODEL, OPENING, Breaking, Worker, rows

from outcrop.ids import TurnId
from outcrop.sessions.durable import Durable
from outcrop.sessions.entries import Conclusion, Intent, Moved, NewTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.spend import Spent, add, session_scope
from outcrop.sessions.state import Sessions, saving, starting, waiting
from outcrop.storage.database import METADATA, Database, Unavailable
from outcrop.storage.sqlite import SqliteDatabase

REPLIED = Conclusion(0, 0, {"message": "..."})
TOOLS = (Intent(1, 0, "CallTools", {"name": "a"}), Intent(1, 1, "CallTools", {"name": "b"}, "awaiting"))
RESULT = Conclusion(1, 0, {"text": "42"})


async def life(database: Any, reads: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every kind of write that turns make, once; what is kept of it in the end.

    Shapes: `database` may break, `reads` does not.
    """
    journal, sessions = Journal(database, "one", 5.0), Sessions(reads)

    async def session() -> Any:
        return (await sessions.open(KEY, 600, 5.0))[0]

    async def turn(name: str) -> Any:
        return await Journal(reads, "reader", 5.0).find(TurnId(name))

    def new(name: str, **members: Any) -> NewTurn:
        return NewTurn(TurnId(name), KEY, DEFINITION, OPENING, 1.0, **members)

    def ending(name: str, said: list[Any], now_open: str = "") -> Callable[[Any], None]:
        save, spend = saving(before, {}, said, 9.0, unheard=now_open), add(session_scope(KEY), "", Spent(tokens=7))

        def also(connection: Any) -> None:
            save(connection)
            spend(connection)

        return also

    # a turn with every way to stop half-way
    pages = await journal.begin(new("t1"), [MODEL], starting(await session(), TurnId("t1"), 1.0))
    await pages.advance([REPLIED], TOOLS, 2.0)
    await pages.suspend([RESULT], "invocation-1", 3.0, waiting(await session(), TurnId("t1"), {"a": "b"}, 3.0))
    again = starting(await session(), TurnId("t1"), 4.0)
    supplied = Conclusion(1, 1, {"text": "43"})
    pages = await journal.resume(await turn("t1"), [supplied], [], "call-2", 4.0, again)
    await pages.advance([], [Intent(2, 0, "CallModel", {"iteration": 1})], 5.0)
    await pages.pause([], {"reason": "why"}, 6.0, waiting(await session(), TurnId("t1"), {}, 6.0))
    pages = await journal.take_over(await turn("t1"))
    await pages.release()
    pages = await journal.take_over(await turn("t1"))
    assert await journal.ask_to_stop(TurnId("t1"), "cancel")
    before = await session()
    await pages.end("done", [Conclusion(2, 0, {"m": 1})], {"text": "Bye."}, 9.0, ending("t1", [{"role": "user"}]))
    # one that was queued, begun and failed
    assert await journal.queue(new("t2", retry_key="token")) == "t2"
    assert await journal.queue(new("t3")) == "t3"
    begun = starting(await session(), TurnId("t2"), 2.0)
    pages = await journal.begin(new("t2", base=1), [MODEL], begun, queued=True)
    before = await session()
    await pages.end("failed", [], {"code": 500}, 9.0, ending("t2", [], "t2"))
    written = await pages.written()
    assert written is not None
    assert written.state == "failed"
    return await rows(reads)


@pytest.mark.parametrize("how", ["kept", "lost"])
async def test_a_write_of_which_nobody_knows_has_one_effect(database: Database, how: Any) -> None:
    """Given any one write of a turn's life that breaks, when it is tried again, then all is as if it had not."""
    whole = Breaking(database, 10**6, how)
    expected = await life(whole, database)
    assert whole.writes == 16

    for at in range(whole.writes):
        await Sessions(database).delete((await Sessions(database).open(KEY, 600, 9.0))[0])
        broken = Breaking(database, at, how)
        assert await life(broken, database) == expected, f"write {at} was {how}"
        assert broken.writes == whole.writes + 1


@pytest.mark.parametrize("how", ["kept", "lost"])
async def test_a_write_that_was_overtaken_while_nobody_knew_of_it_says_so(database: Database, how: Any) -> None:
    """Given a worker that cannot reach the database, when another one takes its turn, then its retry writes nothing."""
    two = Worker("two", database)

    class Overtaken(Breaking):
        async def write(self, work: Any) -> Any:
            try:
                return await super().write(work)
            except Unavailable:
                await two.journal.take_over(await two.turn("t1"))
                raise

    one = Worker("one", Overtaken(database, 1, how))
    pages = await one.begun("t1")

    with pytest.raises(Moved):
        await pages.advance([REPLIED], TOOLS, 2.0)
    taken = await two.turn("t1")
    assert (taken.holder, taken.lease) == ("two", 2)
    assert len(taken.entries) == (3 if how == "kept" else 1), "nothing since the take-over"


@pytest.mark.parametrize("name", ["suspend", "pause", "end"])
async def test_a_rest_that_was_lost_and_overtaken_is_not_taken_for_kept(database: Database, name: str) -> None:
    two = Worker("two", database)

    class Overtaken(Breaking):
        async def write(self, work: Any) -> Any:
            try:
                return await super().write(work)
            except Unavailable:
                taken = await two.journal.take_over(await two.turn("t1"))
                await two.end(taken)
                raise

    pages = await Worker("one", Overtaken(database, 1, "lost")).begun("t1")
    late = {
        "suspend": lambda: pages.suspend([], "invocation-1", 3.0, lambda _: None),
        "pause": lambda: pages.pause([], {}, 3.0, lambda _: None),
        "end": lambda: pages.end("done", [], {"text": "mine"}, 3.0, lambda _: None),
    }

    with pytest.raises(Moved):
        await late[name]()
    assert (await two.turn("t1")).ending == {"text": "Bye.", "kind": "FINISH"}


async def test_patience_ends(database: Database) -> None:
    broken = Breaking(database, 0, "lost", times=1000)
    tries: list[bool] = []

    with pytest.raises(Unavailable):
        await Durable(broken, 0.12).write(lambda _, again: tries.append(again))
    assert broken.writes == 2, "at once, after 0.05 s, and not after another 0.1 s"
    with pytest.raises(Unavailable):
        await Durable(broken, 0.0).write(lambda _, again: tries.append(again))
    assert broken.writes == 3
    assert tries == []


async def test_only_what_is_tried_again_is_told_so_and_other_errors_are_not_tried_again(database: Database) -> None:
    broken = Breaking(database, 0, "kept", times=2)
    tries: list[bool] = []

    def work(_connection: Any, again: bool) -> int:
        tries.append(again)
        return len(tries)

    assert await Durable(broken, 5.0).write(work) == 3
    assert tries == [False, True, True]

    def mistaken(_connection: Any, again: bool) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await Durable(broken, 5.0).write(mistaken)
    assert broken.writes == 4


async def test_settling_waits_for_writes_that_were_given_up() -> None:
    database = SqliteDatabase("sqlite:///:memory:")
    database.once(METADATA.create_all)
    database.open()
    done: list[int] = []
    left = database.write(lambda _: done.append(1))
    left.send(None)  # asked, and not waited for

    await Durable(database, 1.0).settle()

    assert done == [1]
    left.close()
    await database.close()
