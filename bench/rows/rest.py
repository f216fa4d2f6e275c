"""What sessions and waiting turns cost while nobody asks anything: memory and processor time of one process."""

from __future__ import annotations

import asyncio
from typing import Any

from databases import POSTGRESQL, TOLD, Place
from load import Client, fresh, new_session, phase
from processes import SERVER_CORE, BenchmarkFailed
from sections import MIB, Section, number
from stage import Node, Stage
from workloads import WORKLOADS

_SETTLED_S = 2.0


async def measure(stage: Stage) -> dict[str, Any]:
    """Both databases."""
    amounts = stage.amounts
    found: dict[str, Any] = {
        "sessions": amounts.resting_sessions,
        "waiting": amounts.waiting_turns,
        "runs": {},
        "wrong": [],
    }
    for kind in stage.amounts.kinds("rest"):
        stage.say(f"rest: {TOLD[kind]}")
        with stage.place(kind) as place, stage.engines(place, SERVER_CORE) as nodes:
            found["runs"][kind] = await _rest(stage, place, nodes[0], found["wrong"])
    return found


async def _rest(stage: Stage, place: Place, node: Node, wrong: list[str]) -> dict[str, Any]:
    amounts = stage.amounts
    empty = await _at_rest(place, node, amounts.rest_s)
    client = Client(node.target)
    figures = await phase(client, node.tree, "chat", 16, fresh(amounts.resting_sessions))
    if figures.errors:
        wrong.append(f"rest, {place.kind}: {figures.errors} errors, first: {figures.first_error}")
    client.close()
    waiting = Client(stage.control(place, node))
    left = iter(range(amounts.waiting_turns))

    async def ask() -> None:
        for _ in left:
            reply = await waiting.post(waiting.target.request(new_session(), WORKLOADS["turn"]))
            if reply.status != 200 or b"returnControl" not in reply.body:
                raise BenchmarkFailed(f"control is not returned: {reply.status} {reply.body[:300]!r}")

    await asyncio.gather(*(ask() for _ in range(16)))
    waiting.close()
    await asyncio.sleep(min(_SETTLED_S, amounts.rest_s))
    return {"empty": empty, "full": [await _at_rest(place, node, amounts.rest_s) for _ in range(2)]}


async def _at_rest(place: Place, node: Node, seconds: float) -> dict[str, float]:
    """Units: processor time in milliseconds per minute."""
    server, database = node.tree.server_cpu(), place.cpu()
    await asyncio.sleep(seconds)
    each = 60 / seconds * 1e3
    return {
        "rss_bytes": node.tree.rss()[0],
        "cpu_ms": (node.tree.server_cpu() - server) * each,
        "database_cpu_ms": (place.cpu() - database) * each,
    }


def sections(found: dict[str, Any]) -> list[Section]:
    """One table."""
    head = ("one process at rest", "RSS MiB", "CPU ms a minute", "and once more", "PostgreSQL's CPU ms a minute")
    section = Section(
        f"At rest: {found['sessions']:,} sessions, {found['waiting']:,} turns that wait for their caller", head
    )
    for kind, run in found["runs"].items():
        empty, (full, again) = run["empty"], run["full"]
        for told, one, more in (("just started", empty, None), ("with all of them", full, again)):
            section.lines.append(
                (
                    f"{TOLD[kind]}, {told}",
                    number(one["rss_bytes"] / MIB, 1),
                    number(one["cpu_ms"], 0),
                    number(more["cpu_ms"], 0) if more else "",
                    number(one["database_cpu_ms"], 0) if kind == POSTGRESQL else "",
                )
            )
    return [section]
