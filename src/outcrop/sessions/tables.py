"""The tables of this room: turns, their steps, the definitions they run on, and who carries them.

Alembic's revisions make them; here they are as the statements see them. Whatever a later
release adds has a default, so that a release that does not know a column can go on writing.
"""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, Float, Index, Integer, LargeBinary, String, Table, literal_column

from outcrop.storage.database import METADATA

RUNNING: ColumnElement[str] = literal_column("'running'", String)
QUEUED: ColumnElement[str] = literal_column("'queued'", String)
"""Written into a statement as they are: with a value bound later, no database uses the index of those rows alone."""

TURNS = Table(
    "turns",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("session_key", String(512), nullable=False),
    Column("state", String(16), nullable=False),
    Column("definition", String(64), nullable=False),
    Column("opening", LargeBinary, nullable=False),
    Column("invocation_id", String(64), nullable=False, server_default=""),
    Column("ending", LargeBinary),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("format", Integer, nullable=False, server_default="1"),
    Column("holder", String(64), nullable=False, server_default=""),
    Column("lease", Integer, nullable=False, server_default="0"),
    Column("session_began", Float, nullable=False, server_default="0"),
    Column("base", Integer, nullable=False, server_default="-1"),
    Column("retry_key", String(128), nullable=False, server_default=""),
    Column("stop", String(16), nullable=False, server_default=""),
    Column("announced", Integer, nullable=False, server_default="-1"),
    Index("turns_by_session", "session_key"),
    sqlite_with_rowid=False,
)
"""`holder` is the worker that carries a running turn, "" where nobody does; `lease` counts the carriers so far.

`session_began` says of which of the sessions under one key it is, by their beginning; 0 where that is not known.
`base` is how many earlier turns the session's history held when it began, -1 in journals that did not say so;
`retry_key` the SDK's own id of the call that the turn answers; `stop` what it was asked to stop for;
`announced` how many of its events notification targets were told, -1 where none is to be told.
"""
Index(
    "turns_carried",
    TURNS.c.holder,
    sqlite_where=TURNS.c.state == "running",
    postgresql_where=TURNS.c.state == "running",
)
Index("turns_queued", TURNS.c.id, sqlite_where=TURNS.c.state == "queued", postgresql_where=TURNS.c.state == "queued")
Index("turns_to_announce", TURNS.c.id, sqlite_where=TURNS.c.announced >= 0, postgresql_where=TURNS.c.announced >= 0)
STEPS = Table(
    "steps",
    METADATA,
    Column("turn_id", String(64), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("branch", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("intent", LargeBinary, nullable=False),
    Column("outcome", LargeBinary),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    sqlite_with_rowid=False,
)
DEFINITIONS = Table(
    "definitions",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
WORKERS = Table(
    "workers",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("beats", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    sqlite_with_rowid=False,
)
"""Processes that carry turns. Whoever sees `beats` stand still for too long takes their turns over."""
