"""One agent session: its history, attributes and expiry, as it is between turns.

History is kept a row per turn, appended and never rewritten, so a turn in a long session
writes as little as one in a short one. A session that was idle longer than its agent allows
silently starts anew under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Column, Connection, Float, Integer, LargeBinary, String, Table, bindparam, delete, insert, select
from sqlalchemy import update as sql_update

from outcrop.ids import SessionKey
from outcrop.messages import Message
from outcrop.sessions.journal import STEPS, TURNS, Also, OpenTurn, read_open_turn
from outcrop.storage.database import METADATA, Database

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("key", String(512), primary_key=True),
    Column("attributes", LargeBinary, nullable=False),
    Column("seed", LargeBinary, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("idle_ttl_s", Integer, nullable=False),
    Column("last_used_at", Float, nullable=False),
    Column("started_at", Float, nullable=False),
)
HISTORY = Table(
    "history",
    METADATA,
    Column("session_key", String(512), primary_key=True),
    Column("turn", Integer, primary_key=True),
    Column("messages", LargeBinary, nullable=False),
)

_GET = select(SESSIONS).where(SESSIONS.c.key == bindparam("k"))
_TURNS = select(HISTORY.c.messages).where(HISTORY.c.session_key == bindparam("k")).order_by(HISTORY.c.turn)
_NEW = insert(SESSIONS)
_SAVE = (
    sql_update(SESSIONS)
    .where(SESSIONS.c.key == bindparam("k"))
    .values(
        attributes=bindparam("a"),
        seed=bindparam("sd"),
        turns=bindparam("n"),
        idle_ttl_s=bindparam("ttl"),
        last_used_at=bindparam("u"),
    )
)
_APPEND = insert(HISTORY)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was when a call came in.

    Shapes: history is one list of messages per finished turn, oldest first; seed is the caller's
            conversationHistory, which comes before them. `is_new` until first saved.
    """

    key: SessionKey
    attributes: Mapping[str, str]
    history: Sequence[Sequence[Message]]
    seed: Sequence[Message]
    idle_ttl_s: int
    started_at: float
    is_new: bool


class Sessions:
    """The sessions of one database."""

    def __init__(self, database: Database) -> None:
        """Keep sessions in this database."""
        self._database = database

    async def open(self, key: SessionKey, idle_ttl_s: int, now: float) -> tuple[Session, OpenTurn | None]:
        """The session, new where there is none or its idle time has passed, and its turn that has not ended.

        Units: idle_ttl_s in seconds, for a session that starts now; a stored one expires by its own.
        """

        def work(connection: Connection) -> tuple[Session, OpenTurn | None]:
            row = connection.execute(_GET, {"k": key}).mappings().one_or_none()
            if row is None:
                return Session(key, {}, (), (), idle_ttl_s, now, is_new=True), None
            turns = connection.execute(_TURNS, {"k": key}).scalars()
            stored = Session(
                key=key,
                attributes=orjson.loads(row["attributes"]),
                history=[orjson.loads(messages) for messages in turns],
                seed=orjson.loads(row["seed"]),
                idle_ttl_s=row["idle_ttl_s"],
                started_at=row["started_at"],
                is_new=False,
            )
            if now - row["last_used_at"] > row["idle_ttl_s"]:
                return replace(stored, attributes={}, history=(), seed=(), started_at=now, is_new=True), None
            return stored, read_open_turn(connection, key)

        return await self._database.read(work)

    async def delete(self, key: SessionKey) -> None:
        """Forget a session with all its turns; one that does not exist is no error."""
        await self._database.write(lambda connection: _delete(connection, key))


def starting(session: Session, now: float) -> Also:
    """Write that the session is in use; a new or expired one first loses what was under its key."""

    def also(connection: Connection) -> None:
        if session.is_new:
            _delete(connection, session.key, turns=False)
            connection.execute(_NEW, _row(session, now))

    return also


def saving(session: Session, attributes: Mapping[str, str], turn: Sequence[Message], now: float) -> Also:
    """Write the session's attributes and, where the turn left messages, append them to its history."""
    count = len(session.history)

    def also(connection: Connection) -> None:
        values: dict[str, Any] = {
            "k": session.key,
            "a": orjson.dumps(attributes),
            "sd": orjson.dumps(session.seed),
            "n": count + bool(turn),
            "ttl": session.idle_ttl_s,
            "u": now,
        }
        connection.execute(_SAVE, values)
        if turn:
            connection.execute(_APPEND, {"session_key": session.key, "turn": count, "messages": orjson.dumps(turn)})

    return also


def _row(session: Session, now: float) -> dict[str, Any]:
    return {
        "key": session.key,
        "attributes": orjson.dumps(session.attributes),
        "seed": orjson.dumps(session.seed),
        "turns": 0,
        "idle_ttl_s": session.idle_ttl_s,
        "last_used_at": now,
        "started_at": session.started_at,
    }


def _delete(connection: Connection, key: SessionKey, *, turns: bool = True) -> None:
    connection.execute(delete(HISTORY).where(HISTORY.c.session_key == key))
    connection.execute(delete(SESSIONS).where(SESSIONS.c.key == key))
    owned = select(TURNS.c.id).where(TURNS.c.session_key == key)
    if turns:
        connection.execute(delete(STEPS).where(STEPS.c.turn_id.in_(owned)))
        connection.execute(delete(TURNS).where(TURNS.c.session_key == key))
    else:
        still_open = TURNS.c.state.in_(("running", "awaiting"))
        connection.execute(sql_update(TURNS).where(TURNS.c.session_key == key, still_open).values(state="abandoned"))
