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

from outcrop.ids import SessionKey, TurnId
from outcrop.messages import Message
from outcrop.sessions.entries import Also, Moved, OpenTurn, first_queued, read_turn
from outcrop.sessions.spend import forgetting
from outcrop.sessions.tables import STEPS, TURNS
from outcrop.storage.database import METADATA, Database
from outcrop.storage.statements import InsertOnce, Prepared, Row

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("key", String(512), primary_key=True),
    Column("attributes", LargeBinary, nullable=False),
    Column("seed", LargeBinary, nullable=False),
    Column("open_turn", String(64), nullable=False),
    Column("idle_ttl_s", Integer, nullable=False),
    Column("last_used_at", Float, nullable=False),
    Column("started_at", Float, nullable=False),
    sqlite_with_rowid=False,
)
HISTORY = Table(
    "history",
    METADATA,
    Column("session_key", String(512), primary_key=True),
    Column("turn", Integer, primary_key=True),
    Column("messages", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

_GET = Prepared(select(SESSIONS).where(SESSIONS.c.key == bindparam("k")))
_NAMED = Prepared(select(SESSIONS.c.open_turn).where(SESSIONS.c.key == bindparam("k")))
_TURNS = Prepared(select(HISTORY.c.messages).where(HISTORY.c.session_key == bindparam("k")).order_by(HISTORY.c.turn))
_NEW = InsertOnce(SESSIONS)
"""Two calls may both be the first of their session: one of them inserts nothing."""
_SAVE = Prepared(
    sql_update(SESSIONS)
    .where(SESSIONS.c.key == bindparam("k"))
    .values(
        attributes=bindparam("a"),
        seed=bindparam("sd"),
        open_turn=bindparam("o"),
        idle_ttl_s=bindparam("ttl"),
        last_used_at=bindparam("u"),
    )
)
_UNCHANGED = (
    (SESSIONS.c.key == bindparam("k"))
    & (SESSIONS.c.open_turn == bindparam("was"))
    & (SESSIONS.c.last_used_at == bindparam("used"))
)
"""A session as it was read. Its turn alone does not say so: one may have begun, ended and been heard since."""
_OPEN = Prepared(sql_update(SESSIONS).where(_UNCHANGED).values(open_turn=bindparam("o"), last_used_at=bindparam("u")))
_HEARD = Prepared(
    sql_update(SESSIONS)
    .where(SESSIONS.c.key == bindparam("k"), SESSIONS.c.open_turn == bindparam("o"))
    .values(open_turn="")
)
_APPEND = Prepared(insert(HISTORY), HISTORY.columns.keys())
_DROP = Prepared(delete(SESSIONS).where(_UNCHANGED))
_BEFORE = Prepared(
    select(HISTORY.c.messages)
    .where(HISTORY.c.session_key == bindparam("k"), HISTORY.c.turn < bindparam("b"))
    .order_by(HISTORY.c.turn)
)
_DROP_HISTORY = Prepared(delete(HISTORY).where(HISTORY.c.session_key == bindparam("k")))
_OWN_TURNS = TURNS.c.session_key == bindparam("k")
_DROP_STEPS = Prepared(delete(STEPS).where(STEPS.c.turn_id.in_(select(TURNS.c.id).where(_OWN_TURNS))))
_DROP_TURNS = Prepared(delete(TURNS).where(_OWN_TURNS))
_ALL = 2**31 - 1
_ABANDON = Prepared(
    sql_update(TURNS)
    .where(_OWN_TURNS, TURNS.c.finished_at.is_(None), TURNS.c.state != "queued")
    .values(state="abandoned", holder="", finished_at=bindparam("f"))
)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was when a call came in.

    Shapes: history is one list of messages per finished turn, oldest first; seed is the caller's
            conversationHistory, which comes before them. `is_new` until first saved; `replaces` tells that
            an expired one still lies under the key; open_turn is the turn that its row names, "" for none;
            queued the one that begins next without its caller.
    """

    key: SessionKey
    attributes: Mapping[str, str]
    history: Sequence[Sequence[Message]]
    seed: Sequence[Message]
    idle_ttl_s: int
    started_at: float
    is_new: bool
    replaces: bool = False
    open_turn: str = ""
    queued: str = ""
    used_at: float = 0.0


class Sessions:
    """The sessions of one database."""

    def __init__(self, database: Database) -> None:
        """Keep sessions in this database."""
        self._database = database

    async def open(self, key: SessionKey, idle_ttl_s: int, now: float) -> tuple[Session, OpenTurn | None]:
        """The session, new where there is none or its idle time has passed, and its turn that is not over yet.

        Units: idle_ttl_s in seconds, for a session that starts now; a stored one expires by its own.
        """

        def work(connection: Connection) -> tuple[Session, OpenTurn | None]:
            found, queued = _GET.row(connection, {"k": key}), first_queued(connection, key) or ""
            if found is None:
                return Session(key, {}, (), (), idle_ttl_s, now, is_new=True, queued=queued), None
            row: dict[str, Any] = dict(zip(SESSIONS.columns.keys(), found, strict=True))
            open_turn = read_turn(connection, row["open_turn"]) if row["open_turn"] else None
            # A turn that was interrupted or paused may have acted: what it did is not forgotten by waiting.
            is_held = open_turn is not None and open_turn.state in ("running", "paused")
            if now - row["last_used_at"] > row["idle_ttl_s"] and not is_held:
                fresh = Session(key, {}, (), (), idle_ttl_s, now, is_new=True, replaces=True)
                return replace(fresh, open_turn=row["open_turn"], used_at=row["last_used_at"], queued=queued), None
            return replace(_session(row, _TURNS.rows(connection, {"k": key})), queued=queued), open_turn

        return await self._database.read(work)

    async def of_turn(self, turn_id: TurnId) -> tuple[Session, OpenTurn] | None:
        """A turn, and its session as it was when the turn began; None where there is no such turn.

        Shapes: of a session that was deleted or started anew since, nothing comes before the turn.
        """

        def work(connection: Connection) -> tuple[Session, OpenTurn] | None:
            turn = read_turn(connection, turn_id)
            if turn is None:
                return None
            found = _GET.row(connection, {"k": turn.session_key})
            row: dict[str, Any] = dict(zip(SESSIONS.columns.keys(), found, strict=True)) if found else {}
            # Turns of the first release do not name their session's beginning; clocks are not compared for others.
            began = turn.session_began or min(row.get("started_at", 0.0), turn.started_at)
            if not row or row["started_at"] != began:
                return Session(turn.session_key, {}, (), (), 0, turn.started_at, is_new=not row), turn
            # Journals of the first release do not say how long the history was: a turn that is not over comes last.
            base = _ALL if turn.base < 0 and not turn.is_over else turn.base
            return _session(row, _BEFORE.rows(connection, {"k": turn.session_key, "b": base})), turn

        return await self._database.read(work)

    async def named_turn(self, key: SessionKey) -> str:
        """The turn that a session's row names as not over or not heard, "" for none.

        Errors: Unavailable.
        """

        def work(connection: Connection) -> str:
            row = _NAMED.row(connection, {"k": key})
            return "" if row is None else row[0]

        return await self._database.read(work)

    async def heard(self, key: SessionKey, turn_id: TurnId) -> None:
        """Write that the caller has heard how a turn ended; nothing where another one is under way by now."""
        await self._database.write(lambda connection: _HEARD.run(connection, {"k": key, "o": turn_id}))

    async def delete(self, session: Session) -> None:
        """Forget a session with all its turns; one that does not exist is no error.

        Errors: Moved when it began another turn since it was read.
        """

        def work(connection: Connection) -> None:
            _forget(connection, session)
            _DROP_STEPS.run(connection, {"k": session.key})
            _DROP_TURNS.run(connection, {"k": session.key})

        await self._database.write(work)


def starting(session: Session, turn_id: TurnId, now: float) -> Also:
    """Write that a turn is under way; an expired session first loses what was under its key.

    Errors: Moved, when it is run, where the session began another turn since it was read.
    """

    def also(connection: Connection) -> None:
        if session.replaces:
            _forget(connection, session)
            _ABANDON.run(connection, {"k": session.key, "f": now})
        if session.is_new:
            done = _NEW.run(connection, _row(session, turn_id, now))
        else:
            done = _OPEN.run(connection, {**_as_read(session), "o": turn_id, "u": now})
        if not done:
            raise Moved(session.key)

    return also


def waiting(session: Session, turn_id: TurnId, attributes: Mapping[str, str], now: float) -> Also:
    """Write that a turn waits for its caller, and the attributes as it leaves them."""

    def also(connection: Connection) -> None:
        _save(connection, session, turn_id, attributes, now)

    return also


def saving(
    session: Session, attributes: Mapping[str, str], turn: Sequence[Message], now: float, unheard: str = ""
) -> Also:
    """Write that no turn is under way and, where the last one left messages, append them to the history.

    Shapes: `unheard` is the turn that ended, as long as its caller has not heard how. A session that was deleted
            meanwhile stays deleted.
    """

    def also(connection: Connection) -> None:
        is_there = _save(connection, session, unheard, attributes, now)
        if turn and is_there:
            row = {"session_key": session.key, "turn": len(session.history), "messages": orjson.dumps(turn)}
            _APPEND.run(connection, row)

    return also


def _save(connection: Connection, session: Session, open_turn: str, attributes: Mapping[str, str], now: float) -> bool:
    values: dict[str, Any] = {
        "k": session.key,
        "a": orjson.dumps(attributes),
        "sd": orjson.dumps(session.seed),
        "o": open_turn,
        "ttl": session.idle_ttl_s,
        "u": now,
    }
    return _SAVE.run(connection, values) > 0


def _row(session: Session, turn_id: TurnId, now: float) -> dict[str, Any]:
    return {
        "key": session.key,
        "attributes": orjson.dumps(session.attributes),
        "seed": orjson.dumps(session.seed),
        "open_turn": turn_id,
        "idle_ttl_s": session.idle_ttl_s,
        "last_used_at": now,
        "started_at": session.started_at,
    }


def _session(row: Mapping[str, Any], turns: Sequence[Row]) -> Session:
    return Session(
        key=row["key"],
        attributes=orjson.loads(row["attributes"]),
        history=orjson.loads(b"[%s]" % b",".join(messages for (messages,) in turns)),
        seed=orjson.loads(row["seed"]),
        idle_ttl_s=row["idle_ttl_s"],
        started_at=row["started_at"],
        is_new=False,
        open_turn=row["open_turn"],
        used_at=row["last_used_at"],
    )


def _as_read(session: Session) -> dict[str, Any]:
    return {"k": session.key, "was": session.open_turn, "used": session.used_at}


def _forget(connection: Connection, session: Session) -> None:
    """Drop a session and its history as they were read.

    Errors: Moved.
    """
    gone = _DROP.run(connection, _as_read(session))
    if not gone and _GET.row(connection, {"k": session.key}) is not None:
        raise Moved(session.key)
    _DROP_HISTORY.run(connection, {"k": session.key})
    forgetting(session.key)(connection)
