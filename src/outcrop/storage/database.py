"""The database as two verbs: run this against a connection, reading or writing.

    await database.write(work)     work(connection) runs in one transaction, alone among writers
    await database.read(work)      work(connection) sees the last committed state

`work` is a plain function of a SQLAlchemy connection and returns values, never rows that
need the connection. It may be run twice (a group that failed is run again one by one), so
it has no effects besides its statements.

On SQLite a writer thread owns the one writing connection and commits what has gathered since
the last commit in one go: the event loop never waits for the disk, and 64 turns at once pay
for one commit, not 64. The threads begin and end transactions themselves, on the driver's
connection, because SQLAlchemy's own bookkeeping costs more than the transaction. Rooms own
their tables and statements; no SQL lives here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.pool import StaticPool

from outcrop.config import ConfigMistake

T = TypeVar("T")
Work = Callable[[Connection], T]

METADATA = MetaData()
"""All tables of the house; each room adds its own."""

_OWN = "outcrop_own_transactions"
"""The execution option of connections whose thread begins and ends transactions itself."""

_GROUP = 256
"""Works in one commit at most, so that the first of them does not wait for ever."""


_Asked = tuple[Work[Any], asyncio.Future[Any], asyncio.AbstractEventLoop]


class _Thread:
    """One thread, one connection, a queue of works."""

    def __init__(self, engine: Engine, name: str, *, commits: bool) -> None:
        # Connected here, so that a database that cannot be opened fails its opener and not every later caller.
        self._connection = engine.connect().execution_options(**{_OWN: True})
        self._begin, self._end = ("BEGIN IMMEDIATE", "COMMIT") if commits else ("BEGIN", "ROLLBACK")
        self._queue: SimpleQueue[_Asked | None] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Work[T]) -> T:
        if self._stopping:
            raise RuntimeError("the database is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put((work, future, loop))
        return await future

    def stop(self) -> None:
        self._stopping = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with self._connection as connection:
            while (first := self._queue.get()) is not None:
                group, last = self._gather(first)
                self._serve(connection, group)
                if last:
                    return

    def _gather(self, first: _Asked) -> tuple[list[_Asked], bool]:
        """What came in since the last commit, and whether the end is among it."""
        group = [first]
        while len(group) < _GROUP and not self._queue.empty():
            asked = self._queue.get()
            if asked is None:
                return group, True
            group.append(asked)
        return group, False

    def _serve(self, connection: Connection, group: list[_Asked]) -> None:
        results: list[tuple[asyncio.Future[Any], asyncio.AbstractEventLoop, Any, Exception | None]]
        try:
            values = self._transact(connection, [work for work, _, _ in group])
            results = [(future, loop, value, None) for (_, future, loop), value in zip(group, values, strict=True)]
        except Exception as error:
            if len(group) == 1:
                results = [(group[0][1], group[0][2], None, error)]
            else:
                # Whatever failed, the whole group is undone; each work is tried alone.
                for one in group:
                    self._serve(connection, [one])
                return
        for loop in {loop for _, loop, _, _ in results}:
            mine = [(future, value, error) for future, where, value, error in results if where is loop]
            # A loop that is closed has nobody left who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, mine)

    def _transact(self, connection: Connection, works: list[Work[Any]]) -> list[Any]:
        """What the works return, all in one transaction.

        Errors: what a work or the commit raises; nothing is kept then.
        """
        driver: Any = connection.connection.dbapi_connection
        driver.execute(self._begin)
        try:
            values = [work(connection) for work in works]
            driver.execute(self._end)
        except BaseException:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            raise
        return values


def _deliver(results: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for future, value, error in results:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


class Database:
    """A SQLite database with one writer and one reader thread."""

    def __init__(self, url: str, *, synchronous: str = "normal") -> None:
        """Open the database; tables are made by `storage.migrate`, not here.

        Shapes: url is "sqlite:///PATH" or "sqlite:///:memory:"; synchronous is "normal" or "full".
        """
        self.url = url
        memory = url.endswith(":memory:")
        options: dict[str, Any] = {"connect_args": {"check_same_thread": False, "timeout": 30.0}}
        if memory:
            options["poolclass"] = StaticPool
        self.engine = create_engine(url, **options)
        event.listen(self.engine, "connect", _pragmas(synchronous))
        event.listen(self.engine, "begin", _begin)
        self._writer: _Thread | None = None
        self._reader: _Thread | None = None
        self._shared = memory

    def open(self) -> None:
        """Start the threads; called once, when the tables exist."""
        self._writer = _Thread(self.engine, "outcrop-writer", commits=True)
        # In memory there is one connection, so one thread does both.
        self._reader = self._writer if self._shared else _Thread(self.engine, "outcrop-reader", commits=False)

    async def write(self, work: Work[T]) -> T:
        """What work returns, once it is committed.

        Errors: whatever work raises; nothing of it is kept then.
        """
        assert self._writer is not None, "the database is not open"
        return await self._writer.run(work)

    async def read(self, work: Work[T]) -> T:
        """What work returns. Everything committed before the call is seen.

        Errors: whatever work raises.
        """
        assert self._reader is not None, "the database is not open"
        return await self._reader.run(work)

    def close(self) -> None:
        """Finish what is queued, stop the threads, close the file."""
        for thread in {self._writer, self._reader} - {None}:
            assert thread is not None
            thread.stop()
        self._writer = self._reader = None
        self.engine.dispose()


def sqlite_url(setting: str, data_dir: Path) -> str:
    """The database URL of [server] database: "sqlite" is one file in the data folder.

    Errors: ConfigMistake for a database that this release cannot use.
    """
    if setting == "sqlite":
        return f"sqlite:///{data_dir / 'outcrop.db'}"
    if setting == "sqlite:memory":
        return "sqlite:///:memory:"
    if not setting.startswith("sqlite:///"):
        raise ConfigMistake(f"[server] database: '{setting}' is none of sqlite, sqlite:memory, sqlite:///PATH")
    return setting


def _pragmas(synchronous: str) -> Callable[[Any, Any], None]:
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # sqlite3 begins nothing by itself: `_begin` does
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'FULL' if synchronous == 'full' else 'NORMAL'}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.close()

    return set_up


def _begin(connection: Connection) -> None:
    # Left to itself, sqlite3 begins at the first change: reads before it would see different states of a
    # file that another process writes, and two processes could each read and then write.
    if not connection.get_execution_options().get(_OWN):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
