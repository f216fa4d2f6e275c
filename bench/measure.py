"""What is measured of a contestant, in which amounts: one round, the memory run, the starts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from contestants import ENGINE, Contestant, start_engine, write_config
from load import Client, Figures, Job, fresh, new_session, phase, seed

AT_ONCE = (1, 16, 64)


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many turns of each kind. Shapes: earlier is the number of turns that a long session holds."""

    warm: int = 60
    alone: int = 200
    crowd: int = 800
    report: int = 200
    paced: int = 64
    regions: int = 24
    long_sessions: int = 4
    earlier: int = 100
    long_turns: int = 12
    memory: int = 2000
    starts: int = 3
    hops: int = 2000


FULL = Amounts()
QUICK = replace(FULL, alone=60, crowd=240, report=60, paced=16, regions=8, long_turns=6, memory=300, starts=1, hops=300)
SMOKE = Amounts(
    warm=2,
    alone=3,
    crowd=8,
    report=2,
    paced=2,
    regions=1,
    long_sessions=1,
    earlier=3,
    long_turns=2,
    memory=8,
    starts=1,
    hops=5,
)

Results = dict[str, Any]


async def one_round(contestant: Contestant, amounts: Amounts) -> Results:
    """All workloads of one contestant once: figures by the name of the phase."""
    tree, client = contestant.server.tree, Client(contestant.target)
    traced = Client(contestant.traced())
    figures: dict[str, Figures] = {}

    async def take(name: str, workload: str, at_once: int, jobs: list[Job]) -> None:
        figures[name] = await phase(client, tree, workload, at_once, jobs)

    try:
        for workload, count in (("turn", amounts.warm), ("report", 4), ("regions", 2)):
            await phase(client, tree, workload, 4, fresh(count))
        for at_once in AT_ONCE:
            await take(f"turn_{at_once}", "turn", at_once, fresh(amounts.alone if at_once == 1 else amounts.crowd))
        if contestant.name == ENGINE:
            await phase(traced, tree, "turn", 1, fresh(4))
            figures["traced_1"] = await phase(traced, tree, "turn", 1, fresh(amounts.alone))
        await take("report_4", "report", 4, fresh(amounts.report))
        await take("paced_16", "paced", 16, fresh(amounts.paced))
        await take("regions_1", "regions", 1, fresh(amounts.regions))
        sessions = [new_session() for _ in range(amounts.long_sessions)]
        await seed(client, sessions, amounts.earlier)
        later = range(amounts.earlier + 1, amounts.earlier + 1 + amounts.long_turns)
        await take("long_1", "turn", 1, [Job(session, turn) for turn in later for session in sessions])
    finally:
        client.close()
        traced.close()
    started = contestant.server.started
    return {
        **{name: asdict(found) for name, found in figures.items()},
        "start": {"announced_s": started.announced_s, "healthy_s": started.healthy_s},
        "rest_bytes": contestant.server.rest_bytes,
        "end_bytes": tree.rss()[0],
    }


async def memory(contestant: Contestant, amounts: Amounts) -> Results:
    """Resident memory of a server whose sessions each took one turn."""
    tree, client = contestant.server.tree, Client(contestant.target)
    try:
        warm_up = await phase(client, tree, "turn", 16, fresh(min(100, amounts.memory)))
        warm, stored = tree.rss()[0], contestant.disk_bytes()
        turns = await phase(client, tree, "turn", 16, fresh(amounts.memory))
        after, whole = tree.rss()
        each = max(1, turns.turns)
        return {
            "rest_bytes": contestant.server.rest_bytes,
            "warm_bytes": warm,
            "after_bytes": after,
            "tree_bytes": whole,
            "sessions": warm_up.turns + turns.turns,
            "errors": warm_up.errors + turns.errors,
            "first_error": warm_up.first_error or turns.first_error,
            "bytes_per_session": (after - warm) / each,
            "stored_per_session": (contestant.disk_bytes() - stored) / each,
        }
    finally:
        client.close()


def starts(folder: Path, model_url: str, amounts: Amounts) -> list[Results]:
    """How long `outcrop serve` takes: on a new data folder, and on one that is there already.

    Errors: BenchmarkFailed.
    """
    found: list[Results] = []
    for index in range(amounts.starts):
        place = folder / f"start-{index}"
        place.mkdir()
        config = write_config(place, model_url)
        for kind in ("new", "again"):
            server = start_engine(config, place)
            server.stop()
            started = server.started
            found.append({"data": kind, "announced_s": started.announced_s, "healthy_s": started.healthy_s})
    return found
