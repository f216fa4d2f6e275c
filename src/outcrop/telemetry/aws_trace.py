"""Events into trace parts, field by field as the service sends them.

One `TraceReader` reads one call's events. It is built only when the caller asked for traces,
so nothing here costs a call that did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from outcrop.clock import iso
from outcrop.events import (
    ActionReturned,
    Answered,
    ControlReturned,
    Event,
    Failed,
    ModelAnswered,
    ModelCalled,
    TextStreamed,
)
from outcrop.ids import request_id
from outcrop.messages import Message

JSON = dict[str, Any]


class TraceReader:
    """Turns events into TracePart dicts.

    Shapes: envelope holds agentId, agentAliasId, agentVersion (absent for inline agents), callerChain and sessionId;
            request is the UUID that prefixes every trace id. Iterations are counted from the first one seen, so a
            resumed turn starts again at 0.
    Source: docs/behaviour/traces.md 1, 2, 3 (observed; numbering after a resumption inferred)
    """

    def __init__(
        self, envelope: Mapping[str, Any], request: str, client_requests: Callable[[], str] = request_id
    ) -> None:
        """Read for one call; `client_requests` gives the id of each call that a trace tells of."""
        self._envelope = envelope
        self._request = request
        self._client_requests = client_requests
        self._first: int | None = None

    def feed(self, event: Event) -> Iterator[JSON]:
        """The trace parts of one event, in order; most have one, some have two or none."""
        for instant, trace in self._traces(event):
            yield {**self._envelope, "eventTime": iso(instant), "trace": trace}

    def _traces(self, event: Event) -> Iterator[tuple[float, JSON]]:
        match event:
            case TextStreamed():
                return
            case Failed():
                yield event.at, {"failureTrace": self._failure(event)}
            case _:
                for part in self._orchestration(event):
                    yield event.at, {"orchestrationTrace": part}

    def _orchestration(self, event: Event) -> Iterator[JSON]:
        match event:
            case ModelCalled():
                yield {"modelInvocationInput": self._model_input(event)}
            case ModelAnswered():
                yield {"modelInvocationOutput": self._model_output(event)}
                if event.rationale:
                    yield {"rationale": {"text": event.rationale, "traceId": self._id(event.iteration)}}
            case ActionReturned():
                yield from self._action(event)
            case ControlReturned():
                for call in event.calls:
                    yield {"invocationInput": self._invocation(event.iteration, call)}
            case Answered():
                yield {"observation": self._answer(event)}
            case _:
                return

    def _id(self, iteration: int) -> str:
        if self._first is None:
            self._first = iteration
        return f"{self._request}-{iteration - self._first}"

    def _model_input(self, event: ModelCalled) -> JSON:
        part: JSON = {
            "foundationModel": event.model_id,
            "text": prompt_text(event.system, event.messages),
            "traceId": self._id(event.iteration),
            "type": "ORCHESTRATION",
        }
        if event.shows_inference:
            part["inferenceConfiguration"] = dict(event.inference)
        return part

    def _model_output(self, event: ModelAnswered) -> JSON:
        usage = event.usage
        raw = {
            "output": {"message": event.message},
            "stopReason": event.stop_reason,
            "usage": usage,
            "metrics": {"latencyMs": _ms(event.started_at, event.at)},
        }
        counted = {"inputTokens": usage["inputTokens"], "outputTokens": usage["outputTokens"]}
        return {
            "metadata": {**self._called(event.started_at, event.at), "usage": counted},
            "rawResponse": {"content": orjson.dumps(raw).decode()},
            "traceId": self._id(event.iteration),
        }

    def _action(self, event: ActionReturned) -> Iterator[JSON]:
        trace_id = self._id(event.iteration)
        if event.call is not None:
            yield {"invocationInput": self._invocation(event.iteration, event.call)}
        if event.kind == "failure":
            return
        if event.kind == "reprompt":
            reprompt = {"source": event.source, "text": event.text}
            yield {"observation": {"repromptResponse": reprompt, "traceId": trace_id, "type": "REPROMPT"}}
            return
        output = {"metadata": self._called(event.started_at, event.at), "text": event.text}
        yield {"observation": {"actionGroupInvocationOutput": output, "traceId": trace_id, "type": "ACTION_GROUP"}}

    def _invocation(self, iteration: int, call: Mapping[str, Any]) -> JSON:
        return {
            "actionGroupInvocationInput": call,
            "invocationType": "ACTION_GROUP",
            "traceId": self._id(iteration),
        }

    def _answer(self, event: Answered) -> JSON:
        metadata = {
            **_span(event.started_at, event.at),
            "operationTotalTimeMs": _ms(event.started_at, event.at),
        }
        return {
            "finalResponse": {"metadata": metadata, "text": event.text},
            "traceId": self._id(event.iteration),
            "type": event.kind,
        }

    def _failure(self, event: Failed) -> JSON:
        metadata = {**self._called(event.started_at, event.at), "operationTotalTimeMs": _ms(event.started_at, event.at)}
        return {
            "failureCode": event.code,
            "failureReason": event.reason,
            "metadata": metadata,
            "traceId": self._id(event.iteration),
        }

    def _called(self, started_at: float, at: float) -> JSON:
        return {"clientRequestId": self._client_requests(), **_span(started_at, at), "totalTimeMs": _ms(started_at, at)}


def prompt_text(system: str, messages: Sequence[Message]) -> str:
    """The whole prompt as the trace's one string: {"system", "messages": [{"content", "role"}]}.

    Shapes: each `content` is a JSON string of the message's content blocks.
    Source: docs/behaviour/traces.md 4 (outer form observed, JSON content inferred)
    """
    told = [{"content": orjson.dumps(message["content"]).decode(), "role": message["role"]} for message in messages]
    return orjson.dumps({"system": system, "messages": told}).decode()


def _span(started_at: float, at: float) -> JSON:
    return {"startTime": iso(started_at), "endTime": iso(at)}


def _ms(started_at: float, at: float) -> int:
    return max(0, int((at - started_at) * 1000))
