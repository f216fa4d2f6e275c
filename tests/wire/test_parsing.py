"""What does not have its member's type is refused with the member's name; the rest is read or ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outcrop.errors import ValidationException
from outcrop.wire.exchange import Request
from outcrop.wire.parsing import parse


@pytest.fixture
def read(router):
    def read(method: str, path: str, body: Any = b"", query: str = "", headers: dict[str, str] | None = None) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return parse(router.match(method, path), Request(method, path, query, headers or {}, raw))

    return read


def test_unknown_members_are_ignored_and_nulls_are_absent(read) -> None:
    body = {"agentName": "a", "description": None, "tags": {"k": None, "l": "v"}, "agentNam": "typo", "__type": "x"}

    assert read("PUT", "/agents/", body) == {"agentName": "a", "tags": {"l": "v"}}


def test_a_list_that_is_too_long_is_left_for_validation_as_it_was_sent(read) -> None:
    results = {"returnControlInvocationResults": [7] * 6}
    path = "/agents/A/agentAliases/B/sessions/s-1/text"

    assert read("POST", path, {"sessionState": results})["sessionState"] == results


def test_documents_are_read_as_they_were_sent(read) -> None:
    document = {"k": None, "nested": [1, None, {"a": 1.5}]}
    override = {"promptConfigurations": [{"additionalModelRequestFields": {"f": document}}]}

    assert read("PUT", "/agents/", {"promptOverrideConfiguration": override})["promptOverrideConfiguration"] == override


def test_a_null_inside_a_list_is_left_for_validation(read) -> None:
    body = {"promptOverrideConfiguration": {"promptConfigurations": [None]}}

    assert read("PUT", "/agents/", body) == body


@pytest.mark.parametrize("body", [b"", b"{}", b" {} "])
def test_no_body_is_an_empty_one(read, body: bytes) -> None:
    assert read("PUT", "/agents/", body) == {}


def test_the_body_of_an_operation_without_body_members_is_not_looked_at(read) -> None:
    assert read("POST", "/agents/ABCDEFGHIJ/", b"not json") == {"agentId": "ABCDEFGHIJ"}


@pytest.mark.parametrize("body", [b"{", b'{"a":}', b"\xff", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":"\\ud83d"}'])
def test_malformed_json_is_refused(read, body: bytes) -> None:
    with pytest.raises(ValidationException, match="The request body is not valid JSON: "):
        read("PUT", "/agents/", body)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
def test_a_body_that_is_no_object_is_refused(read, body: bytes) -> None:
    with pytest.raises(ValidationException, match="The request body must be a JSON object"):
        read("PUT", "/agents/", body)


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ({"agentName": 5}, "agentName", "a string"),
        ({"agentName": ["a"]}, "agentName", "a string"),
        ({"idleSessionTTLInSeconds": "600"}, "idleSessionTTLInSeconds", "a whole number of 32 bits"),
        ({"idleSessionTTLInSeconds": 600.5}, "idleSessionTTLInSeconds", "a whole number of 32 bits"),
        ({"idleSessionTTLInSeconds": True}, "idleSessionTTLInSeconds", "a whole number of 32 bits"),
        ({"idleSessionTTLInSeconds": 2**31}, "idleSessionTTLInSeconds", "a whole number of 32 bits"),
        ({"idleSessionTTLInSeconds": 1e300}, "idleSessionTTLInSeconds", "a whole number of 32 bits"),
        ({"tags": []}, "tags", "a map"),
        ({"tags": {"k": 1}}, "tags.k", "a string"),
        ({"guardrailConfiguration": "g"}, "guardrailConfiguration", "a JSON object"),
        (
            {"promptOverrideConfiguration": {"promptConfigurations": {}}},
            "promptOverrideConfiguration.promptConfigurations",
            "a list",
        ),
        (
            {"promptOverrideConfiguration": {"promptConfigurations": [{}, {"inferenceConfiguration": {"topP": "1"}}]}},
            "promptOverrideConfiguration.promptConfigurations.2.member.inferenceConfiguration.topP",
            "a number",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named(read, body: Any, path: str, expected: str) -> None:
    with pytest.raises(ValidationException) as raised:
        read("PUT", "/agents/", body)

    assert raised.value.message == (
        f"1 validation error detected: Value at '{path}' failed to satisfy constraint: Member must be {expected}"
    )
    assert raised.value.members == {"fieldList": [{"name": path, "message": f"Member must be {expected}"}]}


def test_a_whole_number_may_be_written_as_a_float(read) -> None:
    assert read("PUT", "/agents/", {"idleSessionTTLInSeconds": 600.0}) == {"idleSessionTTLInSeconds": 600}


def test_booleans_are_booleans(read) -> None:
    with pytest.raises(
        ValidationException, match="'enableTrace' failed to satisfy constraint: Member must be a boolean"
    ):
        read("POST", "/agents/s-1", {"enableTrace": "true"})


@pytest.mark.parametrize("data", ["a", "****", "aGk=\n", 5, "ä"])
def test_what_is_not_base64_is_refused(read, data: Any) -> None:
    content = {"byteContent": {"mediaType": "text/csv", "data": data}, "sourceType": "BYTE_CONTENT"}
    body = {"inlineSessionState": {"files": [{"name": "f", "source": content, "useCase": "CHAT"}]}}

    with pytest.raises(ValidationException, match=r"files\.1\.member\.source\.byteContent\.data.* must be base64 text"):
        read("POST", "/agents/s-1", body)


STEP = "/sessions/0f3c6a2e-95a4-4e2f-8e7c-0a52cbd0d0b1/invocationSteps/"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-20T09:23:23.566864339Z", "2026-11-20T09:23:23.566864339Z"),
        ("2026-11-20T10:23:23+01:00", "2026-11-20T10:23:23+01:00"),
        (1_800_000_000, "2027-01-15T08:00:00.000000Z"),
        (1_800_000_000.25, "2027-01-15T08:00:00.250000Z"),
    ],
)
def test_instants_are_kept_as_iso_8601(read, sent: Any, kept: str) -> None:
    assert read("PUT", STEP, {"invocationStepTime": sent})["invocationStepTime"] == kept


@pytest.mark.parametrize("sent", ["yesterday", "", True, -1, 10**15, 1e300, []])
def test_what_is_no_instant_is_refused(read, sent: Any) -> None:
    with pytest.raises(ValidationException, match=r"'invocationStepTime'.* must be a timestamp in ISO-8601 or seconds"):
        read("PUT", STEP, {"invocationStepTime": sent})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("skipResourceInUseCheck=true", {"skipResourceInUseCheck": True}),
        ("skipResourceInUseCheck=False&other=1", {"skipResourceInUseCheck": False}),
        ("other=1", {}),
    ],
)
def test_booleans_in_the_query(read, query: str, expected: dict[str, Any]) -> None:
    assert read("DELETE", "/agents/ABCDEFGHIJ/", query=query) == {"agentId": "ABCDEFGHIJ", **expected}


@pytest.mark.parametrize("query", ["skipResourceInUseCheck=1", "skipResourceInUseCheck=", "skipResourceInUseCheck"])
def test_what_is_no_boolean_in_the_query_is_refused(read, query: str) -> None:
    with pytest.raises(ValidationException, match=r"'skipResourceInUseCheck'.* must be a boolean"):
        read("DELETE", "/agents/ABCDEFGHIJ/", query=query)


def test_numbers_and_lists_in_the_query(read) -> None:
    assert read("GET", "/flows/", query="maxResults=7&nextToken=a%2Bb+c") == {"maxResults": 7, "nextToken": "a+b c"}
    assert read("DELETE", "/tags/arn", query="tagKeys=a&tagKeys=&tagKeys=%C3%BC")["tagKeys"] == ["a", "", "ü"]


@pytest.mark.parametrize("text", ["seven", "", "7.0", "99999999999", "٣"])
def test_what_is_no_number_in_the_query_is_refused(read, text: str) -> None:
    with pytest.raises(ValidationException, match=r"'maxResults'.* must be a whole number of 32 bits"):
        read("GET", "/flows/", query=f"maxResults={text}")


def test_a_member_in_a_header(read) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:agent/ABCDEFGHIJ"
    path = "/agents/AX123/agentAliases/PROD/sessions/session-789/text"

    given = read("POST", path, {"inputText": "hi"}, headers={"x-amz-source-arn": arn, "host": "localhost"})

    assert given == {
        "agentId": "AX123",
        "agentAliasId": "PROD",
        "sessionId": "session-789",
        "inputText": "hi",
        "sourceArn": arn,
    }
