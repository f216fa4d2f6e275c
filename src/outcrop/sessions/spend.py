"""What was spent, added up per session and per agent and period; the rows that budgets are held against.

    session/<session key>           period ""
    agent/<account>/<agent>         period "2026-11-21", "2026-11" or "ever"

Turns read totals before a step and add their own in the commit that ends them. Nothing here knows of limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from outcrop.ids import SessionKey
from outcrop.sessions.journal import Also
from outcrop.storage.database import METADATA
from outcrop.storage.statements import Prepared

SPEND = Table(
    "spend",
    METADATA,
    Column("scope", String(512), primary_key=True),
    Column("period", String(16), primary_key=True),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("microusd", BigInteger, nullable=False, server_default="0"),
    Column("steps", BigInteger, nullable=False, server_default="0"),
    Column("milliseconds", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
_AMOUNTS = (SPEND.c.tokens, SPEND.c.microusd, SPEND.c.steps, SPEND.c.milliseconds)


def _adding(insert: Any) -> Prepared:
    # One statement, so that two processes that both add the first amount end with the sum and not with an error.
    amounts = {column.name: column + insert.excluded[column.name] for column in _AMOUNTS}
    return Prepared(
        insert.on_conflict_do_update(index_elements=["scope", "period"], set_=amounts), SPEND.columns.keys()
    )


_ADD = {"postgresql": _adding(postgresql.insert(SPEND)), "sqlite": _adding(sqlite.insert(SPEND))}
_SPENT = Prepared(select(*_AMOUNTS).where(SPEND.c.scope == bindparam("s"), SPEND.c.period == bindparam("p")))
_FORGET = Prepared(delete(SPEND).where(SPEND.c.scope == bindparam("s")))


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


NOTHING = Spent()


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
    row = _SPENT.row(connection, {"s": scope, "p": period})
    return NOTHING if row is None else Spent(*row)


def add(scope: str, period: str, totals: Spent) -> Also:
    """Write that so much more was spent.

    The row of an agent is shared by all of its turns. On PostgreSQL it is locked from this statement until its commit,
    so turns of one agent that end at once commit one after the other. Let it be the last statement of a transaction,
    after the session's row and never before it, and do it once per turn, not once per step. On SQLite there is one
    writer anyway, and it costs a statement.
    """
    values = {
        "scope": scope,
        "period": period,
        "tokens": totals.tokens,
        "microusd": totals.microusd,
        "steps": totals.steps,
        "milliseconds": totals.milliseconds,
    }

    def also(connection: Connection) -> None:
        _ADD[connection.dialect.name].run(connection, values)

    return also


def forgetting(key: SessionKey) -> Also:
    """Write that a session has spent nothing: for one that is deleted, or starts anew under its old key."""

    def also(connection: Connection) -> None:
        _FORGET.run(connection, {"s": session_scope(key)})

    return also
