"""Sweep E: two nodes restarted in turn behind a load balancer; their callers have boto3's own retries, nothing else."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from checks import judge
from load import Load
from processes import Program, SweepFailed
from result import Result
from world import NotAnswered, Settings, Told, World, client, collect

if TYPE_CHECKING:
    from postgresql import PostgreSQL

_SERVER = {"beat_s": 0.2, "lease_s": 3.0, "drain_s": 1.0, "stop_grace_s": 15.0}
_STOPS_S, _PAUSE_S = 40.0, 0.7


class Plainly:
    """Asks once, through one boto3 client with its default retries; counts what fails, and what boto3 tried again."""

    def __init__(self, url: str) -> None:
        """Ask at this address."""
        self._client = client("bedrock-agent-runtime", url, attempts=0)
        self.failures: Counter[str] = Counter()
        self.retries = 0
        self._lock = threading.Lock()
        self._client.meta.events.register("needs-retry", self._note, unique_id="count")

    def __call__(self, agent: str, session: str, text: str, _first: int) -> Told:
        """One call.

        Errors: NotAnswered where it fails, however it does.
        """
        began = time.monotonic()
        try:
            heard, traces = collect(self._client, agent, session, text)
        except Exception as error:
            with self._lock:
                self.failures[f"{type(error).__name__}: {str(error)[:200]}"] += 1
            raise NotAnswered(f"session {session}, {text!r}: {type(error).__name__}: {error}") from error
        return Told(heard, traces, (), time.monotonic() - began)

    def _note(self, attempts: int, **_: Any) -> None:
        if attempts > 1:
            with self._lock:
                self.retries += 1


def sweep(rounds: int, callers: int, seed: int, postgresql: PostgreSQL) -> Result:
    """Every node restarted that many times."""
    result = Result("rolling restart", "postgresql")
    with ExitStack() as stack:
        world = stack.enter_context(World(Settings("postgresql", dict(_SERVER), slow_s=0.1), postgresql))
        ports = [str(node.port) for node in world.nodes]
        balancer = Program("balancer.py", world.folder / "balancer.log", *ports)
        stack.callback(balancer.close)
        ask = Plainly(balancer.start())
        time.sleep(0.3)  # it has looked at the nodes
        load = Load(world, callers, seed, ask)
        load.start()
        try:
            for node in [*world.nodes] * rounds:
                time.sleep(_PAUSE_S)
                _restart(node.program)
                result.kills += 1
            time.sleep(_PAUSE_S)
        finally:
            load.leave()
        load.end()
        result.verdict.add(judge(world.look, world.effects, load.asked))
        result.verdict.wrong += load.wrong
    result.runs = len(load.asked)
    failed = sum(ask.failures.values())
    result.notes.append(f"{callers} callers; boto3 tried again {ask.retries} times; {failed} calls failed")
    result.notes += [f"{count} of {kind}" for kind, count in ask.failures.items()]
    return result


def _restart(program: Program) -> None:
    program.signal(signal.SIGTERM)
    if not program.wait(_STOPS_S):
        raise SweepFailed(f"a node did not stop within {_STOPS_S:g} s: {program.said()[-2000:]}")
    program.start()
