"""The proof that no tool call is repeated and no session is lost: real processes, killed in every way there is.

    writes     a node dies at every journal write of every kind of turn, before and after the commit
    kills      nodes are killed at random under load
    database   the database is killed and started again under load
    cut        a node is cut off from the database, or stands still, in the middle of an action
    rolling    nodes are restarted in turn under callers that have boto3's own retries and nothing else

Exits 1 on any violation, each told with what repeats it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import sweep_cut
import sweep_kills
import sweep_rolling
import sweep_writes
from processes import SweepFailed
from result import HEAD, Result, markdown
from world import KINDS, VARIANTS

HERE = Path(__file__).resolve().parent
SUPPORT = HERE.parent / "tests" / "support"
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "crash-safety.md"
FROM, UPTO = "<!-- figures -->\n", "<!-- end of figures -->"
SWEEPS = ("writes", "kills", "database", "cut", "rolling")
DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each sweep. Shapes: writes is None for every one."""

    writes: int | None
    kills: int
    default_kills: int
    callers: int
    database_kills: int
    cuts: int
    storms: int
    rolls: int
    rolling_callers: int


LONG = Amounts(None, 500, 10, 32, 20, 3, 30, 3, 64)
SHORT = Amounts(4, 2, 0, 4, 1, 1, 0, 1, 8)


def parser() -> argparse.ArgumentParser:
    """The command line, described."""
    options = argparse.ArgumentParser(prog="crash/run.py", description=(__doc__ or "").partition("\n")[0])
    options.add_argument("sweeps", nargs="*", metavar="SWEEP", help=f"which of {', '.join(SWEEPS)} (default: all)")
    options.add_argument("--database", choices=DATABASES, help="only on this one (default: both)")
    options.add_argument("--short", action="store_true", help="a few deaths of each kind, as `make test` has them")
    options.add_argument("--kills", type=int, help="random kills on each database (default 500)")
    options.add_argument("--seed", type=int, default=1, help="of all chance (default 1)")
    options.add_argument("--kind", choices=KINDS, help="writes: only this kind of turn")
    options.add_argument(
        "--variant", choices=VARIANTS, help="writes: and cut: only functions that honour keys, or do not"
    )
    options.add_argument("--write", type=int, help="writes: only this one, from 1")
    options.add_argument("--moment", choices=sweep_writes.MOMENTS, help="writes: only before, or after the commit")
    options.add_argument("--out", type=Path, default=RESULTS, help="folder of latest.json and latest.md")
    options.add_argument("--page", action="store_true", help="write the table into docs/crash-safety.md too")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Break things and print what came of it; what it returns is the process's exit status."""
    options = parser().parse_args(arguments)
    console = Console(stderr=True)
    if unknown := set(options.sweeps) - set(SWEEPS):
        console.print(f"crash: no sweep {', '.join(sorted(unknown))}; there are {', '.join(SWEEPS)}", markup=False)
        return 2
    began, results = time.monotonic(), list[Result]()
    try:
        for result in _results(options, lambda line: console.print(line, markup=False)):
            results.append(result)
            console.print(f"{result.sweep}, {result.database}: {len(result.wrong)} violations", markup=False)
    except SweepFailed as error:
        console.print(f"crash: {error}", markup=False)
        return 1
    _keep(options, results, time.monotonic() - began)
    Console(width=None if sys.stdout.isatty() else 190).print(_table(results))
    for result in results:
        for line in result.wrong:
            console.print(f"crash: {result.sweep}, {result.database}: {line}", markup=False, soft_wrap=True)
    return 1 if any(result.wrong for result in results) else 0


def _results(options: argparse.Namespace, say: sweep_kills.Say) -> Iterator[Result]:
    amounts = SHORT if options.short else LONG
    chosen, databases = options.sweeps or SWEEPS, [options.database] if options.database else DATABASES
    choice = sweep_writes.Choice(
        options.kind, options.variant, options.write, options.moment, amounts.writes, options.seed
    )
    count = options.kills if options.kills is not None else amounts.kills
    with ExitStack() as stack:
        server: Any = stack.enter_context(_postgresql()) if "postgresql" in databases else None
        for database in databases:
            used = server if database == "postgresql" else None
            if "writes" in chosen:
                yield sweep_writes.sweep(database, choice, used)
            if "kills" in chosen:
                yield sweep_kills.kills(database, count, amounts.callers, options.seed, used, say)
        if server is None:
            return
        if "kills" in chosen and amounts.default_kills:
            result = sweep_kills.kills(
                "postgresql", amounts.default_kills, amounts.callers, options.seed, server, say, beat_s=0.5, lease_s=5.0
            )
            result.sweep += ", default lease"
            yield result
        if "database" in chosen:
            yield sweep_kills.database_kills(amounts.database_kills, amounts.callers, options.seed, server, say)
        if "cut" in chosen:
            yield sweep_cut.sweep(amounts.cuts, server, [options.variant] if options.variant else VARIANTS)
        if "cut" in chosen and amounts.storms:
            yield sweep_cut.storm(amounts.storms, amounts.callers, options.seed, server, say)
        if "rolling" in chosen:
            yield sweep_rolling.sweep(amounts.rolls, amounts.rolling_callers, options.seed, server)


def _postgresql() -> Any:
    """A PostgreSQL of our own, which listens where proxies can be put before it."""
    sys.path.append(str(SUPPORT))
    from postgresql import PostgreSQL

    return PostgreSQL(listens=True)


def _keep(options: argparse.Namespace, results: Sequence[Result], took_s: float) -> None:
    told = f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} processors, CPython"
    told += f" {platform.python_version()}, seed {options.seed}, {took_s / 60:.0f} minutes."
    page = f"{told}\n\n{markdown(results)}"
    options.out.mkdir(parents=True, exist_ok=True)
    kept = {"told": told, "results": [result.kept() for result in results]}
    (options.out / "latest.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    (options.out / "latest.md").write_text(page, encoding="utf-8")
    if options.page:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(FROM)
        PAGE.write_text(f"{before}{FROM}\n{page}\n{UPTO}{rest.partition(UPTO)[2]}", encoding="utf-8")


def _table(results: Sequence[Result]) -> Table:
    table = Table(*HEAD, title="killed, and what came of it")
    for result in results:
        table.add_row(*result.cells())
    return table


if __name__ == "__main__":
    sys.exit(main())
