"""What the client libraries under Strands raise, as our model errors.

Used by `providers/strands`. The libraries are not imported: they are told by what their errors carry,
an HTTP status, an AWS error code or a telling class name, on the error itself or on its cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from outcrop.models.base import (
    ModelAccessDenied,
    ModelError,
    ModelNotReady,
    ModelRejected,
    ModelThrottled,
    ModelTimedOut,
    ModelUnavailable,
)
from outcrop.models.failures import failure, retry_after, told

_AWS: Mapping[str, type[ModelError]] = {
    "AccessDeniedException": ModelAccessDenied,
    "ExpiredTokenException": ModelAccessDenied,
    "InvalidSignatureException": ModelAccessDenied,
    "UnrecognizedClientException": ModelAccessDenied,
    "ModelNotReadyException": ModelNotReady,
    "ModelTimeoutException": ModelTimedOut,
    "ResourceNotFoundException": ModelRejected,
    "ServiceQuotaExceededException": ModelThrottled,
    "ThrottlingException": ModelThrottled,
    "ValidationError": ModelRejected,
    "ValidationException": ModelRejected,
}
_ANTHROPIC = {
    "api_error": 500,
    "authentication_error": 401,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "overloaded_error": 529,
    "permission_error": 403,
    "rate_limit_error": 429,
    "request_too_large": 413,
    "timeout_error": 504,
}
_BY_NAME: tuple[tuple[str, type[ModelError]], ...] = (
    ("ModelThrottled", ModelThrottled),
    ("ContextWindowOverflow", ModelRejected),
    ("ConnectTimeout", ModelUnavailable),
    ("Timeout", ModelTimedOut),
    ("Credential", ModelAccessDenied),
    ("ParamValidation", ModelRejected),
)


def typed(error: Exception, key: str = "") -> ModelError:
    """The model error that a library's error stands for, in the library's words without the key."""
    if isinstance(error, ModelError):
        return error
    message = told(str(error), key) or type(error).__name__
    chain = list(_chain(error))
    code = next((code for code in map(_aws_code, chain) if code), "")
    if code:
        kind = _AWS.get(code[:1].upper() + code[1:], ModelUnavailable)
        return kind(message, retry_after_s=_asked(chain))
    for part in chain:
        for name, kind in _BY_NAME:
            if name in type(part).__name__:
                return kind(message, retry_after_s=_asked(chain))
    status = next((status for status in map(_status, chain) if status), 0)
    if status:
        return failure(status, message, _asked(chain))
    if isinstance(error, TypeError | ValueError | KeyError):
        return ModelRejected(f"{type(error).__name__}: {message}")
    return ModelUnavailable(message)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(5):
        if error is None:
            return
        yield error
        error = error.__cause__


def _aws_code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    details = cast("dict[str, Any]", response).get("Error")
    return str(cast("dict[str, Any]", details).get("Code", "")) if isinstance(details, dict) else ""


def _status(error: BaseException) -> int:
    """The HTTP status; what Anthropic reports in mid-stream comes with 200 and the truth in the body."""
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        held = cast("dict[str, Any]", body)
        inner = held.get("error")
        details = cast("dict[str, Any]", inner) if isinstance(inner, dict) else held
        return _ANTHROPIC.get(str(details.get("type")), 0)
    return 0


def _asked(chain: list[BaseException]) -> float | None:
    """The seconds of a Retry-After, from whichever error in the chain has the response."""
    for error in chain:
        headers = getattr(getattr(error, "response", None), "headers", None)
        if isinstance(headers, Mapping):
            return retry_after(cast("Mapping[str, str]", headers))
    return None
