"""How far notification targets have been told of turns: the column `announced` of their rows.

A turn begins with 0 where anybody wants to be told of it, else with -1, and gets -1 once it is over and all is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, literal_column, select
from sqlalchemy import update as sql_update

from outcrop.ids import TurnId
from outcrop.sessions.tables import TURNS
from outcrop.storage.database import Database
from outcrop.storage.statements import Prepared

_RESTING = TURNS.c.state.not_in([literal_column(f"'{state}'") for state in ("queued", "running")])
# Literals, because a partial index is not found by parameters.
_TO_TELL = TURNS.c.announced >= literal_column("0")
_PLACES = Prepared(select(TURNS.c.id, TURNS.c.state, TURNS.c.lease).where(_TO_TELL, _RESTING).order_by(TURNS.c.id))
_IS_TO_TELL = Prepared(select(TURNS.c.id).where(TURNS.c.id == bindparam("t"), _TO_TELL, _RESTING))
_MOVE = Prepared(
    sql_update(TURNS)
    .where(TURNS.c.id == bindparam("t"), TURNS.c.announced == bindparam("was"))
    .values(announced=bindparam("n"))
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a turn rests. It rests at most once in a state under a lease."""

    turn_id: TurnId
    state: str
    lease: int


class Announced:
    """What is told of the turns of one database."""

    def __init__(self, database: Database) -> None:
        """Keep it in this database."""
        self._database = database

    async def is_due(self, turn_id: TurnId) -> bool:
        """Whether a turn rests and has something to tell, or may have.

        Errors: Unavailable.
        """
        return await self._database.read(lambda connection: _IS_TO_TELL.row(connection, {"t": turn_id}) is not None)

    async def resting(self) -> list[Place]:
        """The turns that rest and have something to tell, or may have, the oldest first.

        Errors: Unavailable.
        """

        def work(connection: Connection) -> list[Place]:
            return [Place(TurnId(row[0]), row[1], row[2]) for row in _PLACES.rows(connection, {})]

        return await self._database.read(work)

    async def move(self, turn_id: TurnId, was: int, now: int) -> bool:
        """Note how far a turn has been told; False where somebody else has noted it.

        Errors: Unavailable.
        """
        values = {"t": turn_id, "was": was, "n": now}
        return await self._database.write(lambda connection: _MOVE.run(connection, values) > 0)
