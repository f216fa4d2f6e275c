"""What a turn costs: `outcrop serve` beside floors that make the same calls with no engine.

    for each round:  for each contestant, in turn:  start -> all workloads -> stop
    afterwards:      memory, starts, one hop into a warm function -> one table, results/latest.json

Exits 0 whatever the figures are; 1 when an answer was wrong or something did not start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

import contestants
import measure
import report
from engine_tools import hop
from processes import LOAD_CORE, SERVER_CORE, BenchmarkFailed, on_core, require_linux

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
FROM, UPTO = "<!-- figures -->\n", "<!-- end of figures -->"
IN_MEMORY_RUN = ("floor", "floor-wal", contestants.ENGINE)


def parser() -> argparse.ArgumentParser:
    """The command line, described."""
    options = argparse.ArgumentParser(prog="bench/run.py", description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    options.add_argument("--quick", action="store_true", help="one round of fewer turns")
    options.add_argument("--smoke", action="store_true", help="one round of a handful of turns: figures mean nothing")
    options.add_argument("--only", help=f"contestants, by comma: {','.join(report.NAMES)}")
    options.add_argument("--no-memory", action="store_true", help="leave out memory after many sessions")
    options.add_argument("--data-dir", type=Path, help="where servers keep their data (default: temporary files)")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder of latest.json and latest.md")
    options.add_argument("--page", action="store_true", help="write the table into docs/benchmarks.md too")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; what it returns is the process's exit status."""
    options = parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        require_linux()
        with on_core(LOAD_CORE):
            results = uvloop.run(_measure(options, console))
    except BenchmarkFailed as error:
        console.print(f"bench: {error}", markup=False)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latest.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (options.out / "latest.md").write_text(report.markdown(results), encoding="utf-8")
    if options.page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(FROM)
        PAGE.write_text(
            f"{before}{FROM}\n{report.markdown(results)}\n{UPTO}{rest.partition(UPTO)[2]}", encoding="utf-8"
        )
    output = Console(width=None if sys.stdout.isatty() else 190)
    output.print(report.terminal(results))
    output.print(f"written: {options.out}/latest.json and latest.md", markup=False, soft_wrap=True)
    wrong = report.errors(results)
    for line in wrong:
        console.print(f"bench: {line}", markup=False)
    return 1 if wrong else 0


async def _measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    amounts = measure.SMOKE if options.smoke else measure.QUICK if options.quick else measure.FULL
    rounds = 1 if options.smoke or options.quick else options.rounds
    names = options.only.split(",") if options.only else list(report.NAMES)
    if unknown := set(names) - set(report.NAMES):
        raise BenchmarkFailed(f"no contestant {', '.join(sorted(unknown))}; there are {', '.join(report.NAMES)}")
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "told": "one round" if rounds == 1 else f"{rounds} interleaved rounds, medians (least-most)",
        "rounds": {name: [] for name in names},
        "memory": {},
    }
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.data_dir) as folder:
        model, model_url = contestants.start_model(Path(folder))
        try:
            for number in range(rounds):
                for name in names if number % 2 == 0 else reversed(names):
                    console.print(f"round {number + 1} of {rounds}: {name}", markup=False)
                    results["rounds"][name].append(
                        await _with(name, model_url, options.data_dir, measure.one_round, amounts)
                    )
            if not options.no_memory:
                for name in (name for name in names if name in IN_MEMORY_RUN):
                    console.print(f"memory: {name}", markup=False)
                    results["memory"][name] = await _with(name, model_url, options.data_dir, measure.memory, amounts)
            if contestants.ENGINE in names:
                console.print("starts, and calls of a warm function", markup=False)
                results["starts"] = measure.starts(Path(folder), model_url, amounts)
                with on_core(SERVER_CORE):
                    results["hop"] = await hop(contestants.write_config(Path(folder), model_url), amounts.hops)
        finally:
            model.stop()
    return results


async def _with(name: str, model_url: str, place: Path | None, job: Any, amounts: measure.Amounts) -> dict[str, Any]:
    """A job on a contestant that was started for it.

    Errors: BenchmarkFailed, with what the server said last when the job fails.
    """
    contestant = contestants.start(name, model_url, place)
    try:
        return await job(contestant, amounts)
    except Exception as error:
        raise BenchmarkFailed(f"{name}: {error!r}; it said: {contestant.server.said()[-2000:]}") from error
    finally:
        contestant.close()


def machine() -> str:
    """What this runs on, in a line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{os.cpu_count()} processors ({model}), Linux, CPython {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
