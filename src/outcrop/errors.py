"""Every fault a caller can see, one class each, and the root of the rooms' own errors.

    Fault                                  a caller sees it; the class name is AWS's shape name
    |- AccessDeniedException
    |- BadGatewayException                 resourceName
    |- ConflictException
    |- DependencyFailedException           resourceName
    |- InternalServerException             reason
    |- ModelNotReadyException
    |- NotImplementedException             ours: the operation exists at AWS, not yet here
    |- RequestEntityTooLargeException      ours: the body is over the limit
    |- ResourceNotFoundException
    |- ServiceQuotaExceededException
    |- ThrottlingException
    |- UnknownOperationException           no operation has this method and path
    `- ValidationException                 fieldList
    RoomError                              a room's own failure; never reaches a caller as it is

A fault carries no HTTP status: `wire.faults` looks it up per service, because one
exception has different statuses at different doors.
"""

from __future__ import annotations

from typing import Any


class Fault(Exception):
    """The service failed in a way that has no better name."""

    retry_after_s: float | None = None
    """When the caller should come back, where that is known; a header says it, never the body."""

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None, **members: Any) -> None:
        """Keep the message (the class docstring where none is given) and the shape's members."""
        self.message = message or (type(self).__doc__ or "").strip()
        self.members = members
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s
        super().__init__(self.message)

    @property
    def code(self) -> str:
        """The exception's shape name, which is what a client reads as the error code."""
        return type(self).__name__


class AccessDeniedException(Fault):
    """The request is denied because of missing access permissions."""


class BadGatewayException(Fault):
    """There was an issue with a dependency. Retry your request."""


class ConflictException(Fault):
    """There was a conflict performing an operation. Resolve the conflict and retry your request."""


class DependencyFailedException(Fault):
    """There was an issue with a dependency. Check the resource configurations and retry the request."""


class InternalServerException(Fault):
    """An internal server error occurred. Retry your request."""


class ModelNotReadyException(Fault):
    """The model specified in the request is not ready to serve inference requests."""


class NotImplementedException(Fault):
    """This operation is not implemented."""


class RequestEntityTooLargeException(Fault):
    """The request body is larger than this server accepts."""


class ResourceNotFoundException(Fault):
    """Failed to retrieve resource because it doesn't exist. Retry the request with a different resource identifier."""


class ServiceQuotaExceededException(Fault):
    """The number of requests exceeds the service quota. Resubmit your request later."""


class ThrottlingException(Fault):
    """The number of requests exceeds the limit. Resubmit your request later."""

    retry_after_s = 1.0


class UnknownOperationException(Fault):
    """No operation has this method and path."""


class ValidationException(Fault):
    """Input validation failed. Check your request parameters and retry the request."""


class RoomError(Exception):
    """A room's own failure. Rooms derive narrow errors from it; the Hall and the Counter translate them into faults."""
