"""Lambda functions as plain Python callables in this process, which remember what they were sent.

They go through the same event and response contract as deployed functions; only the process
boundary is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from outcrop.tools.base import Executor, IdempotencyKey, ToolCall, ToolCrashed, ToolResult, ToolUnreachable
from outcrop.tools.lambda_event import event_of, result_of

Handler = Callable[[dict[str, Any]], Any]


@dataclass(slots=True)
class RecordedFunctions:
    """Handlers by function name, and the events they received, in order.

    Shapes: a handler takes the Lambda event. It returns a whole Lambda response (a dict with "response"), or
            just the text of the body; what it raises is a crash of the function. events are (function name, event).
    """

    handlers: dict[str, Handler] = field(default_factory=dict[str, Handler])
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    keys: list[str] = field(default_factory=list[str])
    idempotent: bool = False
    """Whether they say of themselves that a call repeated with its key takes effect once."""

    def add(self, name: str, handler: Handler | str) -> None:
        """Serve a function of that name, with a handler or with an answer that is always the same."""
        self.handlers[name] = handler if callable(handler) else _always(handler)

    def executor_for(self, lambda_arn: str) -> Executor:
        """The executor of the function that an ARN names.

        Errors: ToolUnreachable when no handler has its name.
        """
        name = lambda_arn.split(":")[6] if lambda_arn.count(":") >= 6 else lambda_arn
        if name not in self.handlers:
            raise ToolUnreachable(f"no function is bound to {lambda_arn}")
        return _Recorded(self, name)

    def honours_keys(self, lambda_arn: str) -> bool:
        """Whether a call that is repeated with its idempotency key takes effect once."""
        return self.idempotent

    def calls_of(self, name: str) -> list[dict[str, Any]]:
        """The events one function received."""
        return [event for function, event in self.events if function == name]

    async def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    functions: RecordedFunctions
    name: str

    async def execute(self, call: ToolCall, key: IdempotencyKey) -> ToolResult:
        event = event_of(call)
        self.functions.events.append((self.name, event))
        self.functions.keys.append(key)
        try:
            answer = await asyncio.to_thread(self.functions.handlers[self.name], event)
        except Exception as error:
            raise ToolCrashed(f"function {self.name} raised {type(error).__name__}", str(error)) from error
        return result_of(call, answer if isinstance(answer, dict) else respond(event, answer))

    async def close(self) -> None:
        pass


def respond(event: dict[str, Any], body: Any) -> dict[str, Any]:
    """The Lambda response of an action-group function with that body, for the event it answers.

    Shapes: body is the text of the body, or any value, which is written as JSON-like text.
    """
    text = body if isinstance(body, str) else str(body)
    if "function" in event:
        told: dict[str, Any] = {
            "actionGroup": event["actionGroup"],
            "function": event["function"],
            "functionResponse": {"responseBody": {"TEXT": {"body": text}}},
        }
    else:
        told = {
            "actionGroup": event["actionGroup"],
            "apiPath": event["apiPath"],
            "httpMethod": event["httpMethod"],
            "httpStatusCode": 200,
            "responseBody": {"application/json": {"body": text}},
        }
    return {"messageVersion": "1.0", "response": told}


def _always(text: str) -> Handler:
    def handler(_event: dict[str, Any]) -> str:
        return text

    return handler
