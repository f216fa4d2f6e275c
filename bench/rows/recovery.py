"""A server is killed with SIGKILL while its model thinks: how long until its turns go on, and until they have ended.

PostgreSQL: two nodes; one dies, the other takes its turns up      the callers ask the other one again, as SDKs do
SQLite:     one node; counted from the moment it is started again
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from databases import POSTGRESQL, SQLITE, TOLD, Place
from load import Client, WrongAnswer, new_session
from processes import LOAD_CORE, SERVER_CORE, BenchmarkFailed
from sections import Section, number
from stage import Node, Stage
from workloads import WORKLOADS

_LIMIT_S = 60.0
_LOOK_S = 0.01
_TURN = WORKLOADS["turn"]


async def measure(stage: Stage) -> dict[str, Any]:
    """Every kill of both kinds."""
    found: dict[str, Any] = {"under_way": stage.amounts.under_way, "wrong": [], "kills": {}}
    for kind, kills in ((POSTGRESQL, stage.amounts.kills), (SQLITE, stage.amounts.restarts)):
        with stage.place(kind) as place:
            found["kills"][kind] = await _kills(stage, place, kills)
    return found


async def _kills(stage: Stage, place: Place, kills: int) -> list[dict[str, float]]:
    """One node dies after the other; where there are two, each in turn."""
    found: list[dict[str, float]] = []
    shared = place.kind == POSTGRESQL
    with stage.engines(
        place, *((SERVER_CORE, LOAD_CORE) if shared else (SERVER_CORE,)), more=stage.amounts.lease
    ) as nodes:
        for number_ in range(kills):
            if number_ % 10 == 0:
                stage.say(f"recovery: {TOLD[place.kind]}, kill {number_ + 1} of {kills}")
            dying = number_ % len(nodes)
            sessions = [new_session() for _ in range(stage.amounts.under_way)]
            await _under_way(stage, nodes[dying], sessions)
            nodes[dying].server.kill()
            began = time.perf_counter()
            if shared:
                figures = await _seen(stage, place, nodes[1 - dying], sessions, began)
                if number_ == kills - 1:
                    found.append(figures)
                    break
                nodes[dying] = await asyncio.to_thread(
                    stage.engine, place, (SERVER_CORE, LOAD_CORE)[dying], stage.amounts.lease
                )
            else:
                nodes[0] = await asyncio.to_thread(stage.engine, place, SERVER_CORE, stage.amounts.lease)
                figures = await _seen(stage, place, nodes[0], sessions, began)
                figures["listening_s"] = nodes[0].server.started.announced_s
            found.append(figures)
    return found


async def _under_way(stage: Stage, node: Node, sessions: list[str]) -> None:
    """Turns of a node that all wait for their model; nobody will hear this node's answers."""
    stage.pace(open=False)
    client = Client(node.target)
    asking = [asyncio.ensure_future(_ask(client, session, 1)) for session in sessions]
    await _until(lambda: stage.pace() >= len(sessions), "the turns do not reach the model")
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def _seen(stage: Stage, place: Place, node: Node, sessions: list[str], began: float) -> dict[str, float]:
    """When the last of these turns was taken up, had ended, and was answered.

    Errors: BenchmarkFailed; WrongAnswer.
    """
    keys = ", ".join(f"'{session}'" for session in sessions)
    mine = f"substr(session_key, length(session_key) - {len(sessions[0]) - 1}) IN ({keys})"
    client = Client(node.target)
    answers = [asyncio.ensure_future(_ask(client, session, 2)) for session in sessions]
    try:
        await _count(place, f"{mine} AND lease > 1", len(sessions), "the turns are not taken up")
        taken = time.perf_counter() - began
        stage.pace(open=True)
        await _count(place, f"{mine} AND state = 'done'", len(sessions), "the turns do not end")
        ended = time.perf_counter() - began
        await asyncio.gather(*answers)
        return {"taken_s": taken, "ended_s": ended, "answered_s": time.perf_counter() - began}
    finally:
        for task in answers:
            task.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        client.close()


async def _ask(client: Client, session: str, attempt: int) -> None:
    """One attempt of a caller; an SDK tries again by itself where its connection breaks or it is told to."""
    while True:
        retried = f"amz-sdk-invocation-id: {session}\r\namz-sdk-request: attempt={attempt}; max=9\r\n"
        try:
            await client.invoke(session, _TURN, headers=retried)
        except WrongAnswer as error:
            if attempt > 8:
                raise
            if not any(told in str(error) for told in ("HTTP 5", "HTTP 429", "HTTP 409")):
                raise
            attempt += 1
            await asyncio.sleep(0.2)
        else:
            return


async def _count(place: Place, where: str, wanted: int, problem: str) -> None:
    statement = f"SELECT count(*) FROM turns WHERE {where}"
    await _until(lambda: place.rows(statement)[0][0] == wanted, problem)


async def _until(holds: Any, problem: str) -> None:
    limit = time.perf_counter() + _LIMIT_S
    while not holds():
        if time.perf_counter() > limit:
            raise BenchmarkFailed(problem)
        await asyncio.sleep(_LOOK_S)


def sections(found: dict[str, Any]) -> list[Section]:
    """One table."""
    section = Section(
        f"After SIGKILL, with {found['under_way']} turns under way",
        ("seconds", "kills", "median", "worst"),
    )
    told = {
        POSTGRESQL: "PostgreSQL, two processes, one is killed: until the last of its turns",
        SQLITE: "SQLite, killed and started again at once: until the last of its turns",
    }
    for kind, kills in found["kills"].items():
        names = [
            ("taken_s", "is taken up"),
            ("ended_s", "has ended"),
            ("answered_s", "is answered to a caller who asked again"),
        ]
        for name, what in names:
            section.lines.append(_line(f"{told[kind]} {what}", kills, name))
        if kind == SQLITE:
            section.lines.append(_line("SQLite: of these, until the new process listens", kills, "listening_s"))
    section.notes.append(
        "On PostgreSQL the other process waits for `lease_s` (5 s as it comes) without a sign of life, and looks every "
        "`beat_s` (half a second). The turns wait for their model; once the last is taken up it answers at once, and "
        "they have three model calls and two tools to go."
    )
    return [section]


def _line(told: str, kills: list[dict[str, float]], name: str) -> tuple[str, ...]:
    values = [kill[name] for kill in kills]
    return told, f"{len(values)}", number(statistics.median(values)), number(max(values))
