"""Bring a database to this release's tables, by Alembic's revisions.

An up-to-date database is recognised by one query, so that Alembic is imported only when
there is something to do.
"""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DatabaseError

from outcrop.errors import RoomError
from outcrop.storage.database import Database, alone, place

REVISIONS = Path(__file__).parent / "migrations" / "versions"
HEAD = "0002"
"""The newest revision; a test holds it to the folder."""

TABLES = frozenset({"documents", "sessions", "history", "turns", "steps", "definitions", "workers", "spend"})
"""All tables that the revisions make; a test holds it to them."""

_FIRST = "documents"
"""A table that every revision has."""

_REVISION = re.compile(r"[0-9]{4}")
_CLOSED = text("""
    select name from unnest(cast(:names as text[])) as name
    where not (has_table_privilege(name, 'SELECT') and has_table_privilege(name, 'INSERT')
      and has_table_privilege(name, 'UPDATE') and has_table_privilege(name, 'DELETE'))
    order by name limit 1
""")
"""A table in which this user of PostgreSQL may not do what a server does."""

_MIGRATING = 0x6F757463726F7002
"""The advisory lock of those who upgrade."""


class DatabaseTooNew(RoomError):
    """The database was written by a newer release, which this one cannot read."""


class DatabaseUnusable(RoomError):
    """The database cannot be opened or not be written, or what it holds is damaged, somebody else's or no database."""


class _NotOurs(Exception):
    """The tables are somebody else's."""


class _Forbidden(Exception):
    """The table of that name cannot be written."""


def migrate(database: Database) -> None:
    """Create or upgrade the tables; returns at once where they are current.

    Processes that start together do it one after the other, and those after the first find it done.

    Errors: DatabaseTooNew; DatabaseUnusable naming the database, also where it may only be read; Unavailable naming
            the database that cannot be reached.
    """
    try:
        database.once(_bring_up)
    except DatabaseError as error:
        raise DatabaseUnusable(f"{place(database.url)}: {_said(error)}") from error
    except _NotOurs as error:
        told = "it holds tables of another application; name an empty database"
        raise DatabaseUnusable(f"{place(database.url)}: {told}") from error
    except _Forbidden as error:
        raise DatabaseUnusable(f"{place(database.url)}: permission denied for table {error}") from error


def _bring_up(connection: Connection) -> None:
    if not _is_current(connection):
        alone(connection, _MIGRATING)
        if not _is_current(connection):
            _upgrade(connection)
    _must_be_writable(connection)


def _must_be_writable(connection: Connection) -> None:
    """Nothing, where this user may do with the tables what a server does."""
    if connection.dialect.name != "postgresql":
        return
    closed = connection.execute(_CLOSED, {"names": sorted(TABLES)}).scalar_one_or_none()
    if closed is not None:
        raise _Forbidden(closed)


def _is_current(connection: Connection) -> bool:
    at = _revision(connection)
    if at not in (None, HEAD) and not any(REVISIONS.glob(f"{at}_*.py")):
        raise DatabaseTooNew(f"the database is at revision {at}, this release knows up to {HEAD}")
    return at == HEAD


def _revision(connection: Connection) -> str | None:
    found = set(inspect(connection).get_table_names())
    at: str | None = None
    if "alembic_version" in found:
        at = connection.execute(text("select version_num from alembic_version")).scalars().first()
    # Other applications use Alembic as well, and have tables of such names.
    is_ours = not found & TABLES if at is None else _FIRST in found and _REVISION.fullmatch(at)
    if not is_ours:
        raise _NotOurs
    return at


def _said(error: DatabaseError) -> str:
    """One line of the driver's own words."""
    inner = error.orig
    return str(getattr(inner, "__cause__", None) or inner).partition("\n")[0]


def _upgrade(connection: Connection) -> None:
    # Imported here: most starts find the tables current and need none of it.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(REVISIONS.parent))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, HEAD)
