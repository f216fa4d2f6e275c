"""The path decides: its method, its literals, its labels, and whether it ends with a slash."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.model import ServiceModel

from outcrop.errors import UnknownOperationException, ValidationException
from outcrop.wire.exchange import Request
from outcrop.wire.parsing import parse
from outcrop.wire.routing import Router
from outcrop.wire.serializing import serialize
from outcrop.wire.validation import validate


@pytest.mark.parametrize(
    ("method", "path", "name", "labels"),
    [
        ("POST", "/agents/ABCDEFGHIJ/", "PrepareAgent", {"agentId": "ABCDEFGHIJ"}),
        ("POST", "/agents/session-789", "InvokeInlineAgent", {"sessionId": "session-789"}),
        ("POST", "/agents/", "ListAgents", {}),
        ("PUT", "/agents/", "CreateAgent", {}),
        ("POST", "/flows/ABCDEFGHIJ/", "PrepareFlow", {"flowIdentifier": "ABCDEFGHIJ"}),
        ("POST", "/flows/validate-definition", "ValidateFlowDefinition", {}),
        ("POST", "/flows/F/aliases", "CreateFlowAlias", {"flowIdentifier": "F"}),
        ("POST", "/flows/F/aliases/A", "InvokeFlow", {"flowIdentifier": "F", "flowAliasIdentifier": "A"}),
        (
            "GET",
            "/flows/arn%3Aaws%3Abedrock%3A%3A%3Aflow%2FF/",
            "GetFlow",
            {"flowIdentifier": "arn:aws:bedrock:::flow/F"},
        ),
        ("GET", "/agents/a%20b%25%C3%BC+c/", "GetAgent", {"agentId": "a b%ü+c"}),
        (
            "POST",
            "/outcrop/agents/stock/agentAliases/PROD/sessions/s-1/turns",
            "StartTurn",
            {"agentId": "stock", "agentAliasId": "PROD", "sessionId": "s-1"},
        ),
        ("GET", "/outcrop/turns", "ListTurns", {}),
        ("GET", "/outcrop/turns/0190", "GetTurn", {"turnId": "0190"}),
    ],
)
def test_a_path_has_its_operation(router: Router, method: str, path: str, name: str, labels: dict[str, str]) -> None:
    match = router.match(method, path)

    assert (match.operation.name, match.labels) == (name, labels)
    assert match.service == match.operation.service_model.service_name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", ""),
        ("GET", "agents/ABCDEFGHIJ/"),
        ("GET", "//agents/ABCDEFGHIJ/"),
        ("GET", "/agents//"),
        ("POST", "/agents"),
        ("POST", "/agents/a/b"),
        ("POST", "/agents/a//"),
        ("GET", "/agents/ABCDEFGHIJ"),
        ("PATCH", "/agents/"),
        ("BREW", "/agents/"),
        ("POST", "/flows/validate-definition/x"),
        ("GET", "/outcrop/turns/"),
        ("POST", "/outcrop/turns"),
        ("POST", "/nothing/here"),
    ],
)
def test_a_path_without_an_operation_says_so(router: Router, method: str, path: str) -> None:
    with pytest.raises(UnknownOperationException) as raised:
        router.match(method, path)

    assert raised.value.message == f"No operation has this method and path: {method} {path}"


def test_an_endless_path_is_shortened_in_the_message(router: Router) -> None:
    with pytest.raises(UnknownOperationException) as raised:
        router.match("GET", "/x" * 10_000)

    assert len(raised.value.message) < 400


def test_a_label_that_is_not_utf_8_is_refused(router: Router) -> None:
    with pytest.raises(ValidationException, match="A part of the path is not UTF-8: %FF"):
        router.match("GET", "/agents/%FF/")


def _operation(uri: str, shape: str | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {"http": {"method": "GET", "requestUri": uri}}
    return operation | ({"input": {"shape": shape}} if shape else {})


MODEL = {
    "metadata": {"protocol": "rest-json", "serviceId": "Tiny"},
    "operations": {
        "Root": {"name": "Root", **_operation("/?x=1")},
        "Literal": {"name": "Literal", **_operation("/a/b/c")},
        "Label": {"name": "Label", **_operation("/a/{one}/d")},
        "Greedy": {"name": "Greedy", **_operation("/a/{rest+}/end", "Ask")},
    },
    "shapes": {
        "Ask": {
            "type": "structure",
            "members": {
                "rest": {"shape": "Text", "location": "uri", "locationName": "rest"},
                "when": {"shape": "When", "location": "header", "locationName": "X-When"},
                "ratio": {"shape": "Ratio", "location": "querystring", "locationName": "ratio"},
            },
        },
        "Text": {"type": "string"},
        "When": {"type": "timestamp"},
        "Ratio": {"type": "double"},
    },
}


@pytest.fixture
def tiny() -> Router:
    return Router({"tiny": ServiceModel(MODEL, "tiny")})


@pytest.mark.parametrize(
    ("path", "name", "labels"),
    [
        ("/", "Root", {}),
        ("/a/b/c", "Literal", {}),
        ("/a/b/d", "Label", {"one": "b"}),
        ("/a/b/end", "Greedy", {"rest": "b"}),
        ("/a/b/c/d%2Fe/end", "Greedy", {"rest": "b/c/d/e"}),
        ("/a/x/end/end", "Greedy", {"rest": "x/end"}),
    ],
)
def test_a_literal_beats_a_label_and_a_label_beats_a_greedy_one(
    tiny: Router, path: str, name: str, labels: dict[str, str]
) -> None:
    match = tiny.match("GET", path)

    assert (match.operation.name, match.labels) == (name, labels)


def test_a_greedy_label_that_finds_no_end_is_no_match(tiny: Router) -> None:
    with pytest.raises(UnknownOperationException):
        tiny.match("GET", "/a/x/y/z")


def test_an_operation_without_shapes_takes_and_gives_nothing(tiny: Router) -> None:
    match = tiny.match("GET", "/")

    assert parse(match, Request("GET", "/", "a=b", {}, b"ignored")) == {}
    validate(match.operation, {})
    assert serialize(match.operation, {"a": 1}, "id").body == b"{}"


def test_values_beside_the_body_are_typed_too(tiny: Router) -> None:
    match = tiny.match("GET", "/a/b/end")
    request = Request("GET", "/a/b/end", "ratio=0.25", {"x-when": "1800000000"}, b"")

    assert parse(match, request) == {"rest": "b", "when": "2027-01-15T08:00:00.000000Z", "ratio": 0.25}


def test_two_services_sharing_a_path_fall_back_to_the_first() -> None:
    both = Router({"one": ServiceModel(MODEL, "one"), "two": ServiceModel(MODEL, "two")})

    assert both.match("GET", "/a/session/d").service == "one"
    assert both.match("GET", "/").service == "one"
