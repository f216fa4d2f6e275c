"""What an observer may see of a turn: one closed union, emitted in order as things happen.

    ModelCalled -> TextStreamed* -> ModelAnswered -> ActionsReturned | ControlReturned | Answered | Failed

Traces, metrics and the caller's stream are readers of these events; nothing else tells them
anything. `iteration` counts the model calls of a turn from 0. Instants are seconds since the
epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from outcrop.errors import Fault
from outcrop.messages import Message, Usage


@dataclass(frozen=True, slots=True)
class ModelCalled:
    """A model is about to be called with these messages."""

    iteration: int
    at: float
    model_id: str
    system: str
    messages: Sequence[Message]
    inference: Mapping[str, Any]
    shows_inference: bool


@dataclass(frozen=True, slots=True)
class TextStreamed:
    """A piece of the final answer, as the model wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """The model's whole reply. `rationale` is what it said before acting or answering, empty where nothing."""

    iteration: int
    started_at: float
    at: float
    model_id: str
    message: Message
    stop_reason: str
    usage: Usage
    rationale: str


@dataclass(frozen=True, slots=True)
class ActionReturned:
    """One action was carried out. `call` is the trace's actionGroupInvocationInput.

    Shapes: kind is result (an answer), reprompt (a problem the model shall mend), or failure (the turn fails by it).
    """

    iteration: int
    started_at: float
    at: float
    tool: str
    call: Mapping[str, Any] | None
    text: str
    kind: Literal["result", "reprompt", "failure"]
    source: Literal["ACTION_GROUP", "PARSER"]


@dataclass(frozen=True, slots=True)
class ControlReturned:
    """The caller owes the outcome of these actions.

    Shapes: invocation_inputs are the `returnControl` event's members; calls are the trace's
            actionGroupInvocationInput, one for each.
    """

    iteration: int
    at: float
    invocation_id: str
    invocation_inputs: Sequence[Mapping[str, Any]]
    calls: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answered:
    """The turn ended with an answer, or with a question to the user."""

    iteration: int
    started_at: float
    at: float
    kind: Literal["FINISH", "ASK_USER"]
    text: str
    streamed: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The turn ended without an answer. The caller gets `fault`, or `canned` as an ordinary chunk."""

    iteration: int
    started_at: float
    at: float
    code: int
    reason: str
    fault: Fault | None
    canned: str = ""


Event = ModelCalled | TextStreamed | ModelAnswered | ActionReturned | ControlReturned | Answered | Failed
