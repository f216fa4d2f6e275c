"""AWS's default orchestration on native tool calling: ask the model, do what it asks, until it answers.

    start -> CallModel -> reply with tool calls -> CallTools -> CallModel -> ... -> reply with text -> Finish

It is a pure function of the turn: the same turn gets the same step, on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.messages import Message, ToolUse, text_of, tool_uses
from outcrop.orchestration.definition import Definition
from outcrop.orchestration.turn import (
    CANNED,
    CallModel,
    CallTools,
    Disposition,
    Fail,
    Finish,
    ModelFailed,
    ModelReplied,
    PlannedCall,
    Step,
    ToolsReturned,
    Turn,
    fault_of,
)
from outcrop.prompts.parsers import split
from outcrop.tools.base import Tool
from outcrop.tools.toolbox import accept, problem_with

UNREADABLE = "LLM prediction format incorrect"
_MOST_UNREADABLE = 2
"""How often in a row a model is asked to write a call again that cannot be read."""
_MOST_RETURNED = 5
"""A `returnControl` event holds at most five inputs."""


@dataclass(frozen=True, slots=True)
class React:
    """Decides by the last outcome alone."""

    max_iterations: int

    async def next(self, turn: Turn) -> Step:
        """The next step of the default orchestration."""
        if turn.last is None:
            return CallModel(turn.iteration)
        match turn.last[1]:
            case ModelReplied(message=message):
                return self._after_reply(turn, message)
            case ModelFailed(fault=fault, code=code, reason=reason):
                if not fault and turn.unreadable <= _MOST_UNREADABLE:
                    return self._ask_again(turn)
                if not fault:
                    return Fail(400, UNREADABLE, canned=CANNED)
                return Fail(code, reason, fault_of(fault, reason))
            case ToolsReturned(results=results):
                for result in results:
                    if result.fault:
                        return Fail(424, result.reason, fault_of(result.fault, result.reason, result.members))
                return self._ask_again(turn)

    def _ask_again(self, turn: Turn) -> Step:
        if turn.iteration >= self.max_iterations:
            return Fail(400, f"The turn reached its limit of {self.max_iterations} iterations.", canned=CANNED)
        return CallModel(turn.iteration)

    def _after_reply(self, turn: Turn, message: Message) -> Step:
        uses = tool_uses(message)
        if not uses:
            answer = split(text_of(message)).answer
            return Finish(answer) if answer else Fail(400, UNREADABLE, canned=CANNED)
        for use in uses:
            tool = turn.definition.toolbox.find(use["name"])
            if tool is not None and tool.kind == "ask_user":
                question = str(use["input"].get("question", "")).strip()
                return Finish(question, "ASK_USER") if question else Fail(400, UNREADABLE, canned=CANNED)
        return CallTools(turn.iteration - 1, _plan(turn.definition, uses))


def strategy(max_iterations: int) -> React:
    """The default orchestration with its limit of model calls per turn."""
    return React(max_iterations)


def _plan(definition: Definition, uses: list[ToolUse]) -> tuple[PlannedCall, ...]:
    calls: list[PlannedCall] = []
    returned = 0
    for use in uses:
        call = _planned(definition, use)
        if call.disposition not in ("execute", "reject"):
            returned += 1
            if returned > _MOST_RETURNED:
                call = _rejected(use, "Too many actions at once need the user's side. Ask for this one again later.")
        calls.append(call)
    return tuple(calls)


def _planned(definition: Definition, use: ToolUse) -> PlannedCall:
    toolbox = definition.toolbox
    tool = toolbox.find(use["name"])
    if tool is None:
        known = ", ".join(spec["name"] for spec in toolbox.specs)
        return _rejected(use, f"There is no tool named {use['name']}. The tools are: {known}.")
    problem = problem_with(tool, use["input"])
    if problem is not None:
        return _rejected(use, problem)
    return PlannedCall(use["toolUseId"], use["name"], accept(tool, use["input"]), _disposition(tool))


def _disposition(tool: Tool) -> Disposition:
    if tool.execution == "RETURN_CONTROL":
        return "confirm_and_return" if tool.requires_confirmation else "return_control"
    return "confirm" if tool.requires_confirmation else "execute"


def _rejected(use: ToolUse, problem: str) -> PlannedCall:
    return PlannedCall(use["toolUseId"], use["name"], use["input"], "reject", problem)
