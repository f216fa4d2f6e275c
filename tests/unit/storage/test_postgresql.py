"""PostgreSQL's own: what is shared with other processes, what happens when it goes away, what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from postgresql import GUARDED, PostgreSQL
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from outcrop.config import ServerSettings
from outcrop.storage.database import METADATA, Database, Unavailable, Work, alone
from outcrop.storage.documents import Documents, DocumentTransaction
from outcrop.storage.opening import open_database
from outcrop.storage.postgresql import PostgresqlDatabase

Shared = Callable[..., PostgresqlDatabase]


@pytest.fixture
async def another(postgresql_url: str) -> AsyncIterator[Shared]:
    """One more process's view of the same database, each time it is called."""
    opened: list[PostgresqlDatabase] = []

    def view(**options: object) -> PostgresqlDatabase:
        opened.append(PostgresqlDatabase(postgresql_url, **options))
        return opened[-1]

    yield view
    for database in opened:
        await database.close()


@pytest.fixture
def shared(another: Shared) -> PostgresqlDatabase:
    return another()


@pytest.fixture(scope="module")
def _mortal() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture
async def mortal(_mortal: PostgreSQL) -> AsyncIterator[tuple[PostgreSQL, PostgresqlDatabase]]:
    """A server that may be killed, and a database on it with a table `kept` of numbers."""
    _mortal.stop()
    _mortal.start()
    database = PostgresqlDatabase(_mortal.database(), patience_s=0.5)
    database.once(lambda c: c.execute(text("create table kept (n integer primary key)")))
    yield _mortal, database
    await database.close()


def _keep(number: int) -> Work[None]:
    return lambda c: _run(c, f"insert into kept values ({number})")


def _kept(connection: Connection) -> list[int]:
    return list(connection.execute(text("select n from kept order by n")).scalars())


def _run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _own_process(connection: Connection) -> int:
    return connection.execute(text("select pg_backend_pid()")).scalar_one()


def _document(id: str) -> Work[None]:
    return lambda c: DocumentTransaction(c).put("k", id, {})


# What others do at the same time -----------------------------------------------------------------


def test_only_postgresql_is_shared(empty: Database) -> None:
    assert empty.is_shared == isinstance(empty, PostgresqlDatabase)


async def test_what_gathers_shares_transactions_and_connections(shared: PostgresqlDatabase) -> None:
    async def transaction_and_process() -> tuple[int, int]:
        query = text("select pg_current_xact_id()::text::bigint, pg_backend_pid()")
        return await shared.write(lambda c: tuple(c.execute(query).one()))

    answers = await asyncio.gather(*(transaction_and_process() for _ in range(200)))
    assert 2 <= len({transaction for transaction, _ in answers}) <= 40
    assert 2 <= len({process for _, process in answers}) <= 6


async def test_what_one_process_has_written_the_next_one_reads(another: Shared) -> None:
    here, there = another(), another()
    for number in range(20):
        await here.write(_document(str(number)))
        assert await there.read(lambda c: len(DocumentTransaction(c).list("k"))) == number + 1


async def test_one_read_sees_one_state_while_others_write(
    shared: PostgresqlDatabase, postgresql: PostgreSQL, postgresql_url: str
) -> None:
    def twice(connection: Connection) -> tuple[int, int]:
        before = len(DocumentTransaction(connection).list("k"))
        postgresql.execute("insert into documents values ('k', 'x', '', '', 1, '{}')", _name(postgresql_url))
        return before, len(DocumentTransaction(connection).list("k"))

    assert await shared.read(twice) == (0, 0)
    assert await shared.read(lambda c: len(DocumentTransaction(c).list("k"))) == 1


async def test_a_read_cannot_write(shared: PostgresqlDatabase) -> None:
    with pytest.raises(DBAPIError, match="read-only"):
        await shared.read(_document("x"))


async def test_looking_and_then_writing_documents_is_alone_among_all_processes(another: Shared) -> None:
    def count(docs: DocumentTransaction) -> None:
        found = docs.get("k", "counter") or {"n": 0}
        docs.put("k", "counter", {"n": found["n"] + 1})

    processes = [Documents(another()) for _ in range(3)]
    await asyncio.gather(*(documents.write(count) for documents in processes for _ in range(40)))
    assert await processes[0].read(lambda docs: docs.get("k", "counter")) == {"n": 120}


async def test_who_is_alone_keeps_those_out_who_want_to_be_alone_for_the_same_reason(
    shared: PostgresqlDatabase, postgresql: PostgreSQL, postgresql_url: str
) -> None:
    def others(_connection: object = None) -> list[tuple[object, ...]]:
        return postgresql.execute(
            "select pg_try_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)", _name(postgresql_url)
        )

    assert await shared.write(lambda c: others(alone(c, 1))) == [(False, True)]
    assert others() == [(True, True)]


# What fails -----------------------------------------------------------------------------------------


async def test_a_broken_rule_reaches_its_caller_as_it_is(shared: PostgresqlDatabase) -> None:
    twice = "insert into definitions values ('d', ''), ('d', '')"
    with pytest.raises(IntegrityError, match="definitions_pkey"):
        await shared.write(lambda c: _run(c, twice))


async def test_a_work_that_goes_on_after_a_failed_statement_is_told_that_nothing_was_kept(
    shared: PostgresqlDatabase,
) -> None:
    def careless(connection: Connection) -> str:
        _document("x")(connection)
        with pytest.raises(IntegrityError):
            _run(connection, "insert into definitions values ('d', null)")
        return "fine"

    with pytest.raises(RuntimeError, match="after one of its statements had failed"):
        await shared.write(careless)
    assert await shared.read(lambda c: DocumentTransaction(c).list("k")) == []


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
async def test_a_work_that_others_got_in_the_way_of_is_run_again(shared: PostgresqlDatabase, state: str) -> None:
    runs: list[int] = []

    def unlucky(connection: Connection) -> str:
        runs.append(len(runs))
        if len(runs) < 4:
            _run(connection, f"do $$ begin raise sqlstate '{state}'; end $$")
        return "done"

    assert await shared.write(unlucky) == "done"
    assert len(runs) == 4


async def test_two_works_that_wait_for_each_other_both_come_through(another: Shared) -> None:
    here, there = another(), another()
    await here.write(lambda c: (_document("a")(c), _document("b")(c)))
    both = asyncio.Barrier(2)

    async def change(database: PostgresqlDatabase, first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            _document(first)(connection)
            _run(connection, f"select pg_advisory_xact_lock_shared({ord(first)})")
            _until_both_hold(connection)
            _document(second)(connection)

        await both.wait()
        await database.write(work)

    await asyncio.gather(change(here, "a", "b"), change(there, "b", "a"))
    assert await here.read(lambda c: DocumentTransaction(c).changed("k", "a")) is not None


def _until_both_hold(connection: Connection) -> None:
    """Look until the other one has its first document too, or has given up or ended."""
    held = text("select count(*) from pg_locks where locktype = 'advisory' and mode = 'ShareLock'")
    for _ in range(500):
        if connection.execute(held).scalar_one() == 2:
            return


async def test_the_disk_being_full_is_no_fault_of_the_work(shared: PostgresqlDatabase) -> None:
    with pytest.raises(Unavailable, match="was lost"):
        await shared.write(lambda c: _run(c, "do $$ begin raise sqlstate '53100'; end $$"))


async def test_a_server_that_only_reads_by_now_is_not_available_for_writing(shared: PostgresqlDatabase) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        await shared.write(lambda c: (_run(c, "set transaction read only"), _document("x")(c)))


async def test_it_belongs_to_one_event_loop(shared: PostgresqlDatabase) -> None:
    await shared.read(_own_process)
    with pytest.raises(RuntimeError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, shared.read(_own_process))


# What is lost, and what comes back -----------------------------------------------------------------


async def test_a_connection_cut_while_idle_is_made_anew_and_nobody_notices(
    shared: PostgresqlDatabase, postgresql: PostgreSQL
) -> None:
    process = await shared.write(_own_process)
    postgresql.execute(f"select pg_terminate_backend({process}, 5000)")
    assert await shared.write(_own_process) != process


@pytest.mark.parametrize("verb", ["write", "read"])
async def test_a_transaction_cut_before_its_commit_is_run_again(
    shared: PostgresqlDatabase, postgresql: PostgreSQL, verb: str
) -> None:
    cut: list[int] = []

    def work(connection: Connection) -> str:
        process = _own_process(connection)
        if not cut:
            postgresql.execute(f"select pg_terminate_backend({process}, 5000)")
            cut.append(process)
        return "done" if _own_process(connection) not in cut else "on the connection that was cut"

    neighbours = [getattr(shared, verb)(_own_process) for _ in range(3)]
    answers = await asyncio.gather(getattr(shared, verb)(work), *neighbours)
    assert answers[0] == "done"


async def test_of_a_commit_that_was_cut_nobody_knows(shared: PostgresqlDatabase) -> None:
    def prepare(connection: Connection) -> None:
        for statement in (
            "create function cut() returns trigger language plpgsql as"
            " 'begin perform pg_terminate_backend(pg_backend_pid()); return null; end'",
            "create constraint trigger at_commit after insert on definitions deferrable initially deferred"
            " for each row execute function cut()",
        ):
            _run(connection, statement)

    await shared.write(prepare)
    with pytest.raises(Unavailable, match=r"lost while it committed: .*terminating connection"):
        await shared.write(lambda c: _run(c, "insert into definitions values ('d', '')"))
    await shared.write(_document("next"))


async def test_a_killed_server_is_told_at_once_and_found_again(mortal: tuple[PostgreSQL, PostgresqlDatabase]) -> None:
    server, database = mortal
    await asyncio.gather(*(database.write(_keep(number)) for number in range(50)))

    await asyncio.to_thread(server.kill)
    calls = [*(database.write(_keep(number)) for number in range(50, 90)), *(database.read(_kept) for _ in range(20))]
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in told} == {Unavailable}
    assert "cannot be reached" in str(told[0])

    await asyncio.to_thread(server.start)
    await database.write(_keep(100))
    assert await database.read(_kept) == [*range(50), 100]


async def test_killed_under_load_it_keeps_what_it_said_it_kept(mortal: tuple[PostgreSQL, PostgresqlDatabase]) -> None:
    server, database = mortal
    said: list[int] = []
    lost: list[int] = []

    async def keep(numbers: range) -> None:
        for number in numbers:
            try:
                await database.write(_keep(number))
                said.append(number)
            except Unavailable:
                lost.append(number)
                return

    writers = asyncio.gather(*(keep(range(start, start + 10_000)) for start in range(0, 160_000, 10_000)))
    while len(said) < 500:
        await database.read(_own_process)
    await asyncio.to_thread(server.kill)
    await writers
    await asyncio.to_thread(server.start)

    kept = set(await database.read(_kept))
    assert set(said) <= kept
    assert kept - set(said) <= set(lost)
    assert len(lost) == 16


async def test_a_server_that_does_not_answer_counts_as_lost(mortal: tuple[PostgreSQL, PostgresqlDatabase]) -> None:
    server, database = mortal
    await database.write(_keep(1))
    server.pause()
    try:
        with pytest.raises(Unavailable, match="does not answer"):
            await database.write(_keep(2))
    finally:
        server.resume()
    await database.write(_keep(3))
    assert await database.read(_kept) == [1, 3]


async def test_closing_does_not_wait_for_a_server_that_is_gone(mortal: tuple[PostgreSQL, PostgresqlDatabase]) -> None:
    server, database = mortal
    await database.write(_keep(1))
    await asyncio.to_thread(server.kill)
    pending = asyncio.ensure_future(database.write(_keep(2)))
    await asyncio.sleep(0)
    await database.close()
    with pytest.raises(Unavailable):
        await pending


# What the settings say -----------------------------------------------------------------------------


@pytest.mark.parametrize(("synchronous", "told"), [("auto", "on"), ("full", "on"), ("normal", "off")])
async def test_a_commit_waits_for_the_disk_unless_told_not_to(postgresql_url: str, synchronous: str, told: str) -> None:
    settings = ServerSettings(database=postgresql_url, synchronous=synchronous)
    database = await asyncio.to_thread(open_database, settings)
    assert await database.write(lambda c: c.execute(text("show synchronous_commit")).scalar_one()) == told
    await database.close()


async def test_a_database_opened_by_its_settings_has_its_tables(empty_postgresql_url: str, tmp_path: Path) -> None:
    url = empty_postgresql_url.replace("postgresql:", "postgresql+asyncpg:")
    database = open_database(ServerSettings(database=url, data_dir=str(tmp_path / "none"), database_connections=2))
    for table in METADATA.sorted_tables:
        await database.read(lambda c, table=table: c.execute(table.select()).all())
    await database.close()
    assert list(tmp_path.iterdir()) == []


def test_a_password_opens_the_database(postgresql: PostgreSQL) -> None:
    url = postgresql.database(user=GUARDED)
    database = PostgresqlDatabase(url)
    assert database.once(lambda c: c.execute(text("select current_user")).scalar_one()) == GUARDED
    postgresql.drop(url)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("s3cret", "wr0ng"),
            r'database \w+ on \S+ cannot be reached: password .* failed for user "guarded"',
        ),
        (
            ("/database", "/missing"),
            r"database missing\w+ on \S+ cannot be reached: .* does not exist",
        ),
        (("?host=", "?host=/missing"), r"database \w+ on /missing\S+ cannot be reached: No such file"),
        (("@/", "@127.0.0.1:1/"), r"database \w+ on 127.0.0.1:1 cannot be reached: .*Connect"),
    ],
)
def test_a_database_that_cannot_be_reached_fails_the_start_without_giving_its_password_away(
    postgresql: PostgreSQL, change: tuple[str, str], told: str
) -> None:
    url = postgresql.database(user=GUARDED)
    wrong = url.replace(*change)
    if ":1/" in wrong:
        wrong = wrong.partition("?")[0]
    with pytest.raises(Unavailable, match=f"^{told}") as raised:
        open_database(ServerSettings(database=wrong))
    assert "s3cret" not in str(raised.value)
    assert "wr0ng" not in str(raised.value)
    postgresql.drop(url)
