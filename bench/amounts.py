"""How much of everything the rows of the scale table do: in full, quickly, or only to see that they work."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from databases import POSTGRESQL, SQLITE


@dataclass(frozen=True, slots=True)
class ScaleAmounts:
    """Counts and durations. Shapes: those that are mappings go by how many are under way at once."""

    journal_turns: dict[int, int]
    paced_turns: dict[int, int]
    settle_s: float = 1.5
    kills: int = 50
    restarts: int = 50
    under_way: int = 32
    resting_sessions: int = 10_000
    waiting_turns: int = 1_000
    rest_s: float = 30.0
    earlier: tuple[int, ...] = (1, 10, 100, 1_000)
    stored: tuple[int, ...] = (1, 10_000, 1_000_000)
    growth_turns: int = 200
    growth_long_turns: int = 24
    soak_s: float = 180.0
    jobs: int = 1_000
    jobs_paced: int = 40
    crowd: int = 2_000
    deaf: int = 200
    lease: str = ""
    one_database: Mapping[str, str] = field(default_factory=dict[str, str])
    """Rows that are measured on one kind of database only."""

    def kinds(self, row: str) -> tuple[str, ...]:
        """The kinds of database that a row is measured on."""
        return (self.one_database[row],) if row in self.one_database else (SQLITE, POSTGRESQL)


FULL = ScaleAmounts(journal_turns={1: 150, 16: 800, 64: 1600}, paced_turns={1: 60, 16: 480, 64: 1800, 256: 4000})
QUICK = ScaleAmounts(
    journal_turns={1: 60, 16: 300, 64: 600},
    paced_turns={1: 24, 16: 160, 64: 480, 256: 1000},
    kills=5,
    restarts=5,
    resting_sessions=1_000,
    waiting_turns=100,
    rest_s=5.0,
    earlier=(1, 10, 100),
    stored=(1, 10_000, 100_000),
    growth_turns=80,
    growth_long_turns=8,
    soak_s=20.0,
    jobs=200,
    jobs_paced=10,
    crowd=800,
    deaf=50,
)
SMOKE = replace(
    QUICK,
    journal_turns={1: 2, 4: 8},
    paced_turns={1: 1, 4: 8},
    settle_s=0.0,
    kills=1,
    restarts=1,
    under_way=3,
    resting_sessions=8,
    waiting_turns=3,
    rest_s=0.2,
    earlier=(1, 3),
    stored=(1, 50),
    growth_turns=3,
    growth_long_turns=2,
    soak_s=1.0,
    jobs=8,
    jobs_paced=2,
    crowd=60,
    deaf=4,
    lease="[server]\nbeat_s = 0.1\nlease_s = 0.5\n",
    one_database={"rest": POSTGRESQL, "long": SQLITE, "soak": SQLITE, "jobs": POSTGRESQL},
)


def chosen(options: Namespace) -> ScaleAmounts:
    """What a command line asks for."""
    found = SMOKE if options.smoke else QUICK if options.quick else FULL
    if options.kills:
        found = replace(found, kills=options.kills, restarts=options.kills)
    if options.soak_minutes:
        found = replace(found, soak_s=options.soak_minutes * 60)
    return found
