"""Which workers are alive, and which turns nobody carries any more.

Every worker counts its beats in one row, twice a second, however many turns it carries. A
worker whose count another one sees unchanged for `lease_s`, by its own clock, is dead to
it: its row goes, and the turns it held are anybody's. No two machines' clocks are compared.

Where one process has the database to itself, it need not beat: whoever else is named there
is dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, exists, insert, select
from sqlalchemy import update as sql_update

from outcrop.ids import TurnId
from outcrop.sessions.tables import RUNNING, TURNS, WORKERS
from outcrop.storage.database import Database, Unavailable
from outcrop.storage.statements import Prepared

_BEAT = Prepared(sql_update(WORKERS).where(WORKERS.c.id == bindparam("w")).values(beats=WORKERS.c.beats + 1))
_JOIN = Prepared(insert(WORKERS), WORKERS.columns.keys())
_ALL = Prepared(select(WORKERS.c.id, WORKERS.c.beats))
_DROP_OTHERS = Prepared(delete(WORKERS).where(WORKERS.c.id != bindparam("w")))
_DROP = Prepared(delete(WORKERS).where(WORKERS.c.id == bindparam("w")))
_DROP_STILL = Prepared(delete(WORKERS).where(WORKERS.c.id == bindparam("w"), WORKERS.c.beats == bindparam("b")))
_IS_CARRIED = exists(select(WORKERS.c.id).where(WORKERS.c.id == TURNS.c.holder))
_ORPHANS = Prepared(select(TURNS.c.id).where(TURNS.c.state == RUNNING, ~_IS_CARRIED))
"""Without an order: for one, SQLite reads all turns there are instead of the index of those that run."""
_HELD = Prepared(select(TURNS.c.id, TURNS.c.stop).where(TURNS.c.state == RUNNING, TURNS.c.holder == bindparam("w")))


@dataclass(frozen=True, slots=True)
class Sight:
    """What a worker sees at a beat: turns that nobody carries, and its own, each with how it shall stop, "" for not."""

    orphans: tuple[TurnId, ...]
    held: Mapping[TurnId, str]


class Leases:
    """The beats of one worker, and its view of the others."""

    def __init__(
        self, database: Database, worker: str, lease_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch as this worker.

        Units: lease_s is for how long another's beats may stand still.
        """
        self._database = database
        self._worker = worker
        self._lease_s = lease_s
        self._monotonic = monotonic
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked_at = float("-inf")
        self._has_joined = False

    async def beat(self) -> Sight:
        """Say that this worker lives, and look around.

        Errors: Unavailable.
        """
        if self._database.is_shared or not self._has_joined:
            try:
                others = await self._database.write(self._say)
            except Unavailable:
                # Others may not reach it either: their silence counts from when this worker can see it again.
                self._seen.clear()
                raise
            self._has_joined = True
            still = self._standing_still(others)
            if still:
                await self._database.write(lambda connection: _bury(connection, still))
                # One that joins again counts from 0, which is where it may have stood still.
                self._seen = {worker: seen for worker, seen in self._seen.items() if worker not in still}
        return await self._database.read(self._look)

    async def leave(self) -> None:
        """Say that this worker carries nothing any more.

        Errors: Unavailable.
        """
        await self._database.write(lambda connection: _DROP.run(connection, {"w": self._worker}))
        self._has_joined = False

    def _say(self, connection: Connection) -> dict[str, int]:
        if not self._database.is_shared:
            _DROP_OTHERS.run(connection, {"w": self._worker})
        if not _BEAT.run(connection, {"w": self._worker}):
            # New, or buried by others while this worker could not reach the database: its turns are theirs by now.
            _JOIN.run(connection, {"id": self._worker, "beats": 0, "started_at": time.time()})
        return {worker: beats for worker, beats in _ALL.rows(connection, {}) if worker != self._worker}

    def _standing_still(self, others: Mapping[str, int]) -> dict[str, int]:
        """Those whose count has not changed for the lease, with the count they stood still at."""
        now = self._monotonic()
        if now - self._looked_at > self._lease_s / 2:
            # The database stood still, or this worker did: nobody's silence can be told from that.
            self._seen.clear()
        self._looked_at = now
        self._seen = {
            worker: seen if (seen := self._seen.get(worker)) is not None and seen[0] == beats else (beats, now)
            for worker, beats in others.items()
        }
        return {worker: beats for worker, (beats, since) in self._seen.items() if now - since >= self._lease_s}

    def _look(self, connection: Connection) -> Sight:
        orphans = tuple(sorted(TurnId(row[0]) for row in _ORPHANS.rows(connection, {})))
        held = {TurnId(turn): how for turn, how in _HELD.rows(connection, {"w": self._worker})}
        return Sight(orphans, held)


def _bury(connection: Connection, still: Mapping[str, int]) -> None:
    for worker, beats in still.items():
        _DROP_STILL.run(connection, {"w": worker, "b": beats})
