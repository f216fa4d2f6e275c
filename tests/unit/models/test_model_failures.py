"""What servers and client libraries report becomes one of our errors, without secrets."""

from __future__ import annotations

import pytest

from outcrop.models.base import (
    ModelAccessDenied,
    ModelNotReady,
    ModelRejected,
    ModelThrottled,
    ModelTimedOut,
    ModelUnavailable,
)
from outcrop.models.failures import failure, retry_after, told
from outcrop.models.providers._strands_errors import typed


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 10:00:30 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 30),
        ({"Retry-After": "Fri, 20 Nov 2026 10:00:30 GMT"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers) == seconds


def test_what_is_told_is_short_on_one_line_and_without_the_key():
    assert told("a\n  b sk-1", "sk-1") == "a b ***"
    assert len(told("x" * 9000)) == 500


def test_statuses():
    assert type(failure(408, "x")) is ModelUnavailable
    assert type(failure(413, "x")) is ModelRejected
    assert type(failure(529, "x", 3)) is ModelUnavailable
    assert failure(529, "x", 3).retry_after_s == 3


class Response:
    def __init__(self, **headers):
        self.headers = headers


def error(name, message="the words", cause=None, base=Exception, **attributes):
    """An error as a client library would make it."""
    made = type(name, (base,), {})(message)
    for key, value in attributes.items():
        setattr(made, key, value)
    made.__cause__ = cause
    return made


def aws(code):
    return error("ClientError", response={"Error": {"Code": code, "Message": "the words"}})


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (error("ModelThrottledException"), ModelThrottled),
        (error("ContextWindowOverflowException"), ModelRejected),
        (error("APIStatusError", status_code=403), ModelAccessDenied),
        (error("SDKError", status_code=404), ModelRejected),
        (error("ServerError", code=503), ModelUnavailable),
        (error("APIStatusError", status_code=200, body={"error": {"type": "overloaded_error"}}), ModelUnavailable),
        (error("APIStatusError", status_code=200, body={"error": {"type": "rate_limit_error"}}), ModelThrottled),
        (error("APITimeoutError"), ModelTimedOut),
        (error("ConnectTimeout"), ModelUnavailable),
        (error("EndpointConnectionError"), ModelUnavailable),
        (error("NoCredentialsError"), ModelAccessDenied),
        (error("ParamValidationError"), ModelRejected),
        (aws("AccessDeniedException"), ModelAccessDenied),
        (aws("modelTimeoutException"), ModelTimedOut),
        (aws("ModelNotReadyException"), ModelNotReady),
        (aws("throttlingException"), ModelThrottled),
        (aws("modelStreamErrorException"), ModelUnavailable),
        (aws("ValidationException"), ModelRejected),
        (error("Wrapper", cause=aws("ThrottlingException")), ModelThrottled),
        (TypeError("content_type=<video>"), ModelRejected),
        (OSError("gone"), ModelUnavailable),
        (error("Unheard"), ModelUnavailable),
    ],
)
def test_errors_of_client_libraries(raised, kind):
    found = typed(raised)
    assert type(found) is kind
    assert str(found)


def test_an_error_of_ours_stays_as_it_is():
    ours = ModelRejected("no")
    assert typed(ours) is ours


def test_the_wait_is_read_from_whichever_error_has_the_response():
    cause = error("RateLimitError", response=Response(**{"Retry-After": "9"}))
    assert typed(error("ModelThrottledException", cause=cause)).retry_after_s == 9


def test_the_key_is_taken_out():
    assert str(typed(error("X", "key sk-1 is wrong"), "sk-1")) == "key *** is wrong"


def test_an_error_without_words_has_its_name():
    assert str(typed(error("Odd", ""))) == "Odd"
