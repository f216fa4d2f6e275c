"""What an agent asks of its caller, and the caller's answers as the service wants them.

returnControl --asked_of--> ReturnControl(calls) --perform--> answers --session_state--> the next request
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]


class ActionFailed(Exception):
    """Raised by whoever carries out an action: it was not carried out. The model is told the text, and goes on."""


@dataclass(frozen=True, slots=True)
class ActionCall:
    """One action that an agent asks its caller to carry out, to confirm, or both.

    Shapes: kind is RESULT, USER_CONFIRMATION or USER_CONFIRMATION_AND_RESULT. function is "" for an API operation,
            api_path and http_method are "" for a function. parameters have their declared types, those of a request
            body among them. asked is the request as it came.
    """

    action_group: str
    function: str
    api_path: str
    http_method: str
    parameters: Mapping[str, Any]
    kind: str = "RESULT"
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def name(self) -> str:
        """The function, or method and path: "reserve_stock", "POST /orders/{id}"."""
        return self.function or f"{self.http_method} {self.api_path}"


OnReturnControl = Callable[[ActionCall], Any]


@dataclass(frozen=True, slots=True)
class ReturnControl:
    """What an agent asks of its caller before it goes on."""

    invocation_id: str
    calls: Sequence[ActionCall]

    def session_state(self, answers: Sequence[Any]) -> JSON:
        """The `sessionState` that brings one answer per call, in their order.

        Shapes: an answer is text or anything JSON can hold; True or False, and nothing else, where the call asks for
                confirmation alone; False or a result where it asks for both; an ActionFailed to tell the model; any
                other exception to fail the turn.
        Errors: ValueError when there are not as many answers as calls; TypeError naming an answer's type when it is
                none of these.
        Source: docs/behaviour/invoke-agent.md 3.1, action-groups.md 6 (stated)
        """
        results = [_result(call, answer) for call, answer in zip(self.calls, answers, strict=True)]
        return {"invocationId": self.invocation_id, "returnControlInvocationResults": results}


def asked_of(member: Mapping[str, Any]) -> ReturnControl:
    """The request in a `returnControl` event."""
    return ReturnControl(member.get("invocationId", ""), [_call(asked) for asked in member["invocationInputs"]])


def perform(control: ReturnControl, action: OnReturnControl) -> tuple[list[Any], Exception | None]:
    """An answer per call, and the exception that fails the turn; after one, nothing more is carried out.

    Shapes: an answer that is neither a confirmation nor a result is a TypeError among the exceptions. Where there is
            an exception, confirmations given before it are taken back: the service has not acted on them.
    """
    answers: list[Any] = []
    broken: Exception | None = None
    for call in control.calls:
        try:
            answers.append(_performed(call, action) if broken is None else broken)
        except ActionFailed as failed:
            answers.append(failed)
        except Exception as error:
            broken = error
            answers.append(error)
    if broken is not None:
        confirmed = zip(control.calls, answers, strict=True)
        answers = [broken if call.kind == "USER_CONFIRMATION" else answer for call, answer in confirmed]
    return answers, broken


def _performed(call: ActionCall, action: OnReturnControl) -> Any:
    answer = action(call)
    if isinstance(answer, Exception) and not isinstance(answer, ActionFailed):
        raise _no_answer(call, answer) from answer
    _result(call, answer)  # it must be one that can be sent
    return answer


def _call(asked: Mapping[str, Any]) -> ActionCall:
    given: Mapping[str, Any] = next(iter(asked.values()))
    entries: list[Mapping[str, Any]] = list(given.get("parameters", ()))
    for body in given.get("requestBody", {}).get("content", {}).values():
        entries += body.get("properties", ())
    return ActionCall(
        action_group=given.get("actionGroup", ""),
        function=given.get("function", ""),
        api_path=given.get("apiPath", ""),
        http_method=str(given.get("httpMethod", "")).upper(),
        parameters={entry["name"]: _value(entry) for entry in entries},
        kind=given.get("actionInvocationType", "RESULT"),
        asked=given,
    )


def _value(entry: Mapping[str, Any]) -> Any:
    """A parameter in its declared type; values travel as text."""
    text = entry.get("value", "")
    if entry.get("type", "string") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _result(call: ActionCall, answer: Any) -> JSON:
    """One member of `returnControlInvocationResults`."""
    action = (
        {"function": call.function} if call.function else {"apiPath": call.api_path, "httpMethod": call.http_method}
    )
    told: JSON = {"actionGroup": call.action_group, **action}
    if "agentId" in call.asked:
        told["agentId"] = call.asked["agentId"]
    if call.kind != "RESULT":
        told["confirmationState"] = "CONFIRM" if _is_agreed(call, answer) else "DENY"
    if call.kind != "USER_CONFIRMATION" and told.get("confirmationState") != "DENY":
        told |= _outcome(call, answer)
    return {"functionResult" if call.function else "apiResult": told}


def _is_agreed(call: ActionCall, answer: Any) -> bool:
    """Whether a confirmation was given; an exception is none, and where a result is asked for too, it counts as one."""
    if isinstance(answer, Exception):
        return call.kind != "USER_CONFIRMATION" and isinstance(answer, ActionFailed)
    if answer is None or (call.kind == "USER_CONFIRMATION" and answer is not True and answer is not False):
        raise _no_answer(call, answer)  # "no" and {"confirmed": False} are true, and must not let anything happen
    return answer is not False


def _outcome(call: ActionCall, answer: Any) -> JSON:
    told: JSON = {} if call.function else {"httpStatusCode": 200}
    if isinstance(answer, ActionFailed):
        told["responseState"], answer = "REPROMPT", str(answer)
    elif isinstance(answer, Exception):
        told["responseState"], answer = "FAILURE", type(answer).__name__
    body = answer if isinstance(answer, str) else _json(call, answer)
    return {**told, "responseBody": {"TEXT" if call.function else "application/json": {"body": body}}}


def _json(call: ActionCall, answer: Any) -> str:
    try:
        return json.dumps(answer, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_answer(call, answer, str(error)) from error


def _no_answer(call: ActionCall, answer: Any, why: str = "") -> TypeError:
    wanted = {
        "USER_CONFIRMATION": "True or False",
        "USER_CONFIRMATION_AND_RESULT": "False, text or what JSON can hold",
    }.get(call.kind, "text or what JSON can hold")
    told = f"the answer to {call.name} is of type {type(answer).__name__}; wanted is {wanted}"
    return TypeError(f"{told}: {why}" if why else told)
