"""What a turn costs in a long session, and in a large database.

session:   1 ... 1,000 turns taken before it, one by one
database:  1 ... 1,000,000 sessions of one turn and three steps each: copies of a real one, made by SQL
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from databases import POSTGRESQL, TOLD, Place
from load import Client, Job, fresh, new_session, phase, seed
from outcrop.clock import SystemClock
from outcrop.config import ServerSettings
from outcrop.sessions.cleaning import Cleaning
from outcrop.sessions.spend import SPEND
from outcrop.sessions.state import HISTORY, SESSIONS
from outcrop.sessions.tables import STEPS, TURNS
from outcrop.storage.opening import open_database
from processes import SERVER_CORE
from sections import MIB, Section, number, ratio
from stage import Node, Stage

_WARM = 40
_LONG_SESSIONS = 4
_STEPS = 3
_KEEP_S = 30 * 86_400.0
_AN_HOUR_MS = 3_600_000


async def measure(stage: Stage) -> dict[str, Any]:
    """Both kinds of growth on both databases."""
    found: dict[str, Any] = {"sessions": {}, "databases": {}, "wrong": []}
    for kind in stage.amounts.kinds("long"):
        with stage.place(kind) as place, stage.engines(place, SERVER_CORE) as nodes:
            stage.say(f"growth: {TOLD[kind]}, long sessions")
            found["sessions"][kind] = [
                await _long(stage, place, nodes[0], earlier, found["wrong"]) for earlier in stage.amounts.earlier
            ]
    for kind in stage.amounts.kinds("growth"):
        with stage.place(kind) as place:
            found["databases"][kind] = await _large(stage, place, found["wrong"])
    return found


async def _long(stage: Stage, place: Place, node: Node, earlier: int, wrong: list[str]) -> dict[str, float]:
    client = Client(node.target)
    try:
        await phase(client, node.tree, "turn", 4, fresh(min(_WARM, stage.amounts.growth_turns)))
        sessions = [new_session() for _ in range(_LONG_SESSIONS)]
        await seed(client, sessions, earlier)
        later = range(earlier + 1, earlier + 1 + max(1, stage.amounts.growth_long_turns // _LONG_SESSIONS))
        jobs = [Job(session, turn) for turn in later for session in sessions]
        return {"earlier": earlier, **await _turns(client, place, node, jobs, wrong)}
    finally:
        client.close()


async def _large(stage: Stage, place: Place, wrong: list[str]) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    for filled, stored in zip((0, *stage.amounts.stored), stage.amounts.stored, strict=False):
        began = time.perf_counter()
        stage.say(f"growth: {TOLD[place.kind]}, {stored:,} sessions stored")
        if filled:
            await asyncio.to_thread(place.run, _filling(place, filled, stored - 1))
        took = time.perf_counter() - began
        looked = await _swept(place)
        with stage.engines(place, SERVER_CORE) as nodes:
            client = Client(nodes[0].target)
            await phase(client, nodes[0].tree, "turn", 4, fresh(min(_WARM, stage.amounts.growth_turns)))
            size = place.bytes()
            figures = await _turns(client, place, nodes[0], fresh(stage.amounts.growth_turns), wrong)
            client.close()
            start = nodes[0].server.started.announced_s
            found.append(
                {"stored": stored, "bytes": size, "fill_s": took, "start_s": start, "sweep_s": looked, **figures}
            )
    return found


async def _turns(client: Client, place: Place, node: Node, jobs: list[Job], wrong: list[str]) -> dict[str, float]:
    database = place.cpu()
    figures = await phase(client, node.tree, "turn", 1, jobs)
    if figures.errors:
        wrong.append(f"growth, {place.kind}: {figures.errors} errors, first: {figures.first_error}")
    return {
        "cpu_ms": figures.server_cpu_ms,
        "database_cpu_ms": (place.cpu() - database) / max(1, figures.turns) * 1e3,
        "p50_ms": figures.wall_p50_ms,
    }


async def _swept(place: Place) -> float:
    """Seconds in which the hourly sweep looks through everything, where nothing is to go."""
    folder = Path(place.folder)
    database = open_database(ServerSettings(data_dir=str(folder), database=place.setting))
    try:
        began = time.perf_counter()
        await Cleaning(database, SystemClock(), _KEEP_S).once()
        return time.perf_counter() - began
    finally:
        await database.close()


def _filling(place: Place, first: int, last: int) -> list[str]:
    """Copies of the first session that is there, with its turn and the turn's first steps, under keys all over."""
    ((key, turn),) = place.rows("SELECT session_key, min(id) FROM turns GROUP BY session_key LIMIT 1")
    mixed, millisecond = f"((n * 2654435761) % {2**32})", int(time.time() * 1000) - _AN_HOUR_MS
    if place.kind == POSTGRESQL:
        numbers = f"generate_series({first}::bigint, {last}) AS g(n)"
        name, moment = f"lpad(to_hex({mixed}), 8, '0')", f"lpad(to_hex(n + {millisecond}), 12, '0')"
    else:
        series = (
            f"WITH RECURSIVE g(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM g WHERE n < {last}) SELECT n FROM g"
        )
        numbers = f"({series}) AS g"
        name, moment = f"printf('%08x', {mixed})", f"printf('%012x', n + {millisecond})"
    session, id_ = f"'{key.rpartition('/')[0]}/fill-' || {name}", f"{moment} || '{turn[12:]}'"
    copies = (
        (SESSIONS, {"key": session}, f"t.key = '{key}'"),
        (HISTORY, {"session_key": session}, f"t.session_key = '{key}'"),
        (SPEND, {"scope": f"'session/' || {session}"}, f"t.scope = 'session/{key}'"),
        (TURNS, {"id": id_, "session_key": session}, f"t.id = '{turn}'"),
        (STEPS, {"turn_id": id_}, f"t.turn_id = '{turn}' AND t.ordinal < {_STEPS}"),
    )
    statements: list[str] = []
    for table, changed, where in copies:
        columns = [column.name for column in table.columns]
        values = ", ".join(changed.get(column, f"t.{column}") for column in columns)
        given = f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {values}"
        statements.append(f"{given} FROM {table.name} AS t, {numbers} WHERE {where} ORDER BY 1")
    return statements


def sections(found: dict[str, Any]) -> list[Section]:
    """One table for sessions, one for databases."""
    cost = ("CPU ms", "x the first", "PostgreSQL's CPU ms", "wall ms p50")
    sessions = Section("The cost of a turn in a long session", ("turns before it", *cost))
    databases = Section(
        "The cost of a turn in a large database",
        ("sessions, and turns, stored", *cost, "MiB stored", "start s", "hourly sweep s"),
    )
    for kind, runs in found["sessions"].items():
        sessions.lines += [_line(f"{TOLD[kind]}, {run['earlier']:,}", kind, run, runs[0]) for run in runs]
    for kind, runs in found["databases"].items():
        for run in runs:
            more = number(run["bytes"] / MIB, 0), number(run["start_s"]), number(run["sweep_s"], 1)
            databases.lines.append((*_line(f"{TOLD[kind]}, {run['stored']:,}", kind, run, runs[0]), *more))
    sessions.notes.append("All earlier turns are sent to the model with every call of it: three times in this turn.")
    databases.notes.append(
        "Each session has one turn of three steps. The start is that of a server on the filled database; the sweep "
        "looks for sessions and turns that are over for long, and finds none."
    )
    return [sessions, databases]


def _line(told: str, kind: str, run: dict[str, float], first: dict[str, float]) -> tuple[str, ...]:
    database = number(run["database_cpu_ms"]) if kind == POSTGRESQL else ""
    return told, number(run["cpu_ms"]), ratio(run["cpu_ms"], first["cpu_ms"]), database, number(run["p50_ms"], 1)
