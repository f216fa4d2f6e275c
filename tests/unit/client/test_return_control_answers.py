"""What an answer of the caller becomes: results, confirmations, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from outcrop.client import ActionFailed, ReturnControl
from outcrop.client.return_control import asked_of, perform

BODY = {"responseBody": {"TEXT": {"body": "ok"}}}


def control(kind: str = "RESULT", **members: Any) -> ReturnControl:
    given = {"actionGroup": "orders", "function": "buy", "actionInvocationType": kind, "parameters": [], **members}
    return asked_of({"invocationId": "i-1", "invocationInputs": [{"functionInvocationInput": given}]})


def told(kind: str, answer: Any) -> dict[str, Any]:
    """What the server is told besides the names."""
    [member] = control(kind).session_state([answer])["returnControlInvocationResults"]
    return {key: value for key, value in member["functionResult"].items() if key not in ("actionGroup", "function")}


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        ("RESULT", "ok", BODY),
        ("RESULT", {"left": 3}, {"responseBody": {"TEXT": {"body": '{"left": 3}'}}}),
        ("RESULT", False, {"responseBody": {"TEXT": {"body": "false"}}}),
        ("RESULT", ActionFailed("ok"), {"responseState": "REPROMPT", **BODY}),
        (
            "RESULT",
            ValueError("secret"),
            {"responseState": "FAILURE", "responseBody": {"TEXT": {"body": "ValueError"}}},
        ),
        ("USER_CONFIRMATION", True, {"confirmationState": "CONFIRM"}),
        ("USER_CONFIRMATION", False, {"confirmationState": "DENY"}),
        ("USER_CONFIRMATION", ActionFailed("no"), {"confirmationState": "DENY"}),
        ("USER_CONFIRMATION", ValueError("no"), {"confirmationState": "DENY"}),
        ("USER_CONFIRMATION_AND_RESULT", "ok", {"confirmationState": "CONFIRM", **BODY}),
        ("USER_CONFIRMATION_AND_RESULT", False, {"confirmationState": "DENY"}),
        (
            "USER_CONFIRMATION_AND_RESULT",
            ActionFailed("ok"),
            {"confirmationState": "CONFIRM", "responseState": "REPROMPT", **BODY},
        ),
        ("USER_CONFIRMATION_AND_RESULT", ValueError("no"), {"confirmationState": "DENY"}),
    ],
)
def test_an_answer(kind: str, answer: Any, expected: dict[str, Any]) -> None:
    assert told(kind, answer) == expected


class Flag(int):
    """Equal to True, and not True."""


@pytest.mark.parametrize("answer", [{"confirmed": False}, "no", "", None, 1, 0, Flag(1), [], object()])
def test_only_true_confirms_and_only_false_denies(answer: Any) -> None:
    with pytest.raises(TypeError, match=f"the answer to buy is of type {type(answer).__name__}; wanted is True or"):
        told("USER_CONFIRMATION", answer)


def test_a_confirmed_action_without_a_result_is_not_confirmed() -> None:
    with pytest.raises(TypeError, match="of type NoneType; wanted is False, text or what JSON can hold"):
        told("USER_CONFIRMATION_AND_RESULT", None)


ROUND: list[Any] = []
ROUND.append(ROUND)


@pytest.mark.parametrize("answer", [object(), b"ok", {"at": {1, 2}}, float("nan"), [float("inf")], {(1,): 2}, ROUND])
@pytest.mark.parametrize("kind", ["RESULT", "USER_CONFIRMATION_AND_RESULT"])
def test_a_result_is_text_or_what_json_can_hold(kind: str, answer: Any) -> None:
    with pytest.raises(TypeError, match=f"the answer to buy is of type {type(answer).__name__}; wanted is "):
        told(kind, answer)


@pytest.mark.parametrize("wrong", ["no", ValueError("returned, not raised")])
def test_an_answer_of_a_wrong_type_takes_confirmations_back(wrong: Any) -> None:
    asked = ReturnControl("i-1", list(control("USER_CONFIRMATION").calls) * 3)
    given = iter([True, wrong])

    answers, broken = perform(asked, lambda _: next(given))

    assert isinstance(broken, TypeError)
    results = asked.session_state(answers)["returnControlInvocationResults"]
    assert [one["functionResult"]["confirmationState"] for one in results] == ["DENY"] * 3


def test_an_api_operation_is_asked_and_answered_by_path_and_method() -> None:
    properties = [
        {"name": "quantity", "type": "integer", "value": "2"},
        {"name": "price", "type": "number", "value": "2.50"},
        {"name": "gift", "type": "boolean", "value": "true"},
        {"name": "tags", "type": "array", "value": '["a", "b"]'},
        {"name": "odd", "type": "array", "value": "[a, b]"},
        {"name": "code", "type": "string", "value": "007"},
    ]
    given = {
        "actionGroup": "orders",
        "apiPath": "/orders/{id}",
        "httpMethod": "post",
        "parameters": [{"name": "id", "type": "string", "value": "7"}],
        "requestBody": {"content": {"application/json": {"properties": properties}}},
    }
    asked = asked_of({"invocationId": "i-1", "invocationInputs": [{"apiInvocationInput": given}]})

    [call] = asked.calls
    assert call.name == "POST /orders/{id}"
    assert call.parameters == {
        "id": "7", "quantity": 2, "price": 2.5, "gift": True, "tags": ["a", "b"], "odd": "[a, b]", "code": "007",
    }  # fmt: skip
    assert asked.session_state([{"ok": True}])["returnControlInvocationResults"] == [
        {
            "apiResult": {
                "actionGroup": "orders",
                "apiPath": "/orders/{id}",
                "httpMethod": "POST",
                "httpStatusCode": 200,
                "responseBody": {"application/json": {"body": '{"ok": true}'}},
            }
        }
    ]


def test_every_call_needs_an_answer() -> None:
    with pytest.raises(ValueError, match="zip"):
        control().session_state([])


def test_after_something_broke_nothing_more_is_carried_out() -> None:
    asked = ReturnControl("i-1", list(control().calls) * 3)
    done: list[int] = []

    def action(_call: object) -> str:
        done.append(len(done))
        if len(done) == 2:
            raise OSError("gone")
        return "ok"

    answers, broken = perform(asked, action)

    assert done == [0, 1]
    assert answers == ["ok", broken, broken]
    assert isinstance(broken, OSError)
