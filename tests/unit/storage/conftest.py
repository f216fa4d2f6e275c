from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from outcrop.storage.database import METADATA, Database
from outcrop.storage.documents import Documents
from outcrop.storage.postgresql import PostgresqlDatabase
from outcrop.storage.sqlite import SqliteDatabase

KINDS = ("memory", "file", "postgresql")


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database of each kind without tables, to be opened by `opened`."""
    if request.param == "postgresql":
        return PostgresqlDatabase(request.getfixturevalue("empty_postgresql_url"))
    return SqliteDatabase("sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'outcrop.db'}")


@pytest.fixture
async def database(empty: Database) -> AsyncIterator[Database]:
    """A database of each kind with all tables, open."""
    empty.once(METADATA.create_all)
    if isinstance(empty, SqliteDatabase):
        empty.open()
    yield empty
    await empty.close()


@pytest.fixture
def documents(database: Database) -> Documents:
    return Documents(database)
