"""Alembic's entry point: `storage.migrate` hands the connection over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
