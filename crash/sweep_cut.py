"""Sweep D: a node loses its database, or stands still, for longer than its lease, in the middle of an action.

    cut      its connections are ended and none is made again
    stall    its connections are kept and nothing passes; what it wrote meanwhile comes late
    stop     the whole node stands still (SIGSTOP), as a paused machine does
    write    it does so in the middle of writing the outcome: its transaction is open, and holds the turn's row

The other node takes the turn up and ends it. Then the first comes back, with the outcome of an action that is
somebody else's by now: it must not write, and must tell its caller to ask again.
"""

from __future__ import annotations

import math
import os
import random
import select
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audit
from checks import Asked, judge
from load import Load
from look import Row, Turn, turns, whole
from processes import SweepFailed, until
from proxy import Proxy
from recovery import MOST_RECOVERY_S, carried, taken_over
from result import Result
from world import VARIANTS, NotAnswered, Settings, World, collect

if TYPE_CHECKING:
    from postgresql import PostgreSQL

Say = Callable[[str], None]
WAYS = ("cut", "stall", "stop")
_IN_A_WRITE = "write"
_SERVER = {"beat_s": 0.1, "lease_s": 0.8, "database_patience_s": 60.0}
_LIMIT_S = 60.0
_RETRY = "Retry"


def storm(count: int, callers: int, seed: int, postgresql: PostgreSQL, say: Say) -> Result:
    """The same under load: a node is away for up to three leases, that many times, in the middle of whatever it does.

    Triggers in the database keep who wrote which row: under one lease, that is one node.
    """
    result, chance = Result("cut off under load", "postgresql"), random.Random(seed)
    with ExitStack() as stack:
        proxies, world = _deployed(stack, postgresql, slow_s=0.1)
        audit.install(world.look)
        load = Load(world, callers, seed)
        load.start()
        world.calm_at = math.inf
        try:
            for number in range(count):
                time.sleep(chance.uniform(0.3, 1.0))
                which, way = chance.randrange(2), chance.choice(WAYS)
                _away(world.nodes[which].program, proxies[which], way)
                left = carried(world.look, world.nodes[which].program.pid)
                time.sleep(chance.uniform(0.5, 3.0) * _SERVER["lease_s"])
                _back(world.nodes[which].program, proxies[which], way)
                say(f"cut off under load: {number + 1} of {count}, {way}, {len(left)} turns, {len(load.asked)} answers")
                result.kills += 1
        finally:
            world.calm_at = time.monotonic()
            load.leave()
        load.end()
        result.verdict.add(judge(world.look, world.effects, load.asked))
        rows, wrong = audit.intruders(world.look, proxies)
    result.verdict.wrong += [*load.wrong, *wrong]
    result.runs = len(load.asked)
    taken = f"{rows:,} rows of the journal were written, each by the node that held the lease"
    result.notes += [] if wrong else [taken]
    return result


def sweep(rounds: int, postgresql: PostgreSQL, variants: Sequence[str] = VARIANTS) -> Result:
    """Every way, with functions that honour keys or do not, that many times."""
    result, asked = Result("cut off", "postgresql"), list[Asked]()
    with ExitStack() as stack:
        proxies, world = _deployed(stack, postgresql)
        for number in range(rounds):
            for way in (*WAYS, _IN_A_WRITE):
                for variant in variants:
                    _lose(world, proxies, way, f"{variant}-{way}-{number}", result, asked)
                    result.runs += 1
        result.verdict.add(judge(world.look, world.effects, asked))
    return result


def _deployed(stack: ExitStack, postgresql: PostgreSQL, slow_s: float = 0.0) -> tuple[list[Proxy], World]:
    """Two nodes, each with a proxy between it and the database."""
    proxies = [stack.enter_context(Proxy(postgresql.port)) for _ in range(2)]

    def connect(number: int, url: str) -> str:
        return url.replace(f":{postgresql.port}/", f":{proxies[number].port}/")

    settings = Settings("postgresql", dict(_SERVER), connect, slow_s)
    return proxies, stack.enter_context(World(settings, postgresql))


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
        if way == _IN_A_WRITE:
            node.arm(1, "during")
            hold.let_go()
            until(lambda: node.program.stands_still, _LIMIT_S, f"{node.name} did not stop")
            began = time.monotonic()
        else:
            _away(node.program, proxy, way)
        result.kills += 1
        took, _ = taken_over(world.look, {turn.id: turn.lease}, began)
        result.recovery += took
        if not took or took[0] > MOST_RECOVERY_S:
            wrong(f"it was taken over after {took} s")
        until(lambda: _find(world, turn.id).state == "done", _LIMIT_S, f"{invoice} was not ended by the other node")
        before = _kept(world, turn)
        if way in ("cut", "stall"):
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
    if way in ("cut", "stall"):
        proxy.mend()
    else:
        program.signal(signal.SIGCONT)


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
