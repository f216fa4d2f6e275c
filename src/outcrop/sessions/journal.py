"""The journal: what a turn was about to do, and what came of it, in order, durable.

    begin -> advance* -> end                states of a step:  intended -> done | uncertain
               |`-> suspend -> resume                          awaiting -> done | intended | abandoned
               `--> pause ---> take_over

Before anything is done an intent row is written, after it the outcome. The outcome of one
step and the intent of the next go into one commit. Return of control, confirmations and
crashes are the same case: an intent whose outcome has not arrived.

Here turns are begun, queued, taken up and found; `pages` has what their carrier writes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import orjson
from sqlalchemy import Connection, bindparam, case, func, insert, select
from sqlalchemy import update as sql_update

from outcrop.ids import SessionKey, TurnId
from outcrop.sessions.durable import Durable
from outcrop.sessions.entries import (
    FORMAT,
    JSON,
    Also,
    Conclusion,
    Intent,
    Moved,
    NewTurn,
    OpenTurn,
    TurnState,
    first_queued,
    read_row,
    read_turn,
)
from outcrop.sessions.kept import KnownDefinitions
from outcrop.sessions.pages import OURS, THIS_STEP, Pages, conclude, intend
from outcrop.sessions.tables import QUEUED, STEPS, TURNS
from outcrop.storage.database import Database, alone
from outcrop.storage.statements import Prepared, Row

T = TypeVar("T")
_NEW_TURN = Prepared(insert(TURNS), TURNS.columns.keys())
_IN_QUEUE = Prepared(
    sql_update(TURNS)
    .where(TURNS.c.id == bindparam("t"), TURNS.c.state == "queued")
    .values(
        state="running",
        holder=bindparam("h"),
        lease=bindparam("l"),
        session_began=bindparam("g"),
        base=bindparam("b"),
        opening=bindparam("o"),
        started_at=bindparam("n"),
    )
)
_CONFIRM = Prepared(sql_update(STEPS).where(THIS_STEP).values(state="intended", intent=bindparam("i")))
_TAKE = Prepared(
    sql_update(TURNS)
    .where(OURS, TURNS.c.finished_at.is_(None))
    .values(
        state="running",
        holder=bindparam("h"),
        lease=TURNS.c.lease + 1,
        stop=case((TURNS.c.state == "running", TURNS.c.stop), else_=""),
    )
)
"""What a running turn was asked to stop for holds also for whoever takes it over."""
_ANSWERS = Prepared(sql_update(TURNS).where(TURNS.c.id == bindparam("t")).values(retry_key=bindparam("r")))
_STOP = Prepared(
    sql_update(TURNS).where(TURNS.c.id == bindparam("t"), TURNS.c.finished_at.is_(None)).values(stop=bindparam("s"))
)
_SAY_WHY = Prepared(
    sql_update(TURNS).where(TURNS.c.id == bindparam("t"), TURNS.c.finished_at.is_(None)).values(ending=bindparam("e"))
)
_RETRIED = Prepared(
    select(TURNS.c.id)
    .where(TURNS.c.session_key == bindparam("k"), TURNS.c.retry_key == bindparam("r"))
    .order_by(TURNS.c.id.desc())
    .limit(1)
)
_QUEUED = Prepared(
    select(TURNS.c.id).where(TURNS.c.state == QUEUED, TURNS.c.started_at < bindparam("n")).order_by(TURNS.c.id)
)
_OF_STEPS = STEPS.c.turn_id == TURNS.c.id
_PLACE = Prepared(
    select(
        TURNS.c.state,
        TURNS.c.lease,
        select(func.count()).where(_OF_STEPS).scalar_subquery(),
        select(func.count(STEPS.c.outcome)).where(_OF_STEPS).scalar_subquery(),
    ).where(TURNS.c.id == bindparam("t"))
)


class Journal:
    """The journal of one database, as one worker writes it."""

    def __init__(self, database: Database, holder: str, patience_s: float) -> None:
        """Keep the journal in this database.

        Units: patience_s is for how long a write is tried again while the database is away.
        """
        self._database = database
        self._writer = Durable(database, patience_s)
        self._known = KnownDefinitions()
        self.holder = holder

    async def begin(self, turn: NewTurn, intended: Sequence[Intent], session: Also, *, queued: bool = False) -> Pages:
        """Open a turn and write its first intents, in one commit; `session` is written before the turn.

        Shapes: `queued` says that `queue` wrote the turn before.
        Errors: Moved when the session has another turn by now; what `session` raises.
        """

        def work(connection: Connection, again: bool) -> None:
            if again and self._is_mine(connection, turn.id, 1):
                return
            self._known.keep(connection, turn.definition.digest, turn.definition.body)
            session(connection)
            if queued:
                opening = orjson.dumps(turn.opening)
                values = {
                    "t": turn.id,
                    "h": self.holder,
                    "l": 1,
                    "g": turn.session_began,
                    "b": turn.base,
                    "o": opening,
                    "n": turn.started_at,
                }
                if not _IN_QUEUE.run(connection, values):
                    raise Moved(turn.id)
            else:
                _NEW_TURN.run(connection, _row(turn, "running", self.holder, 1))
            intend(connection, turn.id, intended, turn.started_at)

        await self._writer.write(work)
        self._known.remember(turn.definition.digest)
        return Pages(self._writer, turn.id, 1)

    async def queue(self, turn: NewTurn) -> TurnId:
        """Keep a turn that some worker begins later; where the session has one with its retry key, that one's id."""

        def work(connection: Connection, again: bool) -> TurnId:
            if again and read_row(connection, turn.id) is not None:
                return turn.id
            if turn.retry_key:
                # Two at once with one key: the second looks when the first is there.
                alone(connection, zlib.crc32(f"{turn.session_key}/{turn.retry_key}".encode()))
                values = {"k": turn.session_key, "r": turn.retry_key}
                if (row := _RETRIED.row(connection, values)) is not None:
                    return TurnId(row[0])
            self._known.keep(connection, turn.definition.digest, turn.definition.body)
            _NEW_TURN.run(connection, _row(turn, "queued", "", 0))
            return turn.id

        return await self._writer.write(work)

    async def queued_before(self, at: float) -> list[TurnId]:
        """The turns that have been queued since before an instant, the oldest first."""

        def work(connection: Connection) -> list[TurnId]:
            return [TurnId(row[0]) for row in _QUEUED.rows(connection, {"n": at})]

        return await self._database.read(work)

    async def first_queued(self, session_key: SessionKey) -> TurnId | None:
        """The queued turn of a session that came first, or None."""
        return await self._database.read(lambda connection: first_queued(connection, session_key))

    async def take_over(self, turn: OpenTurn) -> Pages:
        """Carry a turn that was interrupted or paused, from now on.

        Errors: Moved when somebody else took it first.
        """
        return await self._take(turn, lambda _connection: None)

    async def resume(
        self,
        turn: OpenTurn,
        concluded: Sequence[Conclusion],
        confirmed: Sequence[Intent],
        retry_key: str,
        now: float,
        also: Also,
    ) -> Pages:
        """Carry an awaiting turn on, with what its caller brought: outcomes, and actions that may now be done.

        Shapes: the invocation that was answered stays with the turn, so that the same answer can be told from another.
        Errors: Moved when the turn no longer waits.
        """

        def write(connection: Connection) -> None:
            conclude(connection, turn.id, concluded, now)
            for one in confirmed:
                body = orjson.dumps(one.body)
                _CONFIRM.run(connection, {"t": turn.id, "o": one.ordinal, "b": one.branch, "i": body})
            _ANSWERS.run(connection, {"t": turn.id, "r": retry_key})
            also(connection)

        return await self._take(turn, write)

    async def _take(self, turn: OpenTurn, also: Also) -> Pages:
        lease = turn.lease + 1

        def work(connection: Connection, again: bool) -> None:
            if again and self._is_mine(connection, turn.id, lease):
                return
            if not _TAKE.run(connection, {"t": turn.id, "l": turn.lease, "h": self.holder}):
                raise Moved(turn.id)
            also(connection)

        await self._writer.write(work)
        return Pages(self._writer, turn.id, lease)

    def pages(self, turn: OpenTurn) -> Pages:
        """The journal of a turn as it was read, for whoever ends it without carrying it."""
        return Pages(self._writer, turn.id, turn.lease)

    async def ask_to_stop(self, turn_id: TurnId, how: str, said: JSON | None = None) -> bool:
        """Ask whoever carries a turn to stop it; False where it has ended.

        Shapes: `said` becomes its ending until it has a better one.
        """

        def work(connection: Connection, _again: bool) -> bool:
            if said is not None:
                _SAY_WHY.run(connection, {"t": turn_id, "e": orjson.dumps(said)})
            return _STOP.run(connection, {"t": turn_id, "s": how}) > 0

        return await self._writer.write(work)

    async def find(self, turn_id: TurnId) -> OpenTurn | None:
        """A turn with its entries, or None where there is none."""
        return await self._database.read(lambda connection: read_turn(connection, turn_id))

    async def retried(self, session_key: SessionKey, retry_key: str) -> TurnId | None:
        """The turn of a session that answers the call with this key of the SDK, or None."""

        def work(connection: Connection) -> TurnId | None:
            row = _RETRIED.row(connection, {"k": session_key, "r": retry_key})
            return None if row is None else TurnId(row[0])

        return await self._database.read(work)

    async def places(self, turn_ids: Sequence[TurnId]) -> list[Row | None]:
        """How far each turn has come: values that change whenever its events do; None where there is no such turn."""

        def work(connection: Connection) -> list[Row | None]:
            return [_PLACE.row(connection, {"t": turn_id}) for turn_id in turn_ids]

        return await self._database.read(work)

    def _is_mine(self, connection: Connection, turn_id: TurnId, lease: int) -> bool:
        """Whether the write that is tried again was kept at its first try."""
        found = read_row(connection, turn_id)
        return found is not None and found["lease"] == lease and found["holder"] == self.holder


def _row(turn: NewTurn, state: TurnState, holder: str, lease: int) -> JSON:
    return {
        "id": turn.id,
        "session_key": turn.session_key,
        "state": state,
        "definition": turn.definition.digest,
        "opening": orjson.dumps(turn.opening),
        "invocation_id": "",
        "ending": None,
        "started_at": turn.started_at,
        "finished_at": None,
        "format": FORMAT,
        "holder": holder,
        "lease": lease,
        "session_began": turn.session_began,
        "base": turn.base,
        "retry_key": turn.retry_key,
        "stop": "",
        "announced": turn.announced,
    }
