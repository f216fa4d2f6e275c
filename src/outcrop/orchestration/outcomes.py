"""What rooms answer and how they fail, as outcomes of a turn.

    ToolResult -> CallResult          ToolError -> CallResult in state failure          ModelError -> ModelFailed

A failure carries the fault, the code and the sentence that its caller will see. What a caller
may not see (paths, addresses, traces) stays in the log.
"""

from __future__ import annotations

from outcrop.config import ConfigMistake
from outcrop.models.base import (
    ModelAccessDenied,
    ModelNotReady,
    ModelRejected,
    ModelThrottled,
    ToolInputMalformed,
)
from outcrop.orchestration.turn import CallResult, ModelFailed
from outcrop.plugins import UnknownPlugin
from outcrop.prompts.library import TemplateMistake
from outcrop.tools.base import Tool, ToolAnsweredBadly, ToolCrashed, ToolResult, ToolTimedOut, ToolUnreachable

_FAILED_RESPONSE = "Received failed response from API execution. Retry the request later."
_THROTTLED = (
    "Your request rate is too high. Reduce the frequency of requests. "
    "Check your Bedrock model invocation quotas to find the acceptable frequency."
)
_DENIED = "Access denied when calling Bedrock. Check your request permissions and retry the request."
_MODEL_FAILED = "Dependency resource: received model timeout/error exception from Bedrock. Try the request again."
_TEMPLATE = (
    "The overridden prompt that you provided is incorrectly formatted. "
    "Check the format for errors, such as invalid JSON, and retry your request."
)


def model_failed(error: Exception, model_id: str) -> ModelFailed:
    """The outcome of a model call that failed.

    Source: docs/behaviour/invoke-agent.md 8 (observed, inferred: the page says which)
    """
    match error:
        case ToolInputMalformed():
            return ModelFailed("", 400, str(error))
        case ModelThrottled():
            return ModelFailed("ThrottlingException", 429, _THROTTLED)
        case ModelAccessDenied():
            return ModelFailed("AccessDeniedException", 403, _DENIED)
        case ModelNotReady():
            return ModelFailed("ModelNotReadyException", 424, str(error))
        case TemplateMistake():
            return ModelFailed("ValidationException", 400, _TEMPLATE)
        case ModelRejected():
            return ModelFailed("ValidationException", 400, str(error))
        case ConfigMistake() | UnknownPlugin() | ImportError():
            reason = f"The binding of model {model_id} cannot be used; the server's log says why."
            return ModelFailed("ValidationException", 400, reason)
        case _:
            return ModelFailed("DependencyFailedException", 424, _MODEL_FAILED)


def call_result(result: ToolResult, started: float, at: float) -> CallResult:
    """The outcome of an action that answered, whoever carried it out."""
    failed = result.state == "failure"
    return CallResult(
        state=result.state,
        text=_told(result),
        started_at=started,
        at=at,
        session_attributes=result.session_attributes,
        prompt_session_attributes=result.prompt_session_attributes,
        fault="DependencyFailedException" if failed else "",
        reason=_FAILED_RESPONSE if failed else "",
    )


def _told(result: ToolResult) -> str:
    """What the model is told: the body, and before it a status that says no success.

    Source: docs/behaviour/action-groups.md 4.3 (inferred)
    """
    if result.http_status is None or 200 <= result.http_status < 300:
        return result.text
    return f"HTTP {result.http_status}: {result.text}"


def tool_failed(error: Exception, tool: Tool, started: float, at: float) -> CallResult:
    """The outcome of an action that could not be carried out.

    Source: docs/behaviour/invoke-agent.md 8 (observed, inferred: the page says which)
    """
    fault, members = "DependencyFailedException", {}
    match error:
        case ToolCrashed() | ToolTimedOut():
            reason = (
                f"Your request couldn't be completed. Lambda function {tool.lambda_arn} encountered a problem while "
                "processing request.The error message from the Lambda function is Unhandled. Check the Lambda function "
                "log for error details, then try your request again after fixing the error."
            )
        case ToolAnsweredBadly():
            reason = _FAILED_RESPONSE
        case ToolUnreachable():
            reason, members = str(error), {"resourceName": "Lambda"}
        case _:
            reason = str(error)
    return CallResult("failure", "The action failed.", started, at, fault=fault, reason=reason, members=members)
