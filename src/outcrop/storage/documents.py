"""JSON documents by (kind, id): how agents, action groups, versions and aliases are kept.

A document is the dict an operation returns, plus nothing. `parent` and `name` are columns
only because lists and conflicts are asked by them.

    await documents.write(lambda docs: docs.put("agent", "ABCDEFGHIJ", record, name="AX123"))

Work runs in one transaction, alone among those that write documents, so "look, then write"
needs no further lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    func,
    insert,
    select,
    update,
)

from outcrop.storage.database import METADATA, Database, alone
from outcrop.storage.statements import Prepared

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
_CHILDREN = (DOCUMENTS.c.kind == bindparam("k")) & (DOCUMENTS.c.parent == bindparam("p"))
_SIBLINGS = DOCUMENTS.alias("siblings")
_NEXT = (
    select(func.coalesce(func.max(_SIBLINGS.c.changed), 0) + 1)
    .where(_SIBLINGS.c.kind == bindparam("k"), _SIBLINGS.c.parent == bindparam("p"))
    .scalar_subquery()
)
_WRITTEN: dict[str, Any] = {"parent": bindparam("p"), "name": bindparam("n"), "changed": _NEXT, "body": bindparam("b")}
_GET = Prepared(select(DOCUMENTS.c.body).where(_KEY))
_CHANGED = Prepared(select(DOCUMENTS.c.changed).where(_KEY))
_INSERT = insert(DOCUMENTS).values(kind=bindparam("k"), id=bindparam("i"), **_WRITTEN)
_UPDATE = update(DOCUMENTS).where(_KEY).values(**_WRITTEN)
_DELETE = delete(DOCUMENTS).where(_KEY)
_NAMED = (
    select(DOCUMENTS.c.body).where(_CHILDREN, DOCUMENTS.c.name == bindparam("n")).order_by(DOCUMENTS.c.changed).limit(1)
)
_LIST = select(DOCUMENTS.c.changed, DOCUMENTS.c.body).where(_CHILDREN).order_by(DOCUMENTS.c.changed.desc())
_OLDEST = select(DOCUMENTS.c.id, DOCUMENTS.c.body).where(_CHILDREN).order_by(DOCUMENTS.c.changed).limit(1)


class DocumentTransaction:
    """The documents as one transaction sees them."""

    def __init__(self, connection: Connection) -> None:
        """Wrap the connection of a running work."""
        self._connection = connection

    def get(self, kind: str, id: str) -> Record | None:
        """One document, or None."""
        row = _GET.row(self._connection, {"k": kind, "i": id})
        return None if row is None else orjson.loads(row[0])

    def changed(self, kind: str, id: str) -> int | None:
        """The number of one document's last change, or None; cheap, to know whether a copy is still good."""
        row = _CHANGED.row(self._connection, {"k": kind, "i": id})
        return None if row is None else row[0]

    def put(self, kind: str, id: str, record: Record, *, parent: str = "", name: str = "") -> None:
        """Write one document whole, new or over the old one; it becomes the last changed of its kind and parent."""
        values = {"k": kind, "i": id, "p": parent, "n": name, "b": orjson.dumps(record)}
        if self._connection.execute(_UPDATE, values).rowcount == 0:
            self._connection.execute(_INSERT, values)

    def delete(self, kind: str, id: str) -> bool:
        """Remove one document; False where there was none."""
        return self._connection.execute(_DELETE, {"k": kind, "i": id}).rowcount > 0

    def named(self, kind: str, name: str, *, parent: str = "") -> Record | None:
        """The document of that name under that parent, or None; the longest unchanged where several share it."""
        body = self._connection.execute(_NAMED, {"k": kind, "p": parent, "n": name}).scalar_one_or_none()
        return None if body is None else orjson.loads(body)

    def list(self, kind: str, *, parent: str = "") -> list[Record]:
        """All documents under that parent, most recently changed first."""
        return [record for _, record in self.numbered(kind, parent=parent)]

    def numbered(self, kind: str, *, parent: str = "") -> Sequence[tuple[int, Record]]:
        """The same as `list`, each with the number of its last change: from 1, growing, unique under its parent.

        A page that ends at one number continues below it, whatever was written in between.
        """
        rows = self._connection.execute(_LIST, {"k": kind, "p": parent})
        return [(changed, orjson.loads(body)) for changed, body in rows]

    def oldest(self, kind: str, *, parent: str = "") -> tuple[str, Record] | None:
        """The id and the document that has been unchanged the longest under that parent, or None."""
        row = self._connection.execute(_OLDEST, {"k": kind, "p": parent}).first()
        return None if row is None else (row[0], orjson.loads(row[1]))


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

        def by_itself(connection: Connection) -> T:
            alone(connection)
            return work(DocumentTransaction(connection))

        return await self._database.write(by_itself)
