"""Return of control: what the caller is asked for, and what it brings back.

A step whose calls are owed becomes the `returnControl` event; the next call's results are
matched to those calls by action group and function (or path and method), then by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outcrop.errors import RoomError
from outcrop.events import ControlReturned
from outcrop.orchestration.outcomes import call_result
from outcrop.orchestration.performer import Owed
from outcrop.orchestration.telling import caller_of
from outcrop.orchestration.turn import CallResult, CallTools, PlannedCall, Turn
from outcrop.tools.base import ToolAnsweredBadly, ToolCall
from outcrop.tools.lambda_event import (
    answers,
    confirmation_of,
    invocation_input,
    result_of_return_control,
    trace_input,
)


class ResultsMistaken(RoomError):
    """The results that a caller brought do not answer what it was asked."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What a caller's results come to.

    Shapes: step is the awaiting step with confirmed calls made executable; results are by branch;
            confirmed are the branches that the engine may now carry out.
    """

    step: CallTools
    results: Mapping[int, CallResult]
    confirmed: Sequence[int]


def asked(turn: Turn, owed: Owed, invocation_id: str, at: float) -> ControlReturned:
    """The event that hands the owed calls to the caller, in the model's order."""
    inputs: list[Mapping[str, Any]] = []
    calls: list[Mapping[str, Any]] = []
    for branch, planned in enumerate(owed.step.calls):
        if branch in owed.known:
            continue
        call = _tool_call(turn, planned)
        inputs.append(invocation_input(call))
        calls.append(trace_input(call, invocation_id))
    return ControlReturned(owed.step.iteration, at, invocation_id, inputs, calls)


def brought(
    turn: Turn, step: CallTools, known: Mapping[int, CallResult], members: Sequence[Mapping[str, Any]], now: float
) -> Brought:
    """What the caller's results come to, one for every owed call.

    Shapes: members are sessionState.returnControlInvocationResults.
    Errors: ResultsMistaken when a call is not answered, an answer fits no call, or a confirmation is missing.
    Source: docs/behaviour/invoke-agent.md 3.1 (inferred)
    """
    open_branches = [branch for branch in range(len(step.calls)) if branch not in known]
    results: dict[int, CallResult] = {}
    confirmed: list[int] = []
    for index, member in enumerate(members):
        place = f"sessionState.returnControlInvocationResults[{index}]"
        branch = next((b for b in open_branches if answers(_tool_call(turn, step.calls[b]), member)), None)
        if branch is None:
            raise ResultsMistaken(f"{place}: no pending invocation has this action group and function or API path")
        open_branches.remove(branch)
        answer = _answer(turn, step.calls[branch], member, place, now)
        if answer is None:
            confirmed.append(branch)
        else:
            results[branch] = answer
    if open_branches:
        missing = ", ".join(step.calls[branch].name for branch in open_branches)
        raise ResultsMistaken(f"sessionState.returnControlInvocationResults lacks a result for: {missing}")
    calls = [
        replace(call, disposition="execute", agreed=True) if branch in confirmed else call
        for branch, call in enumerate(step.calls)
    ]
    return Brought(replace(step, calls=tuple(calls)), results, confirmed)


def _answer(turn: Turn, planned: PlannedCall, member: Mapping[str, Any], place: str, now: float) -> CallResult | None:
    """The result of one owed call; None when the user agreed to an action that the engine carries out."""
    call = _tool_call(turn, planned)
    try:
        decision = confirmation_of(call, member)
        if decision == "CONFIRM" and planned.disposition == "confirm":
            return None
        result = result_of_return_control(call, member)
    except ToolAnsweredBadly as error:
        raise ResultsMistaken(f"{place}: {error}") from error
    brought_back = call_result(result, now, now)
    return replace(brought_back, state="denied") if decision == "DENY" else brought_back


def _tool_call(turn: Turn, call: PlannedCall) -> ToolCall:
    tool = turn.definition.toolbox.find(call.name)
    assert tool is not None, "a planned call has a tool"
    return ToolCall(tool, call.input, caller_of(turn))
