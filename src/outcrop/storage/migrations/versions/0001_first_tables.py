"""The first tables: documents, sessions with their history, and the journal of turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "documents",
        sa.Column("kind", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(512), primary_key=True),
        sa.Column("parent", sa.String(512), nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("changed", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("documents_by_parent", "documents", ["kind", "parent", "changed"])
    op.create_index("documents_by_name", "documents", ["kind", "parent", "name"])
    op.create_table(
        "sessions",
        sa.Column("key", sa.String(512), primary_key=True),
        sa.Column("attributes", sa.LargeBinary, nullable=False),
        sa.Column("seed", sa.LargeBinary, nullable=False),
        sa.Column("open_turn", sa.String(64), nullable=False),
        sa.Column("idle_ttl_s", sa.Integer, nullable=False),
        sa.Column("last_used_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "history",
        sa.Column("session_key", sa.String(512), primary_key=True),
        sa.Column("turn", sa.Integer, primary_key=True),
        sa.Column("messages", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "turns",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("session_key", sa.String(512), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("definition", sa.String(64), nullable=False),
        sa.Column("opening", sa.LargeBinary, nullable=False),
        sa.Column("invocation_id", sa.String(64), nullable=False),
        sa.Column("ending", sa.LargeBinary),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("finished_at", sa.Float),
        sqlite_with_rowid=False,
    )
    op.create_index("turns_by_session", "turns", ["session_key"])
    op.create_table(
        "steps",
        sa.Column("turn_id", sa.String(64), primary_key=True),
        sa.Column("ordinal", sa.Integer, primary_key=True),
        sa.Column("branch", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("intent", sa.LargeBinary, nullable=False),
        sa.Column("outcome", sa.LargeBinary),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("finished_at", sa.Float),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "definitions",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
