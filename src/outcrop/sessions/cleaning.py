"""What nobody asks for any more: sessions that expired long ago, turns that ended long ago.

A few rows at a time, each batch a transaction of its own, so that turns under way hardly wait.
A session that is used in the same moment is left alone, for it is looked at again when it goes.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, bindparam, delete, exists, select
from sqlalchemy import update as sql_update

from outcrop.clock import Clock
from outcrop.ids import turn_id
from outcrop.sessions.spend import forgetting
from outcrop.sessions.state import HISTORY, SESSIONS
from outcrop.sessions.tables import STEPS, TURNS
from outcrop.storage.database import Database
from outcrop.storage.statements import Prepared

_BATCH = 200
_AFTER_EXPIRY_S = 86_400.0
"""An expired session starts anew under its key whenever it is used: how long it lies there matters to nobody."""

_HOLDS = exists(
    select(TURNS.c.id).where(
        TURNS.c.id == SESSIONS.c.open_turn, (TURNS.c.state == "running") | (TURNS.c.state == "paused")
    )
)
_IS_LEFT = (SESSIONS.c.last_used_at + SESSIONS.c.idle_ttl_s < bindparam("b")) & ~_HOLDS
_SESSIONS = Prepared(
    select(SESSIONS.c.key, _IS_LEFT.label("is_left"))
    .where(SESSIONS.c.key > bindparam("k"))
    .order_by(SESSIONS.c.key)
    .limit(_BATCH)
)
_DROP_SESSION = Prepared(delete(SESSIONS).where(SESSIONS.c.key == bindparam("k"), _IS_LEFT))
_DROP_HISTORY = Prepared(delete(HISTORY).where(HISTORY.c.session_key == bindparam("k")))
_ABANDON = Prepared(
    sql_update(TURNS)
    .where(TURNS.c.session_key == bindparam("k"), TURNS.c.state == "awaiting")
    .values(state="abandoned", holder="", finished_at=bindparam("n"))
)
_OLD = Prepared(
    select(TURNS.c.id)
    .where(TURNS.c.id > bindparam("a"), TURNS.c.id < bindparam("b"), TURNS.c.finished_at < bindparam("f"))
    .order_by(TURNS.c.id)
    .limit(_BATCH)
)
_DROP_STEPS = Prepared(delete(STEPS).where(STEPS.c.turn_id == bindparam("t")))
_DROP_TURN = Prepared(delete(TURNS).where(TURNS.c.id == bindparam("t")))


class Cleaning:
    """Removes what has been over for long; a sweep calls it."""

    def __init__(self, database: Database, clock: Clock, keep_s: float) -> None:
        """Clean this database.

        Units: keep_s is how long turns that have ended are kept.
        """
        self._database = database
        self._clock = clock
        self._keep_s = keep_s

    async def once(self) -> None:
        """Look through everything once.

        Errors: Unavailable.
        """
        now = self._clock.now()
        await self._through(lambda connection, after: _sessions(connection, after, now))
        await self._through(lambda connection, after: _turns(connection, after, now - self._keep_s))

    async def _through(self, batch: Callable[[Connection, str], str]) -> None:
        after = ""
        while True:
            last = await self._database.write(lambda connection, after=after: batch(connection, after))
            if not last:
                return
            after = last


def _sessions(connection: Connection, after: str, now: float) -> str:
    """One batch of sessions; the key to go on after, "" where there are no more."""
    before = now - _AFTER_EXPIRY_S
    found = _SESSIONS.rows(connection, {"k": after, "b": before})
    for key, is_left in found:
        if is_left and _DROP_SESSION.run(connection, {"k": key, "b": before}):
            _DROP_HISTORY.run(connection, {"k": key})
            _ABANDON.run(connection, {"k": key, "n": now})
            forgetting(key)(connection)
    return found[-1][0] if len(found) == _BATCH else ""


def _turns(connection: Connection, after: str, before: float) -> str:
    """One batch of turns that ended before an instant; the id to go on after, "" where there are no more."""
    # Ids begin with the time: what began later cannot have ended before.
    found = _OLD.rows(connection, {"a": after, "b": turn_id(max(before, 0.0)), "f": before})
    for (id,) in found:
        _DROP_STEPS.run(connection, {"t": id})
        _DROP_TURN.run(connection, {"t": id})
    return found[-1][0] if len(found) == _BATCH else ""
