"""Minutes of everything at once, and what has grown at the end: memory, files, threads, the database.

of ten callers: five ask, one hangs up and asks again, one asks again after the answer, one carries the tools out
itself, one makes a mistake, one goes on in its session
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import orjson

import stock
from databases import TOLD, Place
from load import Client, WrongAnswer, frames, new_session
from processes import SERVER_CORE
from sections import KIB, MIB, Section, number
from stage import Node, Stage
from workloads import WORKLOADS

AT_ONCE = 32
_MODEL_S = 0.005
_WARM = 0.15
"""The part of the time after which the first look is taken."""
_LOOKS = 5
_SETTLED_S = 2.0
_MOST_WRONG = 20
_TURN = WORKLOADS["turn"]


async def measure(stage: Stage) -> dict[str, Any]:
    """Half of the time on each database."""
    found: dict[str, Any] = {"runs": {}, "wrong": []}
    for kind in stage.amounts.kinds("soak"):
        stage.say(f"soak: {TOLD[kind]}, {stage.amounts.soak_s / 2:.0f} s")
        with stage.place(kind) as place, stage.engines(place, SERVER_CORE) as nodes, stage.slow_model(_MODEL_S):
            soak = Soak(Client(nodes[0].target), Client(stage.control(place, nodes[0])))
            looks = await _soaked(stage.amounts.soak_s / 2, soak, place, nodes[0])
            found["runs"][kind] = {
                "seconds": stage.amounts.soak_s / 2,
                "looks": looks,
                "done": dict(soak.done),
                "errors": dict(soak.errors),
                "in_flight": _in_flight(nodes[0]),
            }
            found["wrong"] += [f"soak, {TOLD[kind]}: {line}" for line in soak.wrong]
    return found


async def _soaked(seconds: float, soak: Soak, place: Place, node: Node) -> list[dict[str, float]]:
    """Looks at the server: after the warm-up, now and then, and once nobody asks any more."""
    ends = time.monotonic() + seconds
    callers = [asyncio.ensure_future(soak.call_until(ends)) for _ in range(AT_ONCE)]
    looks: list[dict[str, float]] = []
    await asyncio.sleep(seconds * _WARM)
    for number_ in range(_LOOKS):
        looks.append(_look(place, node))
        if number_ < _LOOKS - 1:
            await asyncio.sleep(seconds * (1 - _WARM) / _LOOKS)
    await asyncio.gather(*callers)
    soak.close()
    await asyncio.sleep(min(_SETTLED_S, seconds))
    return [*looks, _look(place, node)]


def _look(place: Place, node: Node) -> dict[str, float]:
    (turns,) = place.rows("SELECT count(*) FROM turns")[0]
    seen = {"rss_bytes": node.tree.rss()[0], "files": node.tree.files(), "threads": node.tree.threads()}
    return {**seen, "turns": turns, "bytes": place.bytes()}


def _in_flight(node: Node) -> float:
    """The requests that the server says are being answered, when there are none."""
    with closing(http.client.HTTPConnection("127.0.0.1", node.server.port, timeout=10)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("outcrop_requests_in_flight "))


class Soak:
    """The callers, and what came of their calls."""

    def __init__(self, client: Client, control: Client) -> None:
        """Ask the agent that carries its tools out, and the one whose caller does."""
        self._client, self._control = client, control
        self._numbers = itertools.count()
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def call_until(self, ends: float) -> None:
        """One caller after the other, until that time; a wrong answer is noted and the next one calls."""
        kinds: list[tuple[str, Callable[[int], Awaitable[None]]]] = [
            *[("asked", self._ask)] * 5,
            ("hung up, asked again", self._hang_up),
            ("asked again after the answer", self._ask_again),
            ("carried the tools out", self._carry_out),
            ("made a mistake", self._mistake),
            ("went on in the session", self._go_on),
        ]
        while time.monotonic() < ends and len(self.wrong) < _MOST_WRONG:
            turn = next(self._numbers)
            name, call = kinds[turn % len(kinds)]
            try:
                await call(turn)
            except (WrongAnswer, OSError, TimeoutError) as error:
                self.errors[f"not expected: {type(error).__name__}"] += 1
                self.wrong.append(f"{name}: {type(error).__name__}: {error}")
            else:
                self.done[name] += 1

    def close(self) -> None:
        """Hang up."""
        self._client.close()
        self._control.close()

    async def _ask(self, _turn: int) -> None:
        await self._client.invoke(new_session(), _TURN)

    async def _go_on(self, _turn: int) -> None:
        session = new_session()
        await self._client.invoke(session, WORKLOADS["chat"], 1)
        await self._client.invoke(session, _TURN, 2)

    async def _hang_up(self, turn: int) -> None:
        session = new_session()
        request = self._client.target.request(session, _TURN, _attempt(session, 1))
        await self._client.hang_up_after(request, (turn % 400) / 10_000)
        await self._client.invoke(session, _TURN, headers=_attempt(session, 2))

    async def _ask_again(self, _turn: int) -> None:
        session = new_session()
        await self._client.invoke(session, _TURN, headers=_attempt(session, 1))
        await self._client.invoke(session, _TURN, headers=_attempt(session, 2))

    async def _carry_out(self, _turn: int) -> None:
        """Both tools of the turn, by the caller.

        Errors: WrongAnswer.
        """
        session, target = new_session(), self._control.target
        request = target.request(session, _TURN)
        for _ in ("get_inventory", "get_price"):
            asked = _control(await self._body(request))
            call = asked["invocationInputs"][0]["functionInvocationInput"]
            body = stock.result(call["function"], call["parameters"][0]["value"])
            answer = {"actionGroup": call["actionGroup"], "function": call["function"]}
            result = {"functionResult": {**answer, "responseBody": {"TEXT": {"body": body}}}}
            state = {"invocationId": asked["invocationId"], "returnControlInvocationResults": [result]}
            request = target.invocation(session, {"sessionState": state})
        said = b"".join(payload for kind, payload in frames(await self._body(request)) if kind == "chunk")
        if not said:
            raise WrongAnswer("no answer came after the results")

    async def _body(self, request: bytes) -> bytes:
        reply = await self._control.post(request)
        if reply.status != 200:
            raise WrongAnswer(f"HTTP {reply.status}: {reply.body[:300]!r}")
        return reply.body

    async def _mistake(self, turn: int) -> None:
        """A model that refuses, an empty question, or an agent that is not there.

        Errors: WrongAnswer where that is no error.
        """
        target, session = self._client.target, new_session()
        request = (
            target.request(session, WORKLOADS["trouble"]),
            target.invocation(session, {"sessionState": {"invocationId": "none"}}),
            target.request(session, _TURN).replace(
                target.path.encode(), b"/agents/NOSUCHONE1/agentAliases/TSTALIASID", 1
            ),
        )[turn // 10 % 3]
        reply = await self._client.post(request)
        if reply.status != 200:
            self.errors[f"HTTP {reply.status}"] += 1
            return
        last = list(frames(reply.body))[-1][0]
        if last == "chunk":
            raise WrongAnswer("a mistake was answered as if it were none")
        self.errors[f"a frame {last}"] += 1


def _attempt(session: str, number_: int) -> str:
    return f"amz-sdk-invocation-id: {session}\r\namz-sdk-request: attempt={number_}; max=3\r\n"


def _control(body: bytes) -> dict[str, Any]:
    """The control that was returned.

    Errors: WrongAnswer.
    """
    for kind, payload in frames(body):
        if kind == "returnControl":
            return orjson.loads(payload)
    raise WrongAnswer(f"control is not returned: {body[-300:]!r}")


def sections(found: dict[str, Any]) -> list[Section]:
    """One table."""
    head = ("", "turns", "RSS MiB", "open files", "threads", "MiB stored", "KiB stored a turn")
    section = Section(f"A soak: {AT_ONCE} at once of everything that callers do", head)
    for kind, run in found["runs"].items():
        looks = run["looks"]
        for index, look in enumerate(looks):
            at = _WARM + (1 - _WARM) / _LOOKS * index
            when = "at rest afterwards" if index == len(looks) - 1 else f"after {at * run['seconds']:.0f} s"
            each = look["bytes"] / max(1, look["turns"]) / KIB
            section.lines.append(
                (
                    f"{TOLD[kind]}, {when}",
                    f"{look['turns']:,}",
                    number(look["rss_bytes"] / MIB, 1),
                    f"{look['files']}",
                    f"{look['threads']}",
                    number(look["bytes"] / MIB, 1),
                    number(each, 1),
                )
            )
        done = ", ".join(f"{name} {count:,}" for name, count in run["done"].items())
        errors = ", ".join(f"{name} {count:,}" for name, count in sorted(run["errors"].items()))
        left = f"requests still in flight at the end: {run['in_flight']:.0f}"
        section.notes.append(f"{TOLD[kind]}: callers that {done}. Errors by type: {errors or 'none'}; {left}.")
    return [section]
