"""Alembic's entry point: `storage.migrate` hands the connection over."""

from alembic import context

with context.begin_transaction():
    context.run_migrations()
