"""What the rows of the scale table are measured on: databases, engines on them, and a model to be slowed and held.

Stage.engine(place, core) -> Node -> Client(node.target)      Spread(nodes) takes turns over all of them
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

import contestants
from amounts import ScaleAmounts
from databases import Databases, Place, PostgresqlPlace
from load import Client, Sample, Target
from processes import LOAD_CORE, SERVER_CORE, BenchmarkFailed, Server, Tree, free_port
from workloads import Workload

ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
_LIMIT_S = 60.0


@dataclass(slots=True)
class Node:
    """One `outcrop serve` on a place."""

    server: Server
    target: Target

    @property
    def tree(self) -> Tree:
        """Its processes."""
        return self.server.tree


class Spread:
    """Several nodes as one: their clients take turns, their clocks add up."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        """Spread evenly over these."""
        self._nodes = nodes
        self._clients = [Client(node.target) for node in nodes]
        self._next = itertools.cycle(self._clients)

    async def invoke(self, session: str, workload: Workload, turn: int = 1) -> Sample:
        """One turn, on the next node.

        Errors: WrongAnswer; OSError; TimeoutError.
        """
        return await next(self._next).invoke(session, workload, turn)

    def server_cpu(self) -> float:
        """Seconds of processor time of the servers' own processes."""
        return sum(node.tree.server_cpu() for node in self._nodes)

    def cpu(self) -> float:
        """Seconds with their functions' processes."""
        return sum(node.tree.cpu() for node in self._nodes)

    def close(self) -> None:
        """Hang up."""
        for client in self._clients:
            client.close()


@dataclass(slots=True)
class Stage:
    """What there is for one run."""

    amounts: ScaleAmounts
    folder: Path
    databases: Databases
    model: Server
    model_url: str
    console: Console
    _agents: dict[tuple[str, bool], str] = field(default_factory=dict[tuple[str, bool], str])
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def say(self, text: str) -> None:
        """Tell whoever waits what is being done."""
        self.console.print(text, markup=False, soft_wrap=True)

    def engine(self, place: Place, core: int = SERVER_CORE, more: str = "") -> Node:
        """An engine on this place that answers for its agent.

        Shapes: more is further TOML of its settings.
        Errors: BenchmarkFailed.
        """
        number = next(self._numbers)
        config = contestants.write_config(place.folder, self.model_url, more)
        command = [str(Path(sys.executable).with_name("outcrop")), "serve", "--config", str(config)]
        port = free_port()
        command += ["--port", str(port), "--data-dir", str(place.folder / "data"), "--database", place.setting]
        server = Server(command, port, place.folder / f"outcrop-{number}.log", core)
        try:
            return Node(server, Target(port, self.agent(place, port)))
        except BaseException:
            server.stop()
            raise

    def agent(self, place: Place, port: int, *, control: bool = False) -> str:
        """The path of the place's agent, which is made when it is first asked for."""
        key = (place.setting, control)
        if key not in self._agents:
            self._agents[key] = contestants.make_agent(port, "control" if control else "bench", control=control)
        return self._agents[key]

    def control(self, place: Place, node: Node) -> Target:
        """The agent whose caller carries the tools out."""
        return replace(node.target, path=self.agent(place, node.server.port, control=True))

    def pace(self, **settings: Any) -> int:
        """Set the model's delay (`delay_s`) or its gate (`open`); how many replies are held back then."""
        connection = http.client.HTTPConnection("127.0.0.1", self.model.port, timeout=_LIMIT_S)
        with contextlib.closing(connection):
            connection.request("POST", "/settings", json.dumps(settings))
            return int(json.loads(connection.getresponse().read())["waiting"])

    @contextlib.contextmanager
    def slow_model(self, delay_s: float) -> Iterator[None]:
        """The model takes that long for every reply, inside."""
        self.pace(delay_s=delay_s)
        try:
            yield
        finally:
            self.pace(delay_s=0.0)

    @contextlib.contextmanager
    def place(self, kind: str) -> Iterator[Place]:
        """A database for the time inside."""
        place = self.databases.new(kind)
        try:
            yield place
        finally:
            place.close()

    @contextlib.contextmanager
    def engines(self, place: Place, *cores: int, more: str = "") -> Iterator[list[Node]]:
        """An engine on each of these processors, for the time inside.

        Errors: BenchmarkFailed, with what they said last when something fails inside.
        """
        nodes: list[Node] = []
        try:
            for core in cores:
                nodes.append(self.engine(place, core, more))
            yield nodes
        except Exception as error:
            said = "\n".join(node.server.said()[-1500:] for node in nodes)
            raise BenchmarkFailed(f"{place.kind}: {error!r}; the servers said: {said}") from error
        finally:
            for node in nodes:
                node.server.stop()


@contextlib.contextmanager
def spread(place: Place, cores: set[int]) -> Iterator[None]:
    """The load, and PostgreSQL where there is one, run on these processors; the model as well, inside."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    if isinstance(place, PostgresqlPlace):
        place.pin(cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        if isinstance(place, PostgresqlPlace):
            place.pin({LOAD_CORE})


def until(holds: Callable[[], bool], what: str, limit_s: float = _LIMIT_S, every_s: float = 0.01) -> float:
    """Wait for something outside of this process; the seconds it took.

    Errors: BenchmarkFailed naming what did not come.
    """
    began = time.perf_counter()
    while not holds():
        if time.perf_counter() - began > limit_s:
            raise BenchmarkFailed(f"{what}: not after {limit_s:g} s")
        time.sleep(every_s)
    return time.perf_counter() - began
