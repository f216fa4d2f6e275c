"""A fault becomes what boto3 shows as an error: code, message, status and members."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import EventStreamError
from botocore.parsers import create_parser

from outcrop import errors
from outcrop.wire.faults import fault_frame, fault_response, unimplemented
from outcrop.wire.services import CONTROL_PLANE, EXTENSIONS, RUNTIME, service

DOORS = (RUNTIME, CONTROL_PLANE, EXTENSIONS)
STATUSES = {
    errors.AccessDeniedException: (403, 403, 403),
    errors.BadGatewayException: (502, 502, 502),
    errors.ConflictException: (409, 409, 409),
    errors.DependencyFailedException: (424, 424, 424),
    errors.InternalServerException: (500, 500, 500),
    errors.ModelNotReadyException: (424, 424, 424),
    errors.NotImplementedException: (501, 501, 501),
    errors.RequestEntityTooLargeException: (413, 413, 413),
    errors.ResourceNotFoundException: (404, 404, 404),
    errors.ServiceQuotaExceededException: (400, 402, 400),
    errors.ThrottlingException: (429, 429, 429),
    errors.UnknownOperationException: (404, 404, 404),
    errors.ValidationException: (400, 400, 400),
}


def _read(response):
    given = {"status_code": response.status, "headers": dict(response.headers), "body": response.body}
    given["headers"] = {name.lower(): value for name, value in given["headers"].items()}
    return create_parser("rest-json").parse(given, None)


def test_every_fault_has_its_status_at_each_door() -> None:
    assert set(STATUSES) == set(errors.Fault.__subclasses__())
    for fault, statuses in STATUSES.items():
        assert tuple(fault_response(door, fault(), "id").status for door in DOORS) == statuses


@pytest.mark.parametrize("door", [*DOORS, None])
@pytest.mark.parametrize("fault", STATUSES)
def test_botocore_reads_code_message_and_request_id(door, fault) -> None:
    response = fault_response(door, fault("Because."), "6f1b3c2e")

    read = _read(response)

    assert read["Error"] == {"Code": fault.__name__, "Message": "Because."}
    assert read["ResponseMetadata"]["RequestId"] == "6f1b3c2e"
    assert read["ResponseMetadata"]["HTTPStatusCode"] == response.status
    assert ("x-amzn-ErrorType", fault.__name__) in response.headers


def test_the_body_has_the_members_that_the_shape_has() -> None:
    fields = [{"name": "agentName", "message": "Member must not be null"}]
    fault = errors.ValidationException("No.", fieldList=fields, stranger="x")

    assert json.loads(fault_response(CONTROL_PLANE, fault, "id").body) == {"message": "No.", "fieldList": fields}
    assert json.loads(fault_response(RUNTIME, fault, "id").body) == {"message": "No."}
    assert json.loads(fault_response(EXTENSIONS, fault, "id").body) == {"message": "No.", "fieldList": fields}


def test_a_fault_that_says_when_to_come_back_says_it_in_a_header_alone() -> None:
    soon, later = errors.ThrottlingException("No."), errors.ConflictException("No.", retry_after_s=2.5)

    for fault, seconds in ((soon, "1"), (later, "3")):
        response = fault_response(RUNTIME, fault, "id")
        assert dict(response.headers)["Retry-After"] == seconds
        assert json.loads(response.body) == {"message": "No."}
    assert "Retry-After" not in dict(fault_response(RUNTIME, errors.ConflictException("No."), "id").headers)


def test_members_that_are_not_set_are_left_out() -> None:
    gateway = errors.BadGatewayException("No.", resourceName="Lambda")
    internal = errors.InternalServerException("No.", reason=None)

    assert json.loads(fault_response(RUNTIME, gateway, "id").body) == {"message": "No.", "resourceName": "Lambda"}
    assert json.loads(fault_response(RUNTIME, internal, "id").body) == {"message": "No."}


def test_a_defect_shows_the_general_message_only() -> None:
    response = fault_response(RUNTIME, KeyError("a line of our own code"), "id")

    assert (response.status, json.loads(response.body)) == (500, {"message": errors.InternalServerException().message})


def test_a_fault_without_a_shape_is_an_internal_error() -> None:
    response = fault_response(CONTROL_PLANE, errors.Fault("It happened."), "id")

    assert response.status == 500
    assert _read(response)["Error"] == {"Code": "InternalServerException", "Message": "It happened."}


def test_what_is_not_implemented_says_which_operation_it_is() -> None:
    fault = unimplemented(service(RUNTIME).operation_model("OptimizePrompt"))

    response = fault_response(RUNTIME, fault, "id")

    assert response.status == 501
    assert json.loads(response.body)["message"] == "OptimizePrompt of bedrock-agent-runtime is not implemented."


@pytest.mark.parametrize(
    ("name", "fault", "code"),
    [
        ("InvokeAgent", errors.ModelNotReadyException("x"), "modelNotReadyException"),
        ("InvokeInlineAgent", errors.ModelNotReadyException("x"), "internalServerException"),
        ("InvokeInlineAgent", errors.ValidationException("x", fieldList=[]), "validationException"),
        ("OptimizePrompt", errors.ConflictException("x"), "internalServerException"),
        ("InvokeFlow", errors.NotImplementedException("x"), "internalServerException"),
    ],
)
def test_a_stream_ends_with_the_exception_it_models(name, fault, code, oracle) -> None:
    model = service(RUNTIME).operation_model(name)

    with pytest.raises(EventStreamError) as raised:
        list(oracle.stream(model, fault_frame(model, fault)))

    assert raised.value.response["Error"] == {"Code": code, "Message": "x"}


def test_a_defect_in_mid_stream_shows_the_general_message_only(oracle) -> None:
    model = service(RUNTIME).operation_model("InvokeAgent")

    with pytest.raises(EventStreamError) as raised:
        list(oracle.stream(model, fault_frame(model, RuntimeError("secret"))))

    message = errors.InternalServerException().message
    assert raised.value.response["Error"] == {"Code": "internalServerException", "Message": message}


def test_the_members_of_a_fault_travel_in_its_frame() -> None:
    model = service(RUNTIME).operation_model("InvokeAgent")

    frame = fault_frame(model, errors.DependencyFailedException("It raised.", resourceName="Lambda", other=1))

    assert b'{"message":"It raised.","resourceName":"Lambda"}' in frame
