"""Where a turn's processor time goes: by thread, by room of the house, by function, by line.

    bench/profiling.py [turn|traced|report|regions|long] [--at-once N] [--calls]

Runs one workload against `outcrop serve` under a profiler (profiled_server.py). Times are
milliseconds of processor time per turn. With --calls it counts calls as well, in a second run,
also those of the database's threads.
"""

from __future__ import annotations

import argparse
import json
import pstats
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

import contestants
from load import Client, Job, fresh, new_session, phase, seed
from processes import LOAD_CORE, BenchmarkFailed, on_core, require_linux
from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
_FILE_LIMIT_S = 30.0
_EARLIER = 100
_WARM = 100

ROOMS = (
    ("wire and server", ("outcrop/wire/", "outcrop/server/")),
    ("journal and database", ("outcrop/sessions/", "outcrop/storage/", "sqlalchemy/", "sqlite3/")),
    ("model provider", ("outcrop/models/", "aiohttp/", "yarl/", "multidict/", "propcache/", "aiosignal/")),
    ("tools", ("outcrop/tools/",)),
    ("operations", ("outcrop/operations/",)),
    ("telemetry", ("outcrop/telemetry/", "outcrop/events")),
    ("orchestration", ("outcrop/orchestration/", "outcrop/prompts/", "outcrop/")),
    ("asyncio, uvloop, uvicorn", ("uvicorn/", "starlette/", "/asyncio/", "uvloop/")),
)
"""Each room and the parts of paths that belong to it, the first match wins."""

Stack = list[list[Any]]
"""Places [file, function, line], the innermost first."""


def room_of(files: Iterable[str]) -> str:
    """The room of the innermost file that belongs to one: what the rest was called for."""
    for file in files:
        for room, parts in ROOMS:
            if any(part in file for part in parts):
                return room
    return "other"


class Spent:
    """Processor time of one run, added up."""

    def __init__(self, told: dict[str, Any], turns: int) -> None:
        """Take what the sampler wrote; all figures become milliseconds per turn."""
        self.threads = Counter({name: used / turns * 1e3 for name, used in told["threads"].items()})
        self.rooms: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self.with_called: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.looks = sum(count for _, count in told["seen"])
        self.total = self.threads["MainThread"]
        for stack, count in told["seen"]:
            spent = count / self.looks * self.total
            self.rooms[room_of(place[0] for place in stack)] += spent
            self.own[_function(stack[0])] += spent
            for function in {_function(place) for place in stack}:
                self.with_called[function] += spent
            ours = next((place for place in stack if "/outcrop/" in place[0]), None)
            if ours is not None:
                self.lines[f"{_short(ours[0])}:{ours[2]} {ours[1]}"] += spent


def _short(file: str) -> str:
    for mark in ("/site-packages/", "/src/", "/lib/"):
        if mark in file:
            return file.rpartition(mark)[2]
    return file


def _function(place: list[Any]) -> str:
    return f"{_short(place[0])} {place[1]}"


def main(arguments: list[str] | None = None) -> int:
    """Profile and print; what it returns is the process's exit status."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("workload", nargs="?", default="turn", choices=["turn", "traced", "report", "regions", "long"])
    options.add_argument("--at-once", type=int, default=1)
    options.add_argument("--turns", type=int, default=1000)
    options.add_argument("--top", type=int, default=20)
    options.add_argument("--calls", action="store_true", help="count calls too")
    given = options.parse_args(arguments)
    output = Console(width=None if sys.stdout.isatty() else 170)
    try:
        require_linux()
        with on_core(LOAD_CORE), tempfile.TemporaryDirectory(prefix="bench-") as folder:
            file, turns, milliseconds = uvloop.run(_profiled("sample", given, Path(folder)))
            _print(Spent(json.loads(file.read_text(encoding="utf-8")), turns), given, milliseconds, output)
            if given.calls:
                file, turns, _ = uvloop.run(_profiled("calls", given, Path(folder)))
                _print_calls(file, "event loop's thread", turns, given.top, output)
                threads = Path(f"{file}.threads")
                if threads.exists():
                    _print_calls(threads, "other threads, warm-up included", turns + _WARM, given.top, output)
    except BenchmarkFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


async def _profiled(how: str, given: argparse.Namespace, folder: Path) -> tuple[Path, int, float]:
    """The profiler's file, the turns it saw, and their processor time in milliseconds each.

    Errors: BenchmarkFailed.
    """
    file = folder / f"{how}.profile"
    model, model_url = contestants.start_model(folder)
    launcher = [sys.executable, str(HERE / "profiled_server.py"), how, str(file)]
    try:
        engine = contestants.start(contestants.ENGINE, model_url, None, launcher)
        try:
            client = Client(engine.traced() if given.workload == "traced" else engine.target)
            workload = given.workload if given.workload in WORKLOADS else "turn"
            await phase(client, engine.server.tree, workload, 4, fresh(_WARM))
            jobs = await _jobs(client, given)
            engine.server.signal(signal.SIGUSR1)
            figures = await phase(client, engine.server.tree, workload, given.at_once, jobs)
            engine.server.signal(signal.SIGUSR2)
            client.close()
            if figures.errors:
                raise BenchmarkFailed(f"{figures.errors} wrong answers, the first: {figures.first_error}")
            _await_file(file)
        finally:
            engine.close()
    finally:
        model.stop()
    return file, figures.turns, figures.server_cpu_ms


async def _jobs(client: Client, given: argparse.Namespace) -> list[Job]:
    if given.workload != "long":
        return fresh(given.turns)
    sessions = [new_session() for _ in range(10)]
    await seed(client, sessions, _EARLIER)
    later = range(_EARLIER + 1, _EARLIER + 1 + max(1, given.turns // len(sessions) // 10))
    return [Job(session, turn) for turn in later for session in sessions]


def _await_file(file: Path) -> None:
    limit = time.monotonic() + _FILE_LIMIT_S
    while not file.exists():
        if time.monotonic() > limit:
            raise BenchmarkFailed("the profiler wrote nothing")
        time.sleep(0.05)


def _print(spent: Spent, given: argparse.Namespace, measured_ms: float, output: Console) -> None:
    output.print(
        f"{given.workload}, {given.at_once} at a time: {measured_ms:.2f} ms of processor time per turn. "
        f"What follows the threads is the event loop's: {spent.looks} looks.",
        soft_wrap=True,
    )
    for title, counted, top in (
        ("by thread", spent.threads, given.top),
        ("by room: of the innermost frame that belongs to one", spent.rooms, given.top),
        ("functions, their own time", spent.own, given.top),
        ("functions, with what they call", spent.with_called, given.top * 2),
        ("our lines, with what they call into libraries", spent.lines, given.top * 2),
    ):
        table = Table("ms", "%", title, title_justify="left", show_edge=False)
        for name, value in counted.most_common(top):
            table.add_row(f"{value:.3f}", f"{value / measured_ms:.1%}", name)
        output.print(table, "")


def _print_calls(file: Path, whose: str, turns: int, top: int, output: Console) -> None:
    stats: Any = pstats.Stats(str(file))
    table = Table("calls per turn", "own ms", "ms with called", f"cProfile: {whose}", show_edge=False)
    by_own = sorted(stats.stats.items(), key=lambda item: -item[1][2])[: top * 2]
    for (path, line, name), (_, calls, own, whole, _) in by_own:
        place = f"{_short(path)}:{line} {name}"
        table.add_row(f"{calls / turns:.1f}", f"{own / turns * 1e3:.3f}", f"{whole / turns * 1e3:.3f}", place)
    output.print(table, "")


if __name__ == "__main__":
    sys.exit(main())
