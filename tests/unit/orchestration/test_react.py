"""The default strategy asked directly: no server, no database, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from outcrop.ids import TurnId
from outcrop.messages import Message
from outcrop.orchestration.definition import define
from outcrop.orchestration.strategies.react import CANNED, React
from outcrop.orchestration.turn import (
    CallModel,
    CallResult,
    CallTools,
    Fail,
    Finish,
    ModelFailed,
    ModelReplied,
    Opening,
    Outcome,
    Step,
    ToolsReturned,
    Turn,
)

IDENTITY = {"agent_id": "A", "alias_id": "B", "version": "1", "name": "a", "alias_arn": "arn"}
USAGE = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}


def group(name: str, executor: dict[str, str], *functions: dict[str, Any]) -> dict[str, Any]:
    return {"actionGroupName": name, "actionGroupExecutor": executor, "functionSchema": {"functions": list(functions)}}


CHECK = {"name": "check", "description": "d", "parameters": {"sku": {"type": "string", "required": True}}}
BUY = {"name": "buy", "description": "d", "requireConfirmation": "ENABLED"}
GROUPS = [
    group("shop", {"lambda": "arn:aws:lambda:us-east-1:123456789012:function:f"}, CHECK, BUY),
    group("desk", {"customControl": "RETURN_CONTROL"}, CHECK, BUY),
    {"actionGroupName": "user", "parentActionSignature": "AMAZON.UserInput"},
]


def turn() -> Turn:
    definition = define(
        {"identity": IDENTITY, "agent": {"foundationModel": "m", "instruction": "i"}, "actionGroups": GROUPS}
    )
    return Turn(TurnId("t"), definition, Opening("hello", "s", {}, {}), (), 0.0)


def replied(*blocks: dict[str, Any]) -> ModelReplied:
    message: Message = {"role": "assistant", "content": list(blocks)}  # type: ignore[typeddict-item]
    return ModelReplied(message, "end_turn", USAGE, "m")  # type: ignore[arg-type]


def use(name: str, number: int = 0, **given: Any) -> dict[str, Any]:
    return {"toolUse": {"toolUseId": f"u{number}", "name": name, "input": given}}


async def after(*outcomes: Outcome) -> Step:
    """The step that follows those outcomes."""
    so_far, strategy = turn(), React(3)
    for outcome in outcomes:
        so_far.apply(await strategy.next(so_far), outcome)
    return await strategy.next(so_far)


async def test_it_asks_the_model_first() -> None:
    assert await after() == CallModel(0)


async def test_text_ends_the_turn() -> None:
    assert await after(replied({"text": "<thinking>t</thinking>Hello"})) == Finish("Hello")


async def test_a_question_to_the_user_ends_the_turn() -> None:
    assert await after(replied(use("user__askuser", question="Which?"))) == Finish("Which?", "ASK_USER")


@pytest.mark.parametrize("blocks", [[], [{"text": "  "}], [{"text": "<thinking>x"}], [use("user__askuser")]])
async def test_a_reply_that_says_nothing_is_answered_with_the_canned_sentence(blocks: list[dict[str, Any]]) -> None:
    step = await after(replied(*blocks))
    assert isinstance(step, Fail)
    assert (step.canned, step.fault, step.reason) == (CANNED, None, "LLM prediction format incorrect")


async def test_every_call_of_a_reply_is_planned_by_what_its_tool_is() -> None:
    step = await after(
        replied(
            use("shop__check", sku="A", extra=1), use("shop__buy"), use("desk__check", sku="A"), use("desk__buy"),
            use("shop__check"), use("nothing"),
        )
    )  # fmt: skip
    assert isinstance(step, CallTools)
    assert [call.disposition for call in step.calls] == [
        "execute", "confirm", "return_control", "confirm_and_return", "reject", "reject",
    ]  # fmt: skip
    assert step.calls[0].input == {"sku": "A"}
    assert "sku" in step.calls[4].problem
    assert "nothing" in step.calls[5].problem


async def test_after_results_it_asks_again_until_the_limit() -> None:
    ask = replied(use("shop__check", sku="A"))
    got = ToolsReturned((CallResult("success", "1", 0, 0),))
    assert await after(ask, got) == CallModel(1)

    step = await after(ask, got, ask, got, ask, got)
    assert isinstance(step, Fail)
    assert "3 iterations" in step.reason


async def test_a_failed_result_fails_the_turn_with_its_fault() -> None:
    failed = CallResult(
        "failure", "x", 0, 0, fault="DependencyFailedException", reason="why", members={"resourceName": "Lambda"}
    )
    step = await after(replied(use("shop__check", sku="A")), ToolsReturned((failed,)))
    assert isinstance(step, Fail)
    assert step.fault is not None
    assert (step.fault.code, step.fault.message, step.fault.members) == (
        "DependencyFailedException", "why", {"resourceName": "Lambda"},
    )  # fmt: skip


@pytest.mark.parametrize("state", ["reprompt", "rejected", "denied", "uncertain"])
async def test_problems_go_back_to_the_model_as_errors(state: Any) -> None:
    so_far, strategy = turn(), React(3)
    ask = replied(use("shop__check", sku="A"))
    so_far.apply(await strategy.next(so_far), ask)
    so_far.apply(await strategy.next(so_far), ToolsReturned((CallResult(state, "mend it", 0, 0),)))

    assert await strategy.next(so_far) == CallModel(1)
    assert so_far.messages[-1]["content"] == [
        {"toolResult": {"toolUseId": "u0", "content": [{"text": "mend it"}], "status": "error"}}
    ]


async def test_a_failed_model_call() -> None:
    step = await after(ModelFailed("ThrottlingException", 429, "slow down"))
    assert isinstance(step, Fail)
    assert step.fault is not None
    assert (step.code, step.fault.code) == (429, "ThrottlingException")


async def test_a_call_that_cannot_be_read_is_asked_for_again_twice() -> None:
    unreadable = ModelFailed("", 400, "no JSON")
    assert await after(unreadable) == CallModel(1)
    assert await after(unreadable, unreadable) == CallModel(2)
    assert await after(unreadable, unreadable, unreadable) == Fail(
        400, "LLM prediction format incorrect", canned=CANNED
    )
