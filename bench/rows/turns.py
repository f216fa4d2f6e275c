"""Turns a second, and how long they take, with a model of 20 ms: on one process and on two.

server | everything else      SQLite x 1, PostgreSQL x 1     one processor for the server, one for the rest
both   | both                 PostgreSQL x 2                 a server on each; PostgreSQL, model and load on both
all on one processor          PostgreSQL x 1, small          what half of this machine carries: the base of the ratio
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from databases import POSTGRESQL, SQLITE
from load import fresh, phase
from processes import LOAD_CORE, SERVER_CORE
from sections import KIB, Section, number, ratio
from stage import ALL_CORES, Spread, Stage, spread

MODEL_S = 0.02
_WARM = 64


@dataclass(frozen=True, slots=True)
class Setup:
    """Who runs where. Shapes: rest is the processors of the load, the model and PostgreSQL."""

    name: str
    told: str
    kind: str
    servers: tuple[int, ...]
    rest: frozenset[int]
    at_once: tuple[int, ...] = ()


SETUPS = (
    Setup("sqlite", "SQLite, 1 process", SQLITE, (SERVER_CORE,), frozenset({LOAD_CORE})),
    Setup("one", "PostgreSQL, 1 process", POSTGRESQL, (SERVER_CORE,), frozenset({LOAD_CORE})),
    Setup("two", "PostgreSQL, 2 processes", POSTGRESQL, (SERVER_CORE, LOAD_CORE), frozenset(ALL_CORES)),
    Setup("half", "PostgreSQL, 1 process, all on one processor", POSTGRESQL, (LOAD_CORE,), frozenset({LOAD_CORE})),
)


async def measure(stage: Stage) -> dict[str, Any]:
    """Every setup at every load."""
    found: dict[str, Any] = {"setups": {}, "wrong": []}
    for setup in SETUPS:
        stage.say(f"turns: {setup.told}")
        found["setups"][setup.name] = measured = await _setup(stage, setup)
        found["wrong"] += [
            f"turns, {setup.told}, {run['at_once']} at once: {run['errors']} errors, first: {run['first_error']}"
            for run in measured["runs"]
            if run["errors"]
        ]
    return found


async def _setup(stage: Stage, setup: Setup) -> dict[str, Any]:
    """Its runs, and what each of their turns left in the database."""
    runs: list[dict[str, Any]] = []
    with stage.place(setup.kind) as place, stage.engines(place, *setup.servers) as nodes:
        everyone = Spread(nodes)
        try:
            with spread(place, set(setup.rest)), stage.slow_model(MODEL_S):
                await phase(everyone, everyone, "turn", 16, fresh(min(_WARM, stage.amounts.paced_turns[1] * 2)))
                stored, taken = place.bytes(), 0
                for at_once, turns in stage.amounts.paced_turns.items():
                    before, server, model = place.writes(), place.cpu(), stage.model.tree.server_cpu()
                    figures = await phase(everyone, everyone, "turn", at_once, fresh(turns))
                    taken += figures.turns
                    each = 1 / max(1, figures.turns)
                    run = {"at_once": at_once, **asdict(figures)}
                    run["database_cpu_ms"] = (place.cpu() - server) * each * 1e3
                    run["model_cpu_ms"] = (stage.model.tree.server_cpu() - model) * each * 1e3
                    run |= {name: (value - before[name]) * each for name, value in place.writes().items()}
                    runs.append(run)
                each_bytes = (place.bytes() - stored) / taken
        finally:
            everyone.close()
    return {"runs": runs, "stored_bytes": each_bytes}


def sections(found: dict[str, Any]) -> list[Section]:
    """Speed, what a turn costs whom, and what two processes give."""
    setups: dict[str, list[dict[str, Any]]] = {name: one["runs"] for name, one in found["setups"].items()}
    told = {setup.name: setup.told for setup in SETUPS}
    head = ("turns with a model of 20 ms", "at once", "turns a second", "wall ms p50", "wall ms p99")
    costs = ("CPU ms of the server", "of its functions", "of PostgreSQL", "of the model")
    speed = Section("Turns a second", (*head, *costs))
    for name, runs in setups.items():
        for run in runs:
            speed.lines.append(
                (
                    told[name],
                    f"{run['at_once']}",
                    number(run["per_second"], 0),
                    number(run["wall_p50_ms"], 0),
                    number(run["wall_p99_ms"], 0),
                    number(run["server_cpu_ms"]),
                    number(run["tree_cpu_ms"] - run["server_cpu_ms"]),
                    number(run["database_cpu_ms"]) if name != "sqlite" else "",
                    number(run["model_cpu_ms"]),
                )
            )
    best = {name: max(runs, key=lambda run: run["per_second"]) for name, runs in setups.items()}
    return [speed, _from_one_to_two(best), _writes(found["setups"])]


def _from_one_to_two(best: dict[str, dict[str, Any]]) -> Section:
    one, two, half = best["one"], best["two"], best["half"]
    section = Section(
        "From one process to two, on PostgreSQL, at the most turns a second", ("", "1 process", "2 processes", "ratio")
    )
    rates = [
        ("as measured, the machine's two processors for everything", one["per_second"], two["per_second"]),
        ("as measured, a processor for everything, then two", half["per_second"], two["per_second"]),
        (
            "computed: a processor for each process, the rest elsewhere",
            1e3 / one["tree_cpu_ms"],
            2e3 / two["tree_cpu_ms"],
        ),
    ]
    section.lines += [(told, number(a, 0), number(b, 0), ratio(b, a)) for told, a, b in rates]
    database = 1e3 / max(two["database_cpu_ms"], 1e-9)
    section.notes += [
        "The aim is 1.8. With two processes this machine is the limit: they share its two processors with PostgreSQL, "
        "the model and the load. The second line gives both the same share of it. The third is computed from the "
        f"processor time of a process and its functions per turn: {one['tree_cpu_ms']:.2f} ms alone, "
        f"{two['tree_cpu_ms']:.2f} ms when there are two.",
        f"A processor of PostgreSQL's own would be full at {database:,.0f} turns a second "
        f"({two['database_cpu_ms']:.2f} ms a turn): computed, {database * two['tree_cpu_ms'] / 1e3:.1f} processes for "
        "each of its processors.",
    ]
    return section


def _writes(setups: dict[str, dict[str, Any]]) -> Section:
    section = Section(
        "What a turn asks of PostgreSQL, 1 process", ("at once", "commits a turn", "KiB of its log a turn")
    )
    for run in setups["one"]["runs"]:
        log = number(run["wal_bytes"] / KIB, 1)
        section.lines.append((f"{run['at_once']}", number(run["commits"]), log))
    one, two = (setups[name]["stored_bytes"] / KIB for name in ("sqlite", "one"))
    section.notes.append(
        "What is written at the same time is committed together, so the busier a process is, the fewer commits a turn "
        'needs. With `synchronous = "full"` each of them waits for the disk. '
        f"A turn in a session of its own stays as {one:.1f} KiB in SQLite and {two:.1f} KiB in PostgreSQL."
    )
    return section
