"""Between a tool call and the events of the action-group contract, in both directions.

    ToolCall --event_of--> Lambda's event            Lambda's response --result_of--> ToolResult
             --invocation_input--> returnControl     results of the caller --result_of_return_control--> ToolResult
             --trace_input--> actionGroupInvocationInput

Pure functions, called by executors (the Lambda event), by the turn (return of control) and
by telemetry (traces). Nothing here calls anything or decides whether a call may be made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, cast

import orjson

from outcrop.tools.base import Parameter, ToolAnsweredBadly, ToolCall, ToolCrashed, ToolResult

MAX_RESPONSE_BYTES = 6_291_556
"""Lambda's own limit on a synchronous response; the older 25 KB of the agents guide is not applied."""

_NOT_IN_BODY = frozenset({"function", "path", "query", "header", "cookie"})
_STATES: Mapping[Any, Literal["success", "reprompt", "failure"]] = {
    None: "success",
    "REPROMPT": "reprompt",
    "FAILURE": "failure",
}
DECLINED = "The user declined this action. It was not carried out."

Object = Mapping[str, Any]


def value_text(value: Any) -> str:
    """A value as the events carry it: always text.

    Shapes: 10 and 10.0 -> "10", True -> "true", [1, "a"] -> '[1,"a"]', strings as they are.
    Source: docs/behaviour/action-groups.md 4.2 (stated; arrays and objects inferred).
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        text = format(Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def event_of(call: ToolCall) -> dict[str, Any]:
    """The event that the Lambda function of an action group receives for one call.

    Source: docs/behaviour/action-groups.md 4.1, 4.2 (stated).
    """
    tool, caller = call.tool, call.caller
    event: dict[str, Any] = {
        "messageVersion": "1.0",
        "agent": dict(caller.agent),
        "inputText": caller.input_text,
        "sessionId": caller.session_id,
        "actionGroup": tool.action_group,
    }
    _add_action(event, call)
    event["sessionAttributes"] = dict(caller.session_attributes)
    event["promptSessionAttributes"] = dict(caller.prompt_session_attributes)
    return event


def invocation_input(call: ToolCall, collaborator_name: str = "") -> dict[str, Any]:
    """One member of a returnControl event's `invocationInputs`.

    Shapes: {"functionInvocationInput": {...}} or {"apiInvocationInput": {...}}.
    Source: docs/behaviour/action-groups.md 5, 6 (stated).
    """
    tool = call.tool
    member: dict[str, Any] = {
        "actionGroup": tool.action_group,
        "actionInvocationType": action_invocation_type(call),
        "agentId": call.caller.agent["id"],
    }
    if collaborator_name:
        member["collaboratorName"] = collaborator_name
    _add_action(member, call)
    return {"apiInvocationInput" if tool.kind == "api" else "functionInvocationInput": member}


def action_invocation_type(call: ToolCall) -> Literal["RESULT", "USER_CONFIRMATION", "USER_CONFIRMATION_AND_RESULT"]:
    """What the caller owes for a call that control is returned for.

    Source: docs/behaviour/action-groups.md 6 (stated).
    """
    if not call.tool.requires_confirmation:
        return "RESULT"
    return "USER_CONFIRMATION_AND_RESULT" if call.tool.execution == "RETURN_CONTROL" else "USER_CONFIRMATION"


def trace_input(call: ToolCall, invocation_id: str = "") -> dict[str, Any]:
    """The trace's `actionGroupInvocationInput`; invocation_id is set where control is returned.

    Source: docs/behaviour/traces.md 4 (observed; the verb's case inferred).
    """
    tool = call.tool
    told: dict[str, Any] = {"actionGroupName": tool.action_group, "executionType": tool.execution}
    if tool.kind == "api":
        told |= {"apiPath": tool.api_path, "verb": tool.http_method.lower()}
    else:
        told["function"] = tool.function
    if parameters := _parameters(call):
        told["parameters"] = parameters
    if content := {media: listed for media, listed in _body(call).items() if listed}:
        told["requestBody"] = {"content": content}
    if invocation_id:
        told["invocationId"] = invocation_id
    return told


def result_of(call: ToolCall, response: Any) -> ToolResult:
    """What the Lambda function of an action group answered, from its response as parsed JSON.

    Errors: ToolAnsweredBadly naming the member that breaks the contract.
    Source: docs/behaviour/action-groups.md 4.3, 4.4 (stated; echo check and tolerance inferred).
    """
    whole = _object(response, "the response")
    told = _object(_member(whole, "response", "the response"), "response")
    if call.tool.kind == "api":
        _check_echo(told, "apiPath", call.tool.api_path)
        _check_echo(told, "httpMethod", call.tool.http_method)
        inner, place = told, "response"
    else:
        _check_echo(told, "function", call.tool.function)
        inner, place = (
            _object(_member(told, "functionResponse", "response"), "response.functionResponse"),
            "response.functionResponse",
        )
    _check_echo(told, "actionGroup", call.tool.action_group)
    state = _state(inner, place)
    return ToolResult(
        text=_text(inner, place, state),
        state=state,
        http_status=_status(told) if call.tool.kind == "api" else None,
        session_attributes=_attributes(whole, "sessionAttributes"),
        prompt_session_attributes=_attributes(whole, "promptSessionAttributes"),
    )


def result_of_payload(call: ToolCall, payload: bytes, max_response_bytes: int = MAX_RESPONSE_BYTES) -> ToolResult:
    """What the function answered, from the bytes of its response.

    Errors: ToolCrashed when the response is over the limit, as Lambda itself reports it;
            ToolAnsweredBadly when it is no JSON or breaks the contract.
    """
    if len(payload) > max_response_bytes:
        told = f"the response is over the limit of {max_response_bytes} bytes"
        raise ToolCrashed(told, f"Function.ResponseSizeTooLarge: {told}")
    try:
        response = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ToolAnsweredBadly(f"the response is no JSON: {error}") from error
    return result_of(call, response)


def answers(call: ToolCall, member: Object) -> bool:
    """Whether a member of `returnControlInvocationResults` is about this call.

    Shapes: member is {"functionResult": {...}} or {"apiResult": {...}}; an absent agentId matches any agent.
    Source: docs/behaviour/invoke-agent.md 3.1 (inferred).
    """
    tool = call.tool
    told = member.get("apiResult" if tool.kind == "api" else "functionResult")
    if not isinstance(told, Mapping):
        return False
    result = cast(Object, told)
    agent_id = call.caller.agent["id"]
    if result.get("agentId", agent_id) != agent_id or result.get("actionGroup") != tool.action_group:
        return False
    if tool.kind == "function":
        return result.get("function") == tool.function
    verb = str(result.get("httpMethod", "")).upper()
    return result.get("apiPath") == tool.api_path and verb == tool.http_method.upper()


def confirmation_of(call: ToolCall, member: Object) -> Literal["CONFIRM", "DENY"] | None:
    """The user's decision in a caller's result; None where the call needs none.

    Errors: ToolAnsweredBadly when the call needs one and the result has none.
    Source: docs/behaviour/action-groups.md 6 (stated; the error inferred).
    """
    if not call.tool.requires_confirmation:
        return None
    state = _returned(call, member).get("confirmationState")
    if state not in ("CONFIRM", "DENY"):
        raise ToolAnsweredBadly(f"confirmationState is missing for {call.tool.name}: CONFIRM or DENY is required")
    return state


def result_of_return_control(call: ToolCall, member: Object) -> ToolResult:
    """What the caller answered for a call that control was returned for.

    Shapes: member is {"functionResult": {...}} or {"apiResult": {...}}. A denied confirmation gives the
            sentence that the model is told; a confirmed Lambda call is for the executor, not for this.
    Errors: ToolAnsweredBadly naming the member that is missing or wrong.
    Source: docs/behaviour/invoke-agent.md 3.1, action-groups.md 6 (stated; the declining sentence inferred).
    """
    told = _returned(call, member)
    if confirmation_of(call, member) == "DENY":
        return ToolResult(DECLINED)
    place = "apiResult" if call.tool.kind == "api" else "functionResult"
    state = _state(told, place)
    status = _status(told) if call.tool.kind == "api" else None
    return ToolResult(_text(told, place, state), state, status)


def _add_action(event: dict[str, Any], call: ToolCall) -> None:
    tool = call.tool
    if tool.kind == "api":
        event |= {"apiPath": tool.api_path, "httpMethod": tool.http_method.upper()}
    else:
        event["function"] = tool.function
    event["parameters"] = _parameters(call)
    if body := _body(call):
        event["requestBody"] = {"content": {media: {"properties": listed} for media, listed in body.items()}}


def _parameters(call: ToolCall) -> list[dict[str, str]]:
    return [
        _entry(parameter, call.input[parameter.name])
        for parameter in call.tool.parameters
        if parameter.place in _NOT_IN_BODY and call.input.get(parameter.name) is not None
    ]


def _body(call: ToolCall) -> dict[str, list[dict[str, str]]]:
    content: dict[str, list[dict[str, str]]] = {}
    for parameter in call.tool.parameters:
        if parameter.place not in _NOT_IN_BODY:
            listed = content.setdefault(parameter.place, [])
            if call.input.get(parameter.name) is not None:
                listed.append(_entry(parameter, call.input[parameter.name]))
    return content


def _entry(parameter: Parameter, value: Any) -> dict[str, str]:
    return {"name": parameter.name, "type": parameter.type, "value": value_text(value)}


def _object(value: Any, place: str) -> Object:
    if not isinstance(value, Mapping):
        raise ToolAnsweredBadly(f"{place} is no JSON object")
    return cast(Object, value)


def _member(owner: Object, name: str, place: str) -> Any:
    if owner.get(name) is None:
        raise ToolAnsweredBadly(f"{place} has no '{name}'")
    return owner[name]


def _check_echo(told: Object, name: str, wanted: str) -> None:
    """An absent echo contradicts nothing; letter case may differ only in the API members."""
    given = told.get(name)
    if given is None or given == wanted:
        return
    if name in ("apiPath", "httpMethod") and isinstance(given, str) and given.casefold() == wanted.casefold():
        return
    raise ToolAnsweredBadly(f"response.{name} is {_shown(given)}, the call was for '{wanted}'")


def _state(told: Object, place: str) -> Literal["success", "reprompt", "failure"]:
    state = told.get("responseState")
    if state is not None and (not isinstance(state, str) or state not in _STATES):
        raise ToolAnsweredBadly(f"{place}.responseState is {_shown(state)}; it may be FAILURE or REPROMPT")
    return _STATES[state]


def _text(told: Object, place: str, state: str) -> str:
    if state == "failure" and told.get("responseBody") is None:
        return ""
    place = f"{place}.responseBody"
    bodies = _object(_member(told, "responseBody", place.rpartition(".")[0]), place)
    if not bodies:
        raise ToolAnsweredBadly(f"{place} is empty; it maps a content type to a body")
    media = next((known for known in ("TEXT", "application/json") if known in bodies), next(iter(bodies)))
    content = _object(bodies[media], f"{place}.{media}")
    if media == "IMAGES" or "images" in content:
        raise ToolAnsweredBadly(f"{place}.{media} holds images, which only computer-use actions may return")
    body = _member(content, "body", f"{place}.{media}")
    if not isinstance(body, str):
        raise ToolAnsweredBadly(f"{place}.{media}.body is no string; serialise it as JSON text")
    return body


def _status(told: Object) -> int | None:
    status = told.get("httpStatusCode")
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if status is not None and (isinstance(status, bool) or not isinstance(status, int)):
        raise ToolAnsweredBadly(f"httpStatusCode is {_shown(status)}, no whole number")
    return status


def _attributes(whole: Object, name: str) -> Mapping[str, str] | None:
    value = whole.get(name)
    if value is None:
        return None
    attributes = _object(value, name)
    for key, text in attributes.items():
        if not isinstance(text, str):
            raise ToolAnsweredBadly(f"{name}.{key} is no string")
    return dict(attributes)


def _returned(call: ToolCall, member: Object) -> Object:
    wanted = "apiResult" if call.tool.kind == "api" else "functionResult"
    return _object(_member(member, wanted, f"the result of {call.tool.name}"), wanted)


def _shown(value: Any) -> str:
    """A value of unknown size and type, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
