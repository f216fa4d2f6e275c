"""What a turn does, as events: the same words whether it is under way or retold from its journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from outcrop.events import ActionReturned, Answered, Failed, ModelAnswered, ModelCalled
from outcrop.messages import reasoning_of, text_of, tool_uses
from outcrop.models.base import ConverseRequest
from outcrop.orchestration.turn import (
    CallModel,
    CallResult,
    CallTools,
    Fail,
    Finish,
    ModelFailed,
    ModelReplied,
    PlannedCall,
    Turn,
    mend,
)
from outcrop.prompts.library import orchestration_system, overridden_system
from outcrop.prompts.parsers import split
from outcrop.tools.base import Caller, ToolCall
from outcrop.tools.lambda_event import trace_input

_KINDS: Mapping[str, Literal["reprompt", "failure"]] = {
    "reprompt": "reprompt",
    "rejected": "reprompt",
    "failure": "failure",
}


def caller_of(turn: Turn) -> Caller:
    """Who asks, as an action-group Lambda is told."""
    who = turn.definition.identity
    return Caller(
        agent={"name": who.name, "id": who.agent_id, "alias": who.alias_id, "version": who.version},
        session_id=turn.opening.session_id,
        input_text=turn.opening.input_text,
        session_attributes=turn.session_attributes,
        prompt_session_attributes=turn.prompt_session_attributes,
    )


def request_of(turn: Turn) -> ConverseRequest:
    """What a model is asked next.

    Errors: TemplateMistake where an overridden prompt cannot be filled.
    """
    definition = turn.definition
    tools = definition.toolbox.specs
    if definition.template:
        attributes = turn.prompt_session_attributes
        values = {
            "instruction": definition.instruction,
            "question": turn.opening.input_text,
            "prompt_session_attributes": "\n".join(f"{name}: {value}" for name, value in attributes.items()),
        }
        system = overridden_system(definition.template, values)
    else:
        system = orchestration_system(
            definition.instruction, has_tools=bool(tools), may_ask=definition.toolbox.may_ask_user
        )
    return ConverseRequest(
        model_id=definition.foundation_model,
        messages=turn.conversation(),
        system=system,
        tools=tools,
        inference=definition.inference,
        additional=definition.additional_fields,
    )


def called(step: CallModel, turn: Turn, request: ConverseRequest, at: float) -> ModelCalled:
    """A model is about to be called."""
    definition = turn.definition
    return ModelCalled(
        iteration=step.iteration,
        at=at,
        model_id=request.model_id,
        system=request.system,
        messages=request.messages,
        inference=definition.shown_inference,
        shows_inference=definition.overrides_inference or not definition.identity.is_inline,
    )


def answered(step: CallModel, outcome: ModelReplied, started_at: float, at: float) -> ModelAnswered:
    """A model has replied. What it said before acting or answering is its rationale."""
    text = text_of(outcome.message)
    spoken = split(text)
    acting = spoken.answer if tool_uses(outcome.message) else ""
    return ModelAnswered(
        iteration=step.iteration,
        started_at=started_at,
        at=at,
        model_id=outcome.model_id,
        message=outcome.message,
        stop_reason=outcome.stop_reason,
        usage=outcome.usage,
        rationale=spoken.thinking or reasoning_of(outcome.message).strip() or acting,
    )


def unreadable(step: CallModel, failed: ModelFailed, started: float, at: float) -> ActionReturned:
    """A model wrote a call that nobody can read, and is asked to mend it."""
    return ActionReturned(
        iteration=step.iteration,
        started_at=started,
        at=at,
        tool="",
        call=None,
        text=mend(failed.reason),
        kind="reprompt",
        source="PARSER",
    )


def returned(iteration: int, call: PlannedCall, result: CallResult, turn: Turn) -> ActionReturned:
    """An action was carried out, or could not be."""
    tool = turn.definition.toolbox.find(call.name)
    shown: dict[str, Any] | None = None
    if tool is not None and call.disposition == "execute":
        shown = trace_input(ToolCall(tool, call.input, caller_of(turn)))
    return ActionReturned(
        iteration=iteration,
        started_at=result.started_at,
        at=result.at,
        tool=call.name,
        call=shown,
        text=result.text,
        kind=_KINDS.get(result.state, "result"),
        source="PARSER" if result.state == "rejected" else "ACTION_GROUP",
    )


def supplied(step: CallTools, branch: int, result: CallResult) -> ActionReturned:
    """The caller brought the result of an action."""
    return ActionReturned(
        iteration=step.iteration,
        started_at=result.started_at,
        at=result.at,
        tool=step.calls[branch].name,
        call=None,
        text=result.text,
        kind="reprompt" if result.state == "reprompt" else "failure" if result.state == "failure" else "result",
        source="ACTION_GROUP",
    )


def last_word(
    step: Finish | Fail, model_calls: int, began: float, at: float, *, streams: bool = False
) -> Answered | Failed:
    """How a turn ended; the part of a streamed answer that went out is not told again."""
    iteration = max(model_calls - 1, 0)
    if isinstance(step, Fail):
        return Failed(iteration, began, at, step.code, step.reason, step.fault, step.canned)
    return Answered(iteration, began, at, step.kind, step.text, streams and step.kind == "FINISH")
