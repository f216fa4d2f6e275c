from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from outcrop.storage.database import METADATA, Database, Unavailable, Work
from outcrop.storage.sqlite import SqliteDatabase


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
    # On PostgreSQL either of the two that are called 3 may come first.
    assert {type(result) for result in results if isinstance(result, Exception)} == {LookupError, IntegrityError}
    assert isinstance(results[7], LookupError)
    assert await database.read(_count) == 20


async def test_a_failing_read_tells_its_caller_and_the_next_one_works(database: Database) -> None:
    def wrong(connection: Connection) -> None:
        connection.execute(text("select * from nothing"))

    with pytest.raises(DBAPIError, match="nothing"):
        await database.read(wrong)
    assert await database.read(_count) == 0


async def test_a_caller_that_gave_up_disturbs_nobody_and_its_work_is_done(database: Database) -> None:
    given_up = asyncio.ensure_future(database.write(_insert("given up")))
    kept = asyncio.ensure_future(database.write(_insert("kept")))
    await asyncio.sleep(0)
    given_up.cancel()
    await database.settle()
    assert await database.read(_count) == 2
    assert await kept == "kept"
    assert given_up.cancelled()


async def test_closing_finishes_what_is_queued_and_then_refuses(database: Database) -> None:
    pending = [asyncio.ensure_future(database.write(_insert(str(n)))) for n in range(50)]
    await asyncio.sleep(0)
    await database.close()
    assert len(await asyncio.gather(*pending)) == 50
    for late in (database.write(_insert("late")), database.read(_count)):
        with pytest.raises(RuntimeError, match="closed"):
            await late


async def test_a_database_that_cannot_be_opened_says_so_when_it_is_opened(tmp_path: Path) -> None:
    database = SqliteDatabase(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'x.db'}")
    with pytest.raises(OperationalError, match="unable to open"):
        database.open()
    await database.close()


async def test_one_read_sees_one_state_even_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    database = SqliteDatabase(f"sqlite:///{path}")
    database.once(METADATA.create_all)
    database.open()

    def twice(connection: Connection) -> tuple[int, int]:
        before = _count(connection)
        with sqlite3.connect(path) as other:
            other.execute("insert into documents (kind, id, parent, name, changed, body) values ('k','x','','',0,'{}')")
        other.close()
        return before, _count(connection)

    assert await database.read(twice) == (0, 0)
    assert await database.read(_count) == 1
    await database.close()


async def test_look_then_write_is_alone_even_against_another_process(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    database = SqliteDatabase(f"sqlite:///{path}")
    database.once(METADATA.create_all)
    database.open()

    def look(connection: Connection) -> str:
        assert _count(connection) == 0
        with sqlite3.connect(path, timeout=0) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("insert into documents (kind, id, parent, name, changed, body) values ('k','x','','',0,'{}')")
        other.close()
        return "alone"

    assert await database.write(look) == "alone"
    await database.close()


async def test_the_file_is_in_wal_mode(tmp_path: Path) -> None:
    database = SqliteDatabase(f"sqlite:///{tmp_path / 'x.db'}", synchronous="full")
    database.open()

    def pragmas(connection: Connection) -> tuple[str, int]:
        return (
            connection.execute(text("pragma journal_mode")).scalar_one(),
            connection.execute(text("pragma synchronous")).scalar_one(),
        )

    assert await database.read(pragmas) == ("wal", 2)
    await database.close()


async def test_a_full_disk_says_so_to_everybody_in_the_group_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    database = await _on_file(tmp_path / "x.db")

    def limit(pages: int) -> Work[None]:
        return lambda c: c.exec_driver_sql(f"pragma max_page_count={pages}").close()

    await database.write(limit(1))  # SQLite makes it as many as there are
    big = [database.write(lambda c, id=id: _insert(id)(c) and _fill(c)) for id in "abc"]
    told = await asyncio.gather(*big, return_exceptions=True)
    assert [str(each) for each in told] == ["the database cannot be used: database or disk is full"] * 3
    assert {type(each) for each in told} == {Unavailable}

    await database.write(limit(1_000_000))
    await database.write(_insert("d"))
    assert await database.read(_count) == 1
    await database.close()


def _fill(connection: Connection) -> None:
    connection.execute(text("update documents set body = zeroblob(1000000)"))


async def test_a_file_that_another_process_keeps_to_itself_is_unavailable(tmp_path: Path) -> None:
    database = await _on_file(tmp_path / "x.db")
    await database.write(lambda c: c.exec_driver_sql("pragma busy_timeout=1").close())
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(Unavailable, match="database is locked"):
        await database.write(_insert("a"))
    other.execute("rollback")
    other.close()
    assert await database.write(_insert("a")) == "a"
    await database.close()


async def _on_file(path: Path) -> SqliteDatabase:
    database = SqliteDatabase(f"sqlite:///{path}")
    database.once(METADATA.create_all)
    database.open()
    return database
