"""What has been over for long is removed; what may still be asked for stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select

from outcrop.clock import StillClock
from outcrop.ids import SessionKey, TurnId, turn_id
from outcrop.sessions.cleaning import Cleaning
from outcrop.sessions.entries import Intent, Kept, NewTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.state import HISTORY, SESSIONS, Sessions, saving, starting, waiting
from outcrop.sessions.tables import STEPS, TURNS
from outcrop.storage.database import METADATA, Database
from outcrop.storage.sqlite import SqliteDatabase

DAY = 86_400.0
HELLO = [{"role": "user", "content": [{"text": "Hello"}]}]


class Archive:
    """A database with sessions and turns of any age."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, StillClock()
        self.sessions, self.journal = Sessions(database), Journal(database, "worker", 1.0)
        self.cleaning = Cleaning(database, self.clock, 30 * DAY)

    async def turn(self, name: str, state: str = "done") -> TurnId:
        """A turn on a session of that name, left in a state."""
        now, key = self.clock.now(), SessionKey(f"1/A/B/{name}")
        session, _ = await self.sessions.open(key, 600, now)
        new = NewTurn(turn_id(now), key, Kept.of({}), {}, now)
        pages = await self.journal.begin(new, [Intent(0, 0, "CallModel", {})], starting(session, new.id, now))
        if state == "done":
            await pages.end("done", (), {}, now, saving(session, {}, HELLO, now))
        elif state == "awaiting":
            await pages.suspend((), "i", now, waiting(session, new.id, {}, now))
        elif state == "paused":
            await pages.pause((), {}, now, waiting(session, new.id, {}, now))
        return new.id

    async def left(self, table: Any) -> list[Any]:
        return await self.database.read(lambda connection: list(connection.execute(select(table)).all()))


@pytest.fixture
async def archive() -> AsyncIterator[Archive]:
    database = SqliteDatabase("sqlite:///:memory:")
    METADATA.create_all(database.engine)
    database.open()
    yield Archive(database)
    await database.close()


async def test_an_expired_session_goes_after_a_day_and_its_turns_after_their_time(archive: Archive) -> None:
    await archive.turn("old")
    archive.clock.advance(600 + DAY - 1)
    await archive.cleaning.once()
    assert len(await archive.left(SESSIONS)) == 1

    archive.clock.advance(2)
    await archive.cleaning.once()
    assert await archive.left(SESSIONS) == []
    assert await archive.left(HISTORY) == []
    assert len(await archive.left(TURNS)) == 1

    archive.clock.advance(30 * DAY)
    await archive.cleaning.once()
    assert await archive.left(TURNS) == []
    assert await archive.left(STEPS) == []


async def test_turns_that_are_not_over_stay_and_running_or_paused_ones_keep_their_sessions(archive: Archive) -> None:
    ids = {state: await archive.turn(state, state) for state in ("running", "paused", "awaiting")}
    archive.clock.advance(100 * DAY)
    await archive.cleaning.once()

    assert {row.key for row in await archive.left(SESSIONS)} == {"1/A/B/running", "1/A/B/paused"}
    states = {row.id: row.state for row in await archive.left(TURNS)}
    assert states == {ids["running"]: "running", ids["paused"]: "paused", ids["awaiting"]: "abandoned"}


async def test_more_than_a_batch_is_looked_through(archive: Archive) -> None:
    await asyncio.gather(*(archive.turn(f"s{number}") for number in range(450)))
    kept = await archive.turn("young")
    archive.clock.advance(31 * DAY + 1)
    young = await archive.turn("young")
    await archive.cleaning.once()

    assert [row.key for row in await archive.left(SESSIONS)] == ["1/A/B/young"]
    assert [row.id for row in await archive.left(TURNS)] == [young]
    assert kept != young
