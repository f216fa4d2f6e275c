"""Whatever botocore sends for any of the operations, we read back; moto reads the same."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest
from moto.core.model import ServiceModel as MotoServiceModel
from moto.core.parse import PROTOCOL_PARSERS

from outcrop.wire.parsing import parse
from outcrop.wire.services import service
from outcrop.wire.validation import validate

SEEDS = range(8)


def test_what_botocore_sends_is_what_we_read(operation, values, oracle, router, plain) -> None:
    for seed in SEEDS:
        params = _params(operation, values(seed))
        request = oracle.request(operation, params)

        match = router.match(request.method, request.raw_path)
        read = parse(match, request)

        assert (match.service, match.operation) == (operation.service_model.service_name, operation)
        assert plain(read) == plain(params)


def test_what_keeps_the_constraints_is_accepted(operation, values, oracle, router) -> None:
    for seed in SEEDS:
        request = oracle.request(operation, _params(operation, values(seed, wild=False)))
        match = router.match(request.method, request.raw_path)

        validate(match.operation, parse(match, request))


def test_moto_reads_the_same(operation, values, oracle, router, plain) -> None:
    theirs = _moto(operation.service_model.service_name).operation_model(operation.name)
    for seed in SEEDS:
        request = oracle.request(operation, _params(operation, values(seed)))
        match = router.match(request.method, request.raw_path)
        given = {
            "body": request.body,
            "headers": request.headers,
            "method": request.method,
            "url_params": match.labels,
            "url_path": request.raw_path,
            "values": _Query(request.raw_query),
        }

        read = PROTOCOL_PARSERS["rest-json"](theirs).parse(given)

        assert plain(read) == plain(parse(match, request))


class _Query(dict[str, str]):
    """Query parameters as moto receives them."""

    def __init__(self, raw_query: str) -> None:
        self._lists = parse_qs(raw_query, keep_blank_values=True)
        super().__init__({name: texts[0] for name, texts in self._lists.items()})

    def getlist(self, name: str) -> list[str]:
        return self._lists.get(name, [])


_MODELS: dict[str, MotoServiceModel] = {}


def _moto(name: str) -> MotoServiceModel:
    if name not in _MODELS:
        _MODELS[name] = MotoServiceModel(service(name)._service_description, name)
    return _MODELS[name]


def _params(operation: Any, values: Any) -> dict[str, Any]:
    """Parameters for an operation; a tag operation's ARN decides which service it is for."""
    params = values.of(operation.input_shape)
    if params.get("tagKeys") == []:
        params["tagKeys"] = ["a"]  # an empty list leaves no trace in a query
    if operation.http["requestUri"] == "/tags/{resourceArn}":
        runtime = operation.service_model.service_name == "bedrock-agent-runtime"
        kind = "session/0f3c6a2e-95a4-4e2f-8e7c-0a52cbd0d0b1" if runtime else "agent/ABCDEFGHIJ"
        params["resourceArn"] = f"arn:aws:bedrock:us-east-1:123456789012:{kind}"
    return params


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_the_kind_of_the_arn_says_whose_tags_they_are(method: str, router) -> None:
    prefix = "/tags/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3A"
    session = router.match(method, prefix + "session%2F0f3c6a2e-95a4-4e2f-8e7c-0a52cbd0d0b1")
    alias = router.match(method, prefix + "agent-alias%2FABCDEFGHIJ%2FKLMNOPQRST")
    nonsense = router.match(method, "/tags/nonsense")

    assert [match.service for match in (session, alias, nonsense)] == [
        "bedrock-agent-runtime",
        "bedrock-agent",
        "bedrock-agent",
    ]
    assert alias.labels == {"resourceArn": "arn:aws:bedrock:us-east-1:123456789012:agent-alias/ABCDEFGHIJ/KLMNOPQRST"}
