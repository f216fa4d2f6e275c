"""Carries out one step: the only place with side effects.

It matches on the step and calls a room: models for CallModel, tools for CallTools. Failures
of rooms become outcomes, because the strategy must see them. What it does it tells `emit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from outcrop.clock import Clock
from outcrop.config import ConfigMistake
from outcrop.events import ActionReturned, Event, ModelAnswered, ModelCalled, TextStreamed
from outcrop.messages import reasoning_of, text_of, tool_uses
from outcrop.models.base import (
    ConverseRequest,
    Folder,
    ModelError,
    ModelProvider,
    Reply,
)
from outcrop.orchestration.outcomes import call_result, model_failed, tool_failed
from outcrop.orchestration.turn import (
    CallModel,
    CallResult,
    CallTools,
    ModelFailed,
    ModelReplied,
    Outcome,
    PlannedCall,
    Step,
    ToolsReturned,
    Turn,
    mend,
)
from outcrop.plugins import UnknownPlugin
from outcrop.prompts.library import TemplateMistake, orchestration_system, overridden_system
from outcrop.prompts.parsers import AnswerStream, split
from outcrop.tools.base import (
    Caller,
    Executor,
    IdempotencyKey,
    ToolCall,
    ToolError,
)
from outcrop.tools.lambda_event import trace_input

T = TypeVar("T")
Emit = Callable[[Event], None]
Settle = Callable[[int, CallResult], Awaitable[None]]

LOG = logging.getLogger("outcrop.turns")

_KINDS: Mapping[str, Literal["reprompt", "failure"]] = {
    "reprompt": "reprompt",
    "rejected": "reprompt",
    "failure": "failure",
}


class Models(Protocol):
    """Who answers for a model id."""

    def resolve(self, model_id: str) -> ModelProvider:
        """The provider bound to a model id."""
        ...

    async def close(self) -> None:
        """Close all providers."""
        ...


class Functions(Protocol):
    """Who carries out an action-group function."""

    def executor_for(self, lambda_arn: str) -> Executor:
        """The executor bound to a function."""
        ...

    async def close(self) -> None:
        """Close all executors."""
        ...


@dataclass(frozen=True, slots=True)
class Owed:
    """A step that cannot be concluded here: the caller owes the results that `known` lacks."""

    step: CallTools
    known: Mapping[int, CallResult]


class Performer:
    """Performs steps with the models and functions of one engine."""

    def __init__(self, models: Models, functions: Functions, clock: Clock, *, preamble_hold: int) -> None:
        """Take the rooms that steps need.

        Units: preamble_hold in characters of untagged text that wait until a reply is surely an answer.
        """
        self._models = models
        self._functions = functions
        self._clock = clock
        self._preamble_hold = preamble_hold

    async def perform(
        self, step: Step, turn: Turn, emit: Emit, settle: Settle, known: Mapping[int, CallResult]
    ) -> Outcome | Owed:
        """What came of a step, or what of it the caller owes.

        Shapes: `known` are results of branches that were done before; `settle` records one branch of
                several as soon as it is done.
        Errors: AssertionError for a step that ends a turn; failures of rooms are outcomes.
        """
        match step:
            case CallModel():
                return await self._call_model(step, turn, emit)
            case CallTools():
                return await self._call_tools(step, turn, emit, settle, known)
            case _:
                raise AssertionError(f"{step} is not performed")

    # models -----------------------------------------------------------------------------------

    async def _call_model(self, step: CallModel, turn: Turn, emit: Emit) -> ModelReplied | ModelFailed:
        model_id = turn.definition.foundation_model
        started = self._clock.now()
        try:
            request = _request(turn)
            emit(_called(step, turn, request, started))
            reply = await self._stream(request, turn, emit)
        except (ModelError, TemplateMistake, ConfigMistake, UnknownPlugin, ImportError) as error:
            LOG.warning("turn=<%s> model=<%s> | model call failed: %s", turn.id, model_id, error)
            failed = model_failed(error, model_id)
            if not failed.fault:
                emit(_unreadable(step, failed, started, self._clock.now()))
            return failed
        emit(
            ModelAnswered(
                iteration=step.iteration,
                started_at=started,
                at=self._clock.now(),
                model_id=model_id,
                message=reply.message,
                stop_reason=reply.stop_reason,
                usage=reply.usage,
                rationale=_rationale(reply),
            )
        )
        return ModelReplied(reply.message, reply.stop_reason, reply.usage, model_id)

    async def _stream(self, request: ConverseRequest, turn: Turn, emit: Emit) -> Reply:
        """Fold the reply up; where the caller wants the answer streamed, let it out as it comes."""
        provider = self._models.resolve(request.model_id)
        folder = Folder()
        if not turn.opening.stream_answer:
            async for delta in provider.stream(request):
                folder.feed(delta)
            return folder.reply(request)
        gate = AnswerStream(self._preamble_hold if request.tools else 0)
        acts = False
        async for delta in provider.stream(request):
            folder.feed(delta)
            if "contentBlockDelta" in delta:
                text = delta["contentBlockDelta"]["delta"].get("text")
                if text and not acts and (out := gate.feed(text)):
                    emit(TextStreamed(out))
            elif "contentBlockStart" in delta:
                acts = acts or "toolUse" in delta["contentBlockStart"].get("start", {})
        reply = folder.reply(request)
        if not acts and (rest := gate.end()):
            emit(TextStreamed(rest))
        return reply

    # tools ------------------------------------------------------------------------------------

    async def _call_tools(
        self, step: CallTools, turn: Turn, emit: Emit, settle: Settle, known: Mapping[int, CallResult]
    ) -> ToolsReturned | Owed:
        todo = [branch for branch in range(len(step.calls)) if branch not in known]
        alone = len(step.calls) == 1

        async def one(branch: int) -> CallResult | None:
            result = await self._carry_out(step.calls[branch], turn, f"{turn.id}/{turn.ordinal}/{branch}")
            if result is not None and not alone and step.calls[branch].disposition == "execute":
                await settle(branch, result)
            return result

        found = [await one(todo[0])] if len(todo) == 1 else await _side_by_side([one(branch) for branch in todo])
        results = {
            **known,
            **{branch: result for branch, result in zip(todo, found, strict=True) if result is not None},
        }
        for branch, call in enumerate(step.calls):
            if branch in results and branch not in known:
                emit(_returned(step.iteration, call, results[branch], turn))
        if len(results) < len(step.calls):
            return Owed(step, results)
        return ToolsReturned(tuple(results[branch] for branch in range(len(step.calls))))

    async def _carry_out(self, call: PlannedCall, turn: Turn, key: str) -> CallResult | None:
        """The result of one call, or None where the caller owes it."""
        started = self._clock.now()
        if call.disposition == "reject":
            return CallResult("rejected", call.problem, started, started)
        if call.disposition != "execute":
            return None
        tool = turn.definition.toolbox.find(call.name)
        assert tool is not None, "a planned call has a tool"
        try:
            executor = self._functions.executor_for(tool.lambda_arn)
            done = await executor.execute(ToolCall(tool, call.input, caller_of(turn)), IdempotencyKey(key))
        except (ToolError, ConfigMistake, UnknownPlugin) as error:
            detail = error.detail if isinstance(error, ToolError) else ""
            LOG.warning("turn=<%s> tool=<%s> | action failed: %s %s", turn.id, call.name, error, detail)
            return tool_failed(error, tool, started, self._clock.now())
        return call_result(done, started, self._clock.now())


async def _side_by_side(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them give, in order. Where one fails, the others are ended before the failure is told."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


def _request(turn: Turn) -> ConverseRequest:
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


def _called(step: CallModel, turn: Turn, request: ConverseRequest, at: float) -> ModelCalled:
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


def _rationale(reply: Reply) -> str:
    """What the model said before acting or answering."""
    text = text_of(reply.message)
    spoken = split(text)
    acting = spoken.answer if tool_uses(reply.message) else ""
    return spoken.thinking or reasoning_of(reply.message).strip() or acting


def _unreadable(step: CallModel, failed: ModelFailed, started: float, at: float) -> ActionReturned:
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


def _returned(iteration: int, call: PlannedCall, result: CallResult, turn: Turn) -> ActionReturned:
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
