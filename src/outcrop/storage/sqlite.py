"""A SQLite database: a thread that writes and one that reads, so that the event loop never waits for the disk.

    write(work) -> queue -> the writing thread: BEGIN IMMEDIATE, all that has gathered, COMMIT
    read(work)  -> queue -> the reading thread: BEGIN, all that has gathered, ROLLBACK

What gathered since the last commit is committed in one go: 64 turns at once pay for one
commit, not 64. The threads begin and end transactions themselves, on the driver's
connection, because SQLAlchemy's own bookkeeping costs more than the transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from outcrop.storage.database import T, Unavailable, Work
from outcrop.storage.lock import FolderLock

_OWN = "outcrop_own_transactions"
"""The execution option of connections whose thread begins and ends transactions itself."""

_GROUP = 256
"""Works in one commit at most, so that the first of them does not wait for ever."""

_OUT_OF_ORDER = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}
"""What SQLite says of the file, the disk or another process, and not of a statement."""

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
            told = _translated(error)
            if len(group) > 1 and not isinstance(told, Unavailable):
                # Whatever failed, the whole group is undone; each work is tried alone.
                for one in group:
                    self._serve(connection, [one])
                return
            results = [(future, loop, None, told) for _, future, loop in group]
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


def _translated(error: Exception) -> Exception:
    """The error as the callers shall see it: Unavailable where it is not about the statement."""
    cause = getattr(error, "orig", error)
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(cause, sqlite3.Error) and code is not None and code & 0xFF in _OUT_OF_ORDER:
        told = Unavailable(f"the database cannot be used: {cause}")
        told.__cause__ = error
        return told
    return error


class SqliteDatabase:
    """A SQLite database with one writer and one reader thread."""

    is_shared = False

    def __init__(self, url: str, *, synchronous: str = "normal", lock: FolderLock | None = None) -> None:
        """Open the database; tables are made by `storage.migrate`, not here.

        Shapes: url is "sqlite:///PATH" or "sqlite:///:memory:"; synchronous is "normal" or "full"; `lock` is given back
                at the end.
        """
        self.url = url
        self._lock = lock
        self._one_connection = url.endswith(":memory:")
        options: dict[str, Any] = {"connect_args": {"check_same_thread": False, "timeout": 30.0}}
        if self._one_connection:
            options["poolclass"] = StaticPool
        self.engine = create_engine(url, **options)
        event.listen(self.engine, "connect", _pragmas(synchronous))
        event.listen(self.engine, "begin", _begin)
        self._writer: _Thread | None = None
        self._reader: _Thread | None = None

    def open(self) -> None:
        """Start the threads; called once, when the tables exist."""
        self._writer = _Thread(self.engine, "outcrop-writer", commits=True)
        # In memory there is one connection, so one thread does both.
        self._reader = self._writer if self._one_connection else _Thread(self.engine, "outcrop-reader", commits=False)

    async def write(self, work: Work[T]) -> T:
        """What work returns, once it is committed.

        Errors: Unavailable; RuntimeError unless open; whatever work raises, and nothing of it is kept then.
        """
        return await _running(self._writer).run(work)

    async def read(self, work: Work[T]) -> T:
        """What work returns. Everything committed before the call is seen.

        Errors: Unavailable; RuntimeError unless open; whatever work raises.
        """
        return await _running(self._reader).run(work)

    async def settle(self) -> None:
        """Wait until every write asked for before is done."""
        await self.write(lambda _: None)

    def once(self, work: Work[T]) -> T:
        """What work returns, committed; the file is closed again where it fails.

        Errors: whatever work raises.
        """
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except BaseException:
            self.engine.dispose()
            raise

    async def close(self) -> None:
        """Finish what is queued, stop the threads, close the file."""
        await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """The same, for whoever has no event loop to wait in."""
        for thread in {self._writer, self._reader} - {None}:
            assert thread is not None
            thread.stop()
        self._writer = self._reader = None
        self.engine.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _running(thread: _Thread | None) -> _Thread:
    if thread is None:
        raise RuntimeError("the database is closed")
    return thread


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
