"""Sweep D: a node loses its database, or stands still, for longer than its lease, in the middle of an action.

    cut      its connections are ended and none is made again
    stall    its connections are kept and nothing passes; what it wrote meanwhile comes late
    stop     the whole node stands still (SIGSTOP), as a paused machine does

The other node takes the turn up and ends it. Then the first comes back, with the outcome of an action that is
somebody else's by now: it must not write, and must tell its caller to ask again.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks import Asked, judge
from look import Row, Turn, turns, whole
from processes import SweepFailed, until
from proxy import Proxy
from recovery import taken_over
from result import Result
from world import VARIANTS, NotAnswered, Settings, World, collect

if TYPE_CHECKING:
    from postgresql import PostgreSQL

WAYS = ("cut", "stall", "stop")
_SERVER = {"beat_s": 0.1, "lease_s": 0.8, "database_patience_s": 60.0}
_LIMIT_S = 60.0
_RETRY = "Retry"


def sweep(rounds: int, postgresql: PostgreSQL, variants: Sequence[str] = VARIANTS) -> Result:
    """Every way, with functions that honour keys or do not, that many times."""
    result, asked = Result("cut off", "postgresql"), list[Asked]()
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(postgresql.port)) for _ in range(2)]

        def connect(number: int, url: str) -> str:
            return url.replace(f":{postgresql.port}/", f":{proxies[number].port}/")

        world = stack.enter_context(World(Settings("postgresql", dict(_SERVER), connect), postgresql))
        for number in range(rounds):
            for way in WAYS:
                for variant in variants:
                    _lose(world, proxies, way, f"{variant}-{way}-{number}", result, asked)
                    result.runs += 1
        result.verdict.add(judge(world.look, world.effects, asked))
    return result


class Hold:
    """A payment that stands still once it is made, until it is let go."""

    def __init__(self, folder: Path, invoice: str) -> None:
        """Hold the payment of that invoice."""
        here = folder / "holds" / invoice
        self._go = here.with_name(f"{invoice}.go")
        os.mkfifo(self._go)
        os.mkfifo(here)
        self._here = os.open(here, os.O_RDONLY | os.O_NONBLOCK)

    def reached(self) -> bool:
        """Whether the payment is made, within the limit."""
        return bool(select.select([self._here], [], [], _LIMIT_S)[0])

    def let_go(self) -> None:
        """Let it answer, where it still runs."""
        os.close(self._here)
        deadline = time.monotonic() + 5.0
        while time.monotonic() < deadline:
            try:
                os.close(os.open(self._go, os.O_WRONLY | os.O_NONBLOCK))
                return
            except OSError:
                time.sleep(0.01)


def _lose(world: World, proxies: Sequence[Proxy], way: str, invoice: str, result: Result, asked: list[Asked]) -> None:
    number = result.runs % 2
    node, proxy = world.nodes[number], proxies[number]
    variant = invoice.partition("-")[0]
    hold = Hold(world.effects, invoice)

    def wrong(what: str) -> None:
        result.verdict.wrong.append(f"cut: {way} of {node.name} in {invoice}: {what}")

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(collect, node.client(), variant, invoice, f"one {invoice}")
        if not hold.reached():
            raise SweepFailed(f"{invoice}: the function was not called")
        turn = next(one for one in turns(world.look) if one.session.endswith(invoice))
        began = time.monotonic()
        _away(node.program, proxy, way)
        result.kills += 1
        result.recovery += taken_over(world.look, {turn.id: turn.lease}, began)[0]
        until(lambda: _find(world, turn.id).state == "done", _LIMIT_S, f"{invoice} was not ended by the other node")
        before = _kept(world, turn)
        if way != "stop":
            hold.let_go()  # it tries to write while it is away
            time.sleep(0.3)
        _back(node.program, proxy, way)
        if way == "stop":
            hold.let_go()
        _check_first(first, wrong)
        if (after := _kept(world, turn)) != before:
            wrong(f"it wrote after it had lost its lease: {before} became {after}")
    told = None
    try:
        told = world.ask(variant, invoice, f"one {invoice}", number)
    except NotAnswered as error:
        wrong(str(error))
    asked.append(Asked("one", variant, invoice, invoice, told, f"cut: {way}"))


def _away(program: Any, proxy: Proxy, way: str) -> None:
    if way == "stop":
        program.signal(signal.SIGSTOP)
    elif way == "cut":
        proxy.cut()
    else:
        proxy.stall()


def _back(program: Any, proxy: Proxy, way: str) -> None:
    if way == "stop":
        program.signal(signal.SIGCONT)
    else:
        proxy.mend()


def _check_first(first: Future[tuple[str, str]], wrong: object) -> None:
    """Its caller must be told to ask again, and nothing else."""
    assert callable(wrong)
    try:
        text, _ = first.result(_LIMIT_S)
    except TimeoutError:
        wrong("its caller was not told anything")
    except Exception as error:
        if _RETRY not in str(error):
            wrong(f"its caller was told {type(error).__name__}: {error}")
    else:
        wrong(f"its caller was answered {text!r}")


def _find(world: World, turn: str) -> Turn:
    return next(one for one in turns(world.look) if one.id == turn)


def _kept(world: World, turn: Turn) -> Sequence[Row]:
    """All that the turn has left: its rows, its session's history and state."""
    session = turn.session.replace("'", "''")
    history = world.look.rows(f"select * from history where session_key = '{session}' order by turn")
    state = world.look.rows(f"select * from sessions where key = '{session}'")
    return [*whole(world.look, turn.id), *history, *state]
