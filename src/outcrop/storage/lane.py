"""One PostgreSQL connection that runs groups of works, and is made anew after it was lost.

    perform(works): BEGIN, each work, COMMIT
      |- lost before its COMMIT was sent: nothing was kept, and all is run once more on a new connection
      `- lost after that: nobody knows, Unavailable

Works are plain functions, so they run in a greenlet, which hands each statement to the event
loop and waits for its answer. `postgresql` has several lanes and shares the work out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection
from sqlalchemy.pool import NullPool

from outcrop.storage.database import Unavailable, Work, place

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_BEGIN = {
    "write": "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
}

_ATTEMPTS = 5
"""How often a work is run that fails only because of others: a deadlock, or tables that changed meanwhile."""

_CONNECTING_S = 10.0
_FAREWELL_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_CHANCE = random.SystemRandom()

_OUT_OF_ORDER = ("08", "53", "57", "58", "25P03", "25P04")
"""Beginnings of the SQLSTATEs that are about the connection, the server or its disk, and not about a statement."""

_READ_ONLY = "25006"
"""Of a transaction that may write: the server has become the copy of another one."""

_OTHERS_FAULT = ("40001", "40P01", "55P03", "0A000", "26000")
"""Serialization, deadlock, a lock that was not to be had; a plan made before tables changed, one that is gone."""


class _Lost(Exception):
    """The connection is gone, and nothing of the transaction was kept."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A connection, and the driver's own inside it."""

    connection: AsyncConnection
    driver: Any

    async def hang_up(self) -> None:
        """Cut it, without a word to a server that may not listen."""
        self.driver.terminate()
        with suppress(Exception):
            await self.connection.invalidate()
            await self.connection.close()

    async def close(self) -> None:
        """Take leave of the server, if it listens."""
        with suppress(Exception):
            await self.driver.close(timeout=_FAREWELL_S)
        await self.hang_up()


class Entrance:
    """Makes connections, one at a time, and more and more slowly while none can be made."""

    def __init__(self, url: str, session: dict[str, str], patience_s: float | None) -> None:
        """Know where the database is; nothing is connected yet.

        Shapes: session is settings of PostgreSQL for each connection.
        Units: patience_s is how long the database may take to answer a statement, None for as long as it likes.
        """
        # Imported here: who keeps everything in SQLite need not have them.
        import asyncpg
        from sqlalchemy.ext.asyncio import create_async_engine

        driver: Any = asyncpg
        self.place = place(url)
        self._turn = asyncio.Lock()
        self._pause_s = 0.0
        self._not_before = 0.0
        self._failed: tuple[float, str] | None = None

        async def connect() -> Any:
            return await driver.connect(
                url,
                timeout=min(_CONNECTING_S, patience_s or _CONNECTING_S),
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
        """A new connection.

        Errors: Unavailable, also where another lane has just failed to make one.
        """
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._turn:
            if self._failed is not None and self._failed[0] >= asked_at:
                raise Unavailable(self._failed[1])
            await asyncio.sleep(self._not_before - loop.time())
            try:
                line = await self._connect()
            except Exception as error:
                self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
                self._not_before = loop.time() + self._pause_s * _CHANCE.uniform(0.5, 1.0)
                told = f"{self.place} cannot be reached: {_reason(error)}"
                self._failed = loop.time(), told
                raise Unavailable(told) from error
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


class Lane:
    """One connection, made when it is first needed and anew after it was lost."""

    def __init__(self, entrance: Entrance, kind: Literal["write", "read"]) -> None:
        """Connect through this entrance, for transactions of this kind."""
        self._entrance = entrance
        self._kind = kind
        self._line: _Line | None = None

    async def perform(self, works: Sequence[Work[Any]]) -> list[Any]:
        """What the works return, all in one transaction, which is run again where that can help.

        Errors: Unavailable; what a work or the commit raises, and nothing of any is kept then.
        """
        lost = tried = 0
        while True:
            try:
                return await self._transact(works)
            except _Lost as error:
                lost += 1
                if lost > 1:
                    told = f"{self._entrance.place} was lost: {_reason(error.__cause__)}"
                    raise Unavailable(told) from error.__cause__
            except Exception as error:
                tried += 1
                if len(works) > 1 or tried == _ATTEMPTS or not _state(error).startswith(_OTHERS_FAULT):
                    raise

    async def close(self) -> None:
        """Give the connection back."""
        if self._line is not None:
            line, self._line = self._line, None
            await line.close()

    async def _transact(self, works: Sequence[Work[Any]]) -> list[Any]:
        """What the works return, all in one transaction.

        Errors: _Lost, and Unavailable where nobody knows; what a work or the commit raises, and nothing is kept then.
        """
        line = self._line = self._line or await self._entrance.connect()
        is_ending = False
        try:
            await line.driver.execute(_BEGIN[self._kind])
            values = await line.connection.run_sync(_run, works)
            is_ending = True
            if await line.driver.execute("COMMIT") != "COMMIT":
                raise RuntimeError("a work went on after one of its statements had failed")
        except BaseException as error:
            if await self._is_about_works(line, error):
                raise
            self._line = None
            await line.hang_up()
            if not isinstance(error, Exception):
                raise
            if is_ending and self._kind == "write":
                told = f"{self._entrance.place} was lost while it committed: {_reason(error)}"
                raise Unavailable(told) from error
            raise _Lost from error
        return values

    async def _is_about_works(self, line: _Line, error: BaseException) -> bool:
        """Whether an error has nothing to do with the connection; the transaction is undone then."""
        is_demoted = self._kind == "write" and _state(error) == _READ_ONLY
        if not isinstance(error, Exception) or is_demoted or _is_out_of_order(error) or line.driver.is_closed():
            return False
        try:
            if line.driver.is_in_transaction():
                await line.driver.execute("ROLLBACK")
        except Exception:
            # Undone all the same: the transaction ends with its connection.
            self._line = None
            await line.hang_up()
        return True


def _run(connection: Connection, works: Sequence[Work[Any]]) -> list[Any]:
    return [work(connection) for work in works]


def _causes(error: BaseException | None) -> list[BaseException]:
    """The driver's own error where SQLAlchemy has wrapped it, and what it is wrapped in."""
    inner = getattr(error, "orig", None)
    return [each for each in (getattr(inner, "__cause__", None), inner, error) if each is not None]


def _state(error: BaseException) -> str:
    """The SQLSTATE of an error, empty where it has none."""
    return next((state for each in _causes(error) if (state := getattr(each, "sqlstate", None))), "")


def _is_out_of_order(error: BaseException) -> bool:
    return isinstance(_causes(error)[0], ConnectionError | TimeoutError) or _state(error).startswith(_OUT_OF_ORDER)


def _reason(error: BaseException | None) -> str:
    """One line on what went wrong."""
    cause = _causes(error)[0]
    if isinstance(cause, TimeoutError):
        return "it does not answer"
    told = getattr(cause, "strerror", None) or str(cause)
    return told.partition("\n")[0] or type(cause).__name__
