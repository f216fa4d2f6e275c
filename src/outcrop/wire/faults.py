"""Fault -> HTTP error before the first byte, exception frame after it.

    status    the shape's in the service's model; another service's where it has none; ours for our own
    headers   x-amzn-ErrorType, x-amzn-RequestId, Retry-After where the fault says when to come back
    body      {"message": "...", and the members the shape has}

What is no fault is a defect of ours: its text stays here, the caller sees only the general one.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from botocore.model import OperationModel, StructureShape

from outcrop.errors import Fault, InternalServerException, NotImplementedException
from outcrop.wire.eventstream import exception_frame, stream_members
from outcrop.wire.exchange import Response
from outcrop.wire.serializing import JSON_TYPE, REQUEST_ID, to_json
from outcrop.wire.services import SERVICES
from outcrop.wire.services import service as service_model

_OWN_STATUSES = {
    "NotImplementedException": 501,
    "RequestEntityTooLargeException": 413,
    "UnknownOperationException": 404,
}


def unimplemented(operation: OperationModel) -> NotImplementedException:
    """The fault that answers an operation of the model that nothing implements yet."""
    return NotImplementedException(f"{operation.name} of {operation.service_model.service_name} is not implemented.")


def fault_response(service: str | None, fault: BaseException, request_id: str) -> Response:
    """The HTTP error for a fault at one service's door; `service` is None when the request matched none.

    Source: docs/behaviour/invoke-agent.md 1.1 (stated).
    """
    known = _as_fault(fault)
    status, shape = _modelled(service, known.code)
    if status is None:
        known, (status, shape) = InternalServerException(known.message), _modelled(service, "InternalServerException")
    headers = [JSON_TYPE, (REQUEST_ID, request_id), ("x-amzn-ErrorType", known.code)]
    if known.retry_after_s is not None:
        headers.append(("Retry-After", str(math.ceil(known.retry_after_s))))
    return Response(status or 500, headers, to_json(_members(known, shape)))


def fault_frame(operation: OperationModel, fault: BaseException) -> bytes:
    """The last frame of a stream that a fault ends; what the stream does not model becomes internalServerException.

    Source: docs/behaviour/invoke-agent.md 1.2 (observed), 8 (inferred).
    """
    known = _as_fault(fault)
    members = stream_members(operation)
    name = next((name for name, shape in members.items() if shape.name == known.code), "internalServerException")
    return exception_frame(operation, name, _members(known, members.get(name)))


def _as_fault(fault: BaseException) -> Fault:
    return fault if isinstance(fault, Fault) else InternalServerException()


def _members(fault: Fault, shape: StructureShape | None) -> dict[str, Any]:
    known = shape.members if shape else {}
    given = {name: value for name, value in fault.members.items() if name in known and value is not None}
    return {"message": fault.message, **given}


def _modelled(service: str | None, code: str) -> tuple[int | None, StructureShape | None]:
    """Status and shape of an exception: at the service's own door, else at the first that has it."""
    if code in _OWN_STATUSES:
        return _OWN_STATUSES[code], None
    for name in dict.fromkeys([service, *SERVICES] if service else SERVICES):
        shape = _exceptions(name).get(code)
        if shape is not None:
            return shape.metadata["error"]["httpStatusCode"], shape
    return None, None


@cache
def _exceptions(service: str) -> dict[str, StructureShape]:
    shapes = service_model(service).error_shapes
    return {shape.name: shape for shape in shapes if isinstance(shape, StructureShape)}
