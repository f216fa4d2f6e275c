"""Where the engines under test keep things: a SQLite file, or a database on a PostgreSQL of our own.

    Databases.new(kind) -> Place -> setting for the engine, rows for us, size and processor time

PostgreSQL is the one of the tests, with its settings as it comes: with fsync.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg

from processes import Tree

SQLITE, POSTGRESQL = "sqlite", "postgresql"
TOLD = {SQLITE: "SQLite", POSTGRESQL: "PostgreSQL"}
_AS_IT_COMES = {
    "fsync": "on",
    "full_page_writes": "on",
    "max_wal_size": "1GB",
    "autovacuum": "on",
    "deadlock_timeout": "1s",
}
_SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
_TICKS = os.sysconf("SC_CLK_TCK")


class ServerTree(Tree):
    """PostgreSQL's processes, those that ended included."""

    def cpu(self) -> float:
        """Seconds of processor time of all of them."""
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
        return super().cpu() + (int(stat[13]) + int(stat[14])) / _TICKS


class Place:
    """One database, and the data folder beside it."""

    kind = SQLITE

    def __init__(self, folder: Path) -> None:
        """Take a folder that is empty."""
        self.folder = folder
        self.setting = f"sqlite:///{folder / 'outcrop.db'}"

    def cpu(self) -> float:
        """Seconds of processor time that the database's own processes used."""
        return 0.0

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        with closing(sqlite3.connect(f"file:{self.folder / 'outcrop.db'}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(statement).fetchall()

    def run(self, statements: Sequence[str]) -> None:
        """Run statements, all in one transaction."""
        with closing(sqlite3.connect(self.folder / "outcrop.db", timeout=60, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size=-262144")
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def bytes(self) -> int:
        """What it stores."""
        return sum(path.stat().st_size for path in self.folder.glob("outcrop.db*"))

    def writes(self) -> dict[str, int]:
        """Transactions that wrote, and bytes of the write-ahead log, so far; nothing where nobody counts them."""
        return {}

    def close(self) -> None:
        """Drop it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PostgresqlPlace(Place):
    """A database on the server of this run."""

    kind = POSTGRESQL

    def __init__(self, folder: Path, server: Any) -> None:
        """Make an empty one."""
        self.folder = folder
        self._server = server
        self._tree = ServerTree(server.pid)
        self.setting = server.database()
        self._connection = psycopg.connect(self.setting, autocommit=True)

    def cpu(self) -> float:
        """Seconds of processor time that the server used, for whomever."""
        return self._tree.cpu()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        return self._connection.execute(statement.encode()).fetchall()

    def run(self, statements: Sequence[str]) -> None:
        """Run statements, all in one transaction; afterwards the server knows its tables anew."""
        with self._connection.transaction():
            for statement in statements:
                self._connection.execute(statement.encode())
        self._connection.execute("VACUUM ANALYZE")
        self._connection.execute("CHECKPOINT")

    def bytes(self) -> int:
        """What it stores, indexes included."""
        return int(self.rows("SELECT pg_database_size(current_database())")[0][0])

    def writes(self) -> dict[str, int]:
        """Transactions that wrote, and bytes of the write-ahead log, of the whole server so far."""
        next_one, size = self.rows(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text, pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        )[0]
        return {"commits": int(next_one), "wal_bytes": int(size)}

    def pin(self, cores: set[int]) -> None:
        """Let the server's processes run on these processors only."""
        for pid in self._tree.pids():
            try:
                os.sched_setaffinity(pid, cores)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        """Drop it."""
        self._connection.close()
        self._server.drop(self.setting)
        super().close()


class Databases:
    """Databases of either kind; PostgreSQL starts when one is first wanted."""

    def __init__(self, folder: Path) -> None:
        """Keep data folders in this one."""
        self._folder = folder
        self._stack = ExitStack()
        self._server: Any = None

    def new(self, kind: str) -> Place:
        """An empty database."""
        folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self._folder))
        if kind == SQLITE:
            return Place(folder)
        if self._server is None:
            self._server = _postgresql()
            self._stack.callback(self._server.remove)
            self._server.start()
        return PostgresqlPlace(folder, self._server)

    def close(self) -> None:
        """Stop PostgreSQL."""
        self._stack.close()


def _postgresql() -> Any:
    """The PostgreSQL of the tests, which is a module of theirs."""
    if str(_SUPPORT) not in sys.path:
        sys.path.append(str(_SUPPORT))
    return importlib.import_module("postgresql").PostgreSQL(**_AS_IT_COMES)
