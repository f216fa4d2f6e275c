"""The journal: what a turn was about to do, and what came of it, in order, durable.

    begin -> advance* -> end                states of a step:  intended -> done | uncertain
               |`-> suspend -> resume                          awaiting -> done | intended | abandoned
               `--> pause ---> take_over

Before anything is done an intent row is written, after it the outcome. The outcome of one
step and the intent of the next go into one commit. Return of control, confirmations and
crashes are the same case: an intent whose outcome has not arrived. Plain values only: the
Hall encodes its steps, so no import goes up.

A turn is carried by one worker at a time. Whoever takes it up raises its `lease`, and every
write says under which lease it is made: one that comes too late is refused with `Moved` and
leaves nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import orjson
from sqlalchemy import Connection, bindparam, case, func, insert, select
from sqlalchemy import update as sql_update

from outcrop.errors import RoomError
from outcrop.ids import SessionKey, TurnId
from outcrop.sessions.durable import Durable
from outcrop.sessions.kept import KnownDefinitions, read_definition
from outcrop.sessions.tables import STEPS, TURNS
from outcrop.storage.database import Database
from outcrop.storage.statements import Prepared, Row

T = TypeVar("T")
JSON = dict[str, Any]
StepState = Literal["intended", "awaiting", "done", "uncertain", "abandoned"]
TurnState = Literal["queued", "running", "awaiting", "paused", "done", "failed", "abandoned"]
Also = Callable[[Connection], None]
"""What is written in the same commit, by whoever it concerns."""

OPEN_STATES: tuple[TurnState, ...] = ("queued", "running", "awaiting", "paused")
"""The states of a turn that is not over."""

FORMAT = 2
"""How this release writes a journal; it reads all up to it and refuses what is newer."""

_OURS = (TURNS.c.id == bindparam("t")) & (TURNS.c.lease == bindparam("l"))
_NEW_TURN = Prepared(insert(TURNS), TURNS.columns.keys())
_NEW_STEP = Prepared(insert(STEPS), STEPS.columns.keys())
_IN_QUEUE = Prepared(
    sql_update(TURNS)
    .where(TURNS.c.id == bindparam("t"), TURNS.c.state == "queued")
    .values(
        state="running",
        holder=bindparam("h"),
        lease=bindparam("l"),
        base=bindparam("b"),
        opening=bindparam("o"),
        started_at=bindparam("n"),
    )
)
_THIS_STEP = (
    (STEPS.c.turn_id == bindparam("t")) & (STEPS.c.ordinal == bindparam("o")) & (STEPS.c.branch == bindparam("b"))
)
_HAS_STEP = Prepared(select(STEPS.c.branch).where(_THIS_STEP))
_CONCLUDE = Prepared(
    sql_update(STEPS).where(_THIS_STEP).values(state=bindparam("s"), outcome=bindparam("r"), finished_at=bindparam("f"))
)
_CONFIRM = Prepared(sql_update(STEPS).where(_THIS_STEP).values(state="intended", intent=bindparam("i")))
_FENCE = Prepared(select(TURNS.c.lease).where(_OURS, TURNS.c.state == "running").with_for_update(key_share=True))
"""Holds the turn's row until the commit: a take-over waits for it, and then reads what was written."""
_TAKE = Prepared(
    sql_update(TURNS)
    .where(_OURS, TURNS.c.finished_at.is_(None))
    .values(
        state="running",
        holder=bindparam("h"),
        lease=TURNS.c.lease + 1,
        stop=case((TURNS.c.state == "running", TURNS.c.stop), else_=""),
    )
)
"""What a running turn was asked to stop for holds also for whoever takes it over."""
_ANSWERS = Prepared(sql_update(TURNS).where(TURNS.c.id == bindparam("t")).values(retry_key=bindparam("r")))
_RELEASE = Prepared(sql_update(TURNS).where(_OURS, TURNS.c.state == "running").values(holder=""))
_SUSPEND = Prepared(
    sql_update(TURNS)
    .where(_OURS, TURNS.c.state == "running")
    .values(state="awaiting", invocation_id=bindparam("i"), holder="")
)
_PAUSE = Prepared(
    sql_update(TURNS).where(_OURS, TURNS.c.state == "running").values(state="paused", ending=bindparam("e"), holder="")
)
_END = Prepared(
    sql_update(TURNS)
    .where(_OURS, TURNS.c.finished_at.is_(None))
    .values(state=bindparam("s"), ending=bindparam("e"), finished_at=bindparam("f"), holder="")
)
_LEAVE = Prepared(
    sql_update(STEPS)
    .where(STEPS.c.turn_id == bindparam("t"), (STEPS.c.state == "intended") | (STEPS.c.state == "awaiting"))
    .values(state=case((STEPS.c.state == "awaiting", "abandoned"), else_="uncertain"), finished_at=bindparam("f"))
)
"""A turn that ends early: what was under way is uncertain, what the caller owed will not come."""
_STOP = Prepared(
    sql_update(TURNS).where(TURNS.c.id == bindparam("t"), TURNS.c.finished_at.is_(None)).values(stop=bindparam("s"))
)
_SAY_WHY = Prepared(
    sql_update(TURNS).where(TURNS.c.id == bindparam("t"), TURNS.c.finished_at.is_(None)).values(ending=bindparam("e"))
)
_TURN = Prepared(select(TURNS).where(TURNS.c.id == bindparam("t")))
_RETRIED = Prepared(
    select(TURNS.c.id)
    .where(TURNS.c.session_key == bindparam("k"), TURNS.c.retry_key == bindparam("r"))
    .order_by(TURNS.c.id.desc())
    .limit(1)
)
_QUEUED = Prepared(
    select(TURNS.c.id).where(TURNS.c.state == "queued", TURNS.c.started_at < bindparam("n")).order_by(TURNS.c.id)
)
_FIRST_QUEUED = Prepared(
    select(TURNS.c.id)
    .where(TURNS.c.session_key == bindparam("k"), TURNS.c.state == "queued")
    .order_by(TURNS.c.id)
    .limit(1)
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
_ENTRIES = Prepared(select(STEPS).where(STEPS.c.turn_id == bindparam("t")).order_by(STEPS.c.ordinal, STEPS.c.branch))


class Moved(RoomError):
    """Somebody else carries the turn, or its session went on, since it was read. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A definition as the journal keeps it: once, under its digest, however many turns run on it."""

    digest: str
    body: bytes

    @classmethod
    def of(cls, definition: Any) -> Kept:
        """The JSON of a definition and its digest; members keep their order, for models see parameters in it."""
        body = orjson.dumps(definition)
        return cls(hashlib.sha256(body).hexdigest(), body)


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing about to be done: branch of step `ordinal`. The body is a dict or a dataclass of JSON values."""

    ordinal: int
    branch: int
    kind: str
    body: Any
    state: StepState = "intended"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What came of one intent. The outcome is a dict or a dataclass of JSON values."""

    ordinal: int
    branch: int
    outcome: Any
    state: StepState = "done"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a turn's journal; outcome is None until it is concluded."""

    ordinal: int
    branch: int
    kind: str
    state: StepState
    intent: JSON
    outcome: JSON | None
    started_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn as its journal has it, with all its entries.

    Shapes: ending is None until it ends or pauses; base is how many turns of the session came before, -1 where an
            older release did not say; lease counts those who carried it.
    """

    id: TurnId
    session_key: SessionKey
    state: TurnState
    opening: JSON
    digest: str
    definition: JSON
    invocation_id: str
    started_at: float
    finished_at: float | None
    entries: tuple[Entry, ...]
    ending: JSON | None
    format: int
    holder: str
    lease: int
    base: int
    retry_key: str
    stop: str
    announced: int

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however it did."""
        return self.finished_at is not None


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn that is about to begin: what it runs on, what it was asked, and under which call.

    Shapes: opening is a dict or a dataclass of JSON values; base is how many turns of the session came before;
            announced is 0 where notification targets are to be told of it, else -1.
    """

    id: TurnId
    session_key: SessionKey
    definition: Kept
    opening: Any
    started_at: float
    base: int = -1
    retry_key: str = ""
    announced: int = -1


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
                values = {"t": turn.id, "h": self.holder, "l": 1, "b": turn.base, "o": opening, "n": turn.started_at}
                if not _IN_QUEUE.run(connection, values):
                    raise Moved(turn.id)
            else:
                _NEW_TURN.run(connection, _row(turn, "running", self.holder, 1))
            for intent in intended:
                _NEW_STEP.run(connection, _intent_row(turn.id, intent, turn.started_at))

        await self._writer.write(work)
        self._known.remember(turn.definition.digest)
        return Pages(self._writer, turn.id, 1)

    async def queue(self, turn: NewTurn, first: Also) -> TurnId:
        """Keep a turn that some worker begins later; where the session has one with its retry key, that one's id.

        Shapes: `first` is done before the look, for what must not happen twice at once.
        """

        def work(connection: Connection, again: bool) -> TurnId:
            if again and _TURN.row(connection, {"t": turn.id}) is not None:
                return turn.id
            first(connection)
            if turn.retry_key:
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

        def work(connection: Connection) -> TurnId | None:
            row = _FIRST_QUEUED.row(connection, {"k": session_key})
            return None if row is None else TurnId(row[0])

        return await self._database.read(work)

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
            _conclude(connection, turn.id, concluded, now)
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
            _conclude(connection, self.turn_id, concluded, now)
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
            _conclude(connection, self.turn_id, concluded, now)
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
            _conclude(connection, self.turn_id, concluded, now)
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


def read_row(connection: Connection, turn_id: str) -> JSON | None:
    """The columns of a turn by name, or None."""
    row = _TURN.row(connection, {"t": turn_id})
    return None if row is None else dict(zip(TURNS.columns.keys(), row, strict=True))


def read_turn(connection: Connection, turn_id: str) -> OpenTurn | None:
    """A turn with its entries and its definition, or None."""
    turn = read_row(connection, turn_id)
    if turn is None:
        return None
    return OpenTurn(
        id=turn["id"],
        session_key=turn["session_key"],
        state=turn["state"],
        opening=orjson.loads(turn["opening"]),
        digest=turn["definition"],
        definition=read_definition(connection, turn["definition"]),
        invocation_id=turn["invocation_id"],
        started_at=turn["started_at"],
        finished_at=turn["finished_at"],
        entries=tuple(_entry(row) for row in _ENTRIES.rows(connection, {"t": turn_id})),
        ending=orjson.loads(turn["ending"]) if turn["ending"] else None,
        format=turn["format"],
        holder=turn["holder"],
        lease=turn["lease"],
        base=turn["base"],
        retry_key=turn["retry_key"],
        stop=turn["stop"],
        announced=turn["announced"],
    )


def _entry(row: Row) -> Entry:
    _, ordinal, branch, kind, state, intent, outcome, started_at, finished_at = row
    return Entry(
        ordinal=ordinal,
        branch=branch,
        kind=kind,
        state=state,
        intent=orjson.loads(intent),
        outcome=None if outcome is None else orjson.loads(outcome),
        started_at=started_at,
        finished_at=finished_at,
    )


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
        "base": turn.base,
        "retry_key": turn.retry_key,
        "stop": "",
        "announced": turn.announced,
    }


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


def _conclude(connection: Connection, turn_id: TurnId, concluded: Sequence[Conclusion], now: float) -> None:
    for one in concluded:
        body = orjson.dumps(one.outcome)
        values = {"t": turn_id, "o": one.ordinal, "b": one.branch, "s": one.state, "r": body, "f": now}
        _CONCLUDE.run(connection, values)
