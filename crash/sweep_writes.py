"""Sweep A: a node dies at every write of a turn, once before the commit and once after it.

for each kind of turn, each variant, each write, each moment:
    ask -> the node dies there -> it is started again, or the other one goes on -> the same is asked until answered
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks import Asked, judge
from model import SEEN
from processes import until
from recovery import carried, taken_over
from result import Result
from world import KINDS, VARIANTS, Node, NotAnswered, Settings, Told, World, agent_for

if TYPE_CHECKING:
    from postgresql import PostgreSQL

MOMENTS = ("before", "after")
_DIES_S = 30.0


@dataclass(frozen=True, slots=True)
class Death:
    """Where a node dies."""

    kind: str
    variant: str
    write: int
    moment: str
    name: str

    @property
    def replay(self) -> str:
        """The options that repeat it."""
        return f"writes --kind {self.kind} --variant {self.variant} --write {self.write} --moment {self.moment}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of all deaths a sweep is about; None for all. Shapes: most is how many of them, drawn by the seed."""

    kind: str | None = None
    variant: str | None = None
    write: int | None = None
    moment: str | None = None
    most: int | None = None
    seed: int = 1


def sweep(database: str, choice: Choice, postgresql: PostgreSQL | None) -> Result:
    """The whole sweep on one database."""
    result = Result("every write", database)
    asked: list[Asked] = []
    with World(Settings(database), postgresql) as world:
        deaths = list(_deaths(world, choice, asked))
        if choice.most is not None:
            deaths = random.Random(choice.seed).sample(deaths, min(choice.most, len(deaths)))
        for number, death in enumerate(deaths):
            victim = world.nodes[number % len(world.nodes)]
            _die(world, victim, number, death, result, asked)
        result.verdict.add(judge(world.look, world.effects, asked))
    result.runs = len(deaths)
    result.notes.append(_told(deaths))
    return result


def _deaths(world: World, choice: Choice, asked: list[Asked]) -> Iterator[Death]:
    """Every place to die at: as many writes as a turn of the kind makes where nobody dies."""
    node = world.nodes[0]
    for kind in [choice.kind] if choice.kind else KINDS:
        for variant in [choice.variant] if choice.variant else VARIANTS:
            node.forget_writes()
            invoice = f"{variant}-{kind}-whole"
            told = world.ask(agent_for(kind, variant), invoice, f"{kind} {invoice}")
            asked.append(Asked(kind, variant, invoice, invoice, told))
            heard = 2 if kind == "nested" else 1
            until(lambda heard=heard: node.writes().count("heard") >= heard, 10, "the answer was not marked as heard")
            for number, name in enumerate(node.writes(), 1):
                for moment in [choice.moment] if choice.moment else MOMENTS:
                    if choice.write in (None, number):
                        yield Death(kind, variant, number, moment, name)


def _die(world: World, victim: Node, number: int, death: Death, result: Result, asked: list[Asked]) -> None:
    session = f"{death.variant}-{death.kind}-{death.write}-{death.moment}"
    first = world.nodes.index(victim)
    agent, text = agent_for(death.kind, death.variant), f"{death.kind} {session}"
    victim.arm(death.write, death.moment)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(world.ask, agent, session, text, first)
        has_died = victim.program.wait(_DIES_S)
        died_at, pid = time.monotonic(), victim.program.pid
        victim.disarm()
        if not has_died:
            result.verdict.wrong.append(f"{death.replay}: {victim.name} did not die at {death.name}")
        else:
            result.kills += 1
            left = carried(world.look, pid)
            if not world.is_shared:
                victim.start()
            took, nobodys = taken_over(world.look, left, died_at)
            result.recovery += took
            result.verdict.wrong += [f"{death.replay}: nobody took up {turn}" for turn in nobodys]
        told: Told | None = None
        try:
            told = answer.result()
            later = world.ask(agent, session, "What did we do?", first + 1)
            if not later.text.startswith(SEEN):
                result.verdict.wrong.append(f"{death.replay}: the session then said {later.text!r}")
        except NotAnswered as error:
            result.verdict.wrong.append(f"{death.replay}: {error}")
    asked.append(Asked(death.kind, death.variant, session, session, told, death.replay))
    if not victim.program.is_alive:
        victim.start()


def _told(deaths: list[Death]) -> str:
    names: dict[str, int] = {}
    for death in deaths:
        names[death.name] = names.get(death.name, 0) + 1
    return "died at " + ", ".join(f"{name.replace('_', ' ')} {count} times" for name, count in names.items())
