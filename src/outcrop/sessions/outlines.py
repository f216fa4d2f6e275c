"""Turns in outline, one by its id or many newest first: what a list shows, read from the turns' rows alone.

Operations ask it. It reads no journal entries and no answers, so that a list of long turns costs no more than one of
short turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import ColumnElement, Connection, Integer, String, bindparam, case, collate, func, null, or_, select

from outcrop.ids import SessionKey, TurnId
from outcrop.sessions.entries import JSON, TurnState
from outcrop.sessions.kept import read_definition
from outcrop.sessions.tables import TURNS
from outcrop.storage.database import Database
from outcrop.storage.statements import Prepared, Row

NEWEST = TurnId("g")
"""Comes after every id of a turn: those begin with hexadecimal digits."""
_MOST_IDENTITIES = 4096
_KEY = TURNS.c.session_key
_COLUMNS = (
    TURNS.c.id,
    _KEY,
    TURNS.c.state,
    TURNS.c.definition,
    TURNS.c.started_at,
    TURNS.c.finished_at,
    TURNS.c.lease,
    TURNS.c.stop,
    # The ending of a turn that is done holds its answer.
    case((TURNS.c.state == "done", null()), else_=TURNS.c.ending).label("ending"),
)
_NAMES = ("id", "session_key", "state", "digest", "started_at", "finished_at", "lease", "stop", "ending")


def _text(name: str) -> Any:
    return bindparam(name, type_=String)


def _newest(*where: ColumnElement[bool]) -> Prepared:
    length = func.length(_KEY) - func.length(_text("tail"))
    return Prepared(
        select(*_COLUMNS)
        .where(
            *where,
            or_(_text("tail") == "", func.substr(_KEY, length + 1) == _text("tail")),
            or_(_text("state") == "", TURNS.c.state == _text("state")),
            TURNS.c.id < _text("before"),
        )
        .order_by(TURNS.c.id.desc())
        .limit(bindparam("most", type_=Integer))
    )


_ONE = Prepared(select(*_COLUMNS).where(TURNS.c.id == _text("id")))
_OF_SESSION = _newest(TURNS.c.session_key == _text("head"))
_BELOW = {
    "sqlite": _newest(TURNS.c.session_key.between(_text("head"), _text("end"))),
    # The order of texts is a language's there, which does not keep together what begins alike.
    "postgresql": _newest(collate(TURNS.c.session_key, "C").between(_text("head"), _text("end"))),
}
_OF_ACCOUNT = _newest(func.substr(_KEY, 1, func.length(_text("head"))) == _text("head"))


@dataclass(frozen=True, slots=True)
class Outline:
    """A turn without what was said and done.

    Shapes: ending is None where the turn is done, and where there is none.
    """

    id: TurnId
    session_key: SessionKey
    state: TurnState
    digest: str
    started_at: float
    finished_at: float | None
    lease: int
    stop: str
    ending: JSON | None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however it did."""
        return self.finished_at is not None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which turns a list is to hold; "" for any.

    Shapes: an alias is one of an agent, so it needs one.
    """

    account: str
    agent: str = ""
    alias: str = ""
    session: str = ""
    state: TurnState | Literal[""] = ""


class Outlines:
    """The turns of one database in outline."""

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        self._database = database
        self._identities: dict[str, JSON] = {}

    async def one(self, turn_id: str) -> Outline | None:
        """A turn, or None where there is none.

        Errors: Unavailable.
        """

        def work(connection: Connection) -> Outline | None:
            row = _ONE.row(connection, {"id": turn_id})
            return None if row is None else _outline(row)

        return await self._database.read(work)

    async def newest(self, wanted: Wanted, most: int, before: TurnId = NEWEST) -> list[Outline]:
        """At most that many turns, newest first, from where an earlier list ended.

        Errors: Unavailable.
        """
        head = "/".join(part for part in (wanted.account, wanted.agent, wanted.alias) if part) + "/"
        tail = f"/{wanted.session}" if wanted.session else ""
        values = {"head": head, "end": f"{head}~", "tail": tail}
        values |= {"state": wanted.state, "before": before, "most": most}

        def work(connection: Connection) -> list[Outline]:
            statement = _BELOW[connection.dialect.name] if wanted.agent else _OF_ACCOUNT
            if wanted.alias and wanted.session:
                statement = _OF_SESSION
                values["head"] = f"{head}{wanted.session}"
            return [_outline(row) for row in statement.rows(connection, values)]

        return await self._database.read(work)

    async def identity(self, digest: str) -> JSON:
        """Who the agent of a definition is, as it is kept with it.

        Errors: Unavailable.
        """
        found = self._identities.get(digest)
        if found is None:
            kept = await self._database.read(lambda connection: read_definition(connection, digest))
            found = self._identities[digest] = kept["identity"]
            if len(self._identities) > _MOST_IDENTITIES:
                self._identities.pop(next(iter(self._identities)))
        return found


def _outline(row: Row) -> Outline:
    values: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    ending = values.pop("ending")
    return Outline(**values, ending=None if ending is None else orjson.loads(ending))
