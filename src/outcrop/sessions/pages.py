"""The journal of one turn, as the worker that carries it writes it.

    advance* -> suspend | pause | end | release

A turn is carried by one worker at a time. Whoever takes it up raises its `lease`, and every
write says under which lease it is made: one that comes too late is refused with `Moved` and
leaves nothing. A write that is tried again, because nobody knows whether it was kept, looks first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import orjson
from sqlalchemy import Connection, bindparam, case, insert, select
from sqlalchemy import update as sql_update

from outcrop.ids import TurnId
from outcrop.sessions.durable import Durable
from outcrop.sessions.entries import (
    JSON,
    Also,
    Conclusion,
    Intent,
    Moved,
    OpenTurn,
    TurnState,
    read_row,
    read_turn,
)
from outcrop.sessions.tables import STEPS, TURNS
from outcrop.storage.statements import Prepared

OURS = (TURNS.c.id == bindparam("t")) & (TURNS.c.lease == bindparam("l"))
"""A turn under the lease that a write names."""
THIS_STEP = (
    (STEPS.c.turn_id == bindparam("t")) & (STEPS.c.ordinal == bindparam("o")) & (STEPS.c.branch == bindparam("b"))
)
_NEW_STEP = Prepared(insert(STEPS), STEPS.columns.keys())
_HAS_STEP = Prepared(select(STEPS.c.branch).where(THIS_STEP))
_CONCLUDE = Prepared(
    sql_update(STEPS).where(THIS_STEP).values(state=bindparam("s"), outcome=bindparam("r"), finished_at=bindparam("f"))
)
_FENCE = Prepared(select(TURNS.c.lease).where(OURS, TURNS.c.state == "running").with_for_update(key_share=True))
"""Holds the turn's row until the commit: a take-over waits for it, and then reads what was written."""
_RELEASE = Prepared(sql_update(TURNS).where(OURS, TURNS.c.state == "running").values(holder=""))
_SUSPEND = Prepared(
    sql_update(TURNS)
    .where(OURS, TURNS.c.state == "running")
    .values(state="awaiting", invocation_id=bindparam("i"), holder="")
)
_PAUSE = Prepared(
    sql_update(TURNS).where(OURS, TURNS.c.state == "running").values(state="paused", ending=bindparam("e"), holder="")
)
_END = Prepared(
    sql_update(TURNS)
    .where(OURS, TURNS.c.finished_at.is_(None))
    .values(state=bindparam("s"), ending=bindparam("e"), finished_at=bindparam("f"), holder="")
)
_LEAVE = Prepared(
    sql_update(STEPS)
    .where(STEPS.c.turn_id == bindparam("t"), (STEPS.c.state == "intended") | (STEPS.c.state == "awaiting"))
    .values(state=case((STEPS.c.state == "awaiting", "abandoned"), else_="uncertain"), finished_at=bindparam("f"))
)
"""A turn that ends early: what was under way is uncertain, what the caller owed will not come."""


class Pages:
    """The journal of one turn, as the worker that carries it writes it."""

    def __init__(self, writer: Durable, turn_id: TurnId, lease: int) -> None:
        """Write under this lease; it is refused once another worker has raised it."""
        self._writer = writer
        self.turn_id = turn_id
        self.lease = lease
        self._key = {"t": turn_id, "l": lease}

    async def advance(self, concluded: Sequence[Conclusion], intended: Sequence[Intent], now: float) -> None:
        """Record outcomes and the intents that follow from them, in one commit.

        Errors: Moved.
        """

        def work(connection: Connection, again: bool) -> None:
            if _FENCE.row(connection, self._key) is None:
                raise Moved(self.turn_id)
            conclude(connection, self.turn_id, concluded, now)
            for intent in intended:
                values = {"t": self.turn_id, "o": intent.ordinal, "b": intent.branch}
                if not (again and _HAS_STEP.row(connection, values)):
                    _NEW_STEP.run(connection, _intent_row(self.turn_id, intent, now))

        await self._writer.write(work)

    async def suspend(self, concluded: Sequence[Conclusion], invocation_id: str, now: float, also: Also) -> None:
        """The turn waits for its caller; its awaiting rows were intended before.

        Errors: Moved.
        """
        await self._rest("awaiting", _SUSPEND, {"i": invocation_id}, concluded, now, also)

    async def pause(self, concluded: Sequence[Conclusion], reason: JSON, now: float, also: Also) -> None:
        """The turn stops where it is, until somebody lets it go on; `reason` says why.

        Errors: Moved.
        """
        await self._rest("paused", _PAUSE, {"e": orjson.dumps(reason)}, concluded, now, also)

    async def _rest(
        self,
        state: TurnState,
        statement: Prepared,
        values: JSON,
        concluded: Sequence[Conclusion],
        now: float,
        also: Also,
    ) -> None:
        def work(connection: Connection, again: bool) -> None:
            if not statement.run(connection, {**self._key, **values}):
                self._was_kept(connection, state, again)
                return
            conclude(connection, self.turn_id, concluded, now)
            also(connection)

        await self._writer.write(work)

    async def end(
        self,
        state: Literal["done", "failed", "abandoned"],
        concluded: Sequence[Conclusion],
        ending: JSON,
        now: float,
        also: Also,
    ) -> None:
        """Close the turn; `also` (the session's new history) is written in the same commit.

        Errors: Moved.
        """
        body = orjson.dumps(ending)

        def work(connection: Connection, again: bool) -> None:
            if not _END.run(connection, {**self._key, "s": state, "e": body, "f": now}):
                self._was_kept(connection, state, again)
                return
            conclude(connection, self.turn_id, concluded, now)
            if state != "done":
                _LEAVE.run(connection, {"t": self.turn_id, "f": now})
            also(connection)

        await self._writer.write(work)

    async def release(self) -> None:
        """Nobody carries the turn from now on, so that whoever sees it first goes on with it."""

        def work(connection: Connection, _again: bool) -> None:
            _RELEASE.run(connection, self._key)

        await self._writer.write(work)

    async def written(self) -> OpenTurn | None:
        """The turn as it is once everything that was asked to be written is; None where it was forgotten."""
        await self._writer.settle()
        return await self._writer.write(lambda connection, _again: read_turn(connection, self.turn_id))

    def _was_kept(self, connection: Connection, state: TurnState, again: bool) -> None:
        """A write that changed nothing is right only where it is the second try of one that was kept."""
        found = read_row(connection, self.turn_id) if again else None
        if found is None or found["lease"] != self.lease or found["state"] != state:
            raise Moved(self.turn_id)


def intend(connection: Connection, turn_id: TurnId, intended: Sequence[Intent], now: float) -> None:
    """Write what is about to be done."""
    for intent in intended:
        _NEW_STEP.run(connection, _intent_row(turn_id, intent, now))


def _intent_row(turn_id: TurnId, intent: Intent, now: float) -> JSON:
    return {
        "turn_id": turn_id,
        "ordinal": intent.ordinal,
        "branch": intent.branch,
        "kind": intent.kind,
        "state": intent.state,
        "intent": orjson.dumps(intent.body),
        "outcome": None,
        "started_at": now,
        "finished_at": None,
    }


def conclude(connection: Connection, turn_id: TurnId, concluded: Sequence[Conclusion], now: float) -> None:
    """Write what came of what was intended."""
    for one in concluded:
        body = orjson.dumps(one.outcome)
        values = {"t": turn_id, "o": one.ordinal, "b": one.branch, "s": one.state, "r": body, "f": now}
        _CONCLUDE.run(connection, values)
