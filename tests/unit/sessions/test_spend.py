"""What was spent is added up per session and per agent and period, by many at once, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgresql import PostgreSQL

from outcrop.ids import SessionKey
from outcrop.sessions.spend import SPEND, Spent, add, agent_scope, forgetting, session_scope, spent
from outcrop.storage.database import METADATA, Database
from outcrop.storage.postgresql import PostgresqlDatabase
from outcrop.storage.sqlite import SqliteDatabase

AGENT = agent_scope("123456789012", "ABCDEFGHIJ")
DAY = "2026-11-21"
TURN = Spent(tokens=1200, microusd=3600, steps=4, milliseconds=2500)

amounts = st.builds(Spent, *[st.integers(0, 2**40)] * 4)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    opened: Database
    if request.param == "postgresql":
        opened = PostgresqlDatabase(request.getfixturevalue("empty_postgresql_url"))
        opened.once(METADATA.create_all)
    else:
        opened = SqliteDatabase(f"sqlite:///{tmp_path / 'outcrop.db'}")
        opened.once(METADATA.create_all)
        opened.open()
    yield opened
    await opened.close()


async def total(database: Database, scope: str, period: str = DAY) -> Spent:
    return await database.read(lambda connection: spent(connection, scope, period))


async def test_nothing_was_spent_before_anything_was(database: Database) -> None:
    assert await total(database, AGENT) == Spent()


async def test_turns_add_up(database: Database) -> None:
    await database.write(add(AGENT, DAY, TURN))
    await database.write(add(AGENT, DAY, TURN))

    assert await total(database, AGENT) == TURN + TURN == Spent(2400, 7200, 8, 5000)


async def test_days_agents_and_sessions_are_kept_apart(database: Database) -> None:
    session = session_scope(SessionKey("123456789012/ABCDEFGHIJ/TSTALIASID/s1"))
    await database.write(add(AGENT, DAY, TURN))
    await database.write(add(session, "", Spent(tokens=7)))

    assert await total(database, AGENT, "2026-11-22") == Spent()
    assert await total(database, AGENT, "2026-11") == Spent()
    assert await total(database, agent_scope("123456789012", "ABCDEFGHI"), DAY) == Spent()
    assert await total(database, session, "") == Spent(tokens=7)
    assert await total(database, AGENT) == TURN


async def test_a_session_that_starts_anew_has_spent_nothing(database: Database) -> None:
    key, other = SessionKey("1/A/T/s1"), SessionKey("1/A/T/s10")
    for each in (key, other):
        await database.write(add(session_scope(each), "", TURN))

    await database.write(forgetting(key))

    assert await total(database, session_scope(key), "") == Spent()
    assert await total(database, session_scope(other), "") == TURN


async def test_what_is_not_committed_was_not_spent(database: Database) -> None:
    def ends_badly(connection: object) -> None:
        add(AGENT, DAY, TURN)(connection)
        raise RuntimeError("the turn's other rows could not be written")

    with pytest.raises(RuntimeError, match="other rows"):
        await database.write(ends_badly)

    assert await total(database, AGENT) == Spent()


async def test_a_total_may_be_larger_than_32_bits(database: Database) -> None:
    large = Spent(2**40, 2**41, 2**42, 2**43)
    await database.write(add(AGENT, "ever", large))
    await database.write(add(AGENT, "ever", large))

    assert await total(database, AGENT, "ever") == large + large


async def test_turns_that_end_at_once_lose_nothing(database: Database) -> None:
    await asyncio.gather(*(database.write(add(AGENT, DAY, TURN)) for _ in range(200)))

    assert await total(database, AGENT) == Spent(200 * 1200, 200 * 3600, 200 * 4, 200 * 2500)


async def test_two_processes_may_both_add_the_first_amount(empty_postgresql_url: str) -> None:
    one, other = PostgresqlDatabase(empty_postgresql_url), PostgresqlDatabase(empty_postgresql_url)
    one.once(METADATA.create_all)

    await asyncio.gather(*(each.write(add(AGENT, DAY, TURN)) for each in (one, other) * 20))

    assert await total(one, AGENT) == await total(other, AGENT) == Spent(40 * 1200, 40 * 3600, 40 * 4, 40 * 2500)
    await one.close()
    await other.close()


async def test_turns_of_several_agents_that_end_at_once_do_not_wait_for_each_other(postgresql: PostgreSQL) -> None:
    """Given transactions that each add to several agents in another order, when they meet, then none is a deadlock."""
    url, before = postgresql.database(), postgresql.log().count("deadlock detected")
    databases = [PostgresqlDatabase(url) for _ in range(2)]
    databases[0].once(METADATA.create_all)
    agents = [agent_scope("1", name) for name in "ABC"]

    await asyncio.gather(*(databases[n % 2].write(add(agents[n * 7 % 3], DAY, Spent(steps=1))) for n in range(600)))

    assert [(await total(databases[1], agent)).steps for agent in agents] == [200, 200, 200]
    rows = await databases[0].read(lambda connection: connection.execute(SPEND.select()).all())
    for each in databases:
        await each.close()
    assert postgresql.log().count("deadlock detected") == before
    assert len(rows) <= len(agents) * len(databases) * 8, "a total has no more rows than there are connections"
    postgresql.drop(url)


async def test_a_row_that_somebody_holds_is_left_alone(empty_postgresql_url: str) -> None:
    """Given a turn that has added and not committed, when another one ends, then it is done before the first."""
    database = PostgresqlDatabase(empty_postgresql_url)
    database.once(METADATA.create_all)
    await database.write(add(AGENT, DAY, TURN))
    other = PostgresqlDatabase(empty_postgresql_url)
    seen: list[Spent] = []

    def holds(connection: object) -> None:
        add(AGENT, DAY, TURN)(connection)
        seen.append(PostgresqlDatabase(empty_postgresql_url).once(adds_and_looks))

    def adds_and_looks(connection: object) -> Spent:
        add(AGENT, DAY, TURN)(connection)
        return spent(connection, AGENT, DAY)

    await database.write(holds)

    assert seen == [TURN + TURN], "its own, and the one that was committed"
    assert await total(other, AGENT) == TURN + TURN + TURN
    await database.close()
    await other.close()


@given(amounts, amounts, amounts)
def test_adding_is_adding(one: Spent, two: Spent, three: Spent) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Spent() == one
    assert (one + two).tokens == one.tokens + two.tokens
    assert (one + two).microusd == one.microusd + two.microusd
    assert (one + two).steps == one.steps + two.steps
    assert (one + two).seconds == (one.milliseconds + two.milliseconds) / 1000
