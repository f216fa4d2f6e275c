"""Carries out one step: the only place with side effects.

It matches on the step and calls a room: models for CallModel, tools for CallTools. Failures
of rooms become outcomes, because the strategy must see them. What it does it tells `emit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from outcrop.clock import Clock
from outcrop.config import ConfigMistake
from outcrop.events import Event, TextStreamed
from outcrop.models.base import (
    ConverseRequest,
    Folder,
    ModelError,
    ModelProvider,
    Reply,
)
from outcrop.models.prices import Price
from outcrop.orchestration.outcomes import call_result, model_failed, tool_failed
from outcrop.orchestration.telling import answered, called, caller_of, request_of, returned, unreadable
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
)
from outcrop.plugins import UnknownPlugin
from outcrop.prompts.library import TemplateMistake
from outcrop.prompts.parsers import AnswerStream
from outcrop.tools.base import Executor, IdempotencyKey, ToolCall, ToolError, ToolTimedOut

T = TypeVar("T")
Emit = Callable[[Event], None]
Settle = Callable[[int, CallResult], Awaitable[None]]

LOG = logging.getLogger("outcrop.turns")


class Models(Protocol):
    """Who answers for a model id."""

    def resolve(self, model_id: str) -> ModelProvider:
        """The provider bound to a model id."""
        ...

    def price(self, model_id: str) -> Price | None:
        """What the model costs, none where nobody says."""
        ...

    def bound_by(self, model_id: str) -> str:
        """The glob of the binding that answers for the model, empty where none does."""
        ...

    async def close(self) -> None:
        """Close all providers."""
        ...


class Functions(Protocol):
    """Who carries out an action-group function."""

    def executor_for(self, lambda_arn: str) -> Executor:
        """The executor bound to a function."""
        ...

    def honours_keys(self, lambda_arn: str) -> bool:
        """Whether a call that is repeated with its idempotency key takes effect once."""
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
        self,
        step: Step,
        turn: Turn,
        emit: Emit,
        settle: Settle,
        known: Mapping[int, CallResult],
        heard: Collection[int] = (),
    ) -> Outcome | Owed:
        """What came of a step, or what of it the caller owes.

        Shapes: `known` are results of branches that were done before, and `heard` those that were told; `settle`
                records one branch of several as soon as it is done.
        Errors: AssertionError for a step that ends a turn; failures of rooms are outcomes.
        """
        match step:
            case CallModel():
                return await self._call_model(step, turn, emit)
            case CallTools():
                return await self._call_tools(step, turn, emit, settle, known, heard)
            case _:
                raise AssertionError(f"{step} is not performed")

    def may_repeat(self, call: PlannedCall, turn: Turn) -> bool:
        """Whether an action that may have been done can be done again: its function takes one key for one effect."""
        tool = turn.definition.toolbox.find(call.name)
        return tool is not None and self._functions.honours_keys(tool.lambda_arn)

    # models -----------------------------------------------------------------------------------

    async def _call_model(self, step: CallModel, turn: Turn, emit: Emit) -> ModelReplied | ModelFailed:
        model_id = turn.definition.foundation_model
        started = self._clock.now()
        try:
            request = request_of(turn)
            emit(called(step, turn, request, started))
            async with asyncio.timeout(turn.step_seconds):
                reply = await self._stream(request, turn, emit)
        except (ModelError, TemplateMistake, ConfigMistake, UnknownPlugin, ImportError, TimeoutError) as error:
            LOG.warning("turn=<%s> model=<%s> | model call failed: %s", turn.id, model_id, error)
            failed = model_failed(error, model_id)
            if not failed.fault:
                emit(unreadable(step, failed, started, self._clock.now()))
            return failed
        replied = ModelReplied(reply.message, reply.stop_reason, reply.usage, model_id)
        emit(answered(step, replied, started, self._clock.now()))
        return replied

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
        self,
        step: CallTools,
        turn: Turn,
        emit: Emit,
        settle: Settle,
        known: Mapping[int, CallResult],
        heard: Collection[int],
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
            if branch in results and branch not in heard:
                emit(returned(step.iteration, call, results[branch], turn))
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
            async with asyncio.timeout(turn.step_seconds):
                done = await executor.execute(ToolCall(tool, call.input, caller_of(turn)), IdempotencyKey(key))
        except TimeoutError:
            late = ToolTimedOut(f"the action did not end within {turn.step_seconds:g} seconds")
            LOG.warning("turn=<%s> tool=<%s> | action failed: %s", turn.id, call.name, late)
            return tool_failed(late, tool, started, self._clock.now())
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
