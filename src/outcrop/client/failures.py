"""Why an agent did not answer, one class per reason that a caller would treat differently.

AgentCallFailed
|- AgentUnreachable         no connection, so nothing has happened
|- AgentInterrupted         the answer broke off; the turn may live on
|- AgentThrottled           too many requests
|- AgentNotReady            the model is warming up
|- AgentConflict            the session is busy
|- AgentServerFailed        the service failed
|- AgentDependencyFailed    an action or the model's server failed; the session is usable
|  `- AgentStillRunning     no failure: the call has lasted as long as the server lets one last, and the turn goes on
|- AgentRequestInvalid      the request or the agent cannot be served
|- AgentNotFound            no such agent or alias
`- AgentAccessDenied        not allowed
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from botocore.exceptions import ClientError

from outcrop.errors import RoomError


class AgentCallFailed(RoomError):
    """The agent did not answer.

    Shapes: code is AWS's shape name, such as "ThrottlingException", or "Unreachable" or "Interrupted" where the service
            said nothing; has_begun says whether a turn had begun, so far as one can know; partial_text is what had
            been streamed of the answer.
    """

    def __init__(self, code: str, message: str, *, has_begun: bool = False) -> None:
        """Keep what the service said."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.has_begun = has_begun
        self.request_id = ""
        self.partial_text = ""


class AgentUnreachable(AgentCallFailed):
    """No connection was made, so nothing has happened."""


class AgentInterrupted(AgentCallFailed):
    """The connection broke or stayed silent for too long after the request was sent; the turn may live on."""


class AgentThrottled(AgentCallFailed):
    """The service, or the model behind the agent, asks for fewer requests."""


class AgentNotReady(AgentCallFailed):
    """The model behind the agent is warming up."""


class AgentConflict(AgentCallFailed):
    """The session has another request in progress."""


class AgentServerFailed(AgentCallFailed):
    """The service itself failed."""


class AgentDependencyFailed(AgentCallFailed):
    """Something that the agent depends on failed: an action, the model's server. The session is usable."""


class AgentStillRunning(AgentDependencyFailed):
    """The call has lasted as long as the server lets a call last. The turn goes on there; the same request joins it."""


class AgentRequestInvalid(AgentCallFailed):
    """The request, or the agent as it is set up, cannot be served; the message says why."""


class AgentNotFound(AgentCallFailed):
    """There is no such agent or alias."""


class AgentAccessDenied(AgentCallFailed):
    """The caller may not call the agent, or the agent may not call its model."""


_GOES_ON = re.compile(r"Turn \S+ did not end within .+ It goes on\b")
"""How Outcrop says so; the shape is that of a failed dependency."""

_KINDS: Mapping[str, type[AgentCallFailed]] = {
    "AccessDeniedException": AgentAccessDenied,
    "BadGatewayException": AgentDependencyFailed,
    "ConflictException": AgentConflict,
    "DependencyFailedException": AgentDependencyFailed,
    "InternalServerException": AgentServerFailed,
    "ModelNotReadyException": AgentNotReady,
    "ResourceNotFoundException": AgentNotFound,
    "ThrottlingException": AgentThrottled,
    "ValidationException": AgentRequestInvalid,
}


def typed(error: ClientError, *, has_begun: bool) -> AgentCallFailed:
    """The failure that an error of boto3 stands for, before the stream or in it."""
    told = cast(dict[str, Any], error.response).get("Error", {})
    code, message = str(told.get("Code", "")), str(told.get("Message", ""))
    code = code[:1].upper() + code[1:]  # in a stream the service writes throttlingException
    is_proxys = code.isdecimal() and code.startswith("5")  # an answer without AWS's shape: its code is the HTTP status
    kind = _KINDS.get(code, AgentServerFailed if is_proxys else AgentCallFailed)
    if kind is AgentDependencyFailed and _GOES_ON.match(message):
        kind = AgentStillRunning
    return kind(code, message, has_begun=has_begun)
