"""Turns in the background, by StartTurn: how many are started a second, and how soon they begin."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from databases import TOLD, Place
from load import Client, WrongAnswer, fresh, new_session, phase
from outcrop.ids import TurnId, born
from processes import SERVER_CORE, BenchmarkFailed, percentile
from sections import Section, number, ratio
from stage import Node, Stage
from workloads import WORKLOADS

_AT_ONCE = 16
_LIMIT_S = 180.0
_LOOK_S = 0.02
_GAP_S = 0.05


async def measure(stage: Stage) -> dict[str, Any]:
    """Both databases."""
    found: dict[str, Any] = {"runs": {}, "wrong": []}
    for kind in stage.amounts.kinds("jobs"):
        stage.say(f"jobs: {TOLD[kind]}")
        with stage.place(kind) as place, stage.engines(place, SERVER_CORE) as nodes:
            found["runs"][kind] = await _jobs(stage, place, nodes[0], found["wrong"])
    return found


async def _jobs(stage: Stage, place: Place, node: Node, wrong: list[str]) -> dict[str, Any]:
    client = Client(node.target)
    try:
        called = await phase(client, node.tree, "turn", _AT_ONCE, fresh(stage.amounts.jobs))
        await _start(client, new_session())
        await _ended(place, called.turns + 1)
        paced = await _paced(client, place, stage.amounts.jobs_paced)
        burst = await _burst(client, place, node, stage.amounts.jobs)
    finally:
        client.close()
    failed = place.rows("SELECT count(*) FROM turns WHERE state <> 'done'")[0][0]
    if failed or called.errors:
        wrong.append(f"jobs, {TOLD[place.kind]}: {failed} turns did not end well; {called.first_error}")
    return {"called_cpu_ms": called.server_cpu_ms, "paced": paced, "burst": burst}


async def _paced(client: Client, place: Place, count: int) -> dict[str, float]:
    """One after the other, each on a server with nothing else to do.

    Units: milliseconds from being kept to being begun.
    """
    ids: list[str] = []
    before = _turns(place)
    for number_ in range(count):
        ids.append(await _start(client, new_session()))
        await _ended(place, before + number_ + 1)
        await asyncio.sleep(_GAP_S)
    return _waited(place, ids)


async def _burst(client: Client, place: Place, node: Node, count: int) -> dict[str, float]:
    """All at once: how fast they are accepted, and how fast they are done."""
    before, ids, walls = _turns(place), [], []
    left = iter(range(count))

    async def start() -> None:
        for _ in left:
            began_ = time.perf_counter()
            ids.append(await _start(client, new_session()))
            walls.append(time.perf_counter() - began_)

    server, database, began = node.tree.server_cpu(), place.cpu(), time.perf_counter()
    await asyncio.gather(*(start() for _ in range(_AT_ONCE)))
    started = time.perf_counter() - began
    await _ended(place, before + count)
    ended = time.perf_counter() - began
    return {
        "started_per_second": count / started,
        "start_p50_ms": percentile(walls, 0.5) * 1e3,
        "done_per_second": count / ended,
        "cpu_ms": (node.tree.server_cpu() - server) / count * 1e3,
        "database_cpu_ms": (place.cpu() - database) / count * 1e3,
        **_waited(place, ids),
    }


async def _start(client: Client, session: str) -> str:
    """Start a turn in the background; its id.

    Errors: WrongAnswer.
    """
    request = client.target.request(session, WORKLOADS["turn"])
    head, _, _ = request.partition(b"\r\n")
    body = b'{"inputText": "%b"}' % WORKLOADS["turn"].question.encode()
    line = f"POST /outcrop{client.target.path}/sessions/{session}/turns HTTP/1.1".encode()
    lines = [
        part for part in request[len(head) + 2 :].partition(b"\r\n\r\n")[0].split(b"\r\n") if b"-length" not in part
    ]
    asked = b"\r\n".join([line, *lines, b"content-length: %d" % len(body), b"", body])
    reply = await client.post(asked)
    if reply.status != 202:
        raise WrongAnswer(f"StartTurn: HTTP {reply.status}: {reply.body[:300]!r}")
    return str(orjson.loads(reply.body)["turnId"])


def _turns(place: Place) -> int:
    return int(place.rows("SELECT count(*) FROM turns WHERE finished_at IS NOT NULL")[0][0])


async def _ended(place: Place, wanted: int) -> None:
    limit = time.perf_counter() + _LIMIT_S
    while _turns(place) < wanted:
        if time.perf_counter() > limit:
            raise BenchmarkFailed(f"{wanted - _turns(place)} turns in the background do not end")
        await asyncio.sleep(_LOOK_S)


def _waited(place: Place, ids: list[str]) -> dict[str, float]:
    began = dict(place.rows("SELECT id, started_at FROM turns"))
    waits = [max(0.0, began[id_] - born(TurnId(id_))) for id_ in ids]
    return {"wait_p50_ms": percentile(waits, 0.5) * 1e3, "wait_p99_ms": percentile(waits, 0.99) * 1e3}


def sections(found: dict[str, Any]) -> list[Section]:
    """One table."""
    section = Section(
        "Turns in the background",
        (
            "StartTurn",
            "started a second",
            "ms to be started",
            "done a second",
            "ms until begun p50",
            "p99",
            "CPU ms",
            "x called",
        ),
    )
    for kind, run in found["runs"].items():
        paced, burst = run["paced"], run["burst"]
        alone = number(paced["wait_p50_ms"], 0), number(paced["wait_p99_ms"], 0)
        crowd = number(burst["wait_p50_ms"], 0), number(burst["wait_p99_ms"], 0)
        section.lines.append((f"{TOLD[kind]}, one after the other", "", "", "", *alone, "", ""))
        rates = (
            number(burst["started_per_second"], 0),
            number(burst["start_p50_ms"], 1),
            number(burst["done_per_second"], 0),
        )
        cost = number(burst["cpu_ms"]), ratio(burst["cpu_ms"], run["called_cpu_ms"])
        section.lines.append((f"{TOLD[kind]}, all at once", *rates, *crowd, *cost))
    section.notes.append(
        "From the turn being kept to its beginning, by the server's clock. *x called*: times what the same turn costs "
        "the server when InvokeAgent waits for it. A process looks into the queue every `poll_s` (0.1 s)."
    )
    return [section]
