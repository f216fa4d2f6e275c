"""Whatever arrives, the front door answers with a fault at worst."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import Fault
from outcrop.wire.exchange import Request
from outcrop.wire.faults import fault_response
from outcrop.wire.parsing import parse
from outcrop.wire.routing import Router
from outcrop.wire.services import services
from outcrop.wire.signatures import read_credential
from outcrop.wire.validation import validate

ROUTER = Router(services())
ALL = [model.operation_model(name) for model in services().values() for name in model.operation_names]
MEMBERS = sorted({member for operation in ALL for member in operation.input_shape.members})

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=12,
)
bodies = st.binary(max_size=64) | anything.map(lambda value: json.dumps(value).encode())
latin = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=24)
methods = st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", ""])


def _arrives(request: Request) -> None:
    fault = _refused(request)
    if fault is not None:
        response = fault_response(None, fault, "id")
        assert response.status in (400, 404)
        assert json.loads(response.body)["message"] == fault.message


def _refused(request: Request) -> Fault | None:
    read_credential(request)
    try:
        match = ROUTER.match(request.method, request.raw_path)
        validate(match.operation, parse(match, request))
    except Fault as fault:
        return fault
    return None


@settings(max_examples=200, deadline=None)
@given(methods, latin.map("/".__add__), latin, st.dictionaries(st.just("authorization"), latin), bodies)
def test_any_request(method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> None:
    _arrives(Request(method, path, query, headers, body))


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_any_values_for_a_real_operation(data: Any) -> None:
    operation = data.draw(st.sampled_from(ALL))
    segments = operation.http["requestUri"].split("/")
    path = "/".join(data.draw(latin) if segment.startswith("{") else segment for segment in segments)
    names = st.sampled_from(list(operation.input_shape.members) or ["none"])
    query = data.draw(st.lists(st.tuples(names, latin).map("=".join), max_size=3).map("&".join))
    body = data.draw(st.dictionaries(names, anything, max_size=4).map(lambda value: json.dumps(value).encode()))

    headers = {"x-amz-source-arn": data.draw(latin)}
    _arrives(Request(operation.http["method"], path, query, headers, body))
