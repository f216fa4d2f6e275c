"""The database as two verbs: run this against a connection, reading or writing.

    await database.write(work)     work(connection) runs in one transaction, and is committed when this returns
    await database.read(work)      work(connection) sees one state: the last committed one, or a later one

`work` is a plain function of a SQLAlchemy connection and returns values, never rows that
need the connection. It may be run twice (a group that failed is run again one by one), so
it has no effects besides its statements. Rooms own their tables and statements; no SQL of
theirs lives here. `sqlite` and `postgresql` are the two kinds, `opening` makes the one that
the settings name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy import Connection, MetaData

from outcrop.errors import RoomError

T = TypeVar("T")
Work = Callable[[Connection], T]

METADATA = MetaData()
"""All tables of the house; each room adds its own."""

_ALONE = 0x6F757463726F7001
"""The advisory lock of `alone`: any number will do, as long as nobody else in the database takes it."""


class Unavailable(RoomError):
    """The database cannot be reached, was lost in the middle, or has no room left.

    Of a write, nobody knows whether it was kept: the connection may have been lost after the commit. Later calls try
    anew by themselves.
    """


class Database(Protocol):
    """A database of either kind."""

    @property
    def url(self) -> str:
        """Where it is, with what is needed to connect: not for messages, it may hold a password."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes may write the same database."""
        ...

    async def write(self, work: Work[T]) -> T:
        """What work returns, once it is committed.

        On SQLite it is alone among writers; on PostgreSQL others write at the same time, unless it calls `alone`.

        Errors: Unavailable; RuntimeError once closed; whatever work raises, and nothing of it is kept then.
        """
        ...

    async def read(self, work: Work[T]) -> T:
        """What work returns, over one state. Everything committed before the call is seen.

        Errors: Unavailable; RuntimeError once closed; whatever work raises.
        """
        ...

    async def settle(self) -> None:
        """Wait until every write asked for before is done, also those whose callers have given up."""
        ...

    def once(self, work: Work[T]) -> T:
        """What work returns, committed, on a connection of its own: for what is done before the event loop runs.

        Errors: Unavailable; whatever work raises.
        """
        ...

    async def close(self) -> None:
        """Finish what is queued, then give every connection back."""
        ...


def alone(connection: Connection, key: int = _ALONE) -> None:
    """Wait until no other work that calls this is under way, in any process; until its commit this one is alone.

    To be called before the first look at what is then written. On SQLite every writing work is alone as it is.

    Shapes: works that call it with different keys do not wait for each other.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key})")


def place(url: str) -> str:
    """How messages name a database: its file, or its name and host, without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return f"database {url.removeprefix('sqlite:///')}"
    host = parts.netloc.rpartition("@")[2] or ",".join(parse_qs(parts.query).get("host", []))
    return f"database {unquote(parts.path.strip('/'))}" + (f" on {host}" if host else "")
