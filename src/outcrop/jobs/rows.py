"""The rows of jobs, and what is done to them by statement; each function works on one connection.

    workflow_status     DBOS's own: one row per job, whose id is "kind:key"
    outcrop_workers     who may hold jobs: a counter that each raises while it lives
    outcrop_sweeps      when each sweep was last begun

DBOS makes and migrates its table, queues, delays and claims; the outcome of an attempt is written here, because only
so can a failed one wait without holding a place. Every such write asks for the token that the claim wrote.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import JSONB, insert

from outcrop.jobs.base import JobStatus, Place, State

SCHEMA = "dbos"
"""Where it all lives on PostgreSQL; SQLite has a file of its own instead."""

APPLICATION = "outcrop"
GONE = -1
"""Beats of a worker that holds jobs and has no row."""

_LONGEST_MESSAGE = 500
_OWN = sa.MetaData(schema=SCHEMA)
_FOREIGN = sa.MetaData(schema=SCHEMA)
_LOCK = 0x6F757463726F70
"""Of the PostgreSQL advisory lock under which our two tables are made."""

WORKERS = sa.Table(
    "outcrop_workers", _OWN, sa.Column("id", sa.Text, primary_key=True), sa.Column("beats", sa.BigInteger)
)
SWEEPS = sa.Table("outcrop_sweeps", _OWN, sa.Column("name", sa.Text, primary_key=True), sa.Column("begun", sa.Float))
JOBS = sa.Table(
    "workflow_status",
    _FOREIGN,
    sa.Column("workflow_uuid", sa.Text, primary_key=True),
    sa.Column("status", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("authenticated_user", sa.Text),
    sa.Column("executor_id", sa.Text),
    sa.Column("created_at", sa.BigInteger),
    sa.Column("updated_at", sa.BigInteger),
    sa.Column("recovery_attempts", sa.BigInteger),
    sa.Column("queue_name", sa.Text),
    sa.Column("started_at_epoch_ms", sa.BigInteger),
    sa.Column("owner_xid", sa.Text),
    sa.Column("delay_until_epoch_ms", sa.BigInteger),
    sa.Column("completed_at", sa.BigInteger),
    sa.Column("attributes", sa.JSON().with_variant(JSONB(), "postgresql")),
    sa.Column("application_name", sa.Text),
)
INPUTS = sa.Table(
    "workflow_input", _FOREIGN, sa.Column("workflow_uuid", sa.Text, primary_key=True), sa.Column("inputs", sa.Text)
)
_OUTPUTS = sa.Table("workflow_output", _FOREIGN, sa.Column("workflow_uuid", sa.Text, primary_key=True))

_WHOLE = sa.select(JOBS, INPUTS.c.inputs).outerjoin(INPUTS, INPUTS.c.workflow_uuid == JOBS.c.workflow_uuid)

_STATES: dict[str, State] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "done",
    "CANCELLED": "cancelled",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "dead",
    "ERROR": "dead",
}
_DEAD = tuple(status for status, state in _STATES.items() if state == "dead")


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds: the claim's token, and the attempts that have failed so far."""

    owner: str
    failed: int


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed; wait_s is None after the last one."""

    failed: int
    error: BaseException
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one beat saw.

    Shapes: others maps each other worker to its beats, GONE for one that holds jobs without a row; mine maps the ids
            of the jobs this worker holds to the claims' tokens.
    """

    others: dict[str, int]
    mine: dict[str, str]


def job_id(kind: str, key: str) -> str:
    """The row's id; a kind has no colon."""
    return f"{kind}:{key}"


def make_tables(connection: Connection) -> None:
    """Make our own tables where they are missing."""
    if connection.dialect.name == "postgresql":
        # "if not exists" is no guard against another process that makes them at the same moment.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if not sa.inspect(connection).has_schema(SCHEMA):
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    _OWN.create_all(connection)


def exists(connection: Connection) -> bool:
    """Whether there have ever been jobs in this database."""
    schema = SCHEMA if connection.dialect.name == "postgresql" else None
    # The last table of those that are read here: DBOS may be making them at this moment.
    return sa.inspect(connection).has_table(_OUTPUTS.name, schema)


def unfinished(connection: Connection, kinds: Iterable[str]) -> bool:
    """Whether any job of these kinds is not at its end."""
    wanted = (
        sa.select(sa.literal(1)).where(_is("ENQUEUED", "DELAYED", "PENDING"), JOBS.c.name.in_(list(kinds))).limit(1)
    )
    return connection.execute(wanted).first() is not None


def claimed(connection: Connection, job: str, worker: str) -> Claim | None:
    """The claim under which a worker holds a job; None where it does not."""
    row = connection.execute(
        sa.select(JOBS.c.owner_xid, JOBS.c.attributes).where(
            JOBS.c.workflow_uuid == job, _is("PENDING"), JOBS.c.executor_id == worker
        )
    ).first()
    return Claim(row.owner_xid, _failed(row.attributes)) if row is not None else None


def finish(connection: Connection, job: str, owner: str) -> bool:
    """Note that a job is done; False where the claim is no longer the job's."""
    now = _now_ms()
    return _settle(connection, job, owner, {"status": "SUCCESS", "updated_at": now, "completed_at": now})


def fail(connection: Connection, job: str, owner: str, failure: Failure) -> bool:
    """Note a failed attempt: the job waits in the queue, or is dead; False where the claim is no longer the job's."""
    now = _now_ms()
    message = str(failure.error).replace("\0", "")[:_LONGEST_MESSAGE]
    told = {"failed": failure.failed, "class": type(failure.error).__name__, "message": message}
    told |= {"last": failure.wait_s is None}
    values: dict[str, Any] = {"attributes": told, "updated_at": now, "started_at_epoch_ms": None}
    if failure.wait_s is None:
        values |= {"status": "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "queue_name": None, "completed_at": now}
    else:
        # DBOS counts the claims of a job to give up one that kills its workers; a failed attempt did not.
        values |= {"status": "DELAYED", "delay_until_epoch_ms": now + int(failure.wait_s * 1000)}
        values |= {"recovery_attempts": 0}
    return _settle(connection, job, owner, values)


def _settle(connection: Connection, job: str, owner: str, values: dict[str, Any]) -> bool:
    held = (JOBS.c.workflow_uuid == job) & _is("PENDING") & (JOBS.c.owner_xid == owner)
    return connection.execute(sa.update(JOBS).where(held).values(owner_xid=None, **values)).rowcount > 0


def cancel(connection: Connection, job: str) -> bool:
    """Whether a job was not at its end, and is cancelled now."""
    now = _now_ms()
    open_ = (JOBS.c.workflow_uuid == job) & _is("ENQUEUED", "DELAYED", "PENDING")
    values = {"status": "CANCELLED", "queue_name": None, "owner_xid": None, "started_at_epoch_ms": None}
    values |= {"updated_at": now, "completed_at": now}
    return connection.execute(sa.update(JOBS).where(open_).values(values)).rowcount > 0


def redrive(connection: Connection, job: str, kind: str) -> bool:
    """Whether a job was dead or cancelled, and is queued again as if it had never been tried."""
    over = (JOBS.c.workflow_uuid == job) & _is(*_DEAD, "CANCELLED")
    values = {"status": "ENQUEUED", "queue_name": kind, "owner_xid": None, "started_at_epoch_ms": None}
    values |= {"recovery_attempts": 0, "attributes": sa.null(), "updated_at": _now_ms(), "completed_at": None}
    return connection.execute(sa.update(JOBS).where(over).values(values)).rowcount > 0


def find(connection: Connection, job: str) -> JobStatus | None:
    """What has become of a job; None where there is no such row."""
    row = connection.execute(_WHOLE.where(JOBS.c.workflow_uuid == job)).first()
    return _status(row) if row is not None else None


def dead(connection: Connection, kind: str, limit: int) -> list[JobStatus]:
    """The dead jobs of a kind, the latest first."""
    wanted = _WHOLE.where(_is(*_DEAD), JOBS.c.name == kind)
    return [_status(row) for row in connection.execute(wanted.order_by(JOBS.c.updated_at.desc()).limit(limit))]


def listed(
    connection: Connection, kind: str, tenant: str, states: Collection[State], after: Place | None, limit: int
) -> list[JobStatus]:
    """The jobs of a kind and a tenant, the latest submitted first."""
    wanted = _WHOLE.where(JOBS.c.name == kind, JOBS.c.authenticated_user == tenant)
    if states:
        wanted = wanted.where(_is(*(status for status, state in _STATES.items() if state in states)))
    if after is not None:
        at = round(after.submitted_at * 1000)
        beside = (JOBS.c.created_at == at) & (JOBS.c.workflow_uuid < job_id(kind, after.key))
        wanted = wanted.where((JOBS.c.created_at < at) | beside)
    wanted = wanted.order_by(JOBS.c.created_at.desc(), JOBS.c.workflow_uuid.desc()).limit(limit)
    return [_status(row) for row in connection.execute(wanted)]


def drop(connection: Connection, kind: str, tenant: str) -> list[str]:
    """Cancel all jobs of a kind and a tenant that are not done, the dead too, so that they are forgotten in time."""
    now = _now_ms()
    theirs = (JOBS.c.name == kind) & (JOBS.c.authenticated_user == tenant)
    which = theirs & _is("ENQUEUED", "DELAYED", "PENDING", *_DEAD)
    values = {"status": "CANCELLED", "queue_name": None, "owner_xid": None, "started_at_epoch_ms": None}
    values |= {"updated_at": now, "completed_at": now}
    dropped = sa.update(JOBS).where(which).values(values).returning(JOBS.c.workflow_uuid)
    return list(connection.execute(dropped).scalars().all())


def beat(connection: Connection, worker: str) -> Seen:
    """Raise a worker's counter, in a row made anew where somebody took it for dead; then look around."""
    mine = WORKERS.c.id == worker
    if not connection.execute(sa.update(WORKERS).where(mine).values(beats=WORKERS.c.beats + 1)).rowcount:
        connection.execute(sa.insert(WORKERS).values(id=worker, beats=0))
    others = {row.id: row.beats for row in connection.execute(sa.select(WORKERS).where(~mine))}
    held: dict[str, str] = {}
    running = sa.select(JOBS.c.workflow_uuid, JOBS.c.executor_id, JOBS.c.owner_xid).where(_running())
    for row in connection.execute(running):
        if row.executor_id == worker:
            held[row.workflow_uuid] = row.owner_xid
        else:
            others.setdefault(row.executor_id, GONE)
    return Seen(others, held)


def take_over(connection: Connection, worker: str, beats: int) -> int:
    """Queue the jobs of a worker taken for dead, and say how many; none where it has beaten since."""
    known = sa.select(WORKERS.c.beats).where(WORKERS.c.id == worker)
    if beats == GONE:
        if connection.execute(known).first() is not None:
            return 0
    elif not connection.execute(sa.delete(WORKERS).where(WORKERS.c.id == worker, WORKERS.c.beats == beats)).rowcount:
        return 0
    return _queue_again(connection, _running() & (JOBS.c.executor_id == worker))


def take_back(connection: Connection, worker: str, claims: dict[str, str]) -> int:
    """Queue jobs that a worker claimed and does not run, and say how many."""
    owners = list(claims.values())
    return _queue_again(connection, _running() & (JOBS.c.executor_id == worker) & JOBS.c.owner_xid.in_(owners))


def leave(connection: Connection, worker: str) -> None:
    """Queue what a stopping worker still holds, without counting it as a death, and remove its row."""
    ours = _running() & (JOBS.c.executor_id == worker)
    _queue_again(connection, ours, recovery_attempts=JOBS.c.recovery_attempts - 1)
    connection.execute(sa.delete(WORKERS).where(WORKERS.c.id == worker))


def take_all_over(connection: Connection) -> None:
    """Queue every running job: right only where no other process can be alive, as on SQLite."""
    _queue_again(connection, _running())
    connection.execute(sa.delete(WORKERS))


def begin_sweep(connection: Connection, name: str, seconds: float) -> bool:
    """Whether a sweep is due, and is this process's to run; by the database's clock."""
    clock = sa.func.extract("epoch", sa.func.clock_timestamp()).cast(sa.Float)
    # A little early is on time: every process comes by once per period, and none by the same clock.
    due = SWEEPS.c.begun <= clock - 0.9 * seconds
    if connection.execute(sa.update(SWEEPS).where(SWEEPS.c.name == name, due).values(begun=clock)).rowcount:
        return True
    missing = ~sa.exists().where(SWEEPS.c.name == name)
    first = sa.select(sa.literal(name), clock).where(missing)
    added = insert(SWEEPS).from_select(["name", "begun"], first).on_conflict_do_nothing()
    return connection.execute(added).rowcount > 0


def forget(connection: Connection, before: float, limit: int) -> int:
    """Remove done and cancelled jobs that ended before a time, at most so many, and say how many.

    Units: before in seconds since the epoch.
    """
    old = (JOBS.c.completed_at < int(before * 1000)) & _is("SUCCESS", "CANCELLED")
    chosen = connection.execute(sa.select(JOBS.c.workflow_uuid).where(old).limit(limit)).scalars().all()
    # The status first: a job queued again in this moment keeps its body.
    removed = sa.delete(JOBS).where(old, JOBS.c.workflow_uuid.in_(chosen)).returning(JOBS.c.workflow_uuid)
    gone = connection.execute(removed).scalars().all()
    for table in (INPUTS, _OUTPUTS):
        connection.execute(sa.delete(table).where(table.c.workflow_uuid.in_(gone)))
    return len(gone)


def _running() -> sa.ColumnElement[bool]:
    return _is("PENDING") & (JOBS.c.application_name == APPLICATION)


def _queue_again(connection: Connection, which: sa.ColumnElement[bool], **more: sa.ColumnElement[int]) -> int:
    values: dict[str, Any] = {"status": "ENQUEUED", "owner_xid": None, "started_at_epoch_ms": None}
    return connection.execute(sa.update(JOBS).where(which).values(**values, **more, updated_at=_now_ms())).rowcount


def _is(*statuses: str) -> sa.ColumnElement[bool]:
    # Literals, because the partial indexes of DBOS are not found by parameters.
    return JOBS.c.status.in_([sa.literal_column(f"'{status}'") for status in statuses])


def _status(row: Any) -> JobStatus:
    kind, _, key = str(row.workflow_uuid).partition(":")
    told: dict[str, Any] = row.attributes or {}
    state = _STATES.get(row.status, "dead")
    error_class, message = str(told.get("class", "")), str(told.get("message", ""))
    under_way = state in ("running", "done") or (state == "cancelled" and row.recovery_attempts > 0)
    if state == "dead" and not told.get("last"):
        error_class, message = "WorkerLost", f"its worker ended {row.recovery_attempts - 1} times in a row while it ran"
    return JobStatus(
        kind=kind,
        key=key,
        tenant=row.authenticated_user or "",
        state=state,
        attempts=_failed(told) + under_way,
        error_class=error_class,
        error_message=message,
        submitted_at=row.created_at / 1000,
        changed_at=row.updated_at / 1000,
        next_at=row.delay_until_epoch_ms / 1000 if row.status == "DELAYED" else None,
        body=_body(row.inputs),
    )


def _body(inputs: str | None) -> dict[str, Any]:
    """The body of a job, out of what DBOS keeps of its arguments; {} where DBOS has removed it."""
    return orjson.loads(orjson.loads(inputs)["args"][1]) if inputs else {}


def _failed(attributes: dict[str, Any] | None) -> int:
    return int((attributes or {}).get("failed", 0))


def _now_ms() -> int:
    return int(time.time() * 1000)
