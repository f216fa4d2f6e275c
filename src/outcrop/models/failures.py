"""How a model server's refusal becomes one of our model errors.

Used by the files of `providers/` that call a server. Nothing secret leaves here: texts that
servers send are cut to size and cleared of the key before they become a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from outcrop.models.base import (
    ModelAccessDenied,
    ModelError,
    ModelNotReady,
    ModelRejected,
    ModelThrottled,
    ModelUnavailable,
)

_MOST_CHARACTERS = 500


def failure(status: int, message: str, retry_after_s: float | None = None) -> ModelError:
    """The error that an HTTP status of a model server stands for.

    Shapes: 401, 403 -> ModelAccessDenied; 429 -> ModelThrottled; 408, 5xx -> ModelUnavailable, or
            ModelNotReady where a 503 speaks of loading; all others -> ModelRejected.
    """
    if status in (401, 403):
        return ModelAccessDenied(message)
    if status == 429:
        return ModelThrottled(message, retry_after_s=retry_after_s)
    if status == 503 and "loading" in message.lower():
        return ModelNotReady(message, retry_after_s=retry_after_s)
    if status in (408, 409, 425) or status >= 500:
        return ModelUnavailable(message, retry_after_s=retry_after_s)
    return ModelRejected(message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for, none where there is none or it cannot be read.

    Shapes: a number of seconds, or an HTTP date, which is taken relative to the answer's own Date.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until, sent = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - sent).total_seconds())
    except (ValueError, TypeError):
        return None


def told(text: str, key: str = "") -> str:
    """What a server said, on one line, without the key, at most 500 characters."""
    line = " ".join(text.split())
    if key:
        line = line.replace(key, "***")
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 3] + "..."
