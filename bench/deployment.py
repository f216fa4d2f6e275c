"""What a million turns a day needs, computed from the figures of the row `turns`."""

from __future__ import annotations

from typing import Any

from sections import KIB, MIB, Section, number

A_DAY = 1_000_000
PEAK = 10
KEEP_DAYS = 30
_SECONDS = 86_400
_GIB = 2**30


def section(turns: dict[str, Any]) -> Section:
    """The average of a day and its peak, each at the cost that a turn has about there.

    Shapes: a turn costs most alone; at the average one is under way or none, at the peak the second load of the row.
    """
    found = Section(
        f"Computed: {A_DAY:,} turns a day",
        ("", "SQLite, average", "SQLite, peak", "PostgreSQL, average", "PostgreSQL, peak"),
    )
    rates = (A_DAY / _SECONDS, A_DAY / _SECONDS * PEAK)
    columns = [
        (turns["setups"][name], turns["setups"][name]["runs"][index], rate)
        for name in ("sqlite", "one")
        for index, rate in enumerate(rates)
    ]

    def line(label: str, digits: int, of: Any) -> None:
        found.lines.append((label, *(number(of(setup, run, rate), digits) for setup, run, rate in columns)))

    def asked(name: str, unit: float) -> Any:
        return lambda _setup, run, rate: run[name] * rate / unit if name in run else None

    line("turns a second", 1, lambda _setup, _run, rate: rate)
    line("processors: servers and functions", 2, asked("tree_cpu_ms", 1e3))
    line("processors: PostgreSQL", 2, lambda _, run, rate: run["database_cpu_ms"] * rate / 1e3 or None)
    line("commits a second", 0, asked("commits", 1))
    line("MiB of write-ahead log a second", 2, asked("wal_bytes", MIB))
    line("GiB of write-ahead log a day", 0, lambda _, run, rate: _a_day(run.get("wal_bytes"), rate, rates))
    line("GiB stored a day", 1, lambda setup, _, rate: _a_day(setup["stored_bytes"], rate, rates))
    kept = turns["setups"]["one"]["stored_bytes"]
    found.notes.append(
        f"The peak is {PEAK} times the average. Turns of three model calls and two tools, in sessions of their own: "
        f"{kept / KIB:.1f} KiB each on PostgreSQL, kept for `keep_days` ({KEEP_DAYS}), "
        f"which makes {kept * A_DAY * KEEP_DAYS / _GIB:,.0f} GiB."
    )
    return found


def _a_day(bytes_a_turn: float | None, rate: float, rates: tuple[float, float]) -> float | None:
    """Of a whole day there is one figure, in the column of the average."""
    return None if bytes_a_turn is None or rate != rates[0] else bytes_a_turn * A_DAY / _GIB
