"""What a database holds of turns, read from outside while servers write it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

Row = tuple[Any, ...]
_STEPS = (
    "select steps.turn_id, steps.ordinal, steps.branch, steps.state, steps.intent, turns.session_key"
    " from steps join turns on turns.id = steps.turn_id where steps.kind = 'CallTools'"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A row of turns."""

    id: str
    session: str
    state: str
    holder: str
    lease: int
    ending: str


@dataclass(frozen=True, slots=True)
class Act:
    """A call of a function, as the journal has it."""

    key: str
    session: str
    state: str
    function: str
    invoice: str


class Look(Protocol):
    """A database that can be read."""

    def rows(self, statement: str) -> list[Row]:
        """The rows of a query."""
        ...


class SqliteLook:
    """The file of a server."""

    def __init__(self, file: Path) -> None:
        """Look into this file."""
        self._file = file

    def rows(self, statement: str) -> list[Row]:
        """The rows of a query."""
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(statement).fetchall()


class PostgresqlLook:
    """A database on a server, past all proxies."""

    def __init__(self, url: str) -> None:
        """Look into the database with this URL."""
        self._url = url

    def rows(self, statement: str) -> list[Row]:
        """The rows of a query."""
        with psycopg.connect(self._url, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def turns(look: Look) -> list[Turn]:
    """Every turn."""
    found = look.rows("select id, session_key, state, holder, lease, ending from turns")
    return [Turn(*row[:5], ending=bytes(row[5] or b"").decode()) for row in found]


def acts(look: Look) -> list[Act]:
    """Every call of a function."""
    found: list[Act] = []
    for turn, ordinal, branch, state, intent, session in look.rows(_STEPS):
        planned = json.loads(bytes(intent))
        function = planned["name"].rpartition("__")[2]
        found.append(Act(f"{turn}/{ordinal}/{branch}", session, state, function, planned["input"].get("invoice", "")))
    return found


def whole(look: Look, turn: str) -> Sequence[Row]:
    """All that is kept of one turn: its row and its steps."""
    own = look.rows(f"select * from turns where id = '{turn}'")
    steps = look.rows(f"select * from steps where turn_id = '{turn}' order by ordinal, branch")
    return [tuple(bytes(one) if isinstance(one, memoryview) else one for one in row) for row in (*own, *steps)]
