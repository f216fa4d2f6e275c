"""Sweep B: nodes killed at random under load. Sweep C: their database killed and started again under load."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from checks import judge
from load import Load
from processes import until
from recovery import MOST_RECOVERY_S, carried, taken_over
from result import Result
from world import Settings, World

if TYPE_CHECKING:
    from postgresql import PostgreSQL

Say = Callable[[str], None]
LEASES = {"beat_s": 0.2, "lease_s": 1.5}
SLOW_S = 0.1
_ANSWERED_S = 60.0
_PAUSES_S, _ALONE_PAUSES_S = (0.2, 1.2), (0.5, 3.0)
"""Between two kills: a node that is alone must live long enough for the longest turn, or no turn ever ends."""


def kills(
    database: str, count: int, callers: int, seed: int, postgresql: PostgreSQL | None, say: Say, **server: Any
) -> Result:
    """Sweep B on one database. Shapes: server is [server]'s, for another run than the quick one."""
    result = Result("killed at random", database)
    chance = random.Random(seed)
    with World(Settings(database, server or dict(LEASES), slow_s=SLOW_S), postgresql) as world:
        load = Load(world, callers, seed)
        load.start()
        world.calm_at = math.inf
        try:
            for number in range(count):
                time.sleep(chance.uniform(*(_PAUSES_S if world.is_shared else _ALONE_PAUSES_S)))
                _kill(world, chance.randrange(len(world.nodes)), result)
                if number % 10 == 9:
                    say(f"killed at random, {database}: {number + 1} of {count}; {len(load.asked)} turns")
        finally:
            world.calm_at = time.monotonic()
            load.leave()
        load.end()
        _judge(world, load, result)
    slow = [seconds for seconds in result.recovery if seconds > MOST_RECOVERY_S]
    result.verdict.wrong += [f"seed {seed}: a turn stood still for {seconds:.1f} s" for seconds in slow]
    result.runs = len(load.asked)
    return result


def _kill(world: World, number: int, result: Result) -> None:
    victim = world.nodes[number]
    victim.program.kill()
    died_at, pid = time.monotonic(), victim.program.pid
    result.kills += 1
    left = carried(world.look, pid)
    # At once, as whatever watches over processes would: on SQLite nobody else can go on.
    victim.program.launch()
    took, nobodys = taken_over(world.look, left, died_at)
    victim.program.listens()
    result.recovery += took
    result.verdict.wrong += [f"nobody took up {turn} within a minute" for turn in nobodys]


def _judge(world: World, load: Load, result: Result) -> None:
    result.verdict.add(judge(world.look, world.effects, load.asked))
    result.verdict.wrong += load.wrong
    failures = sum(len(one.told.failures) for one in load.asked if one.told is not None)
    waits = [one.told.took_s for one in load.asked if one.told is not None]
    result.notes.append(f"{failures} calls broke and were made again; the longest answer took {max(waits):.1f} s")


def database_kills(count: int, callers: int, seed: int, postgresql: PostgreSQL, say: Say) -> Result:
    """Sweep C. Its recovery is from the database's return to the next answer."""
    result = Result("database killed", "postgresql")
    chance = random.Random(seed)
    with World(Settings("postgresql", dict(LEASES), slow_s=SLOW_S), postgresql) as world:
        load = Load(world, callers, seed)
        load.start()
        world.calm_at = math.inf
        try:
            for number in range(count):
                time.sleep(chance.uniform(0.3, 1.5))
                postgresql.kill()
                time.sleep(chance.uniform(0.0, 1.0))
                postgresql.start()
                result.kills += 1
                back, answers = time.monotonic(), len(load.asked)
                until(
                    lambda answers=answers: len(load.asked) > answers,
                    _ANSWERED_S,
                    "no answer since the database is back",
                )
                result.recovery.append(time.monotonic() - back)
                if number % 10 == 9:
                    say(f"database killed: {number + 1} of {count}; {len(load.asked)} turns")
        finally:
            world.calm_at = time.monotonic()
            load.leave()
        load.end()
        _judge(world, load, result)
    result.runs = len(load.asked)
    return result
