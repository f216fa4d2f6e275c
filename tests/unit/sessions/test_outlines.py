"""Turns in outline on both databases: the newest first, only those that are wanted, without what was said."""

from __future__ import annotations

import itertools

import pytest

from outcrop.ids import SessionKey, TurnId, turn_id
from outcrop.sessions.entries import Kept, NewTurn, OpenTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.outlines import NEWEST, Outlines, Wanted
from outcrop.storage.database import Database

OURS, THEIRS = "123456789012", "1234567890120"
KEPT = Kept.of({"identity": {"agent_id": "AGENT", "version": "7"}})
SESSIONS = [
    f"{OURS}/AGENT/ALIAS/s-1",
    f"{OURS}/AGENT/ALIAS/s-10",
    f"{OURS}/AGENT/OTHER/s-1",
    f"{OURS}/AGENTS/ALIAS/s-1",
    f"{OURS}/agent/ALIAS/S-1",
    f"{OURS}/INLINE_AGENT//s-1",
    f"{THEIRS}/AGENT/ALIAS/s-1",
]


class Shelf:
    """A database of turns and an archive that reads them."""

    def __init__(self, database: Database) -> None:
        self.journal = Journal(database, "one", 0.0)
        self.outlines = Outlines(database)
        self.times = itertools.count(1_800_000_000)

    async def put(self, key: str) -> TurnId:
        """A queued turn."""
        new = NewTurn(turn_id(now := next(self.times)), SessionKey(key), KEPT, {"input_text": "Hi"}, now)
        return await self.journal.queue(new)

    async def end(self, turn_id: TurnId, ending: dict[str, str], state: str = "done") -> None:
        kept: OpenTurn | None = await self.journal.find(turn_id)
        assert kept is not None
        await self.journal.pages(kept).end(state, (), ending, next(self.times), lambda _connection: None)

    async def listed(self, wanted: Wanted, most: int = 100, before: TurnId = NEWEST) -> list[str]:
        return [turn.session_key for turn in await self.outlines.newest(wanted, most, before)]


@pytest.fixture
def shelf(database: Database) -> Shelf:
    return Shelf(database)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(OURS), SESSIONS[:6]),
        (Wanted(THEIRS), SESSIONS[6:]),
        (Wanted(OURS, "AGENT"), SESSIONS[:3]),
        (Wanted(OURS, "AGENT", "ALIAS"), SESSIONS[:2]),
        (Wanted(OURS, "AGENT", "ALIAS", "s-1"), SESSIONS[:1]),
        (Wanted(OURS, "AGENT", session="s-1"), [SESSIONS[0], SESSIONS[2]]),
        (Wanted(OURS, session="s-1"), [SESSIONS[0], SESSIONS[2], SESSIONS[3], SESSIONS[5]]),
        (Wanted(OURS, "INLINE_AGENT"), [SESSIONS[5]]),
        (Wanted(OURS, "AGEN"), []),
        (Wanted(OURS, session="1"), []),
        (Wanted("1234"), []),
    ],
)
async def test_only_what_is_wanted_is_listed_newest_first(shelf: Shelf, wanted: Wanted, found: list[str]) -> None:
    for key in SESSIONS:
        await shelf.put(key)

    assert await shelf.listed(wanted) == found[::-1]


async def test_a_list_is_read_in_parts(shelf: Shelf) -> None:
    turns = [await shelf.put(SESSIONS[0]) for _ in range(5)]

    for wanted in (Wanted(OURS), Wanted(OURS, "AGENT"), Wanted(OURS, "AGENT", "ALIAS", "s-1")):
        read: list[TurnId] = []
        before = NEWEST
        while part := await shelf.outlines.newest(wanted, 2, before):
            read += [turn.id for turn in part]
            before = part[-1].id
        assert read == turns[::-1]


async def test_states_are_told_and_answers_are_not_read(shelf: Shelf) -> None:
    queued, done, failed = [await shelf.put(SESSIONS[0]) for _ in range(3)]
    await shelf.end(done, {"text": "a long answer", "kind": "FINISH"})
    await shelf.end(failed, {"reason": "broken"}, "failed")

    told = {turn: await shelf.outlines.one(turn) for turn in (queued, done, failed)}
    by_state = {
        state: await shelf.outlines.newest(Wanted(OURS, state=state), 9) for state in ("queued", "done", "paused")
    }

    seen = {turn: (one.state, one.ending, one.is_over, one.lease) for turn, one in told.items() if one is not None}
    assert seen == {
        queued: ("queued", None, False, 0),
        done: ("done", None, True, 0),
        failed: ("failed", {"reason": "broken"}, True, 0),
    }
    assert by_state == {"queued": [told[queued]], "done": [told[done]], "paused": []}
    assert await shelf.outlines.one("0" * 32) is None


async def test_an_agents_identity_is_read_once(shelf: Shelf, database: Database) -> None:
    turn = await shelf.outlines.one(await shelf.put(SESSIONS[0]))
    assert turn is not None

    first = await shelf.outlines.identity(turn.digest)
    await database.write(lambda connection: connection.exec_driver_sql("DELETE FROM definitions"))

    assert first == await shelf.outlines.identity(turn.digest) == {"agent_id": "AGENT", "version": "7"}
