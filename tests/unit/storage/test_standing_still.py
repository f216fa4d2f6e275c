"""A process that stands still in the middle of a transaction does not keep others from what it holds."""

from __future__ import annotations

from sqlalchemy import text

from outcrop.storage.postgresql import PostgresqlDatabase

LEASE_S = 5.0


async def test_postgresql_undoes_a_transaction_whose_process_stands_still(empty_postgresql_url: str) -> None:
    database = PostgresqlDatabase(empty_postgresql_url)
    asked = text("select setting::int from pg_settings where name = 'idle_in_transaction_session_timeout'")
    try:
        for transact in (database.read, database.write):
            allowed_ms = await transact(lambda connection: connection.execute(asked).scalar_one())
            assert 0 < allowed_ms < LEASE_S * 1000
    finally:
        await database.close()
