"""Turns that any of several workers may carry: leases, workers, what a session and an agent have spent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns with defaults, so that the release before can go on writing, and two tables."""
    for column in (
        sa.Column("format", sa.Integer, nullable=False, server_default="1"),
        sa.Column("holder", sa.String(64), nullable=False, server_default=""),
        sa.Column("lease", sa.Integer, nullable=False, server_default="0"),
        sa.Column("session_began", sa.Float, nullable=False, server_default="0"),
        sa.Column("base", sa.Integer, nullable=False, server_default="-1"),
        sa.Column("retry_key", sa.String(128), nullable=False, server_default=""),
        sa.Column("stop", sa.String(16), nullable=False, server_default=""),
        sa.Column("announced", sa.Integer, nullable=False, server_default="-1"),
    ):
        op.add_column("turns", column)
    running, told = sa.text("state = 'running'"), sa.text("announced >= 0")
    op.create_index("turns_carried", "turns", ["holder"], sqlite_where=running, postgresql_where=running)
    queued = sa.text("state = 'queued'")
    op.create_index("turns_queued", "turns", ["id"], sqlite_where=queued, postgresql_where=queued)
    op.create_index("turns_to_announce", "turns", ["id"], sqlite_where=told, postgresql_where=told)
    op.create_table(
        "workers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("beats", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "spend",
        sa.Column("scope", sa.String(512), primary_key=True),
        sa.Column("period", sa.String(16), primary_key=True),
        sa.Column("shard", sa.String(8), primary_key=True, server_default=""),
        sa.Column("tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("microusd", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("steps", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("milliseconds", sa.BigInteger, nullable=False, server_default="0"),
        sqlite_with_rowid=False,
    )
