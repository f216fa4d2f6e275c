"""JSON documents by (kind, id): how agents, action groups, versions and aliases are kept.

A document is the dict an operation returns, plus nothing. `parent` and `name` are columns
only because lists and conflicts are asked by them.

    await documents.write(lambda docs: docs.put("agent", "ABCDEFGHIJ", record, name="AX123"))

Work runs in one transaction, alone among writers, so "look, then write" needs no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from outcrop.storage.database import METADATA, Database

T = TypeVar("T")
Record = dict[str, Any]

DOCUMENTS = Table(
    "documents",
    METADATA,
    Column("kind", String(64), primary_key=True),
    Column("id", String(512), primary_key=True),
    Column("parent", String(512), nullable=False, default=""),
    Column("name", String(512), nullable=False, default=""),
    Column("changed", Integer, nullable=False, default=0),
    Column("body", LargeBinary, nullable=False),
    Index("documents_by_parent", "kind", "parent", "changed"),
    Index("documents_by_name", "kind", "parent", "name"),
)

_KEY = (DOCUMENTS.c.kind == bindparam("k")) & (DOCUMENTS.c.id == bindparam("i"))
_GET = select(DOCUMENTS.c.body).where(_KEY)
_INSERT = insert(DOCUMENTS)
_UPDATE = (
    update(DOCUMENTS)
    .where(_KEY)
    .values(parent=bindparam("p"), name=bindparam("n"), changed=bindparam("c"), body=bindparam("b"))
)
_DELETE = delete(DOCUMENTS).where(_KEY)
_LAST = (
    select(DOCUMENTS.c.changed).where(DOCUMENTS.c.kind == bindparam("k")).order_by(DOCUMENTS.c.changed.desc()).limit(1)
)


class DocumentTransaction:
    """The documents as one transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        """Wrap the connection of a running work."""
        self._connection = connection

    def get(self, kind: str, id: str) -> Record | None:
        """One document, or None."""
        body = self._connection.execute(_GET, {"k": kind, "i": id}).scalar_one_or_none()
        return None if body is None else orjson.loads(body)

    def put(self, kind: str, id: str, record: Record, *, parent: str = "", name: str = "") -> None:
        """Write one document whole, new or over the old one; it becomes the most recently changed of its kind."""
        changed = (self._connection.execute(_LAST, {"k": kind}).scalar_one_or_none() or 0) + 1
        body = orjson.dumps(record)
        values = {"k": kind, "i": id, "p": parent, "n": name, "c": changed, "b": body}
        if self._connection.execute(_UPDATE, values).rowcount == 0:
            row = {"kind": kind, "id": id, "parent": parent, "name": name, "changed": changed, "body": body}
            self._connection.execute(_INSERT, row)

    def delete(self, kind: str, id: str) -> bool:
        """Remove one document; False where there was none."""
        return self._connection.execute(_DELETE, {"k": kind, "i": id}).rowcount > 0

    def named(self, kind: str, name: str, *, parent: str = "") -> Record | None:
        """The document of that name under that parent, or None; the oldest where several share it."""
        query = select(DOCUMENTS.c.body).where(
            DOCUMENTS.c.kind == kind, DOCUMENTS.c.parent == parent, DOCUMENTS.c.name == name
        )
        body = self._connection.execute(query.order_by(DOCUMENTS.c.changed).limit(1)).scalar_one_or_none()
        return None if body is None else orjson.loads(body)

    def list(self, kind: str, *, parent: str = "") -> list[Record]:
        """All documents under that parent, most recently changed first."""
        query = select(DOCUMENTS.c.body).where(DOCUMENTS.c.kind == kind, DOCUMENTS.c.parent == parent)
        rows = self._connection.execute(query.order_by(DOCUMENTS.c.changed.desc())).scalars()
        return [orjson.loads(body) for body in rows]


class Documents:
    """The documents of one database."""

    def __init__(self, database: Database) -> None:
        """Keep documents in this database."""
        self._database = database

    async def read(self, work: Callable[[DocumentTransaction], T]) -> T:
        """What work returns, over a consistent view.

        Errors: whatever work raises.
        """
        return await self._database.read(lambda connection: work(DocumentTransaction(connection)))

    async def write(self, work: Callable[[DocumentTransaction], T]) -> T:
        """What work returns, once its changes are committed. It may be run twice; the first run leaves nothing.

        Errors: whatever work raises; nothing is changed then.
        """
        return await self._database.write(lambda connection: work(DocumentTransaction(connection)))
