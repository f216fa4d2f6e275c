"""The journal: what a turn was about to do, and what came of it, in order, durable.

    opening -> advance* -> end            states of a step:  intended -> done | uncertain
                  `-> suspend -> resume                      awaiting -> done | intended | abandoned

Before anything is done an intent row is written, after it the outcome. The outcome of one
step and the intent of the next go into one commit. Return of control, confirmations and
crashes are the same case: an intent whose outcome has not arrived. Plain values only: the
Hall encodes its steps, so no import goes up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    bindparam,
    case,
    insert,
    select,
)
from sqlalchemy import update as sql_update

from outcrop.ids import SessionKey, TurnId
from outcrop.storage.database import METADATA, Database
from outcrop.storage.statements import Prepared, Row

JSON = dict[str, Any]
StepState = Literal["intended", "awaiting", "done", "uncertain", "abandoned"]
TurnState = Literal["running", "awaiting", "done", "failed", "abandoned"]
Also = Callable[[Connection], None]

TURNS = Table(
    "turns",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("session_key", String(512), nullable=False),
    Column("state", String(16), nullable=False),
    Column("definition", String(64), nullable=False),
    Column("opening", LargeBinary, nullable=False),
    Column("invocation_id", String(64), nullable=False, default=""),
    Column("ending", LargeBinary),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("turns_by_session", "session_key"),
    sqlite_with_rowid=False,
)
STEPS = Table(
    "steps",
    METADATA,
    Column("turn_id", String(64), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("branch", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("intent", LargeBinary, nullable=False),
    Column("outcome", LargeBinary),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    sqlite_with_rowid=False,
)
DEFINITIONS = Table(
    "definitions",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

_NEW_TURN = Prepared(insert(TURNS), TURNS.columns.keys())
_NEW_STEP = Prepared(insert(STEPS), STEPS.columns.keys())
_CONCLUDE = Prepared(
    sql_update(STEPS)
    .where(STEPS.c.turn_id == bindparam("t"), STEPS.c.ordinal == bindparam("o"), STEPS.c.branch == bindparam("b"))
    .values(state=bindparam("s"), outcome=bindparam("r"), finished_at=bindparam("f"))
)
_CONFIRM = Prepared(
    sql_update(STEPS)
    .where(STEPS.c.turn_id == bindparam("t"), STEPS.c.ordinal == bindparam("o"), STEPS.c.branch == bindparam("b"))
    .values(state="intended", intent=bindparam("i"))
)
_STATE = Prepared(
    sql_update(TURNS).where(TURNS.c.id == bindparam("t")).values(state=bindparam("s"), invocation_id=bindparam("i"))
)
_END = Prepared(
    sql_update(TURNS)
    .where(TURNS.c.id == bindparam("t"))
    .values(state=bindparam("s"), ending=bindparam("e"), finished_at=bindparam("f"))
)
_LEAVE = Prepared(
    sql_update(STEPS)
    .where(STEPS.c.turn_id == bindparam("t"), (STEPS.c.state == "intended") | (STEPS.c.state == "awaiting"))
    .values(state=case((STEPS.c.state == "awaiting", "abandoned"), else_="uncertain"), finished_at=bindparam("f"))
)
"""A turn that ends early: what was under way is uncertain, what the caller owed will not come."""
_TURN = Prepared(select(TURNS).where(TURNS.c.id == bindparam("t")))
_DEFINITION = Prepared(select(DEFINITIONS.c.body).where(DEFINITIONS.c.digest == bindparam("d")))
_KNOWN = Prepared(select(DEFINITIONS.c.digest).where(DEFINITIONS.c.digest == bindparam("d")))
_KEEP = Prepared(insert(DEFINITIONS), DEFINITIONS.columns.keys())
_ENTRIES = Prepared(select(STEPS).where(STEPS.c.turn_id == bindparam("t")).order_by(STEPS.c.ordinal, STEPS.c.branch))


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
    """A turn that has not ended, or whose caller has not heard its end, with all its entries.

    Shapes: ending is None until it ends.
    """

    id: TurnId
    state: TurnState
    opening: JSON
    definition: JSON
    invocation_id: str
    started_at: float
    entries: tuple[Entry, ...]
    ending: JSON | None = None


class Journal:
    """The journal of one database."""

    def __init__(self, database: Database) -> None:
        """Keep the journal in this database."""
        self._database = database

    def opening(
        self, turn_id: TurnId, session_key: SessionKey, definition: Kept, opening: Any, now: float, session: Also
    ) -> Also:
        """What opens a turn, to be written with its first intent: what it runs on and what it was asked.

        Shapes: opening is a dict or a dataclass of JSON values; `session` is written before the turn, so that a
                session that starts anew lets go of its older turns.
        """
        row = {
            "id": turn_id,
            "session_key": session_key,
            "state": "running",
            "definition": definition.digest,
            "opening": orjson.dumps(opening),
            "invocation_id": "",
            "ending": None,
            "started_at": now,
            "finished_at": None,
        }

        def work(connection: Connection) -> None:
            if _KNOWN.row(connection, {"d": definition.digest}) is None:
                _KEEP.run(connection, {"digest": definition.digest, "body": definition.body})
            session(connection)
            _NEW_TURN.run(connection, row)

        return work

    async def advance(
        self,
        turn_id: TurnId,
        concluded: Sequence[Conclusion],
        intended: Sequence[Intent],
        now: float,
        first: Also | None = None,
    ) -> None:
        """Record outcomes and the intents that follow from them, in one commit; `first` is written before them."""

        def work(connection: Connection) -> None:
            if first is not None:
                first(connection)
            _conclude(connection, turn_id, concluded, now)
            for intent in intended:
                _NEW_STEP.run(connection, _intent_row(turn_id, intent, now))

        await self._database.write(work)

    async def suspend(
        self, turn_id: TurnId, concluded: Sequence[Conclusion], invocation_id: str, now: float, also: Also
    ) -> None:
        """The turn waits for its caller; its awaiting rows were intended before."""

        def work(connection: Connection) -> None:
            _conclude(connection, turn_id, concluded, now)
            _STATE.run(connection, {"t": turn_id, "s": "awaiting", "i": invocation_id})
            also(connection)

        await self._database.write(work)

    async def resume(
        self,
        turn_id: TurnId,
        concluded: Sequence[Conclusion],
        confirmed: Sequence[Intent],
        invocation_id: str,
        now: float,
        also: Also,
    ) -> None:
        """The turn runs again, with what its caller brought: outcomes, and actions that may now be done.

        Shapes: the invocation that was answered stays with the turn, so that the same answer can be told from another.
        """

        def work(connection: Connection) -> None:
            _conclude(connection, turn_id, concluded, now)
            for one in confirmed:
                body = orjson.dumps(one.body)
                _CONFIRM.run(connection, {"t": turn_id, "o": one.ordinal, "b": one.branch, "i": body})
            _STATE.run(connection, {"t": turn_id, "s": "running", "i": invocation_id})
            also(connection)

        await self._database.write(work)

    async def end(
        self,
        turn_id: TurnId,
        state: Literal["done", "failed", "abandoned"],
        concluded: Sequence[Conclusion],
        ending: JSON,
        now: float,
        also: Also,
    ) -> None:
        """Close a turn; `also` (the session's new history) is written in the same commit."""

        def work(connection: Connection) -> None:
            _conclude(connection, turn_id, concluded, now)
            if state != "done":
                _LEAVE.run(connection, {"t": turn_id, "f": now})
            _END.run(connection, {"t": turn_id, "s": state, "e": orjson.dumps(ending), "f": now})
            also(connection)

        await self._database.write(work)

    async def written(self, turn_id: TurnId) -> OpenTurn | None:
        """The turn as it is once everything that was asked to be written is; None where it was never opened."""

        def work(connection: Connection) -> OpenTurn | None:
            return read_open_turn(connection, turn_id) if _TURN.row(connection, {"t": turn_id}) else None

        return await self._database.write(work)


def read_open_turn(connection: Connection, turn_id: str) -> OpenTurn:
    """A turn that a session names, with its entries and definition."""
    row = _TURN.row(connection, {"t": turn_id})
    assert row is not None, "a session names a turn that exists"
    turn = dict(zip(TURNS.columns.keys(), row, strict=True))
    definition = _DEFINITION.row(connection, {"d": turn["definition"]})
    assert definition is not None, "a turn names a definition that is kept"
    return OpenTurn(
        id=turn["id"],
        state=turn["state"],
        opening=orjson.loads(turn["opening"]),
        definition=orjson.loads(definition[0]),
        invocation_id=turn["invocation_id"],
        started_at=turn["started_at"],
        entries=tuple(_entry(row) for row in _ENTRIES.rows(connection, {"t": turn_id})),
        ending=orjson.loads(turn["ending"]) if turn["ending"] else None,
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
