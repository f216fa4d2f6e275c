"""The results as rows of one table: for the terminal, and as Markdown for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

import stock
from contestants import ENGINE, FLOORS
from measure import AT_ONCE

BASE = "floor-wal"
NAMES = (*FLOORS, ENGINE)
HEAD = ("", *FLOORS, ENGINE, "with functions", f"x {BASE}", "target", "")
TARGET = 3.0
LONG_TARGET = 1.5
REGIONS_TARGET = 1.15
START_TARGET_S = 1.0

Results = dict[str, Any]
Read = Callable[[str], float | None]


@dataclass(slots=True)
class Row:
    """One line of the table. Shapes: kept is None where there is no target."""

    label: str
    cells: dict[str, str] = field(default_factory=dict[str, str])
    functions: str = ""
    ratio: str = ""
    target: str = ""
    kept: bool | None = None

    def texts(self, marks: tuple[str, str]) -> list[str]:
        """The line's cells, with these marks for a target kept and a target missed."""
        mark = "" if self.kept is None else marks[0] if self.kept else marks[1]
        return [
            self.label,
            *(self.cells.get(name, "") for name in NAMES),
            self.functions,
            self.ratio,
            self.target,
            mark,
        ]


def rows(results: Results) -> list[Row]:
    """Every line for which something was measured."""
    table = [*_processor(results), *_walls(results), *_starts(results), *_memory(results), *_hop(results)]
    return [row for row in table if any(row.cells.values())]


def _median(results: Results, name: str, *path: str) -> float | None:
    found = _all(results, name, *path)
    return statistics.median(found) if found else None


def _all(results: Results, name: str, *path: str) -> list[float]:
    found: list[float] = []
    for one in results["rounds"].get(name, ()):
        value: Any = one
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            found.append(float(value))
    return found


def _shown(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _row(results: Results, label: str, path: tuple[str, str], digits: int = 2, target: float | None = None) -> Row:
    """One figure of every contestant, and the engine's ratio to the floor with SQLite."""
    row = Row(label, {name: _shown(_all(results, name, *path), digits) for name in NAMES})
    engine, base = _median(results, ENGINE, *path), _median(results, BASE, *path)
    if engine is not None and base:
        row.ratio = f"{engine / base:.2f}"
        if target is not None:
            row.target, row.kept = f"{target:g} x", engine / base <= target
    return row


def _processor(results: Results) -> list[Row]:
    found: list[Row] = []
    for phase, label, target in (
        ("turn_1", "CPU ms: turn, 1 at a time", TARGET),
        ("turn_16", "CPU ms: turn, 16 at a time", TARGET),
        ("report_4", "CPU ms: 200 chunks, 4 at a time", TARGET),
        ("paced_16", "CPU ms: 200 chunks 1 ms apart, 16 at a time", None),
        ("long_1", "CPU ms: turn after 100 turns", TARGET),
    ):
        row = _row(results, label, (phase, "server_cpu_ms"), target=target)
        tree = _median(results, ENGINE, phase, "tree_cpu_ms")
        row.functions = "" if tree is None else f"{tree:.2f}"
        found.append(row)
        if phase == "turn_1":
            found.append(_traced(results))
    found.append(_growth(results))
    return found


def _traced(results: Results) -> Row:
    row = Row("CPU ms: turn with its trace", {ENGINE: _shown(_all(results, ENGINE, "traced_1", "server_cpu_ms"), 2)})
    engine, base = (
        _median(results, ENGINE, "traced_1", "server_cpu_ms"),
        _median(results, BASE, "turn_1", "server_cpu_ms"),
    )
    if engine is not None and base:
        row.ratio = f"{engine / base:.2f}"
    return row


def _growth(results: Results) -> Row:
    """What 100 earlier turns multiply the cost of a turn by."""
    row = Row("times the CPU of a first turn", target=f"{LONG_TARGET:g}")
    for name in NAMES:
        later, first = (
            _median(results, name, "long_1", "server_cpu_ms"),
            _median(results, name, "turn_1", "server_cpu_ms"),
        )
        if later and first:
            row.cells[name] = f"{later / first:.2f}"
            row.kept = later / first <= LONG_TARGET if name == ENGINE else row.kept
    return row


def _walls(results: Results) -> list[Row]:
    found = [
        _row(results, f"wall ms {part}: turn, {at_once} at once", (f"turn_{at_once}", f"wall_{part}_ms"), digits=1)
        for at_once in AT_ONCE
        for part in ("p50", "p99")
    ]
    found.append(_row(results, "turns a second, 64 at once", ("turn_64", "per_second"), digits=0))
    slowest = stock.WAIT_S * 1e3
    regions = _row(
        results, f"wall ms p50: four parallel tools of {slowest:.0f} ms", ("regions_1", "wall_p50_ms"), digits=1
    )
    took = _median(results, ENGINE, "regions_1", "wall_p50_ms")
    if took is not None:
        regions.target, regions.kept = f"{slowest * REGIONS_TARGET:.1f} ms", took <= slowest * REGIONS_TARGET
    return [*found, regions]


def _starts(results: Results) -> list[Row]:
    found: list[Row] = []
    for kind, told in (("new", "new data"), ("again", "kept data")):
        for key, until in (("announced_s", "it says it listens"), ("healthy_s", "/healthz is 200")):
            times = [one[key] for one in results.get("starts", ()) if one["data"] == kind]
            row = Row(f"start s, {told}: until {until}", {ENGINE: _shown(times, 2)})
            if times:
                row.target, row.kept = f"{START_TARGET_S:g} s", statistics.median(times) <= START_TARGET_S
            if kind == "new":
                row.cells |= {name: _shown(_all(results, name, "start", key), 2) for name in FLOORS}
            found.append(row)
    return found


def _memory(results: Results) -> list[Row]:
    measured: dict[str, Results] = results.get("memory", {})
    sessions = max((one["sessions"] for one in measured.values()), default=0)

    def row(label: str, key: str, unit: int) -> Row:
        return Row(label, {name: f"{one[key] / unit:.1f}" for name, one in measured.items()})

    after = row(f"RSS MiB after {sessions:,} sessions", "after_bytes", 2**20)
    if ENGINE in measured:
        after.functions = f"{measured[ENGINE]['tree_bytes'] / 2**20:.1f}"
    ends = {name: [size / 2**20 for size in _all(results, name, "end_bytes")] for name in NAMES}
    return [
        row("RSS MiB at rest", "rest_bytes", 2**20),
        Row("RSS MiB after a round, long sessions last", {name: _shown(sizes, 1) for name, sizes in ends.items()}),
        after,
        row("RSS KiB per session", "bytes_per_session", 2**10),
        row("stored KiB per session", "stored_per_session", 2**10),
    ]


def _hop(results: Results) -> list[Row]:
    hop: dict[str, float] = results.get("hop", {})
    if not hop:
        return []
    walls = f"{hop['wall_p50_ms']:.3f} / {hop['wall_p99_ms']:.3f}"
    return [
        Row("one call of a warm function, wall ms p50 / p99", {ENGINE: walls}),
        Row(
            "one call of a warm function, CPU ms", {ENGINE: f"{hop['server_cpu_ms']:.3f}"}, f"{hop['tree_cpu_ms']:.3f}"
        ),
    ]


def terminal(results: Results) -> Table:
    """The table for a terminal."""
    table = Table(title=f"{results['date']} | {results['machine']} | {results['told']}", title_justify="left")
    for index, name in enumerate(HEAD):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows(results):
        style = {None: None, True: "green", False: "red"}[row.kept]
        table.add_row(*row.texts(("pass", "miss")), style=style)
    return table


def markdown(results: Results) -> str:
    """The table for the documentation."""
    head = [f"{results['date']}. {results['machine']}. {results['told']}.", ""]
    lines = [HEAD, ("---", *("---:" for _ in HEAD[1:])), *(row.texts(("pass", "**miss**")) for row in rows(results))]
    return "\n".join([*head, *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


def errors(results: Results) -> list[str]:
    """Every kind of wrong answer that came, one line each; none when all answers were right."""
    found: list[str] = []
    for name, rounds in results["rounds"].items():
        for number, one in enumerate(rounds, 1):
            found += [
                f"{name}, round {number}, {phase}: {figures['errors']} errors, first: {figures['first_error']}"
                for phase, figures in one.items()
                if isinstance(figures, dict) and figures.get("errors")
            ]
    for name, one in results.get("memory", {}).items():
        if one["errors"]:
            found.append(f"{name}, memory: {one['errors']} errors, first: {one['first_error']}")
    return found
