"""The action-group contract, in both directions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.tools.base import ToolAnsweredBadly, ToolCrashed
from outcrop.tools.lambda_event import (
    DECLINED,
    MAX_RESPONSE_BYTES,
    action_invocation_type,
    answers,
    confirmation_of,
    event_of,
    invocation_input,
    result_of,
    result_of_payload,
    result_of_return_control,
    trace_input,
    value_text,
)


def function_response(body="12", **members):
    told = {"responseBody": {"TEXT": {"body": body}}, **members}
    return {
        "messageVersion": "1.0",
        "response": {"actionGroup": "stock", "function": "count", "functionResponse": told},
    }


def api_response(body="{}", **members):
    response = {
        "actionGroup": "stock",
        "apiPath": "/items/{sku}",
        "httpMethod": "PUT",
        "httpStatusCode": 200,
        "responseBody": {"application/json": {"body": body}},
        **members,
    }
    return {"messageVersion": "1.0", "response": response}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is ", "as it is "),
        ("", ""),
        (10, "10"),
        (10.0, "10"),
        (-0.5, "-0.5"),
        (100.0, "100"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (10**30, "1" + "0" * 30),
        (True, "true"),
        (False, "false"),
        ([1, "a", None], '[1,"a",null]'),
        ({"k": {"ü": 1.5}}, '{"k":{"ü":1.5}}'),
        ([], "[]"),
    ],
)
def test_values_travel_as_text(value, text) -> None:
    assert value_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value_and_has_no_exponent(number: float) -> None:
    text = value_text(number)
    assert float(text) == number
    assert "e" not in text
    assert not text.endswith(".0")


def test_the_event_of_a_function_call(function_call) -> None:
    call = function_call({"sku": "SKU-55", "amount": 10, "fresh": True, "tags": ["a", "b"]})
    assert event_of(call) == {
        "messageVersion": "1.0",
        "agent": {"name": "keeper", "id": "AGENT12345", "alias": "TSTALIASID", "version": "DRAFT"},
        "inputText": "What is on the shelf?",
        "sessionId": "session-1",
        "actionGroup": "stock",
        "function": "count",
        "parameters": [
            {"name": "sku", "type": "string", "value": "SKU-55"},
            {"name": "amount", "type": "number", "value": "10"},
            {"name": "fresh", "type": "boolean", "value": "true"},
            {"name": "tags", "type": "array", "value": '["a","b"]'},
        ],
        "sessionAttributes": {"tenant": "blue"},
        "promptSessionAttributes": {"mood": "calm"},
    }


def test_the_event_of_an_api_call(api_call) -> None:
    event = event_of(api_call({"sku": "SKU-55", "count": 3, "notes": {"by": "me"}}, http_method="put"))
    assert (event["apiPath"], event["httpMethod"]) == ("/items/{sku}", "PUT")
    assert event["parameters"] == [{"name": "sku", "type": "string", "value": "SKU-55"}]
    assert event["requestBody"] == {
        "content": {
            "application/json": {
                "properties": [
                    {"name": "count", "type": "integer", "value": "3"},
                    {"name": "notes", "type": "object", "value": '{"by":"me"}'},
                ]
            }
        }
    }
    assert "function" not in event


def test_what_was_not_supplied_is_not_sent(function_call, api_call) -> None:
    assert event_of(function_call({"sku": None, "unknown": 1}))["parameters"] == []
    assert event_of(api_call({}))["requestBody"] == {"content": {"application/json": {"properties": []}}}
    bodiless = api_call({"sku": "1"}, parameters=api_call().tool.parameters[:1])
    assert "requestBody" not in event_of(bodiless)


def test_a_function_answers(function_call) -> None:
    response = {**function_response("12 left"), "sessionAttributes": {"a": "b"}, "promptSessionAttributes": {}}
    result = result_of(function_call(), response)
    assert (result.text, result.state, result.http_status) == ("12 left", "success", None)
    assert (result.session_attributes, result.prompt_session_attributes) == ({"a": "b"}, {})


def test_absent_attributes_keep_the_old_ones(function_call) -> None:
    result = result_of(function_call(), {**function_response(), "sessionAttributes": None})
    assert (result.session_attributes, result.prompt_session_attributes) == (None, None)


@pytest.mark.parametrize(("state", "told"), [("FAILURE", "failure"), ("REPROMPT", "reprompt"), (None, "success")])
def test_states_of_a_function_and_an_api(function_call, api_call, state, told) -> None:
    assert result_of(function_call(), function_response(responseState=state)).state == told
    assert result_of(api_call(), api_response(responseState=state)).state == told


def test_a_failure_needs_no_body(function_call) -> None:
    assert result_of(function_call(), function_response(responseState="FAILURE", responseBody=None)).text == ""


def test_an_api_answers_with_its_status(api_call) -> None:
    result = result_of(api_call(), api_response('{"error":"none"}', httpStatusCode=404))
    assert (result.text, result.http_status, result.state) == ('{"error":"none"}', 404, "success")


def test_echoes_may_differ_in_case_or_be_absent(api_call) -> None:
    assert result_of(api_call(), api_response(httpMethod="put", apiPath="/ITEMS/{sku}")).text == "{}"
    assert result_of(api_call(), api_response(httpMethod=None, apiPath=None, actionGroup=None)).text == "{}"


@pytest.mark.parametrize(
    ("response", "wrong"),
    [
        (None, "the response is no JSON object"),
        ("text", "the response is no JSON object"),
        ([], "the response is no JSON object"),
        ({}, "the response has no 'response'"),
        ({"response": "x"}, "response is no JSON object"),
        ({"response": {"function": "count"}}, "response has no 'functionResponse'"),
        ({"response": {"functionResponse": []}}, "response.functionResponse is no JSON object"),
        ({"response": {"functionResponse": {}}}, "response.functionResponse has no 'responseBody'"),
        (function_response(responseBody={}), "responseBody is empty"),
        (function_response(responseBody="x"), "responseBody is no JSON object"),
        (function_response(responseBody={"TEXT": "x"}), "responseBody.TEXT is no JSON object"),
        (function_response(responseBody={"TEXT": {}}), "responseBody.TEXT has no 'body'"),
        (function_response({"a": 1}), "responseBody.TEXT.body is no string"),
        (function_response(responseBody={"IMAGES": {"images": []}}), "holds images"),
        (function_response(responseState="SUCCESS"), "responseState is 'SUCCESS'"),
        (function_response(responseState={"a": 1}), "responseState is"),
        ({**function_response(), "sessionAttributes": []}, "sessionAttributes is no JSON object"),
        ({**function_response(), "promptSessionAttributes": {"k": 1}}, "promptSessionAttributes.k is no string"),
    ],
)
def test_a_bad_answer_names_the_member(function_call, response, wrong) -> None:
    with pytest.raises(ToolAnsweredBadly) as bad:
        result_of(function_call(), response)
    assert wrong in str(bad.value)


def test_an_answer_to_another_call_is_bad(function_call, api_call) -> None:
    other = function_response()
    other["response"]["actionGroup"] = "other"
    with pytest.raises(ToolAnsweredBadly, match=r"response\.actionGroup is 'other', the call was for 'stock'"):
        result_of(function_call(), other)
    with pytest.raises(ToolAnsweredBadly, match="httpMethod is 'GET'"):
        result_of(api_call(), api_response(httpMethod="GET"))
    with pytest.raises(ToolAnsweredBadly, match="httpStatusCode is 'OK'"):
        result_of(api_call(), api_response(httpStatusCode="OK"))


def test_a_long_wrong_value_is_shown_shortened(function_call) -> None:
    with pytest.raises(ToolAnsweredBadly) as bad:
        result_of(function_call(), function_response(responseState="x" * 10_000))
    assert len(str(bad.value)) < 300


def test_payloads_are_limited_and_json(function_call) -> None:
    # The older agents guide says 25 KB; only Lambda's own limit is applied.
    large = json.dumps(function_response("x" * 1_000_000)).encode()
    assert len(result_of_payload(function_call(), large).text) == 1_000_000
    with pytest.raises(ToolCrashed):
        result_of_payload(function_call(), b" " * (MAX_RESPONSE_BYTES + 1))
    with pytest.raises(ToolCrashed):
        result_of_payload(function_call(), large, max_response_bytes=25_000)
    with pytest.raises(ToolAnsweredBadly, match="no JSON"):
        result_of_payload(function_call(), b"<html>")


def test_return_control_asks_for_a_function(function_call) -> None:
    call = function_call(execution="RETURN_CONTROL")
    assert invocation_input(call) == {
        "functionInvocationInput": {
            "actionGroup": "stock",
            "actionInvocationType": "RESULT",
            "agentId": "AGENT12345",
            "function": "count",
            "parameters": [{"name": "sku", "type": "string", "value": "SKU-55"}],
        }
    }
    assert invocation_input(call, "helper")["functionInvocationInput"]["collaboratorName"] == "helper"


def test_return_control_asks_for_an_api(api_call) -> None:
    asked = invocation_input(api_call(execution="RETURN_CONTROL"))["apiInvocationInput"]
    assert (asked["apiPath"], asked["httpMethod"]) == ("/items/{sku}", "PUT")
    assert asked["requestBody"]["content"]["application/json"]["properties"][0]["value"] == "3"


@pytest.mark.parametrize(
    ("execution", "confirmed", "owed"),
    [
        ("RETURN_CONTROL", False, "RESULT"),
        ("LAMBDA", True, "USER_CONFIRMATION"),
        ("RETURN_CONTROL", True, "USER_CONFIRMATION_AND_RESULT"),
    ],
)
def test_what_the_caller_owes(function_call, execution, confirmed, owed) -> None:
    assert action_invocation_type(function_call(execution=execution, requires_confirmation=confirmed)) == owed


def test_the_trace_of_a_function_call(function_call) -> None:
    assert trace_input(function_call()) == {
        "actionGroupName": "stock",
        "executionType": "LAMBDA",
        "function": "count",
        "parameters": [{"name": "sku", "type": "string", "value": "SKU-55"}],
    }
    assert "parameters" not in trace_input(function_call({}))
    assert trace_input(function_call(execution="RETURN_CONTROL"), "id-1")["invocationId"] == "id-1"


def test_the_trace_of_an_api_call_lists_the_body_directly(api_call) -> None:
    told = trace_input(api_call())
    assert (told["apiPath"], told["verb"]) == ("/items/{sku}", "put")
    assert told["requestBody"] == {
        "content": {"application/json": [{"name": "count", "type": "integer", "value": "3"}]}
    }
    assert "requestBody" not in trace_input(api_call({"sku": "1"}))


def function_result(**members):
    return {"functionResult": {"actionGroup": "stock", "function": "count", **members}}


def api_result(**members):
    return {"apiResult": {"actionGroup": "stock", "apiPath": "/items/{sku}", "httpMethod": "put", **members}}


def test_results_find_their_call(function_call, api_call) -> None:
    function, api = function_call(), api_call()
    assert answers(function, function_result())
    assert answers(function, function_result(agentId="AGENT12345"))
    assert not answers(function, function_result(agentId="OTHER12345"))
    assert not answers(function, {"functionResult": {"actionGroup": "stock", "function": "other"}})
    assert not answers(function, api_result())
    assert not answers(function, {"functionResult": "x"})
    assert answers(api, api_result())
    assert not answers(api, {"apiResult": {**api_result()["apiResult"], "apiPath": "/other"}})
    assert not answers(api, {"apiResult": {**api_result()["apiResult"], "actionGroup": "other"}})


def test_the_caller_answers(function_call, api_call) -> None:
    call = function_call(execution="RETURN_CONTROL")
    done = result_of_return_control(call, function_result(responseBody={"TEXT": {"body": "done"}}))
    assert (done.text, done.state) == ("done", "success")
    again = function_result(responseBody={"TEXT": {"body": "which?"}}, responseState="REPROMPT")
    assert result_of_return_control(call, again).state == "reprompt"
    body = {"application/json": {"body": "{}"}}
    made = result_of_return_control(api_call(), api_result(responseBody=body, httpStatusCode=201))
    assert (made.text, made.http_status) == ("{}", 201)


def test_the_caller_leaves_out_what_is_owed(function_call) -> None:
    with pytest.raises(ToolAnsweredBadly, match="functionResult has no 'responseBody'"):
        result_of_return_control(function_call(), function_result())
    with pytest.raises(ToolAnsweredBadly, match="no 'functionResult'"):
        result_of_return_control(function_call(), api_result())


def test_confirmation(function_call) -> None:
    free = function_call()
    careful = replace(free, tool=replace(free.tool, requires_confirmation=True))
    assert confirmation_of(free, function_result()) is None
    assert confirmation_of(careful, function_result(confirmationState="CONFIRM")) == "CONFIRM"
    denied = result_of_return_control(careful, function_result(confirmationState="DENY"))
    assert (denied.text, denied.state) == (DECLINED, "success")
    with pytest.raises(ToolAnsweredBadly, match="confirmationState is missing for stock__count"):
        confirmation_of(careful, function_result())
