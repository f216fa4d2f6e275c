"""A line of the table: what one sweep came to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from checks import Verdict

HEAD = ("sweep", "database", "runs", "kills", "turns", "calls", "effects", "repeats", "uncertain", "lost", "recovery s")


@dataclass(slots=True)
class Result:
    """One sweep on one database. Units: recovery in seconds, one per turn that another process took over."""

    sweep: str
    database: str
    runs: int = 0
    kills: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    recovery: list[float] = field(default_factory=list[float])
    notes: list[str] = field(default_factory=list[str])

    @property
    def wrong(self) -> Sequence[str]:
        """What must not be."""
        return self.verdict.wrong

    def cells(self) -> list[str]:
        """The line's cells, under HEAD."""
        it, recovery = self.verdict, ""
        if self.recovery:
            recovery = f"{statistics.median(self.recovery):.2f}, worst {max(self.recovery):.2f}"
        figures = (self.runs, self.kills, it.turns, it.calls, it.effects, it.repeats, it.uncertain, it.lost)
        return [self.sweep, self.database, *(f"{figure:,}" for figure in figures), recovery]

    def kept(self) -> dict[str, Any]:
        """The result as JSON."""
        return asdict(self)


def markdown(results: Sequence[Result]) -> str:
    """The table for a page, with notes under it."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * 2 + "---:|" * (len(HEAD) - 2)]
    lines += ["| " + " | ".join(one.cells()) + " |" for one in results]
    lines += [f"\n{one.sweep}, {one.database}: {note}." for one in results for note in one.notes]
    return "\n".join(lines) + "\n"
