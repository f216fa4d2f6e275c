"""What a journal holds: turns, their entries, the definitions they name; and how they are read.

    NewTurn, Intent, Conclusion   what is written          OpenTurn, Entry   what is read

Plain values only: the Hall encodes its steps, so no import goes up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, bindparam, select

from outcrop.errors import RoomError
from outcrop.ids import SessionKey, TurnId
from outcrop.sessions.kept import read_definition
from outcrop.sessions.tables import QUEUED, STEPS, TURNS
from outcrop.storage.statements import Prepared, Row

JSON = dict[str, Any]
StepState = Literal["intended", "awaiting", "done", "uncertain", "abandoned"]
TurnState = Literal["queued", "running", "awaiting", "paused", "done", "failed", "abandoned"]
Also = Callable[[Connection], None]
"""What is written in the same commit, by whoever it concerns."""

OPEN_STATES: tuple[TurnState, ...] = ("queued", "running", "awaiting", "paused")
"""The states of a turn that is not over."""

FORMAT = 2
"""How this release writes a journal; it reads all up to it and refuses what is newer."""

_TURN = Prepared(select(TURNS).where(TURNS.c.id == bindparam("t")))
_FIRST_QUEUED = Prepared(
    select(TURNS.c.id)
    .where(TURNS.c.session_key == bindparam("k"), TURNS.c.state == QUEUED)
    .order_by(TURNS.c.id)
    .limit(1)
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
    session_began: float
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
    session_began: float = 0.0
    base: int = -1
    retry_key: str = ""
    announced: int = -1


def read_row(connection: Connection, turn_id: str) -> JSON | None:
    """The columns of a turn by name, or None."""
    row = _TURN.row(connection, {"t": turn_id})
    return None if row is None else dict(zip(TURNS.columns.keys(), row, strict=True))


def first_queued(connection: Connection, session_key: SessionKey) -> TurnId | None:
    """The queued turn of a session that came first, or None."""
    row = _FIRST_QUEUED.row(connection, {"k": session_key})
    return None if row is None else TurnId(row[0])


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
        session_began=turn["session_began"],
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
