"""More than a server takes: requests that are turned away, and callers that never read."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from typing import Any

from databases import SQLITE, Place
from load import Client, fresh, new_session, phase
from processes import SERVER_CORE, percentile
from sections import KIB, MIB, Section, number
from stage import Node, Stage
from workloads import WORKLOADS

MOST_REQUESTS, MOST_TURNS = 64, 32
_LIMITS = f"[server]\nmost_requests = {MOST_REQUESTS}\n[turns]\nmost_at_once = {MOST_TURNS}\n"
_MODEL_S = 0.02
_DEAF_S = 20.0
_LOOK_S = 0.05


async def measure(stage: Stage) -> dict[str, Any]:
    """A crowd at small limits; then callers of long answers, some that read and some that do not."""
    found: dict[str, Any] = {"wrong": []}
    _raise_file_limit()
    stage.say(f"overload: {stage.amounts.crowd:,} requests at once")
    with (
        stage.place(SQLITE) as place,
        stage.engines(place, SERVER_CORE, more=_LIMITS) as nodes,
        stage.slow_model(_MODEL_S),
    ):
        found["crowd"] = await _crowd(nodes[0], stage.amounts.crowd, stage.amounts.settle_s, found["wrong"])
    for who in ("readers", "deaf"):
        stage.say(f"overload: {stage.amounts.deaf} long answers, {who}")
        with stage.place(SQLITE) as place, stage.engines(place, SERVER_CORE) as nodes:
            found[who] = await _long_answers(stage, place, nodes[0], reads=who == "readers")
    return found


async def _crowd(node: Node, count: int, settle_s: float, wrong: list[str]) -> dict[str, float]:
    client, turn = Client(node.target), WORKLOADS["turn"]
    await phase(client, node.tree, "turn", 8, fresh(min(100, count)))
    before = node.tree.rss()[0]
    told: dict[int, list[float]] = {200: [], 429: []}

    async def ask() -> None:
        try:
            reply = await client.post(client.target.request(new_session(), turn))
        except (OSError, TimeoutError) as error:
            wrong.append(f"overload: {type(error).__name__}: {error}")
            return
        if reply.status == 200 and b"xception" not in reply.body:
            told[200].append(reply.wall_s)
        elif reply.status == 429 or b"throttlingException" in reply.body:
            told[429].append(reply.wall_s)
        else:
            wrong.append(f"overload: HTTP {reply.status}: {reply.body[:200]!r}")

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(count)))
    took = time.perf_counter() - began
    crowded = node.tree.rss()[0]
    client.close()
    await asyncio.sleep(settle_s)
    taken, refused = told[200] or [0.0], told[429] or [0.0]
    return {
        "count": count,
        "refused": len(told[429]) / count,
        "seconds": took,
        "p50_ms": percentile(taken, 0.5) * 1e3,
        "p99_ms": percentile(taken, 0.99) * 1e3,
        "refused_p50_ms": percentile(refused, 0.5) * 1e3,
        "before_bytes": before,
        "crowded_bytes": crowded,
        "after_bytes": node.tree.rss()[0],
    }


async def _long_answers(stage: Stage, place: Place, node: Node, *, reads: bool) -> dict[str, float]:
    """The server's memory while that many answers of a megabyte are made, whoever takes them."""
    count, settle_s = stage.amounts.deaf, stage.amounts.settle_s
    client, flood = Client(node.target), WORKLOADS["flood"]
    await phase(client, node.tree, "turn", 8, fresh(min(100, count * 4)))
    before = (await _peak(node, settle_s / 3))[0]
    if reads:
        asking = asyncio.gather(*(client.invoke(new_session(), flood) for _ in range(count)))
        peak = 0
        while not asking.done():
            peak = max(peak, node.tree.rss()[0])
            await asyncio.sleep(_LOOK_S)
        await asking
        client.close()
        return {
            "count": count,
            "before_bytes": before,
            "peak_bytes": peak,
            "after_bytes": (await _peak(node, settle_s))[1],
        }
    sockets = [await _deaf(node, client.target.request(new_session(), flood)) for _ in range(count)]
    try:
        peak, ends = 0, time.perf_counter() + _DEAF_S
        while time.perf_counter() < ends:
            peak = max(peak, (await _peak(node, settle_s / 3))[0])
            if place.rows("SELECT count(*) FROM turns WHERE state = 'running'")[0][0] == 0 and peak:
                break
        peak = max(peak, (await _peak(node, settle_s))[0])
    finally:
        for one in sockets:
            one.close()
    client.close()
    after = (await _peak(node, settle_s))[1]
    return {"count": count, "before_bytes": before, "peak_bytes": peak, "after_bytes": after}


async def _deaf(node: Node, request: bytes) -> socket.socket:
    """A caller that asks and never reads."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", node.server.port))
    await asyncio.get_running_loop().sock_sendall(one, request)
    return one


async def _peak(node: Node, seconds: float) -> tuple[int, int]:
    """The most and the last of the resident bytes in a while."""
    most, ends = 0, time.perf_counter() + seconds
    while True:
        now = node.tree.rss()[0]
        most = max(most, now)
        if time.perf_counter() >= ends:
            return most, now
        await asyncio.sleep(_LOOK_S)


def _raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def sections(found: dict[str, Any]) -> list[Section]:
    """Two tables."""
    crowd = found["crowd"]
    first = Section(f"Overload: {crowd['count']:,} requests at once, `most_requests` = {MOST_REQUESTS}", ("", "figure"))
    first.lines += [
        ("turned away with 429", f"{crowd['refused']:.1%}"),
        ("ms until they knew, p50", number(crowd["refused_p50_ms"], 0)),
        ("ms of the turns that were let in, p50", number(crowd["p50_ms"], 0)),
        ("the same, p99", number(crowd["p99_ms"], 0)),
        ("RSS MiB before", number(crowd["before_bytes"] / MIB, 1)),
        ("RSS MiB when all were answered", number(crowd["crowded_bytes"] / MIB, 1)),
        ("RSS MiB once they had hung up", number(crowd["after_bytes"] / MIB, 1)),
    ]
    first.notes.append(
        f"Turns at once are limited to {MOST_TURNS}; a model of 20 ms; the load has connections of its own."
    )
    second = Section(
        "Answers of 1 MB to many callers at once", ("", "RSS MiB before", "at most", "afterwards", "KiB a caller")
    )
    for who, told in (("readers", "callers that read"), ("deaf", "callers that never read")):
        run = found[who]
        second.lines.append(
            (
                f"{run['count']} {told}",
                *(number(run[f"{name}_bytes"] / MIB, 1) for name in ("before", "peak", "after")),
                number((run["peak_bytes"] - run["before_bytes"]) / run["count"] / KIB, 0),
            )
        )
    return [first, second]
