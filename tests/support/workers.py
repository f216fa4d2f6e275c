"""Workers on one database, and a database that breaks at a chosen write: before it is kept, or after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from postgresql import PostgreSQL
from sqlalchemy import Connection, func, select

from outcrop.ids import SessionKey, TurnId
from outcrop.sessions.entries import Intent, Kept, NewTurn, OpenTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.pages import Pages
from outcrop.sessions.spend import SPEND, session_scope
from outcrop.sessions.state import HISTORY, SESSIONS, Session, Sessions, saving, starting
from outcrop.sessions.tables import STEPS, TURNS
from outcrop.storage.database import METADATA, Database, Unavailable
from outcrop.storage.postgresql import PostgresqlDatabase

KEY = SessionKey("123456789012/ABCDEFGHIJ/TSTALIASID/session-1")
DEFINITION = Kept.of({"identity": {"name": "stock"}, "agent": {"foundationModel": "m"}, "actionGroups": []})
OPENING = {"input_text": "Check A", "session_id": "session-1"}
MODEL = Intent(0, 0, "CallModel", {"iteration": 0})
TTL_S = 600


class Breaking:
    """A database whose write number `at` (from 0) ends in Unavailable: `kept` or `lost`. Others are as always."""

    def __init__(self, database: Database, at: int, how: Literal["kept", "lost"], times: int = 1) -> None:
        self._database = database
        self._broken = range(at, at + times)
        self._how = how
        self.writes = 0

    @property
    def url(self) -> str:
        return self._database.url

    @property
    def is_shared(self) -> bool:
        return self._database.is_shared

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        is_broken = self.writes in self._broken
        self.writes += 1
        if is_broken and self._how == "lost":
            raise Unavailable("the connection was lost before the commit")
        value = await self._database.write(work)
        if is_broken:
            raise Unavailable("the connection was lost after the commit")
        return value

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        return await self._database.read(work)

    async def settle(self) -> None:
        await self._database.settle()

    def once(self, work: Callable[[Connection], Any]) -> Any:
        return self._database.once(work)

    async def close(self) -> None:
        await self._database.close()


class Holding:
    """A PostgreSQL database whose writes wait, with all they have locked, while somebody holds `key`."""

    is_shared = True

    def __init__(self, database: PostgresqlDatabase, key: int) -> None:
        self._database, self._key = database, key
        self.url, self.read, self.once = database.url, database.read, database.once
        self.settle, self.close = database.settle, database.close

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        def held(connection: Connection) -> Any:
            value = work(connection)
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._key})")
            return value

        return await self._database.write(held)


@dataclass
class Worker:
    """One process's view of the sessions."""

    name: str
    database: Database
    patience_s: float = 5.0

    def __post_init__(self) -> None:
        self.journal = Journal(self.database, self.name, self.patience_s)
        self.sessions = Sessions(self.database)

    async def session(self, key: SessionKey = KEY, now: float = 1.0) -> Session:
        return (await self.sessions.open(key, TTL_S, now))[0]

    async def begin(self, session: Session, turn: str, now: float = 1.0, *intents: Intent) -> Pages:
        """A turn that asks the model first, unless other intents are given."""
        new = NewTurn(TurnId(turn), session.key, DEFINITION, OPENING, now, base=len(session.history))
        return await self.journal.begin(new, intents or (MODEL,), starting(session, new.id, now))

    async def begun(self, turn: str, *intents: Intent, key: SessionKey = KEY, now: float = 1.0) -> Pages:
        return await self.begin(await self.session(key, now), turn, now, *intents)

    async def turn(self, turn: str) -> OpenTurn:
        found = await self.journal.find(TurnId(turn))
        assert found is not None
        return found

    async def end(self, pages: Pages, key: SessionKey = KEY, now: float = 2.0, *said: str) -> None:
        """End a turn that leaves those messages."""
        session = await self.session(key, now)
        messages: Any = [{"role": "user", "content": [{"text": one}]} for one in said]
        await pages.end("done", (), {"text": "Bye.", "kind": "FINISH"}, now, saving(session, {}, messages, now))


async def rows(database: Database, key: SessionKey = KEY) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that is kept of a session."""

    def work(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
        own = select(TURNS.c.id).where(TURNS.c.session_key == key)
        wanted = {
            "sessions": select(SESSIONS).where(SESSIONS.c.key == key),
            "history": select(HISTORY).where(HISTORY.c.session_key == key).order_by(HISTORY.c.turn),
            "turns": select(TURNS).where(TURNS.c.session_key == key).order_by(TURNS.c.id),
            "steps": select(STEPS).where(STEPS.c.turn_id.in_(own)).order_by(*STEPS.primary_key),
            "spend": select(func.sum(SPEND.c.tokens)).where(SPEND.c.scope == session_scope(key)),
        }
        return {name: [tuple(row) for row in connection.execute(one)] for name, one in wanted.items()}

    return await database.read(work)


def emptied(server: PostgreSQL, url: str) -> None:
    """Remove what a test has left in a database on PostgreSQL, which is faster than to make a new one."""
    name = url.partition("?")[0].rpartition("/")[2]
    server.execute("; ".join(f"DELETE FROM {table}" for table in METADATA.tables), name)
