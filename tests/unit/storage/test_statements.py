"""Prepared statements: written with SQLAlchemy, run by the driver, inside the work's transaction."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, bindparam, case, insert, select, update

from outcrop.storage.database import Database
from outcrop.storage.statements import Prepared

OWN = MetaData()
THINGS = Table(
    "things",
    OWN,
    Column("id", Integer, primary_key=True),
    Column("state", String),
    Column("body", LargeBinary),
)
NEW = Prepared(insert(THINGS), THINGS.columns.keys())
ALL = Prepared(select(THINGS.c.id, THINGS.c.state).order_by(THINGS.c.id))
BODY = Prepared(select(THINGS.c.body).where(THINGS.c.id == bindparam("i")))
CLOSE = Prepared(
    update(THINGS)
    .where(THINGS.c.id >= bindparam("least"), (THINGS.c.state == "new") | (THINGS.c.state == "old"))
    .values(state=case((THINGS.c.state == "new", "closed"), else_=bindparam("other")))
)


@pytest.fixture
def things(database: Database) -> Database:
    database.once(OWN.create_all)
    return database


async def test_values_go_in_by_name_and_come_out_in_order(things: Database) -> None:
    def fill(connection: object) -> None:
        for number, state in enumerate(["new", "old", "gone"]):
            NEW.run(connection, {"body": b"\x00\xff", "state": state, "id": number})

    await things.write(fill)
    assert await things.read(lambda c: ALL.rows(c, {})) == [(0, "new"), (1, "old"), (2, "gone")]
    assert await things.read(lambda c: BODY.row(c, {"i": 1})) == (b"\x00\xff",)
    assert await things.read(lambda c: BODY.row(c, {"i": 9})) is None

    assert await things.write(lambda c: CLOSE.run(c, {"least": 0, "other": "shut"})) == 2
    assert await things.read(lambda c: ALL.rows(c, {})) == [(0, "closed"), (1, "shut"), (2, "gone")]


async def test_a_work_that_fails_leaves_nothing_of_a_prepared_statement(things: Database) -> None:
    def fail(connection: object) -> None:
        NEW.run(connection, {"id": 1, "state": "new", "body": b""})
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await things.write(fail)
    assert await things.read(lambda c: ALL.rows(c, {})) == []


async def test_a_value_that_is_missing_is_named(things: Database) -> None:
    with pytest.raises(KeyError, match="i"):
        await things.read(lambda c: BODY.row(c, {}))
