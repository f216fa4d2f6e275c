"""Traces, part by part: the canonical sequences A, B, parallel B, G and N of the behaviour page, field by field."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from agents import CHECK, INSTRUCTION, LAMBDA, RESERVE, World, functions_group
from botocore.exceptions import EventStreamError

from outcrop.testing import call

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def parts(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    """The members under orchestrationTrace, in order."""
    return [
        next(iter(t["trace"]["orchestrationTrace"].items())) for t in answer.traces if "failureTrace" not in t["trace"]
    ]


def plain(value: Any) -> Any:
    """Instants and fresh ids blanked, so that the rest can be compared whole."""
    if isinstance(value, dict):
        blank = {"startTime", "endTime", "clientRequestId", "totalTimeMs", "operationTotalTimeMs"}
        return {k: f"<{k}>" if k in blank else plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return re.sub(UUID, "R", value) if isinstance(value, str) else value


CALLED = {
    "clientRequestId": "<clientRequestId>",
    "startTime": "<startTime>",
    "endTime": "<endTime>",
    "totalTimeMs": "<totalTimeMs>",
}
SPAN = {
    "startTime": "<startTime>",
    "endTime": "<endTime>",
    "operationTotalTimeMs": "<operationTotalTimeMs>",
}


def test_a_simple_answer(world: World) -> None:
    ids = world.agent()
    world.model.then("<thinking>I know this.</thinking>Hello.")

    answer = world.ask(ids, "Hi")

    assert answer.kinds == ["o.in(0)", "o.out(0)", "o.rat(0)", "o.obs FINISH(0)", "chunk"]
    assert answer.text == "Hello."
    [model_in, model_out, rationale, final] = [plain(body) for _, body in parts(answer)]
    prompt = json.loads(model_in.pop("text"))
    assert prompt["system"].startswith(INSTRUCTION)
    assert [(m["role"], json.loads(m["content"])) for m in prompt["messages"]] == [("user", [{"text": "Hi"}])]
    assert model_in == {
        "traceId": "R-0",
        "type": "ORCHESTRATION",
        "foundationModel": "anthropic.claude-3-haiku",
        "inferenceConfiguration": {
            "maximumLength": 2048, "stopSequences": [], "temperature": 0.0, "topK": 250, "topP": 1.0,
        },
    }  # fmt: skip
    usage = model_out["metadata"].pop("usage")
    raw = json.loads(model_out.pop("rawResponse")["content"])
    assert model_out == {"traceId": "R-0", "metadata": CALLED}
    assert usage["inputTokens"] > 0
    assert usage["outputTokens"] > 0
    assert raw["output"]["message"] == {
        "role": "assistant",
        "content": [{"text": "<thinking>I know this.</thinking>Hello."}],
    }
    assert raw["stopReason"] == "end_turn"
    assert raw["usage"]["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]
    assert rationale == {"traceId": "R-0", "text": "I know this."}
    assert final == {"traceId": "R-0", "type": "FINISH", "finalResponse": {"text": "Hello.", "metadata": SPAN}}


def test_the_envelope_says_who_and_where(world: World) -> None:
    agent, alias = world.agent()
    world.model.then("Hello.")

    answer = world.ask((agent, alias), "Hi", session="session-9")

    assert len(answer.traces) == 3
    for part in answer.traces:
        assert part["agentId"] == agent
        assert part["agentAliasId"] == alias
        assert part["agentVersion"] == "1"
        assert part["sessionId"] == "session-9"
        assert part["callerChain"] == [
            {"agentAliasArn": f"arn:aws:bedrock:us-east-1:123456789012:agent-alias/{agent}/{alias}"}
        ]
        assert part["eventTime"].tzinfo is not None
        assert "collaboratorName" not in part
    trace_ids = {body["traceId"] for _, body in parts(answer)}
    assert trace_ids == {f"{answer.request_id}-0"}


def test_no_rationale_where_the_model_gave_no_reason(world: World) -> None:
    ids = world.agent()
    world.model.then("Hello.")

    assert world.ask(ids, "Hi").kinds == ["o.in(0)", "o.out(0)", "o.obs FINISH(0)", "chunk"]


def test_b_one_tool_call(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", "42 in stock")
    world.model.then(
        ["<thinking>I need the stock.</thinking>", call("inventory__check", {"sku": "SKU-55"})],
        "<thinking>I have it.</thinking>There are 42.",
    )

    answer = world.ask(ids, "Check inventory for SKU-55")

    assert answer.kinds == [
        "o.in(0)", "o.out(0)", "o.rat(0)", "o.inv ACTION_GROUP(0)", "o.obs ACTION_GROUP(0)",
        "o.in(1)", "o.out(1)", "o.rat(1)", "o.obs FINISH(1)", "chunk",
    ]  # fmt: skip
    members = [plain(body) for _, body in parts(answer)]
    assert members[3] == {
        "traceId": "R-0",
        "invocationType": "ACTION_GROUP",
        "actionGroupInvocationInput": {
            "actionGroupName": "inventory",
            "executionType": "LAMBDA",
            "function": "check",
            "parameters": [{"name": "sku", "type": "string", "value": "SKU-55"}],
        },
    }
    assert members[4] == {
        "traceId": "R-0",
        "type": "ACTION_GROUP",
        "actionGroupInvocationOutput": {"text": "42 in stock", "metadata": CALLED},
    }
    assert answer.traces[3]["eventTime"] == answer.traces[4]["eventTime"]
    seen = json.loads(members[5]["text"])["messages"]
    assert [m["role"] for m in seen] == ["user", "assistant", "user"]
    assert "42 in stock" in seen[2]["content"]


def test_b_two_tool_calls_of_one_reply_are_adjacent_pairs_in_the_models_order(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", lambda event: "stock of " + event["parameters"][0]["value"])
    world.model.then(
        [call("inventory__check", {"sku": "A-1"}), call("inventory__check", {"sku": "B-2"})], "Both are there."
    )

    answer = world.ask(ids, "Check A-1 and B-2")

    assert answer.kinds == [
        "o.in(0)", "o.out(0)", "o.inv ACTION_GROUP(0)", "o.obs ACTION_GROUP(0)",
        "o.inv ACTION_GROUP(0)", "o.obs ACTION_GROUP(0)", "o.in(1)", "o.out(1)", "o.obs FINISH(1)", "chunk",
    ]  # fmt: skip
    outputs = [
        b["actionGroupInvocationOutput"]["text"]
        for k, b in parts(answer)
        if k == "observation" and "actionGroupInvocationOutput" in b
    ]
    assert outputs == ["stock of A-1", "stock of B-2"]


def test_g_return_of_control_and_its_resumption(world: World) -> None:
    ids = world.agent(functions_group(RESERVE, name="orders", control=True))
    world.model.then([call("orders__reserve", {"sku": "SKU-55", "quantity": 5})], "Reserved.")

    first = world.ask(ids, "Reserve 5 of SKU-55")

    assert first.kinds == ["o.in(0)", "o.out(0)", "o.inv ACTION_GROUP(0)", "returnControl"]
    assert first.control is not None
    invocation = first.control["invocationId"]
    assert parts(first)[-1][1]["actionGroupInvocationInput"] == {
        "actionGroupName": "orders",
        "executionType": "RETURN_CONTROL",
        "function": "reserve",
        "parameters": [
            {"name": "sku", "type": "string", "value": "SKU-55"},
            {"name": "quantity", "type": "integer", "value": "5"},
        ],
        "invocationId": invocation,
    }
    assert first.control["invocationInputs"] == [
        {
            "functionInvocationInput": {
                "actionGroup": "orders",
                "function": "reserve",
                "actionInvocationType": "RESULT",
                "agentId": ids[0],
                "parameters": [
                    {"name": "sku", "type": "string", "value": "SKU-55"},
                    {"name": "quantity", "type": "integer", "value": "5"},
                ],
            }
        }
    ]

    result = {"actionGroup": "orders", "function": "reserve", "responseBody": {"TEXT": {"body": "ok, R-1"}}}
    second = world.ask(
        ids, sessionState={"invocationId": invocation, "returnControlInvocationResults": [{"functionResult": result}]}
    )

    assert second.kinds == ["o.obs ACTION_GROUP(0)", "o.in(1)", "o.out(1)", "o.obs FINISH(1)", "chunk"]
    assert parts(second)[0][1]["actionGroupInvocationOutput"]["text"] == "ok, R-1"
    assert parts(second)[0][1]["traceId"] == f"{second.request_id}-0"
    assert second.request_id != first.request_id
    assert second.text == "Reserved."


def test_n_a_failure(world: World) -> None:
    ids = world.agent(functions_group(CHECK))

    def crash(_event: dict[str, Any]) -> str:
        raise RuntimeError("secret detail")

    world.functions.add("inventory", crash)
    world.model.then([call("inventory__check", {"sku": "SKU-55"})])

    with pytest.raises(EventStreamError) as caught:
        world.ask(ids, "Check inventory for SKU-55")

    answer = caught.value.answer
    assert answer.kinds == ["o.in(0)", "o.out(0)", "o.inv ACTION_GROUP(0)", "failure"]
    message = (
        f"Your request couldn't be completed. Lambda function {LAMBDA} encountered a problem while processing "
        "request.The error message from the Lambda function is Unhandled. Check the Lambda function log for error "
        "details, then try your request again after fixing the error."
    )
    assert caught.value.response["Error"] == {"Code": "dependencyFailedException", "Message": message}
    failure = plain(answer.traces[-1]["trace"]["failureTrace"])
    assert failure == {
        "failureCode": 424,
        "failureReason": message,
        "traceId": "R-0",
        "metadata": {**CALLED, "operationTotalTimeMs": "<operationTotalTimeMs>"},
    }
    assert "secret" not in json.dumps(answer.traces, default=str)


def test_traces_come_only_when_asked_for(world: World) -> None:
    ids = world.agent()
    world.model.then("Hello.")

    assert world.ask(ids, "Hi", enableTrace=False).kinds == ["chunk"]


def test_streamed_chunks_come_before_the_models_output(world: World) -> None:
    ids = world.agent()
    world.model.then("<thinking>Easy.</thinking>The answer is forty-two.")

    answer = world.ask(ids, "Hi", streamingConfigurations={"streamFinalResponse": True})

    assert answer.text == "The answer is forty-two."
    assert len(answer.chunks) > 1
    without = [kind for kind in answer.kinds if kind != "chunk"]
    assert without == ["o.in(0)", "o.out(0)", "o.rat(0)", "o.obs FINISH(0)"]
    assert answer.kinds[0] == "o.in(0)"
    assert answer.kinds[-3:] == ["o.out(0)", "o.rat(0)", "o.obs FINISH(0)"]
    assert set(answer.kinds[1:-3]) == {"chunk"}


def test_a_tool_that_does_not_exist_is_a_reprompt(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.model.then([call("inventory__sell", {})], "I cannot sell.")

    answer = world.ask(ids, "Sell")

    assert answer.kinds == [
        "o.in(0)",
        "o.out(0)",
        "o.obs REPROMPT(0)",
        "o.in(1)",
        "o.out(1)",
        "o.obs FINISH(1)",
        "chunk",
    ]
    reprompt = parts(answer)[2][1]["repromptResponse"]
    assert reprompt["source"] == "PARSER"
    assert "inventory__check" in reprompt["text"]
