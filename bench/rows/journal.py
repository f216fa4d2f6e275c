"""What a step costs in the journal: begin, six advances and an end, written straight through `sessions.journal`.

The floor is the same statements' weight without us: one connection of the driver, a transaction of an update and an
insert, one after the other.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from databases import POSTGRESQL, SQLITE, TOLD, Place
from outcrop.config import ServerSettings
from outcrop.ids import SessionKey, TurnId
from outcrop.sessions.entries import Conclusion, Intent, Kept, NewTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.state import Session, saving, starting
from outcrop.storage.database import Database
from outcrop.storage.opening import open_database
from processes import SERVER_CORE, on_core, percentile
from sections import Section, number, ratio
from stage import Stage

ADVANCES = 6
WRITES = ADVANCES + 2
_DEFINITION = Kept.of({"identity": {"name": "bench"}, "agent": {"instruction": "x" * 400}, "actionGroups": []})
_OPENING = {"input_text": "Check inventory for SKU-55", "session_id": "bench", "attributes": {}}
_INTENT = {"iteration": 1, "model": "anthropic.claude-3-5-haiku-20241022-v1:0", "input": "x" * 120}
_OUTCOME = {"message": {"role": "assistant", "content": [{"text": "x" * 300}]}, "usage": {"inputTokens": 120}}
_HISTORY: Any = [{"role": role, "content": [{"text": "x" * 120}]} for role in ("user", "assistant")]
_NUMBERS = itertools.count(1)
_WARM = 16


async def measure(stage: Stage) -> dict[str, Any]:
    """Both databases, without and with fsync."""
    found: dict[str, Any] = {"fsync_ms": _fsync_ms(stage.folder, 20 if stage.amounts.kills == 1 else 200), "runs": []}
    for kind in (SQLITE, POSTGRESQL):
        for synchronous in ("normal", "full"):
            stage.say(f"journal: {TOLD[kind]}, synchronous = {synchronous}")
            with stage.place(kind) as place, on_core(SERVER_CORE):
                found["runs"].append(await _one(stage, place, synchronous))
    return found


async def _one(stage: Stage, place: Place, synchronous: Any) -> dict[str, Any]:
    server = ServerSettings(data_dir=str(place.folder), database=place.setting, synchronous=synchronous)
    steps = max(20, stage.amounts.journal_turns[1] * WRITES // 2)
    bare = await (_bare_sqlite if place.kind == SQLITE else _bare_postgresql)(place, synchronous, steps)
    database = open_database(server)
    try:
        await _turns(database, place, 4, min(_WARM, stage.amounts.journal_turns[1]))
        figures = [
            await _turns(database, place, at_once, turns) for at_once, turns in stage.amounts.journal_turns.items()
        ]
    finally:
        await database.close()
    return {"kind": place.kind, "synchronous": synchronous, "bare": bare, "figures": figures}


async def _turns(database: Database, place: Place, at_once: int, turns: int) -> dict[str, float]:
    """Turns of nothing but their journal.

    Units: milliseconds per write; server_cpu_ms of PostgreSQL.
    """
    journal = Journal(database, "bench", 30.0)
    walls: list[float] = []
    waiting = iter(range(turns))

    async def work() -> None:
        for _ in waiting:
            await _turn(journal, walls)

    own, server, began = time.process_time(), place.cpu(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    took = time.perf_counter() - began
    own, server = time.process_time() - own, place.cpu() - server
    return {
        "at_once": at_once,
        "cpu_ms": own / len(walls) * 1e3,
        "server_cpu_ms": server / len(walls) * 1e3,
        "p50_ms": percentile(walls, 0.5) * 1e3,
        "p99_ms": percentile(walls, 0.99) * 1e3,
        "per_second": len(walls) / took,
    }


async def _turn(journal: Journal, walls: list[float]) -> None:
    number_, now = next(_NUMBERS), time.time()
    key = SessionKey(f"123456789012/BENCHAGENT/BENCHALIAS/journal-{number_:08d}")
    session = Session(key, {}, (), (), 600, now, is_new=True)
    turn = NewTurn(TurnId(f"turn-{number_:08d}"), key, _DEFINITION, _OPENING, now, base=0)
    began = time.perf_counter()

    def lap() -> None:
        nonlocal began
        ended = time.perf_counter()
        walls.append(ended - began)
        began = ended

    pages = await journal.begin(turn, (Intent(0, 0, "CallModel", _INTENT),), starting(session, turn.id, now))
    lap()
    for ordinal in range(ADVANCES):
        done, following = Conclusion(ordinal, 0, _OUTCOME), Intent(ordinal + 1, 0, "CallModel", _INTENT)
        await pages.advance((done,), (following,), now)
        lap()
    last = (Conclusion(ADVANCES, 0, _OUTCOME),)
    kept = saving(replace(session, is_new=False), {}, _HISTORY, now)
    await pages.end("done", last, {"text": "Bye.", "kind": "FINISH"}, now, kept)
    lap()


async def _bare_sqlite(place: Place, synchronous: str, steps: int) -> dict[str, float]:
    with closing(sqlite3.connect(place.folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, intent BLOB, outcome BLOB)")
        walls: list[float] = []
        own = time.process_time()
        for step in range(steps):
            began = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE bare SET outcome = ? WHERE id = ?", (b"x" * 400, step - 1))
            connection.execute("INSERT INTO bare (id, intent) VALUES (?, ?)", (step, b"x" * 220))
            connection.execute("COMMIT")
            walls.append(time.perf_counter() - began)
    return _bare(walls, time.process_time() - own, 0.0)


async def _bare_postgresql(place: Place, synchronous: str, steps: int) -> dict[str, float]:
    connection: Any = await asyncpg.connect(place.setting)
    try:
        await connection.execute(f"SET synchronous_commit = {'on' if synchronous == 'full' else 'off'}")
        await connection.execute("CREATE TABLE bare (id integer PRIMARY KEY, intent bytea, outcome bytea)")
        walls: list[float] = []
        own, server = time.process_time(), place.cpu()
        for step in range(steps):
            began = time.perf_counter()
            await connection.execute("BEGIN")
            await connection.execute("UPDATE bare SET outcome = $1 WHERE id = $2", b"x" * 400, step - 1)
            await connection.execute("INSERT INTO bare (id, intent) VALUES ($1, $2)", step, b"x" * 220)
            await connection.execute("COMMIT")
            walls.append(time.perf_counter() - began)
        return _bare(walls, time.process_time() - own, place.cpu() - server)
    finally:
        await connection.close()


def _bare(walls: list[float], own: float, server: float) -> dict[str, float]:
    each = 1e3 / len(walls)
    return {"cpu_ms": own * each, "server_cpu_ms": server * each, "p50_ms": percentile(walls, 0.5) * 1e3}


def _fsync_ms(folder: Path, times: int) -> float:
    """How long this disk takes to keep 4 KiB, the median."""
    path, walls = folder / "fsync", []
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(times):
            began = time.perf_counter()
            os.write(file, b"x" * 4096)
            os.fdatasync(file)
            walls.append(time.perf_counter() - began)
    finally:
        os.close(file)
        path.unlink()
    return percentile(walls, 0.5) * 1e3


def sections(found: dict[str, Any]) -> list[Section]:
    """One table."""
    head = ("a step in the journal", "at once", "CPU ms", "x bare", "PostgreSQL's CPU ms")
    section = Section("The journal's cost per step", (*head, "wall ms p50", "x bare", "wall ms p99", "steps a second"))
    for run in found["runs"]:
        bare = run["bare"]
        for figures in run["figures"]:
            alone = figures["at_once"] == 1
            section.lines.append(
                (
                    f'{TOLD[run["kind"]]}, `synchronous = "{run["synchronous"]}"`',
                    f"{figures['at_once']}",
                    number(figures["cpu_ms"], 3),
                    ratio(figures["cpu_ms"], bare["cpu_ms"]),
                    number(figures["server_cpu_ms"], 3) if run["kind"] == POSTGRESQL else "",
                    number(figures["p50_ms"], 2),
                    ratio(figures["p50_ms"], bare["p50_ms"]) if alone else "",
                    number(figures["p99_ms"], 2),
                    number(figures["per_second"], 0),
                )
            )
    section.notes.append(
        f"A step is one commit. One `fdatasync` of 4 KiB takes this disk {found['fsync_ms']:.2f} ms (median). "
        "*Bare* is one connection of the driver that commits an update and an insert of this size, one after the other."
    )
    return [section]
