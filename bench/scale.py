"""What many turns need: the journal, many at once, two processes, kills, rest, growth, overload. One table a row.

    for each row:  measure(stage) -> figures -> results/scale.json      all of them -> one table, docs/scale.md

Exits 0 whatever the figures are; 1 when an answer was wrong or something did not start.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

import amounts
import contestants
import deployment
from databases import Databases
from processes import LOAD_CORE, BenchmarkFailed, on_core, require_linux
from run import FROM, RESULTS, UPTO, machine
from sections import Section, markdown, show
from stage import Stage

ROWS = ("journal", "turns", "recovery", "rest", "growth", "soak", "jobs", "overload")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"


def parser() -> argparse.ArgumentParser:
    """The command line, described."""
    options = argparse.ArgumentParser(prog="bench/scale.py", description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--only", help=f"rows, by comma: {','.join(ROWS)}")
    options.add_argument("--quick", action="store_true", help="less of everything: under four minutes")
    options.add_argument("--smoke", action="store_true", help="a handful of everything: figures mean nothing")
    options.add_argument("--kills", type=int, help="how often a server is killed (default 50)")
    options.add_argument("--soak-minutes", type=float, help="how long the soak lasts (default 3)")
    options.add_argument("--data-dir", type=Path, help="where servers keep their data (default: temporary files)")
    options.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of scale.json, which keeps rows of earlier runs"
    )
    options.add_argument("--page", action="store_true", help="write the table into docs/scale.md too")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; what it returns is the process's exit status."""
    options = parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        require_linux()
        names = _names(options.only)
        with on_core(LOAD_CORE):
            results = uvloop.run(_measure(names, options, console))
    except BenchmarkFailed as error:
        console.print(f"bench: {error}", markup=False)
        return 1
    told = _sections(results)
    show([section for name in names for section in told[name]], Console(width=None if sys.stdout.isatty() else 170))
    print(f"written: {options.out}/scale.json")
    if options.page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(FROM)
        PAGE.write_text(f"{before}{FROM}\n{page(results)}\n{UPTO}{rest.partition(UPTO)[2]}", encoding="utf-8")
    wrong = [line for name in names for line in results[name]["figures"].get("wrong", ())]
    for line in wrong:
        console.print(f"bench: {line}", markup=False)
    return 1 if wrong else 0


def page(results: dict[str, Any]) -> str:
    """All rows that were measured, as Markdown."""
    told = _sections(results)
    stamps = {f"{results[name]['date']}. {results[name]['machine']}." for name in told}
    parts = [" ".join(sorted(stamps)) + "\n"] if len(stamps) == 1 else []
    for name, sections in told.items():
        parts.append(markdown(sections))
        if len(stamps) > 1:
            parts.append(f"{results[name]['date']}. {results[name]['machine']}.\n")
    return "\n".join(parts).rstrip("\n") + "\n"


def _names(only: str | None) -> list[str]:
    names = only.split(",") if only else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        raise BenchmarkFailed(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return names


def _sections(results: dict[str, Any]) -> dict[str, list[Section]]:
    told = {name: _row(name).sections(results[name]["figures"]) for name in ROWS if name in results}
    if "turns" in told:
        told["turns"].append(deployment.section(results["turns"]["figures"]))
    return told


def _row(name: str) -> Any:
    return importlib.import_module(f"rows.{name}")


async def _measure(names: list[str], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The rows that were asked for, beside those of earlier runs."""
    chosen = amounts.chosen(options)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "scale.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.data_dir) as folder:
        databases = Databases(Path(folder))
        model, model_url = contestants.start_model(Path(folder))
        stage = Stage(chosen, Path(folder), databases, model, model_url, console)
        try:
            for name in names:
                began = time.perf_counter()
                figures = await _row(name).measure(stage)
                results[name] = {
                    "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
                    "machine": machine(),
                    "took_s": time.perf_counter() - began,
                    "figures": figures,
                }
                file.write_text(json.dumps(results, indent=1), encoding="utf-8")
                console.print(f"{name}: {results[name]['took_s']:.1f} s", markup=False)
        finally:
            databases.close()
            model.stop()
    return results


if __name__ == "__main__":
    sys.exit(main())
