"""The load accepts right answers only, and the model notices an engine that cheats."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCH = str(Path(__file__).resolve().parents[3] / "bench")
NAMES = ("workloads", "stock", "processes", "load", "model_server", "floor")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's processor clocks")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmark's modules; they are scripts in a folder, no package."""
    sys.path.insert(0, BENCH)
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(BENCH)
        for name in NAMES:
            sys.modules.pop(name, None)


def _request(*messages: dict, tools: tuple[str, ...] = ("stock__get_inventory", "stock__get_price")) -> dict:
    declared = [{"type": "function", "function": {"name": name}} for name in tools]
    return {"messages": [{"role": "system", "content": "s"}, *messages], "tools": declared}


def _asked(bench, name: str) -> dict:
    return {"role": "user", "content": bench.workloads.WORKLOADS[name].question}


def _said(reply) -> str:
    events = b"".join(reply.events).split(b"data: ")[1:]
    choices = [json.loads(event.partition(b"\n\n")[0])["choices"][0]["delta"] for event in events]
    return "".join(choice.get("content") or "" for choice in choices)


def test_an_answer_is_read_back_whole(bench) -> None:
    frames = bench.floor._frame("Hello") + bench.floor._frame(", you")

    assert bench.load.decode(frames) == bench.load.Answer("Hello, you", 2, 0)


@pytest.mark.parametrize("at", [3, 9, 40, -1])
def test_an_answer_with_one_bit_turned_is_wrong(bench, at: int) -> None:
    frame = bytearray(bench.floor._frame("Hello"))
    frame[at] ^= 1

    with pytest.raises(bench.load.WrongAnswer):
        bench.load.decode(bytes(frame))


def test_the_model_counts_the_user_turns_it_is_shown(bench) -> None:
    earlier = [_asked(bench, "chat"), {"role": "assistant", "content": "x"}]

    assert _said(bench.model_server.decide(_request(_asked(bench, "chat")))).endswith(" [turn 1]")
    assert _said(bench.model_server.decide(_request(*earlier, _asked(bench, "chat")))).endswith(" [turn 2]")


def test_the_model_calls_tools_by_the_names_it_is_told(bench) -> None:
    reply = bench.model_server.decide(_request(_asked(bench, "turn")))

    assert b"stock__get_inventory" in b"".join(reply.events)


def test_an_engine_that_makes_results_up_is_noticed(bench) -> None:
    called = {"role": "assistant", "tool_calls": [{"id": "call_1"}]}

    with pytest.raises(bench.model_server.Mismatch, match="a tool answered nothing"):
        bench.model_server.decide(
            _request(_asked(bench, "turn"), called, {"role": "tool", "tool_call_id": "call_1", "content": "nothing"})
        )
    with pytest.raises(bench.model_server.Mismatch, match="a call that was not made"):
        bench.model_server.decide(
            _request(_asked(bench, "turn"), called, {"role": "tool", "tool_call_id": "call_2", "content": "DUB-1"})
        )
    with pytest.raises(bench.model_server.Mismatch, match="not declared"):
        bench.model_server.decide(_request(_asked(bench, "turn"), tools=()))


def test_every_workload_says_what_its_answer_is(bench) -> None:
    workloads = bench.workloads.WORKLOADS

    assert len(workloads["turn"].pieces) + 1 == 20
    assert len(workloads["report"].pieces) + 1 == 200
    assert workloads["turn"].answer(3).endswith("per unit. [turn 3]")
