"""Migrations: what they make is what the code declares, they run once, and a newer database is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from postgresql import PostgreSQL
from sqlalchemy import inspect, text

import outcrop.sessions.state
import outcrop.storage.documents
from outcrop.storage import migrate
from outcrop.storage.database import METADATA, Database, place
from outcrop.storage.postgresql import PostgresqlDatabase
from outcrop.storage.sqlite import SqliteDatabase


def test_the_tables_are_those_that_the_code_declares(empty: Database) -> None:
    migrate.migrate(empty)

    assert empty.once(lambda c: compare_metadata(MigrationContext.configure(c), METADATA)) == []
    declared = {outcrop.sessions.state.SESSIONS.name, outcrop.storage.documents.DOCUMENTS.name}
    assert declared <= set(METADATA.tables)
    assert empty.once(lambda c: set(inspect(c).get_table_names())) == migrate.TABLES | {"alembic_version"}


def test_the_newest_revision_is_the_one_that_is_recognised() -> None:
    numbers = sorted(path.name.partition("_")[0] for path in migrate.REVISIONS.glob("*.py"))
    assert numbers[-1] == migrate.HEAD


def test_a_current_database_is_left_alone_and_keeps_its_rows(empty: Database) -> None:
    migrate.migrate(empty)
    empty.once(lambda c: c.execute(text("insert into definitions (digest, body) values ('d', '')")))

    migrate.migrate(empty)

    assert empty.once(lambda c: c.execute(text("select count(*) from definitions")).scalar_one()) == 1


def test_a_database_of_a_newer_release_is_refused(empty: Database) -> None:
    migrate.migrate(empty)
    empty.once(lambda c: c.execute(text("update alembic_version set version_num = '9999'")))

    with pytest.raises(migrate.DatabaseTooNew, match="9999"):
        migrate.migrate(empty)


@pytest.mark.parametrize(
    "statements",
    [
        ["create table turns (id integer)"],
        [
            "create table alembic_version (version_num varchar(32))",
            "insert into alembic_version values ('3f2a9c1d77e0')",
        ],
        ["create table alembic_version (version_num varchar(32))", "insert into alembic_version values ('0001')"],
    ],
)
def test_a_database_of_another_application_is_left_to_it(empty: Database, statements: list[str]) -> None:
    for statement in statements:
        empty.once(lambda c, statement=statement: c.execute(text(statement)))
    before = empty.once(lambda c: inspect(c).get_table_names())

    with pytest.raises(migrate.DatabaseUnusable) as raised:
        migrate.migrate(empty)

    assert str(raised.value).startswith("database ")
    assert str(raised.value).endswith(": it holds tables of another application; name an empty database")
    if ":memory:" not in empty.url:  # which is gone once it was refused
        assert empty.once(lambda c: inspect(c).get_table_names()) == before


def test_tables_of_others_by_other_names_do_no_harm(empty: Database) -> None:
    empty.once(lambda c: c.execute(text("create table orders (id integer)")))
    migrate.migrate(empty)
    migrate.migrate(empty)
    assert "orders" in empty.once(lambda c: inspect(c).get_table_names())


@pytest.mark.parametrize(
    ("may", "told"),
    [
        ("grant select on all tables in schema public to reader", "permission denied for table definitions"),
        ("grant all on all tables in schema public to reader; revoke update on workers from reader", "table workers"),
        ("select 1", "permission denied for table alembic_version"),
    ],
)
@pytest.mark.parametrize("verb", ["serve", "worker"])
def test_a_user_who_may_only_read_is_told_so_in_one_line(
    postgresql: PostgreSQL, empty_postgresql_url: str, tmp_path: Path, may: str, told: str, verb: str
) -> None:
    migrate.migrate(PostgresqlDatabase(empty_postgresql_url))
    name = place(empty_postgresql_url).removeprefix("database ").partition(" ")[0]
    role = f"reader_{name}"
    for statement in (f"create role {role} login", *may.replace("reader", role).split(";")):
        postgresql.execute(statement, name)
    url = empty_postgresql_url.replace("//postgres@", f"//{role}@")
    command = [sys.executable, "-m", "outcrop.cli.main", verb, "--database", url]
    command += ["--port", "0"] if verb == "serve" else []

    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert ran.returncode == 2
    assert ran.stderr.startswith(f"outcrop: {place(empty_postgresql_url)}: ")
    assert told in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["serve", "worker"])
def test_what_refuses_a_start_later_on_is_one_line_as_well(
    postgresql: PostgreSQL, empty_postgresql_url: str, tmp_path: Path, verb: str
) -> None:
    migrate.migrate(PostgresqlDatabase(empty_postgresql_url))
    name = place(empty_postgresql_url).removeprefix("database ").partition(" ")[0]
    postgresql.execute(f"create role jobless_{name} login", name)
    postgresql.execute(f"grant all on all tables in schema public to jobless_{name}", name)
    url = empty_postgresql_url.replace("//postgres@", f"//jobless_{name}@")
    command = [sys.executable, "-m", "outcrop.cli.main", verb, "--database", url]
    command += ["--port", "0"] if verb == "serve" else []

    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"outcrop: the jobs database: permission denied for database {name}\n"


def test_processes_that_start_at_once_on_an_empty_database_all_find_its_tables(empty_postgresql_url: str) -> None:
    code = (
        "import sys; from outcrop.storage.postgresql import PostgresqlDatabase; "
        "from outcrop.storage.migrate import migrate; sys.stdin.read(); migrate(PostgresqlDatabase(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, empty_postgresql_url]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()

    said = []
    for process in processes:
        assert process.stderr is not None
        said.append(process.stderr.read())
        process.stderr.close()
    assert [(process.wait(), words) for process, words in zip(processes, said, strict=True)] == [(0, "")] * 3


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda content: b"no database at all " * 500, "file is not a database"),
        (lambda content: content[:100] + b"\xff" * (len(content) - 100), "malformed"),
        (lambda content: content[:4096], "malformed"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes], told: str) -> None:
    file = tmp_path / "outcrop.db"
    fresh = SqliteDatabase(f"sqlite:///{file}")
    migrate.migrate(fresh)
    fresh.engine.dispose()
    file.write_bytes(spoil(file.read_bytes()))

    with pytest.raises(migrate.DatabaseUnusable) as raised:
        migrate.migrate(SqliteDatabase(f"sqlite:///{file}"))

    assert str(raised.value).startswith(f"database {file}: ")
    assert told in str(raised.value)


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(migrate.DatabaseUnusable, match=f"database {tmp_path}: unable to open database file"):
        migrate.migrate(SqliteDatabase(f"sqlite:///{tmp_path}"))


def test_the_command_says_in_one_line_that_the_database_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "outcrop.db").write_bytes(b"no database at all " * 500)
    command = [sys.executable, "-m", "outcrop.cli.main", "serve", "--port", "0", "--data-dir", str(tmp_path)]

    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert ran.returncode == 2
    assert ran.stderr == f"outcrop: database {tmp_path / 'outcrop.db'}: file is not a database\n"


def test_a_start_on_a_current_database_does_not_import_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from outcrop.storage.sqlite import SqliteDatabase; from outcrop.storage.migrate import migrate; "
        f"migrate(SqliteDatabase('sqlite:///{tmp_path / 'outcrop.db'}')); print('alembic' in sys.modules)"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "12"
    ]
    assert said == ["True\n", "False\n"]
