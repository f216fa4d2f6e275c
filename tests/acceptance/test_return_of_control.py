"""Return of control and confirmation: several actions, mixed executors, wrong answers, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from agents import CHECK, RESERVE, Answer, World, collect, functions_group
from botocore.exceptions import ClientError, EventStreamError

from outcrop.messages import text_of
from outcrop.testing import call

CAREFUL = {**CHECK, "name": "buy", "requireConfirmation": "ENABLED"}


def bring(world: World, ids: tuple[str, str], asked: Answer, *results: dict[str, Any], **state: Any) -> Answer:
    """Return results for what was asked."""
    assert asked.control is not None
    members = [{"functionResult": result} for result in results]
    given = {"invocationId": asked.control["invocationId"], "returnControlInvocationResults": members, **state}
    return world.ask(ids, sessionState=given)


def result(function: str, body: str | None = None, *, group: str = "orders", **members: Any) -> dict[str, Any]:
    given = {"responseBody": {"TEXT": {"body": body}}} if body is not None else {}
    return {"actionGroup": group, "function": function, **given, **members}


def tool_texts(world: World) -> list[str]:
    """What the model was told of the last step's calls, in its order."""
    content = world.model.requests[-1].messages[-1]["content"]
    return [block["toolResult"]["content"][0]["text"] for block in content if "toolResult" in block]


def test_several_actions_come_in_one_event_and_are_answered_in_one_call(world: World) -> None:
    ids = world.agent(functions_group(CHECK, RESERVE, name="orders", control=True))
    world.model.then(
        [call("orders__check", {"sku": "A"}), call("orders__reserve", {"sku": "A", "quantity": 2})], "Done."
    )

    asked = world.ask(ids, "Check and reserve")
    assert asked.control is not None
    names = [member["functionInvocationInput"]["function"] for member in asked.control["invocationInputs"]]
    answer = bring(world, ids, asked, result("reserve", "reserved"), result("check", "checked"))

    assert names == ["check", "reserve"]
    assert tool_texts(world) == ["checked", "reserved"]
    assert answer.text == "Done."


def test_what_the_engine_can_do_is_done_first(world: World) -> None:
    ids = world.agent(functions_group(CHECK, name="inventory"), functions_group(RESERVE, name="orders", control=True))
    world.functions.add("inventory", "42")
    world.model.then(
        [call("orders__reserve", {"sku": "A", "quantity": 2}), call("inventory__check", {"sku": "A"})], "Done."
    )

    asked = world.ask(ids, "Check and reserve")
    assert asked.kinds == [
        "o.in(0)", "o.out(0)", "o.inv ACTION_GROUP(0)", "o.obs ACTION_GROUP(0)",
        "o.inv ACTION_GROUP(0)", "returnControl",
    ]  # fmt: skip
    bring(world, ids, asked, result("reserve", "reserved"))

    assert len(world.functions.events) == 1
    assert tool_texts(world) == ["reserved", "42"]


def test_more_than_five_actions_serve_the_first_five(world: World) -> None:
    ids = world.agent(functions_group(CHECK, name="orders", control=True))
    world.model.then([call("orders__check", {"sku": str(n)}) for n in range(6)], "Done.")

    asked = world.ask(ids, "Check all")
    assert asked.control is not None
    assert len(asked.control["invocationInputs"]) == 5
    bring(world, ids, asked, *[result("check", f"r{n}") for n in range(5)])

    assert tool_texts(world)[:5] == ["r0", "r1", "r2", "r3", "r4"]
    assert "later" in tool_texts(world)[5]


@pytest.mark.parametrize("decision", ["CONFIRM", "DENY"])
def test_a_lambda_that_needs_confirmation_runs_only_once_the_user_agreed(world: World, decision: str) -> None:
    ids = world.agent(functions_group(CAREFUL, name="orders"))
    world.functions.add("inventory", "bought")
    world.model.then([call("orders__buy", {"sku": "A"})], "Done.")

    asked = world.ask(ids, "Buy")
    assert asked.control is not None
    [member] = asked.control["invocationInputs"]
    assert member["functionInvocationInput"]["actionInvocationType"] == "USER_CONFIRMATION"
    assert world.functions.events == []
    answer = bring(world, ids, asked, result("buy", confirmationState=decision))

    assert answer.text == "Done."
    assert len(world.functions.events) == (1 if decision == "CONFIRM" else 0)
    assert ("bought" in tool_texts(world)[0]) == (decision == "CONFIRM")


def test_confirmation_and_result_are_both_owed(world: World) -> None:
    ids = world.agent(functions_group(CAREFUL, name="orders", control=True))
    world.model.then([call("orders__buy", {"sku": "A"})], "Done.")

    asked = world.ask(ids, "Buy")
    assert asked.control is not None
    [member] = asked.control["invocationInputs"]
    assert member["functionInvocationInput"]["actionInvocationType"] == "USER_CONFIRMATION_AND_RESULT"
    bring(world, ids, asked, result("buy", "bought", confirmationState="CONFIRM"))

    assert tool_texts(world) == ["bought"]


def test_a_wrong_answer_is_refused_and_the_turn_goes_on_waiting(world: World) -> None:
    ids = world.agent(functions_group(CHECK, CAREFUL, name="orders", control=True))
    world.model.then([call("orders__check", {"sku": "A"}), call("orders__buy", {"sku": "A"})], "Done.")
    asked = world.ask(ids, "Check and buy")
    good = [result("check", "ok"), result("buy", "ok", confirmationState="CONFIRM")]
    wrong: list[tuple[list[dict[str, Any]], str]] = [
        (good[:1], "orders__buy"),
        ([*good, result("check", "again")], "[2]"),
        ([good[0], result("sell", "ok")], "[1]"),
        ([good[0], result("buy", "ok")], "confirmationState"),
        ([result("check"), good[1]], "responseBody"),
    ]

    for results, named in wrong:
        with pytest.raises(ClientError) as caught:
            bring(world, ids, asked, *results)
        assert caught.value.response["Error"]["Code"] == "ValidationException"
        assert named in caught.value.response["Error"]["Message"]
    with pytest.raises(ClientError, match="invocationId"):
        bring(world, ids, asked, *good, invocationId="another")

    assert bring(world, ids, asked, *good).text == "Done."
    with pytest.raises(ClientError, match="no invocation is pending"):
        bring(world, ids, asked, *good)


def test_the_same_words_again_get_the_same_request_again(world: World) -> None:
    ids = world.agent(functions_group(RESERVE, name="orders", control=True))
    world.model.then([call("orders__reserve", {"sku": "A", "quantity": 1})], "Done.")

    first = world.ask(ids, "Reserve")
    again = world.ask(ids, "Reserve")

    assert again.control == first.control
    assert bring(world, ids, again, result("reserve", "ok")).text == "Done."


def test_results_without_their_invocation(world: World) -> None:
    ids = world.agent(functions_group(RESERVE, name="orders", control=True))
    world.model.then([call("orders__reserve", {"sku": "A", "quantity": 1})])
    world.ask(ids, "Reserve")

    with pytest.raises(ClientError, match="invocationId is required"):
        world.ask(ids, sessionState={"returnControlInvocationResults": [{"functionResult": result("reserve", "ok")}]})


def test_results_where_nothing_is_pending(world: World) -> None:
    ids = world.agent(functions_group(CHECK, name="orders", control=True))
    state = {"invocationId": "x", "returnControlInvocationResults": [{"functionResult": result("check", "ok")}]}

    with pytest.raises(ClientError, match="no invocation is pending"):
        world.ask(ids, sessionState=state)


def test_a_callers_failure_fails_the_turn_and_its_reprompt_goes_to_the_model(world: World) -> None:
    ids = world.agent(functions_group(CHECK, name="orders", control=True))
    ask = [call("orders__check", {"sku": "A"})]
    world.model.then(ask, ask, "Done.")

    first = world.ask(ids, "Check", session="session-1")
    with pytest.raises(EventStreamError, match="dependencyFailedException"):
        bring(world, ids, first, result("check", "broken", responseState="FAILURE"))
    second = world.ask(ids, "Check")
    answer = bring(world, ids, second, result("check", "which warehouse?", responseState="REPROMPT"))

    assert answer.kinds[0] == "o.obs REPROMPT(0)"
    assert tool_texts(world) == ["which warehouse?"]
    assert world.model.requests[-1].messages[-1]["content"][0]["toolResult"]["status"] == "error"


def test_attributes_brought_with_results_replace_the_sessions(world: World) -> None:
    ids = world.agent(functions_group(CHECK, name="inventory"), functions_group(RESERVE, name="orders", control=True))
    world.functions.add("inventory", "42")
    world.model.then(
        [call("orders__reserve", {"sku": "A", "quantity": 1})], [call("inventory__check", {"sku": "A"})], "Done."
    )

    asked = world.ask(ids, "Reserve", sessionState={"promptSessionAttributes": {"turn": "1"}})
    bring(world, ids, asked, result("reserve", "ok"), sessionAttributes={"level": "gold"})

    [event] = world.functions.events
    assert event[1]["sessionAttributes"] == {"level": "gold"}
    assert event[1]["promptSessionAttributes"] == {"turn": "1"}
    assert event[1]["inputText"] == "Reserve"


def test_an_openapi_operation_returns_control_with_path_and_method(world: World) -> None:
    schema = """
openapi: 3.0.0
info: {title: Orders, version: "1"}
paths:
  /orders/{id}:
    post:
      operationId: order
      description: Order something
      parameters:
        - {name: id, in: path, required: true, description: the order, schema: {type: string}}
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [quantity]
              properties: {quantity: {type: integer, description: how many}, gift: {type: boolean}}
      responses: {"200": {description: ok}}
"""
    group = {
        "actionGroupName": "orders",
        "actionGroupExecutor": {"customControl": "RETURN_CONTROL"},
        "apiSchema": {"payload": schema},
    }
    ids = world.agent(group)
    world.model.then([call("POST__orders__order", {"id": "7", "quantity": 2, "gift": True})], "Done.")

    asked = world.ask(ids, "Order")
    assert asked.control is not None
    [member] = asked.control["invocationInputs"]
    told = member["apiInvocationInput"]
    assert (told["apiPath"], told["httpMethod"]) == ("/orders/{id}", "POST")
    assert told["parameters"] == [{"name": "id", "type": "string", "value": "7"}]
    assert told["requestBody"]["content"]["application/json"]["properties"] == [
        {"name": "quantity", "type": "integer", "value": "2"},
        {"name": "gift", "type": "boolean", "value": "true"},
    ]
    api = {
        "actionGroup": "orders",
        "apiPath": "/orders/{id}",
        "httpMethod": "POST",
        "httpStatusCode": 200,
        "responseBody": {"application/json": {"body": '{"ok": true}'}},
    }
    state = {"invocationId": asked.control["invocationId"], "returnControlInvocationResults": [{"apiResult": api}]}
    answer = world.ask(ids, sessionState=state)

    assert answer.text == "Done."
    assert tool_texts(world) == ['{"ok": true}']
    traced = asked.traces[-1]["trace"]["orchestrationTrace"]["invocationInput"]["actionGroupInvocationInput"]
    assert traced["verb"] == "post"
    assert traced["requestBody"]["content"]["application/json"][0] == {
        "name": "quantity", "type": "integer", "value": "2",
    }  # fmt: skip
    assert text_of(world.model.requests[-1].messages[0]) == "Order"


def test_inline_agents_return_control_too(world: World) -> None:
    world.model.then([call("orders__reserve", {"sku": "A", "quantity": 1})], "Done.")
    definition = {
        "foundationModel": "anthropic.claude-3-haiku",
        "instruction": "You reserve the stock of a warehouse for customers.",
        "actionGroups": [functions_group(RESERVE, name="orders", control=True)],
        "sessionId": "session-1",
        "enableTrace": True,
    }

    asked = collect(world.runtime.invoke_inline_agent(inputText="Reserve", **definition))
    assert asked.control is not None
    told = asked.control["invocationInputs"][0]["functionInvocationInput"]
    echoed = {"agentId": told["agentId"]} if "agentId" in told else {}
    state = {
        "invocationId": asked.control["invocationId"],
        "returnControlInvocationResults": [{"functionResult": result("reserve", "ok", **echoed)}],
    }
    answer = collect(world.runtime.invoke_inline_agent(inlineSessionState=state, **definition))

    assert answer.text == "Done."
    assert tool_texts(world) == ["ok"]
