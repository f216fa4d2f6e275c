"""Bring a database to this release's tables, by Alembic's revisions.

An up-to-date database is recognised by one query, so that Alembic is imported only when
there is something to do.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DatabaseError

from outcrop.errors import RoomError
from outcrop.storage.database import Database, alone, place

REVISIONS = Path(__file__).parent / "migrations" / "versions"
HEAD = "0002"
"""The newest revision; a test holds it to the folder."""

_MIGRATING = 0x6F757463726F7002
"""The advisory lock of those who upgrade."""


class DatabaseTooNew(RoomError):
    """The database was written by a newer release, which this one cannot read."""


class DatabaseUnusable(RoomError):
    """The database cannot be opened, or what it holds is damaged or no database."""


def migrate(database: Database) -> None:
    """Create or upgrade the tables; returns at once where they are current.

    Processes that start together do it one after the other, and those after the first find it done.

    Errors: DatabaseTooNew; DatabaseUnusable naming the file; Unavailable naming the database that cannot be reached.
    """
    try:
        database.once(_bring_up)
    except DatabaseError as error:
        raise DatabaseUnusable(f"{place(database.url)}: {error.orig}") from error


def _bring_up(connection: Connection) -> None:
    if _is_current(connection):
        return
    alone(connection, _MIGRATING)
    if not _is_current(connection):
        _upgrade(connection)


def _is_current(connection: Connection) -> bool:
    at = _revision(connection)
    if at not in (None, HEAD) and not any(REVISIONS.glob(f"{at}_*.py")):
        raise DatabaseTooNew(f"the database is at revision {at}, this release knows up to {HEAD}")
    return at == HEAD


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("select version_num from alembic_version")).scalar_one_or_none()


def _upgrade(connection: Connection) -> None:
    # Imported here: most starts find the tables current and need none of it.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(REVISIONS.parent))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, HEAD)
