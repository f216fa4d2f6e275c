"""What was spent, added up per session and per agent and period; the rows that budgets are held against.

    session/<session key>           period ""
    agent/<account>/<agent>         period "2026-11-21", "2026-11" or "ever"

Turns read totals before a step and add their own in the commit that ends them. A total is the sum of its rows: one on
SQLite, on PostgreSQL as many as there were transactions that added to it at once. Nothing here knows of limits.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, bindparam, cast, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from outcrop.ids import SessionKey
from outcrop.sessions.entries import Also
from outcrop.storage.database import METADATA, Database
from outcrop.storage.statements import Prepared

SPEND = Table(
    "spend",
    METADATA,
    Column("scope", String(512), primary_key=True),
    Column("period", String(16), primary_key=True),
    Column("shard", String(8), primary_key=True, server_default=""),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("microusd", BigInteger, nullable=False, server_default="0"),
    Column("steps", BigInteger, nullable=False, server_default="0"),
    Column("milliseconds", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
_AMOUNTS = (SPEND.c.tokens, SPEND.c.microusd, SPEND.c.steps, SPEND.c.milliseconds)


_OWN = (SPEND.c.scope == bindparam("scope"), SPEND.c.period == bindparam("period"))


def _adding(insert: Any) -> Prepared:
    amounts = {column.name: column + insert.excluded[column.name] for column in _AMOUNTS}
    keys = [column.name for column in SPEND.primary_key]
    return Prepared(insert.on_conflict_do_update(index_elements=keys, set_=amounts), SPEND.columns.keys())


_ADD = {"postgresql": _adding(postgresql.insert(SPEND)), "sqlite": _adding(sqlite.insert(SPEND))}
_FREE = select(SPEND.c.shard).where(*_OWN).limit(1).with_for_update(skip_locked=True).scalar_subquery()
_ADD_TO_FREE = Prepared(
    update(SPEND)
    .where(*_OWN, SPEND.c.shard == _FREE)
    .values({column: column + bindparam(f"more_{column.name}") for column in _AMOUNTS})
)
"""To a row that no other transaction holds; there may be none."""
_SPENT = Prepared(select(*(cast(func.coalesce(func.sum(column), 0), BigInteger) for column in _AMOUNTS)).where(*_OWN))
_FORGET = Prepared(delete(SPEND).where(_OWN[0]))


@dataclass(frozen=True, slots=True)
class Spent:
    """What one or more turns have used.

    Units: microusd in millionths of a US dollar; milliseconds of running, not of waiting for a caller.
    """

    tokens: int = 0
    microusd: int = 0
    steps: int = 0
    milliseconds: int = 0

    def __add__(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(
            self.tokens + other.tokens,
            self.microusd + other.microusd,
            self.steps + other.steps,
            self.milliseconds + other.milliseconds,
        )

    @property
    def seconds(self) -> float:
        """The time as seconds."""
        return self.milliseconds / 1000


def session_scope(key: SessionKey) -> str:
    """The scope under which a session's turns are added up; its period is ""."""
    return f"session/{key}"


def agent_scope(account_id: str, agent: str) -> str:
    """The scope under which an agent's turns are added up, whatever their alias and session.

    Shapes: agent is its id; for inline agents, which all have one id, "INLINE_AGENT/<name>".
    """
    return f"agent/{account_id}/{agent}"


def spent(connection: Connection, scope: str, period: str) -> Spent:
    """The total of a scope in a period; nothing where nothing was added."""
    row = _SPENT.row(connection, {"scope": scope, "period": period})
    assert row is not None, "a sum has a row"
    return Spent(*row)


class Ledger:
    """The totals of one database, for whoever is about to spend."""

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        self._database = database

    async def totals(self, scopes: Sequence[tuple[str, str]]) -> list[Spent]:
        """The totals of several scopes, each with its period.

        Errors: Unavailable.
        """
        return await self._database.read(
            lambda connection: [spent(connection, scope, period) for scope, period in scopes]
        )


def together(*works: Also) -> Also:
    """All of them, one after the other, in the same commit."""

    def also(connection: Connection) -> None:
        for work in works:
            work(connection)

    return also


def add(scope: str, period: str, totals: Spent) -> Also:
    """Write that so much more was spent; once per turn, in the commit that ends it.

    Turns of one agent end at once, and a row that one of them has changed is locked until its commit. On PostgreSQL
    nobody waits for such a row: a transaction takes one of the total's rows that is free, and makes one where none is.
    Waiting would cost more than time. A transaction of several works adds to several agents, in any order, so two of
    them could wait for each other until the server ends one. It costs a statement, two where a row is made; reading a
    total reads as many rows as there are connections that write, at most. On SQLite there is one writer and one row.
    """
    amounts = {
        "tokens": totals.tokens,
        "microusd": totals.microusd,
        "steps": totals.steps,
        "milliseconds": totals.milliseconds,
    }
    own = {"scope": scope, "period": period}
    more = own | {f"more_{name}": amount for name, amount in amounts.items()}

    def also(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            _ADD["sqlite"].run(connection, {**own, "shard": "", **amounts})
        elif not _ADD_TO_FREE.run(connection, more):
            _ADD["postgresql"].run(connection, {**own, "shard": secrets.token_hex(4), **amounts})

    return also


def forgetting(key: SessionKey) -> Also:
    """Write that a session has spent nothing: for one that is deleted, or starts anew under its old key."""

    def also(connection: Connection) -> None:
        _FORGET.run(connection, {"scope": session_scope(key)})

    return also
