from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from postgresql import PostgreSQL
from workers import Worker, emptied

from outcrop.storage.database import METADATA, Database
from outcrop.storage.postgresql import PostgresqlDatabase
from outcrop.storage.sqlite import SqliteDatabase

NewWorker = Callable[[str], Worker]


@pytest.fixture(scope="session")
def _sessions_url(postgresql: PostgreSQL, _migrated: str) -> str:
    return postgresql.database(template=_migrated)


@pytest.fixture
def url(postgresql: PostgreSQL, _sessions_url: str) -> Iterator[str]:
    """A database on PostgreSQL with all tables and nothing in them."""
    yield _sessions_url
    emptied(postgresql, _sessions_url)


@pytest.fixture(params=["sqlite", "postgresql"])
async def databases(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Database]]:
    """Gives the database to one process after the other: on PostgreSQL each has connections of its own."""
    opened: list[Database] = []
    if request.param == "sqlite":
        sqlite = SqliteDatabase("sqlite:///:memory:")
        sqlite.once(METADATA.create_all)
        sqlite.open()
        opened.append(sqlite)

        def give() -> Database:
            return sqlite
    else:
        url = request.getfixturevalue("url")

        def give() -> Database:
            opened.append(PostgresqlDatabase(url))
            return opened[-1]

    yield give
    for database in opened:
        await database.close()


@pytest.fixture
def database(databases: Callable[[], Database]) -> Database:
    return databases()


@pytest.fixture
def worker(databases: Callable[[], Database]) -> NewWorker:
    """Workers by name, each as if in a process of its own."""
    return lambda name: Worker(name, databases())


@pytest.fixture
async def shared(url: str) -> AsyncIterator[Database]:
    """A database that several processes use, which is PostgreSQL's part alone."""
    database = PostgresqlDatabase(url)
    yield database
    await database.close()
