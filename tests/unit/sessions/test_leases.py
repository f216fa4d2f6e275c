"""Workers tell each other that they live; the turns of one that does not are seen by all others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from workers import KEY, Breaking, Worker

from outcrop.ids import SessionKey, TurnId
from outcrop.sessions.leases import Leases, Sight
from outcrop.storage.database import Database, Unavailable
from outcrop.storage.postgresql import PostgresqlDatabase
from outcrop.storage.sqlite import SqliteDatabase

NewWorker = Callable[[str], Worker]
NOBODY = Sight((), {})


class Hand:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


async def passed(leases: Leases, clock: Hand, seconds: float) -> Sight:
    """What a worker sees after so long, in which it went on beating."""
    for _ in range(10):
        clock.at += seconds / 10
        sight = await leases.beat()
    return sight


async def workers(database: Database) -> dict[str, int]:
    def work(connection: object) -> dict[str, int]:
        return dict(connection.exec_driver_sql("SELECT id, beats FROM workers").all())

    return await database.read(work)


async def test_a_worker_counts_its_beats(database: Database) -> None:
    leases = Leases(database, "one", 5.0)
    for _ in range(3):
        assert await leases.beat() == NOBODY

    assert await workers(database) == {"one": 2 if database.is_shared else 0}


async def test_turns_of_a_dead_worker_are_seen_after_its_lease_and_not_before(shared: Database) -> None:
    clock = Hand()
    dead, alive = Worker("dead", shared), Leases(shared, "alive", 5.0, clock)
    await Leases(shared, "dead", 5.0).beat()
    await dead.begun("t1")

    assert await alive.beat() == NOBODY
    assert await passed(alive, clock, 4.9) == NOBODY
    assert await workers(shared) == {"dead": 0, "alive": 10}
    clock.at += 0.11
    assert await alive.beat() == Sight((TurnId("t1"),), {})
    assert await workers(shared) == {"alive": 11}


async def test_a_database_that_stood_still_makes_nobody_dead(shared: Database) -> None:
    """Given workers whose beats all hung in the database, when it moves again, then the first one waits for them."""
    clock = Hand()
    slow, quick = Leases(shared, "slow", 5.0), Leases(shared, "quick", 5.0, clock)
    await slow.beat()
    await Worker("slow", shared).begun("t1")
    await quick.beat()
    clock.at += 60.0

    assert await quick.beat() == NOBODY
    assert await passed(quick, clock, 4.9) == NOBODY
    assert (await passed(quick, clock, 0.2)).orphans == ("t1",)


async def test_a_worker_that_beats_slowly_is_not_dead(shared: Database) -> None:
    clock = Hand()
    slow, alive = Leases(shared, "slow", 5.0), Leases(shared, "alive", 5.0, clock)
    await slow.beat()
    await Worker("slow", shared).begun("t1")

    for _ in range(5):
        assert await alive.beat() == NOBODY
        clock.at += 4.9
        await slow.beat()
    assert sorted(await workers(shared)) == ["alive", "slow"]


async def test_a_worker_that_beats_just_before_it_is_buried_lives(shared: Database, url: str) -> None:
    """Given a count that was read as still, when it has moved since, then its row stays."""
    clock = Hand()
    slow = Leases(shared, "slow", 5.0)
    await slow.beat()
    await Worker("slow", shared).begun("t1")

    class Between(PostgresqlDatabase):
        """Lets the slow one beat after each write of the other."""

        async def write(self, work: object) -> object:
            value = await super().write(work)
            await slow.beat()
            return value

    between = Between(url)
    alive = Leases(between, "alive", 5.0, clock)
    await alive.beat()
    await slow.leave()
    await slow.beat()
    assert await passed(alive, clock, 5.0) == NOBODY
    assert sorted(await workers(shared)) == ["alive", "slow"]
    await between.close()


async def test_a_worker_that_was_buried_and_comes_back_joins_again(shared: Database) -> None:
    clock = Hand()
    cut, alive = Leases(shared, "cut", 5.0, clock), Leases(shared, "alive", 5.0, clock)
    await cut.beat()
    await Worker("cut", shared).begun("t1")
    await alive.beat()
    assert (await passed(alive, clock, 6)).orphans == ("t1",)
    other = Worker("alive", shared)
    await other.journal.take_over(await other.turn("t1"))

    assert await cut.beat() == NOBODY, "its turn is another's by now"
    assert sorted(await workers(shared)) == ["alive", "cut"]
    assert await alive.beat() == Sight((), {TurnId("t1"): ""})


async def test_a_database_that_was_away_is_no_reason_to_take_others_for_dead(shared: Database) -> None:
    """Given workers that all could not reach the database, when the first one can, then it waits for the others."""
    clock, away = Hand(), Breaking(shared, 1, "lost")
    slow, quick = Leases(shared, "slow", 5.0), Leases(away, "quick", 5.0, clock)
    await slow.beat()
    await Worker("slow", shared).begun("t1")
    await quick.beat()
    clock.at += 40.0

    with pytest.raises(Unavailable):
        await quick.beat()
    assert await quick.beat() == NOBODY
    assert await passed(quick, clock, 4.9) == NOBODY
    assert (await passed(quick, clock, 0.2)).orphans == ("t1",)


async def test_a_turn_that_nobody_took_is_the_buried_workers_own_again(shared: Database) -> None:
    """Given a worker that was buried for a moment, when nobody took its turn, then it goes on carrying it."""
    clock = Hand()
    cut, alive = Leases(shared, "cut", 5.0, clock), Leases(shared, "alive", 5.0, clock)
    await cut.beat()
    pages = await Worker("cut", shared).begun("t1")
    await alive.beat()
    await passed(alive, clock, 6)

    await cut.beat()
    assert await alive.beat() == NOBODY
    await pages.advance([], [], 2.0)


async def test_the_only_process_of_a_database_takes_over_at_once() -> None:
    """Given SQLite, where there is one process, when it starts, then whoever else is named there is dead."""
    import outcrop.sessions.spend
    from outcrop.storage.database import METADATA

    assert outcrop.sessions.spend.SPEND.metadata is METADATA
    database = SqliteDatabase("sqlite:///:memory:")
    database.once(METADATA.create_all)
    database.open()
    before = Leases(database, "before", 5.0)
    await before.beat()
    await Worker("before", database).begun("t1")
    assert (await before.beat()).orphans == ()

    after = Leases(database, "after", 5.0)
    assert await after.beat() == Sight((TurnId("t1"),), {})
    assert await workers(database) == {"after": 0}
    assert await after.beat() == Sight((TurnId("t1"),), {}), "until somebody takes it"
    await database.close()


async def test_a_worker_that_leaves_gives_its_turns_up(database: Database) -> None:
    one, two = Leases(database, "one", 5.0), Leases(database, "two", 5.0)
    await one.beat()
    await Worker("one", database).begun("t1")

    await one.leave()
    assert await workers(database) == {}
    assert (await two.beat()).orphans == ("t1",)
    await one.beat()
    assert "one" in await workers(database), "it may come again"


async def test_turns_that_nobody_carries_are_the_running_ones_alone(worker: NewWorker, database: Database) -> None:
    one = worker("one")
    keys = {name: SessionKey(f"1/A/T/{name}") for name in ("waits", "paused", "done", "released", "lost")}
    pages = {name: await one.begun(name, key=key) for name, key in keys.items()}
    await pages["waits"].suspend([], "i", 2.0, lambda _: None)
    await pages["paused"].pause([], {}, 2.0, lambda _: None)
    await one.end(pages["done"], keys["done"])
    await pages["released"].release()

    seen = await Leases(database, "two", 5.0).beat()

    assert seen.orphans == ("lost", "released")


async def test_a_worker_sees_its_own_turns_and_which_of_them_shall_stop(worker: NewWorker, database: Database) -> None:
    one, two = worker("one"), worker("two")
    mine, theirs = Leases(database, "one", 5.0), Leases(database, "two", 5.0)
    await mine.beat()
    await one.begun("t1")
    await one.begun("t2", key=SessionKey("1/A/T/s2"))
    await two.begun("t3", key=SessionKey("1/A/T/s3"))
    for turn, how in (("t1", "cancel"), ("t3", "interrupt")):
        assert await one.journal.ask_to_stop(TurnId(turn), how)

    assert (await mine.beat()).held == {"t1": "cancel", "t2": ""}
    assert (await theirs.beat()).held == {"t3": "interrupt"}
    await one.end(one.journal.pages(await one.turn("t1")), KEY)
    assert (await mine.beat()).held == {"t2": ""}
