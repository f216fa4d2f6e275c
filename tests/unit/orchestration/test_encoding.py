"""Steps and outcomes through the journal's JSON and back: a turn rebuilt from any row goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from outcrop.ids import TurnId
from outcrop.orchestration.definition import define
from outcrop.orchestration.encoding import Unfinished, conclusions, intents, interrupted, replay, uncertain
from outcrop.orchestration.turn import (
    CallModel,
    CallResult,
    CallTools,
    ModelFailed,
    ModelReplied,
    Opening,
    Outcome,
    PlannedCall,
    Step,
    ToolsReturned,
    Turn,
)
from outcrop.sessions.entries import Entry

USAGE = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
CALLS = (
    PlannedCall("u0", "shop__check", {"sku": "A"}, "execute"),
    PlannedCall("u1", "shop__pay", {"sum": 2}, "return_control"),
    PlannedCall("u2", "nothing", {}, "reject", "no such tool"),
)
RESULTS = (
    CallResult("success", "42", 1.0, 2.0, session_attributes={"a": "b"}),
    CallResult("denied", "no", 1.0, 2.0),
    CallResult("rejected", "no such tool", 1.0, 1.0),
)
REPLY = ModelReplied(
    {"role": "assistant", "content": [{"toolUse": {"toolUseId": "u0", "name": "shop__check", "input": {}}}]},
    "tool_use",
    USAGE,  # type: ignore[arg-type]
    "m",
)
STORY: list[tuple[Step, Outcome]] = [
    (CallModel(0), REPLY),
    (CallTools(0, CALLS), ToolsReturned(RESULTS)),
    (CallModel(1), ModelFailed("ThrottlingException", 429, "slow")),
]


def turn() -> Turn:
    identity = {"agent_id": "A", "alias_id": "B", "version": "1", "name": "a", "alias_arn": "arn"}
    record = {"identity": identity, "agent": {"foundationModel": "m", "instruction": "i"}, "actionGroups": []}
    return Turn(TurnId("t"), define(record), Opening("hello", "s", {}, {}), (), 0.0)


def rows(story: Sequence[tuple[Step, Outcome | None]]) -> list[Entry]:
    """The entries that the journal would hold, having been JSON in between."""
    entries: list[Entry] = []
    for ordinal, (step, outcome) in enumerate(story):
        told: dict[int, Any] = {c.branch: c for c in conclusions(ordinal, outcome)} if outcome else {}
        for intent in intents(step, ordinal):
            done = told.get(intent.branch)
            body = orjson.loads(orjson.dumps(intent.body))
            result = orjson.loads(orjson.dumps(done.outcome)) if done else None
            state = done.state if done else intent.state
            entries.append(Entry(ordinal, intent.branch, intent.kind, state, body, result, 0.0, None))
    return entries


@pytest.mark.parametrize("length", range(len(STORY) + 1))
def test_a_turn_rebuilt_is_the_turn_that_was(length: int) -> None:
    lived, rebuilt = turn(), turn()
    for step, outcome in STORY[:length]:
        lived.apply(step, outcome)

    assert replay(rebuilt, rows(STORY[:length])) is None
    for member in ("messages", "ordinal", "iteration", "tool_calls", "input_tokens", "output_tokens", "last"):
        assert getattr(rebuilt, member) == getattr(lived, member), member
    assert rebuilt.session_attributes == lived.session_attributes


@pytest.mark.parametrize("at", range(len(STORY)))
def test_a_step_without_its_outcome_is_what_is_left_to_do(at: int) -> None:
    rebuilt = turn()
    left = replay(rebuilt, rows([*STORY[:at], (STORY[at][0], None)]))

    assert left == Unfinished(STORY[at][0], {})
    assert rebuilt.ordinal == at


def test_branches_that_are_done_are_known_and_calls_under_way_are_uncertain() -> None:
    entries = rows(STORY[:2])
    open_ones = [
        *entries[:1],
        *(Entry(1, e.branch, e.kind, "intended", e.intent, None, 0, None) for e in entries[1:3]),
        entries[3],
    ]

    left = replay(turn(), open_ones)

    assert left is not None
    assert left.known == {2: RESULTS[2]}
    assert isinstance(left.step, CallTools)
    [(branch, result)] = uncertain(interrupted(left.step, left.known), 9.0).items()
    assert (branch, result.state, result.at) == (0, "uncertain", 9.0)


def test_what_the_caller_owes_is_written_as_awaiting() -> None:
    assert [intent.state for intent in intents(STORY[1][0], 1)] == ["intended", "awaiting", "intended"]
