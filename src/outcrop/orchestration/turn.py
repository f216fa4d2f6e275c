"""A turn, and the two closed unions it is made of: steps (what to do next) and outcomes (what came of it).

    CallModel  ->  ModelReplied | ModelFailed
    CallTools  ->  ToolsReturned
    Finish, Fail                                end the turn
    Pause                                       stops it where it is

A step is journalled before it is done and its outcome after; both are plain frozen values
that survive a round trip through JSON, so a turn can be rebuilt from its journal alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from outcrop import errors
from outcrop.errors import Fault
from outcrop.ids import TurnId
from outcrop.messages import Message, ToolResultBlock, Usage, assistant, tool_result, tool_results, user
from outcrop.orchestration.definition import Definition

CANNED = "Sorry, I am unable to assist you with this request."
"""What a caller is told, as an ordinary answer, where a turn came to nothing and no fault says why."""

Disposition = Literal["execute", "return_control", "confirm", "confirm_and_return", "reject"]
ResultState = Literal["success", "reprompt", "failure", "rejected", "denied", "uncertain"]


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model what to do, with everything said so far."""

    iteration: int


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One tool call of a model reply and what is to be done with it.

    Shapes: disposition is execute (the engine does it), return_control (the caller does it), confirm
            (the engine does it once the user agrees), confirm_and_return (both owed by the caller), or
            reject (the model is told `problem`). `agreed` says that the user was asked for it and agreed.
    """

    tool_use_id: str
    name: str
    input: Mapping[str, Any]
    disposition: Disposition
    problem: str = ""
    agreed: bool = False


@dataclass(frozen=True, slots=True)
class CallTools:
    """Carry out the calls of one reply, side by side."""

    iteration: int
    calls: tuple[PlannedCall, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The turn ends with an answer, or with a question to the user."""

    text: str
    kind: Literal["FINISH", "ASK_USER"] = "FINISH"


@dataclass(frozen=True, slots=True)
class Fail:
    """The turn ends without an answer: with a fault, or with a canned sentence.

    Shapes: code is the failure trace's number, an HTTP status.
    """

    code: int
    reason: str
    fault: Fault | None = None
    canned: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """The turn stops where it is until somebody lets it go on.

    Shapes: reason is a name such as BUDGET_EXCEEDED; detail is a sentence with figures.
    """

    reason: str
    detail: str


Step = CallModel | CallTools | Finish | Fail | Pause


@dataclass(frozen=True, slots=True)
class ModelReplied:
    """A finished model reply."""

    message: Message
    stop_reason: str
    usage: Usage
    model_id: str


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The model gave no usable reply. `fault` is the fault's class name, empty for a reply nobody can read."""

    fault: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class CallResult:
    """What came of one planned call.

    Shapes: text is what the model is told; where fault is set the turn fails with it, and with reason, as the
            caller is told.
    """

    state: ResultState
    text: str
    started_at: float
    at: float
    session_attributes: Mapping[str, str] | None = None
    prompt_session_attributes: Mapping[str, str] | None = None
    fault: str = ""
    reason: str = ""
    members: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ToolsReturned:
    """The results of all calls of a step, in the model's order."""

    results: tuple[CallResult, ...]


Outcome = ModelReplied | ModelFailed | ToolsReturned


@dataclass(frozen=True, slots=True)
class Opening:
    """What a turn was asked, as it is journalled.

    Shapes: previous_turns is how many earlier turns the prompt may hold, None for all.
    Units: deadline_s in seconds from when the turn was accepted, None where only the settings limit it.
    """

    input_text: str
    session_id: str
    session_attributes: Mapping[str, str]
    prompt_session_attributes: Mapping[str, str]
    previous_turns: int | None = None
    exclude_thinking: bool = False
    stream_answer: bool = False
    deadline_s: float | None = None


_UNREADABLE_CALL = "(a tool call that could not be read)"


@dataclass(slots=True)
class Turn:
    """One user input up to its final answer; the only mutable value of the Hall, changed by `apply` alone."""

    id: TurnId
    definition: Definition
    opening: Opening
    history: Sequence[Message]
    started_at: float
    step_seconds: float | None = None
    """How long one model call or one action may take; None where nothing limits it."""
    messages: list[Message] = field(default_factory=list[Message])
    session_attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    prompt_session_attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    last: tuple[Step, Outcome] | None = None
    ordinal: int = 0
    iteration: int = 0
    unreadable: int = 0
    """Replies in a row that nobody could read."""
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        """Start with the user's words and the attributes of the opening."""
        self.messages.append(user(self.opening.input_text))
        self.session_attributes = self.opening.session_attributes
        self.prompt_session_attributes = self.opening.prompt_session_attributes

    def conversation(self) -> list[Message]:
        """All messages a model sees: earlier turns, then this one."""
        return [*self.history, *self.messages]

    def apply(self, step: Step, outcome: Outcome) -> None:
        """Take in what came of a step; the next ordinal begins."""
        match outcome:
            case ModelReplied():
                self.messages.append(outcome.message)
                self.iteration += 1
                self.input_tokens += outcome.usage["inputTokens"]
                self.output_tokens += outcome.usage["outputTokens"]
                self.unreadable = 0
            case ModelFailed():
                self.iteration += 1
                if not outcome.fault:
                    self.unreadable += 1
                    self.messages += [assistant(_UNREADABLE_CALL), user(mend(outcome.reason))]
            case ToolsReturned():
                assert isinstance(step, CallTools)
                self._apply_results(step, outcome)
        self.last = (step, outcome)
        self.ordinal += 1

    def _apply_results(self, step: CallTools, outcome: ToolsReturned) -> None:
        self.tool_calls += sum(result.state not in ("rejected", "denied") for result in outcome.results)
        session = [r.session_attributes for r in outcome.results if r.session_attributes is not None]
        prompt = [r.prompt_session_attributes for r in outcome.results if r.prompt_session_attributes is not None]
        if session:
            self.session_attributes = _merged(session)
        if prompt:
            self.prompt_session_attributes = _merged(prompt)
        pairs = zip(step.calls, outcome.results, strict=True)
        self.messages.append(tool_results(_block(call, result) for call, result in pairs))


def mend(reason: str) -> str:
    """What a model is told that wrote a call which cannot be read."""
    return f"That tool call could not be read: {reason}. Write its input again, as one JSON object."


def _merged(maps: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """What one reply's functions return together replaces the map; of two that set one name the later one wins.

    Source: docs/behaviour/action-groups.md 8 (inferred)
    """
    return {name: value for given in maps for name, value in given.items()}


def _block(call: PlannedCall, result: CallResult) -> ToolResultBlock:
    return tool_result(call.tool_use_id, result.text, error=result.state != "success")


def fault_of(name: str, reason: str, members: Mapping[str, Any] | None = None) -> Fault:
    """The fault that a journalled failure names.

    Shapes: name is a class of `outcrop.errors`.
    """
    kind: type[Fault] = getattr(errors, name)
    return kind(reason, **(members or {}))
