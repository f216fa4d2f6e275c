"""The database of jobs: beside the main one on SQLite, within it on PostgreSQL.

    "sqlite"                    <data_dir>/outcrop-jobs.db
    "sqlite:///DIR/NAME.db"     DIR/NAME-jobs.db
    "sqlite:memory"             a temporary file, removed at the end
    "postgresql+asyncpg://..."  schema `dbos` of the same database, over psycopg

Its calls run in threads of its own, because DBOS and its drivers block. Nothing is opened before it is needed.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Engine, QueuePool, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from outcrop.jobs import rows
from outcrop.jobs.base import JobsForbidden, JobsUnavailable

T = TypeVar("T")

_LIBPQ = re.compile(
    r"host|port|user|password|dbname|service|passfile|application_name|options|connect_timeout|target_session_attrs|"
    r"load_balance_hosts|ssl(mode|rootcert|cert|key|password|crl)|channel_binding|gssencmode|keepalives\w*|tcp_user_timeout"
)
"""What a URL's query may say to libpq; the rest of it is meant for asyncpg."""


_FORBIDDEN = ("42501", "25006")
"""SQLSTATEs of what a user may not do: a missing privilege, and a transaction that may only read."""


class JobsDatabase:
    """The engine of the jobs database, and the threads its calls run in."""

    def __init__(self, setting: str, data_dir: Path, *, synchronous: str = "normal") -> None:
        """Keep where it is: setting is [server] database."""
        self.shared = setting.startswith("postgresql")
        self._setting, self._data_dir, self._synchronous = setting, data_dir, synchronous
        self._temporary: str | None = None
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._known = False
        self._closed = False
        self._threads = ThreadPoolExecutor(4 if self.shared else 1, thread_name_prefix="outcrop-jobs")

    @property
    def engine(self) -> Engine:
        """The engine, made at its first use.

        Errors: JobsUnavailable when the database is closed.
        """
        with self._opening:
            if self._closed:
                raise JobsUnavailable("the jobs database is closed")
            if self._engine is None:
                self._engine = _postgresql(self._setting) if self.shared else _sqlite(self._file(), self._synchronous)
            return self._engine

    @property
    def url(self) -> str:
        """The URL as DBOS takes it, with its password."""
        return self.engine.url.render_as_string(hide_password=False)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What work(connection, *arguments) returns, committed.

        Errors: JobsUnavailable; JobsForbidden; whatever work raises.
        """
        return await self.call(self._transact, work, *arguments)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What a blocking function returns.

        Errors: JobsUnavailable; JobsForbidden; whatever the function raises.
        """
        if self._closed:
            raise JobsUnavailable("the jobs database is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        except DBAPIError as error:
            raise _translated(error) from error
        except PoolExhausted as error:
            raise JobsUnavailable("the jobs database has no connection to spare") from error

    async def has_jobs(self) -> bool:
        """Whether there have ever been jobs; leaves a file that is not there unmade.

        Errors: JobsUnavailable.
        """
        if not self._known:
            if not self.shared and self._engine is None and not self._file_exists():
                return False
            self._known = await self.run(rows.exists)
        return self._known

    def close(self) -> None:
        """Close connections, and remove a temporary file; blocks for as long as a disk does."""
        with self._opening:
            self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._engine is not None:
            self._engine.dispose()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _transact(self, work: Callable[..., T], *arguments: Any) -> T:
        names = {} if self.shared else {rows.SCHEMA: None}
        with self.engine.execution_options(schema_translate_map=names).begin() as connection:
            return work(connection, *arguments)

    def _file_exists(self) -> bool:
        return self._setting != "sqlite:memory" and self._file().exists()

    def _file(self) -> Path:
        if self._setting == "sqlite:memory":
            self._temporary = tempfile.mkdtemp(prefix="outcrop-jobs-")
            return Path(self._temporary) / "outcrop-jobs.db"
        if self._setting == "sqlite":
            return self._data_dir / "outcrop-jobs.db"
        main = Path(self._setting.removeprefix("sqlite:///"))
        return main.with_name(f"{main.stem}-jobs{main.suffix}")


def libpq_url(setting: str) -> sa.URL:
    """The same PostgreSQL database over psycopg, without what only asyncpg understands.

    Shapes: "postgresql+asyncpg://u@/db?host=/run/pg&ssl=require" -> "postgresql+psycopg://u@/db?host=...&sslmode=require".
    """
    url = make_url(setting).set(drivername="postgresql+psycopg")
    query = {name: value for name, value in url.query.items() if _LIBPQ.fullmatch(name)}
    if "ssl" in url.query:
        wanted = url.query["ssl"]
        query["sslmode"] = {"true": "require", "false": "disable"}.get(str(wanted).lower(), wanted)
    return url.set(query=query)


def _postgresql(setting: str) -> Engine:
    url = libpq_url(setting)
    # A database that has gone away without a word is noticed within seconds; the URL's own words win.
    told = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    told |= {"tcp_user_timeout": 10_000, "application_name": "outcrop-jobs"}
    arguments = {name: value for name, value in told.items() if name not in url.query}
    return sa.create_engine(
        url, pool_size=8, max_overflow=24, pool_timeout=30, pool_pre_ping=True, connect_args=arguments
    )


def _sqlite(file: Path, synchronous: str) -> Engine:
    file.parent.mkdir(parents=True, exist_ok=True)
    # One connection, so that the threads of DBOS wait for each other here and not at the file's lock.
    engine = sa.create_engine(
        f"sqlite:///{file}",
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=60,
        connect_args={"timeout": 30.0, "check_same_thread": False},
    )

    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={'FULL' if synchronous == 'full' else 'NORMAL'}",
            "foreign_keys=ON",
            "busy_timeout=30000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", set_up)
    return engine


def _translated(error: DBAPIError) -> Exception:
    """The driver's error, as ours where it says that the database is away, or closed to this user."""
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        return JobsUnavailable(f"the jobs database cannot be reached ({type(error.orig).__name__})")
    if getattr(error.orig, "sqlstate", None) in _FORBIDDEN:
        told = str(error.orig).partition("\n")[0]
        return JobsForbidden(f"the jobs database: {told}")
    return error
