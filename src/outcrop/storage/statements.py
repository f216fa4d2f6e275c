"""Statements compiled once, for what every turn does: a fifth of the cost of `Connection.execute`.

A `Prepared` is written with SQLAlchemy like any other statement and compiled at its first use
for the database at hand. It runs on the driver itself, inside the transaction of the work it
is called from; values go in and come out as the driver has them: str, int, float, bytes, None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.util import await_only

Row = tuple[Any, ...]


class Prepared:
    """One statement with named values. Lists of values (`in_`) cannot be prepared."""

    __slots__ = ("_compiled", "_element", "_insert")

    def __init__(self, element: ClauseElement, insert: Sequence[str] | None = None) -> None:
        """Keep a statement; `insert` names the columns of an insert that lists none itself."""
        self._element = element
        self._insert = insert
        self._compiled: dict[str, tuple[str, list[str], dict[str, Any]]] = {}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """How many rows the statement changed."""
        text, given = self._filled(connection, values)
        if connection.dialect.is_async:
            # The driver answers with the command's tag: "UPDATE 3", "INSERT 0 1".
            tag: str = await_only(_driver(connection).execute(text, *given))
            return int(tag.rpartition(" ")[2])
        return _cursor(connection, text, given).rowcount

    def row(self, connection: Connection, values: Mapping[str, Any]) -> Row | None:
        """The first row, columns in the statement's order, or None."""
        text, given = self._filled(connection, values)
        if connection.dialect.is_async:
            found: Any = await_only(_driver(connection).fetchrow(text, *given))
            return None if found is None else tuple(found)
        return _cursor(connection, text, given).fetchone()

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[Row]:
        """All rows, columns in the statement's order."""
        text, given = self._filled(connection, values)
        if connection.dialect.is_async:
            return [tuple(found) for found in await_only(_driver(connection).fetch(text, *given))]
        return _cursor(connection, text, given).fetchall()

    def _filled(self, connection: Connection, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The statement's text for this database, and the values in its order."""
        dialect = connection.dialect
        found = self._compiled.get(dialect.name)
        if found is None:
            found = self._compiled[dialect.name] = self._compile(dialect)
        text, names, fixed = found
        return text, [values[name] if name in values else fixed[name] for name in names]

    def _compile(self, dialect: Any) -> tuple[str, list[str], dict[str, Any]]:
        options: dict[str, Any] = {} if self._insert is None else {"column_keys": list(self._insert)}
        compiled: Any = self._element.compile(dialect=dialect, **options)
        assert not compiled.post_compile_params, "no lists: their length is not known before the values are"
        fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        return str(compiled), list(compiled.positiontup or ()), fixed


class InsertOnce:
    """An insert of a whole row that does nothing where one of its key is there: several may come at once."""

    __slots__ = ("_by_dialect",)

    def __init__(self, table: Table) -> None:
        """Keep the statement for each database."""
        kinds = {"postgresql": postgresql.insert(table), "sqlite": sqlite.insert(table)}
        columns = table.columns.keys()
        self._by_dialect = {name: Prepared(kind.on_conflict_do_nothing(), columns) for name, kind in kinds.items()}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """How many rows were inserted: one or none."""
        return self._by_dialect[connection.dialect.name].run(connection, values)


def _cursor(connection: Connection, text: str, given: list[Any]) -> Any:
    cursor: Any = connection.connection.cursor()
    cursor.execute(text, given)
    return cursor


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
