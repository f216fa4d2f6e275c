"""A PostgreSQL database: a few connections in this event loop, each serving its share of what has gathered.

    write(work) -> queue -> lane: BEGIN, works, COMMIT               most of the connections
    read(work)  -> queue -> lane: BEGIN ... READ ONLY, works, COMMIT   the others

A lane is a connection and, while there is work, a task. Works are plain functions, so they
run in a greenlet, which hands each statement to the event loop and waits for its answer. A
transaction whose connection is lost before its COMMIT was sent is run once more on a new
one; after that nobody knows, and the callers are told `Unavailable`.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.pool import NullPool

from outcrop.storage.database import T, Unavailable, Work, place

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_GROUP = 64
"""Works in one transaction at most: those after a slow one wait for it, and all are run again where one fails."""

_ENOUGH = 8
"""Queued works that are worth another connection: a transaction costs as much as two statements."""

_ATTEMPTS = 5
"""How often a work is run that fails only because of others: a deadlock, or tables that changed meanwhile."""

_PATIENCE_S = 30.0
"""How long the database may take to answer one statement before it counts as lost; as long as SQLite waits."""

_CONNECTING_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0

_CHANCE = random.SystemRandom()

_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_OUT_OF_ORDER = ("08", "53", "57", "58", "25006", "25P03", "25P04")
"""Beginnings of the SQLSTATEs that are about the connection, the server or its disk, and not about a statement."""

_OTHERS_FAULT = ("40001", "40P01", "55P03", "0A000", "26000")
"""Serialization, deadlock, a lock that was not to be had; a plan made before tables changed, one that is gone."""


class _Lost(Exception):
    """The connection is gone, and nothing of the transaction was kept."""


class _Asked:
    """A work, and who waits for it."""

    __slots__ = ("answer", "is_served", "served", "work")

    def __init__(self, work: Work[Any], answer: asyncio.Future[Any]) -> None:
        self.work = work
        self.answer = answer
        self.is_served = False
        self.served: asyncio.Future[None] | None = None

    def succeed(self, value: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(value)
        self._serve()

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
        self._serve()

    def _serve(self) -> None:
        self.is_served = True
        if self.served is not None and not self.served.done():
            self.served.set_result(None)


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection, and the driver's own inside it."""

    connection: AsyncConnection
    driver: Any

    async def hang_up(self) -> None:
        """Cut it, without a word to a server that may not listen."""
        self.driver.terminate()
        await self.connection.invalidate()
        await self.connection.close()


class _Entrance:
    """Makes connections, one at a time, and more and more slowly while none can be made."""

    def __init__(self, url: str, place: str, session: dict[str, str], patience_s: float | None = _PATIENCE_S) -> None:
        # Imported here: who keeps everything in SQLite need not have them.
        import asyncpg
        from sqlalchemy.ext.asyncio import create_async_engine

        driver: Any = asyncpg
        self._place = place
        self._turn = asyncio.Lock()
        self._pause_s = 0.0
        self._not_before = 0.0
        self._failed: tuple[float, Unavailable] | None = None

        async def connect() -> Any:
            return await driver.connect(
                url,
                timeout=_CONNECTING_S,
                command_timeout=patience_s,
                statement_cache_size=512,
                max_cached_statement_lifetime=0,
                server_settings=session,
            )

        # Transactions are begun and ended by the lanes: SQLAlchemy is told that there are none.
        self._engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )

    async def connect(self) -> _Line:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._turn:
            if self._failed is not None and self._failed[0] >= asked_at:
                # Somebody tried while this one waited for its turn.
                raise Unavailable(str(self._failed[1]))
            await asyncio.sleep(max(0.0, self._not_before - loop.time()))
            try:
                line = await self._connect()
            except Exception as error:
                self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
                self._not_before = loop.time() + self._pause_s * _CHANCE.uniform(0.5, 1.0)
                unavailable = Unavailable(f"{self._place} cannot be reached: {_reason(error)}")
                self._failed = loop.time(), unavailable
                raise unavailable from error
            self._pause_s = self._not_before = 0.0
            return line

    async def _connect(self) -> _Line:
        connection = await self._engine.connect()
        try:
            proxied = await connection.get_raw_connection()
        except BaseException:
            await connection.close()
            raise
        return _Line(connection, proxied.driver_connection)


class _Lane:
    """One connection, made when it is first needed and anew after it was lost."""

    def __init__(self, entrance: _Entrance, place: str, begin: str) -> None:
        self._entrance = entrance
        self._place = place
        self._begin = begin
        self._line: _Line | None = None
        self.group: Sequence[_Asked] = ()

    async def serve(self, group: Sequence[_Asked]) -> None:
        """Answer everybody in the group."""
        self.group = group
        try:
            await self._serve(group)
        finally:
            self.group = ()

    async def _serve(self, group: Sequence[_Asked]) -> None:
        try:
            values = await self._perform([asked.work for asked in group])
        except Exception as error:
            if len(group) == 1 or isinstance(error, Unavailable):
                for asked in group:
                    asked.fail(error)
                return
            # Whatever failed, the whole group is undone; each work is tried alone.
            for asked in group:
                await self._serve([asked])
        except BaseException:
            for asked in group:
                asked.fail(Unavailable("the event loop is ending"))
            raise
        else:
            for asked, value in zip(group, values, strict=True):
                asked.succeed(value)

    async def perform(self, work: Work[T]) -> T:
        """What one work returns, committed.

        Errors: Unavailable; whatever work raises.
        """
        return (await self._perform([work]))[0]

    async def close(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            await line.connection.close()

    async def _perform(self, works: list[Work[Any]]) -> list[Any]:
        """What the works return, all in one transaction, which is run again where that can help."""
        lost = tried = 0
        while True:
            try:
                return await self._transact(works)
            except _Lost as error:
                lost += 1
                if lost > 1:
                    raise Unavailable(f"{self._place} was lost: {_reason(error.__cause__)}") from error.__cause__
            except Exception as error:
                tried += 1
                if len(works) > 1 or tried == _ATTEMPTS or not _state(error).startswith(_OTHERS_FAULT):
                    raise

    async def _transact(self, works: list[Work[Any]]) -> list[Any]:
        """What the works return, all in one transaction.

        Errors: _Lost, and Unavailable where nobody knows; what a work or the commit raises, and nothing is kept then.
        """
        line = self._line = self._line or await self._entrance.connect()
        is_ending = False
        try:
            await line.driver.execute(self._begin)
            values = await line.connection.run_sync(_run, works)
            is_ending = True
            if await line.driver.execute("COMMIT") != "COMMIT":
                raise RuntimeError("a work went on after one of its statements had failed")
        except BaseException as error:
            if await self._is_usable_after(line, error, is_ending):
                raise
            self._line = None
            await line.hang_up()
            if not isinstance(error, Exception):
                raise
            if is_ending:
                raise Unavailable(f"{self._place} was lost while it committed: {_reason(error)}") from error
            raise _Lost from error
        return values

    async def _is_usable_after(self, line: _Line, error: BaseException, is_ending: bool) -> bool:
        """Whether the connection goes on after an error; the transaction is undone then."""
        if not isinstance(error, Exception) or _is_lost(error) or line.driver.is_closed():
            return False
        try:
            if line.driver.is_in_transaction():
                await line.driver.execute("ROLLBACK")
        except Exception:
            # Undone in any case: the connection is given up, and its transaction with it.
            self._line = None
            await line.hang_up()
        return True


def _run(connection: Connection, works: list[Work[Any]]) -> list[Any]:
    return [work(connection) for work in works]


class _Lanes:
    """The lanes that share one queue."""

    def __init__(self, lanes: list[_Lane]) -> None:
        self._all = lanes
        self._idle = list(lanes)
        self._queue: deque[_Asked] = deque()
        self._coming = 0
        """Lanes that were called and have not taken their share yet."""
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, work: Work[T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._queue.append(_Asked(work, answer))
        if self._idle and len(self._queue) > self._coming * _ENOUGH:
            self._coming += 1
            task = loop.create_task(self._drain(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answer

    async def settle(self) -> None:
        """Wait for all that is queued or under way now."""
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[None]] = []
        for asked in [*self._queue, *(asked for lane in self._all for asked in lane.group)]:
            if not asked.is_served:
                asked.served = asked.served or loop.create_future()
                waiting.append(asked.served)
        for served in waiting:
            await asyncio.shield(served)

    async def close(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        for lane in self._all:
            await lane.close()

    async def _drain(self, lane: _Lane) -> None:
        self._coming -= 1
        try:
            while self._queue:
                share = min(_GROUP, -(-len(self._queue) // (self._coming + 1)))
                await lane.serve([self._queue.popleft() for _ in range(share)])
        finally:
            self._idle.append(lane)


class PostgresqlDatabase:
    """A PostgreSQL database, which other processes may use at the same time."""

    is_shared = True

    def __init__(self, url: str, *, synchronous: str = "full", connections: int = 8) -> None:
        """Describe the database; connections are made when they are needed, in the event loop that needs them first.

        Shapes: url is "postgresql://user:password@host:port/name", with what libpq knows as its parameters;
                synchronous is "normal" (a commit does not wait for the server's disk) or "full" (it does what the
                server is set to).
        """
        self.url = url
        self.place = place(url)
        self._session = {"application_name": "outcrop", "jit": "off"}
        if synchronous == "normal":
            self._session["synchronous_commit"] = "off"
        self._connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._writers = self._readers = _Lanes([])

    async def write(self, work: Work[T]) -> T:
        """What work returns, once it is committed.

        Errors: Unavailable; RuntimeError once closed; whatever work raises, and nothing of it is kept then.
        """
        self._check()
        return await self._writers.ask(work)

    async def read(self, work: Work[T]) -> T:
        """What work returns, over one state. Everything committed before the call is seen.

        Errors: Unavailable; RuntimeError once closed; whatever work raises.
        """
        self._check()
        return await self._readers.ask(work)

    async def settle(self) -> None:
        """Wait until every write asked for before is done, also those whose callers have given up."""
        self._check()
        await self._writers.settle()

    def once(self, work: Work[T]) -> T:
        """What work returns, committed, on a connection of its own: for what is done before the event loop runs.

        Errors: Unavailable; whatever work raises.
        """

        async def run() -> T:
            # It may wait for another process that does the same, for as long as that takes.
            lane = _Lane(_Entrance(self.url, self.place, self._session, patience_s=None), self.place, _WRITING)
            try:
                return await lane.perform(work)
            finally:
                await lane.close()

        # In a thread, because the caller's may have an event loop that runs.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, run()).result()

    async def close(self) -> None:
        """Finish what is queued, then close every connection."""
        self._is_closed = True
        await self._writers.close()
        await self._readers.close()

    def _check(self) -> None:
        """Make the lanes at the first use.

        Errors: RuntimeError once closed, and in another event loop than the first.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise RuntimeError("the database is closed")
        if self._loop is loop:
            return
        if self._loop is not None:
            raise RuntimeError("the database belongs to another event loop")
        self._loop = loop
        entrance = _Entrance(self.url, self.place, self._session)
        readers = max(1, self._connections // 3)
        self._writers = _Lanes(
            [_Lane(entrance, self.place, _WRITING) for _ in range(max(1, self._connections - readers))]
        )
        self._readers = _Lanes([_Lane(entrance, self.place, _READING) for _ in range(readers)])


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error, and inside SQLAlchemy's the driver's own."""
    inner = getattr(error, "orig", None)
    return [each for each in (getattr(inner, "__cause__", None), inner, error) if each is not None]


def _state(error: BaseException) -> str:
    """The SQLSTATE of an error, empty where it has none."""
    return next((state for each in _causes(error) if (state := getattr(each, "sqlstate", None))), "")


def _is_lost(error: BaseException) -> bool:
    causes = _causes(error)
    return isinstance(causes[0], ConnectionError | TimeoutError) or _state(error).startswith(_OUT_OF_ORDER)


def _reason(error: BaseException | None) -> str:
    """One line on what went wrong."""
    cause = _causes(error)[0]
    if isinstance(cause, TimeoutError):
        return "it does not answer"
    return str(cause).partition("\n")[0] or type(cause).__name__
