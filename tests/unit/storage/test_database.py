from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from outcrop.storage.database import METADATA, Database, sqlite_url


def _insert(id: str) -> object:
    def work(connection: Connection) -> str:
        connection.execute(
            text("insert into documents (kind, id, parent, name, changed, body) values ('k', :id, '', '', 0, '{}')"),
            {"id": id},
        )
        return id

    return work


def _count(connection: Connection) -> int:
    return connection.execute(text("select count(*) from documents")).scalar_one()


async def test_what_was_written_is_read(database: Database) -> None:
    assert await database.write(_insert("a")) == "a"
    assert await database.read(_count) == 1


async def test_many_writers_at_once_all_get_their_own_answer(database: Database) -> None:
    answers = await asyncio.gather(*(database.write(_insert(str(n))) for n in range(600)))
    assert answers == [str(n) for n in range(600)]
    assert await database.read(_count) == 600


async def test_one_failing_work_undoes_itself_and_none_of_its_neighbours(database: Database) -> None:
    def half(connection: Connection) -> None:
        _insert("half")(connection)
        raise LookupError("changed my mind")

    works = [database.write(_insert(str(n))) for n in range(20)]
    works.insert(7, database.write(half))
    works.insert(13, database.write(_insert("3")))
    results = await asyncio.gather(*works, return_exceptions=True)
    assert [type(result) for result in results if isinstance(result, Exception)] == [LookupError, IntegrityError]
    assert await database.read(_count) == 20


async def test_a_failing_read_tells_its_caller_and_the_next_one_works(database: Database) -> None:
    def wrong(connection: Connection) -> None:
        connection.execute(text("select * from nothing"))

    with pytest.raises(OperationalError):
        await database.read(wrong)
    assert await database.read(_count) == 0


async def test_a_caller_that_gave_up_disturbs_nobody(database: Database) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        started.set()
        assert go_on.wait(10)

    first = asyncio.ensure_future(database.write(slow))
    await asyncio.to_thread(started.wait, 10)
    given_up = asyncio.ensure_future(database.write(_insert("given up")))
    kept = asyncio.ensure_future(database.write(_insert("kept")))
    await asyncio.sleep(0)
    given_up.cancel()
    go_on.set()
    assert await kept == "kept"
    await first
    assert await database.read(_count) == 2


async def test_closing_finishes_what_is_queued_and_then_refuses(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    METADATA.create_all(database.engine)
    database.open()
    pending = [asyncio.ensure_future(database.write(_insert(str(n)))) for n in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(database.close)
    assert len(await asyncio.gather(*pending)) == 50
    with pytest.raises(AssertionError, match="not open"):
        await database.write(_insert("late"))
    again = Database(database.url)
    again.open()
    assert await again.read(_count) == 50
    again.close()


async def test_a_database_that_cannot_be_opened_says_so_when_it_is_opened(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'x.db'}")
    with pytest.raises(OperationalError, match="unable to open"):
        database.open()
    database.close()


async def test_one_read_sees_one_state_even_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    database = Database(f"sqlite:///{path}")
    METADATA.create_all(database.engine)
    database.open()

    def twice(connection: Connection) -> tuple[int, int]:
        before = _count(connection)
        with sqlite3.connect(path) as other:
            other.execute("insert into documents (kind, id, parent, name, changed, body) values ('k','x','','',0,'{}')")
        other.close()
        return before, _count(connection)

    assert await database.read(twice) == (0, 0)
    assert await database.read(_count) == 1
    database.close()


async def test_look_then_write_is_alone_even_against_another_process(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    database = Database(f"sqlite:///{path}")
    METADATA.create_all(database.engine)
    database.open()

    def look(connection: Connection) -> str:
        assert _count(connection) == 0
        with sqlite3.connect(path, timeout=0) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("insert into documents (kind, id, parent, name, changed, body) values ('k','x','','',0,'{}')")
        other.close()
        return "alone"

    assert await database.write(look) == "alone"
    database.close()


async def test_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}", synchronous="full")
    database.open()

    def pragmas(connection: Connection) -> tuple[str, int]:
        return (
            connection.execute(text("pragma journal_mode")).scalar_one(),
            connection.execute(text("pragma synchronous")).scalar_one(),
        )

    assert await database.read(pragmas) == ("wal", 2)
    database.close()


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("sqlite", "sqlite:////data/outcrop.db"),
        ("sqlite:memory", "sqlite:///:memory:"),
        ("sqlite:///elsewhere.db", "sqlite:///elsewhere.db"),
    ],
)
def test_the_setting_names_the_database(setting: str, url: str) -> None:
    assert sqlite_url(setting, Path("/data")) == url
