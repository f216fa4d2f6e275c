"""One call of an agent as a careful caller makes it, around an unmodified boto3 client.

    answer = AgentClient("http://127.0.0.1:8700").ask("AX123", "PROD", "session-789", "Check inventory for SKU-55")

For programs that call agents, here or at AWS: time limits, chunks and steps as they come, return of control as a
function of yours, typed errors, retries that repeat no action. It knows nothing of the server behind the endpoint.
`sdk_session()` is a boto3 Session that also knows `outcrop`, the service of turns that go on without their caller.
"""

from outcrop.client.agent_client import AgentClient
from outcrop.client.failures import (
    AgentAccessDenied,
    AgentCallFailed,
    AgentConflict,
    AgentDependencyFailed,
    AgentInterrupted,
    AgentNotFound,
    AgentNotReady,
    AgentRequestInvalid,
    AgentServerFailed,
    AgentStillRunning,
    AgentThrottled,
    AgentUnreachable,
)
from outcrop.client.reading import Answer
from outcrop.client.return_control import ActionCall, ActionFailed, ReturnControl
from outcrop.client.sdk import sdk_path, sdk_session
from outcrop.client.steps import Step

__all__ = [
    "ActionCall",
    "ActionFailed",
    "AgentAccessDenied",
    "AgentCallFailed",
    "AgentClient",
    "AgentConflict",
    "AgentDependencyFailed",
    "AgentInterrupted",
    "AgentNotFound",
    "AgentNotReady",
    "AgentRequestInvalid",
    "AgentServerFailed",
    "AgentStillRunning",
    "AgentThrottled",
    "AgentUnreachable",
    "Answer",
    "ReturnControl",
    "Step",
    "sdk_path",
    "sdk_session",
]
