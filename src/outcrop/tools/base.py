"""What a tool is, what a call and its result are, and who carries a call out.

A `Tool` is built from an action group (`functions`, `openapi`), found by the name the model
sees (`toolbox`), and carried out by an `Executor`. Return of control has no executor: the
turn hands such calls to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol

from outcrop.errors import RoomError
from outcrop.messages import ToolSpec

IdempotencyKey = NewType("IdempotencyKey", str)
"""Names one action for all its attempts: "turn/ordinal/branch"."""

ToolKind = Literal["function", "api", "ask_user"]
Execution = Literal["LAMBDA", "RETURN_CONTROL", "NONE"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function or an API operation.

    Shapes: type is string, number, integer, boolean, array or object; place is function, path,
            query, header, cookie, or the media type of the request body it is a property of.
    """

    name: str
    type: str
    place: str = "function"
    required: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """One action the model may ask for."""

    spec: ToolSpec
    kind: ToolKind
    action_group: str
    execution: Execution
    parameters: tuple[Parameter, ...] = ()
    function: str = ""
    api_path: str = ""
    http_method: str = ""
    lambda_arn: str = ""
    requires_confirmation: bool = False

    @property
    def name(self) -> str:
        """The name the model sees."""
        return self.spec["name"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks and in what circumstances: what an action-group Lambda is told besides the call.

    Shapes: agent is {"name", "id", "alias", "version"}.
    """

    agent: Mapping[str, str]
    session_id: str
    input_text: str
    session_attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    prompt_session_attributes: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of one tool, with the input the model wrote."""

    tool: Tool
    input: Mapping[str, Any]
    caller: Caller


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered.

    Shapes: text is the response body the model is told; state is success, reprompt (the body goes to
            the model as a problem to mend) or failure (the turn fails). Attribute maps are None where the
            tool returned none, else the new whole map.
    """

    text: str
    state: Literal["success", "reprompt", "failure"] = "success"
    http_status: int | None = None
    session_attributes: Mapping[str, str] | None = None
    prompt_session_attributes: Mapping[str, str] | None = None


class Executor(Protocol):
    """Carries out tool calls of one binding."""

    async def execute(self, call: ToolCall, key: IdempotencyKey) -> ToolResult:
        """What the tool answered.

        Errors: ToolError and its kinds.
        """
        ...

    async def close(self) -> None:
        """Stop processes and give back connections; the executor is not used afterwards."""
        ...


class ToolError(RoomError):
    """The tool could not be carried out. `detail` (a traceback, a path, an address) is for logs, never for callers."""

    def __init__(self, message: str, detail: str = "") -> None:
        """Keep the sentence and the detail."""
        super().__init__(message)
        self.detail = detail


class ToolCrashed(ToolError):
    """The tool raised, or its process died."""


class ToolTimedOut(ToolError):
    """The tool did not answer within its time limit."""


class ToolAnsweredBadly(ToolError):
    """The tool answered, but not in the shape of the action-group contract."""


class ToolUnreachable(ToolError):
    """Nothing could be asked: no binding, no such function, no permission, no connection."""


class SchemaMistake(RoomError):
    """An action group's schema cannot be used. The message says where and how to mend it."""

    def __init__(self, message: str, pointer: str = "") -> None:
        """Keep the sentence and the JSON pointer of the place in the document."""
        super().__init__(message)
        self.pointer = pointer
