"""The definitions that turns run on, each written once under its digest and never changed.

The journal writes them with the first turn that names them and reads them with every turn.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, select

from outcrop.sessions.tables import DEFINITIONS
from outcrop.storage.statements import InsertOnce, Prepared

_DEFINITION = Prepared(select(DEFINITIONS.c.body).where(DEFINITIONS.c.digest == bindparam("d")))
_KEEP = InsertOnce(DEFINITIONS)
"""Two calls that run on the same definition may both be the first."""
_MOST_KNOWN = 10_000


class KnownDefinitions:
    """The definitions that one process knows to be kept, which spares it the look."""

    def __init__(self) -> None:
        """Know none."""
        self._known: set[str] = set()

    def keep(self, connection: Connection, digest: str, body: bytes) -> None:
        """Write a definition where it is not known to be kept."""
        if digest not in self._known:
            _KEEP.run(connection, {"digest": digest, "body": body})

    def remember(self, digest: str) -> None:
        """Know it from now on: it was committed, and definitions are never removed."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(digest)


def read_definition(connection: Connection, digest: str) -> dict[str, Any]:
    """The definition that a turn names."""
    found = _DEFINITION.row(connection, {"d": digest})
    assert found is not None, "a turn names a definition that is kept"
    return orjson.loads(found[0])
