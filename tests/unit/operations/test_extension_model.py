"""Our service model: what botocore wants of one, what readers want, and the shapes that are InvokeAgent's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.paginate import PaginatorModel
from botocore.waiter import WaiterModel

from outcrop.client import sdk_path

FOLDER = sdk_path() / "outcrop" / "2026-11-21"
RAW: dict[str, Any] = json.loads((FOLDER / "service-2.json").read_text(encoding="utf-8"))
SAME = ("type", "min", "max", "pattern", "enum", "union", "sensitive", "document")


def _session() -> botocore.session.Session:
    session = botocore.session.get_session()
    session.get_component("data_loader").search_paths.append(str(sdk_path()))
    return session


SESSION = _session()
OURS = SESSION.get_service_model("outcrop")
AWS = SESSION.get_service_model("bedrock-agent-runtime")
OPERATIONS = [pytest.param(OURS.operation_model(name), id=name) for name in OURS.operation_names]
INVOKE = AWS.operation_model("InvokeAgent")


def _shapes(shape: Shape, found: dict[str, Shape]) -> dict[str, Shape]:
    if shape.name not in found:
        found[shape.name] = shape
        if isinstance(shape, StructureShape):
            inner = list(shape.members.values())
        elif isinstance(shape, MapShape):
            inner = [shape.key, shape.value]
        else:
            inner = [shape.member] if isinstance(shape, ListShape) else []
        for one in inner:
            _shapes(one, found)
    return found


def _used() -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for operation in map(OURS.operation_model, OURS.operation_names):
        for shape in (operation.input_shape, operation.output_shape, *operation.error_shapes):
            assert shape is not None
            _shapes(shape, found)
    return found


def test_the_folder_is_named_as_the_model_is_versioned() -> None:
    assert OURS.api_version == FOLDER.name
    assert OURS.metadata["uid"] == f"{OURS.endpoint_prefix}-{OURS.api_version}"
    assert [folder.name for folder in FOLDER.parent.iterdir()] == [FOLDER.name]


def test_every_shape_is_used_and_named_once() -> None:
    assert set(_used()) == set(RAW["shapes"])
    assert list(RAW["shapes"]) == sorted(RAW["shapes"])
    assert list(RAW["operations"]) == sorted(RAW["operations"])


def test_every_member_and_every_structure_says_what_it_is() -> None:
    bare = []
    for name, shape in RAW["shapes"].items():
        whole = name.endswith(("Request", "Response")) or shape.get("document")
        if shape["type"] == "structure" and not whole and not shape.get("documentation"):
            bare.append(name)
        for member, told in shape.get("members", {}).items():
            if not re.fullmatch(r"\S[^<>]*\.", told.get("documentation", "")):
                bare.append(f"{name}.{member}")
    assert bare == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_complete(operation: OperationModel) -> None:
    raw = RAW["operations"][operation.name]
    labels = re.findall(r"{(\w+)}", operation.http["requestUri"])
    members = operation.input_shape.members
    errors = {shape.name for shape in operation.error_shapes}

    assert raw["name"] == operation.name
    assert (raw["input"]["shape"], raw["output"]["shape"]) == (f"{operation.name}Request", f"{operation.name}Response")
    assert operation.documentation.endswith(".")
    assert {name for name, shape in members.items() if shape.serialization.get("location") == "uri"} == set(labels)
    assert set(labels) <= set(operation.input_shape.required_members)
    assert {"AccessDeniedException", "InternalServerException", "ThrottlingException", "ValidationException"} <= errors
    assert ("ResourceNotFoundException" in errors) == (bool(labels) or operation.name == "ListTurns")
    if operation.http["method"] in ("GET", "DELETE"):
        beside = {shape.serialization.get("location") for shape in members.values()}
        assert beside <= {"uri", "querystring"}, "a request of this method has no body"


def test_texts_that_arrive_are_limited() -> None:
    """Every text and number of a request has a constraint, except where InvokeAgent's has none either."""
    free = set()
    for operation in map(OURS.operation_model, OURS.operation_names):
        for name, shape in operation.input_shape.members.items():
            for found in _shapes(shape, {}).values():
                limited = {"max", "min", "pattern", "enum"} & found.metadata.keys() or getattr(found, "enum", None)
                if found.type_name in ("string", "integer", "long", "double", "float") and not limited:
                    free.add((operation.name, name))
    assert free == {("StartTurn", "sessionState")}


def _pairs(mine: Shape, theirs: Shape, path: str, seen: set[str]) -> Iterator[tuple[str, Shape, Shape]]:
    """Shapes of ours, each with the one of AWS's that has its place."""
    if mine.name in seen:
        return
    seen.add(mine.name)
    yield path, mine, theirs
    if isinstance(mine, StructureShape) and not mine.is_document_type:
        for name, member in mine.members.items():
            yield from _pairs(member, theirs.members[name], f"{path}.{name}", seen)
    elif isinstance(mine, ListShape):
        yield from _pairs(mine.member, theirs.member, f"{path}[]", seen)
    elif isinstance(mine, MapShape):
        yield from _pairs(mine.value, theirs.value, f"{path}{{}}", seen)


PARTIAL = {"sessionState": {"files", "knowledgeBaseConfigurations"}}
"""What InvokeAgent takes there and turns without a caller do not."""


@pytest.mark.parametrize("member", ["inputText", "promptCreationConfigurations", "sessionState"])
def test_what_a_turn_takes_is_what_invoke_agent_takes(member: str) -> None:
    mine = OURS.operation_model("StartTurn").input_shape.members[member]
    theirs = INVOKE.input_shape.members[member]

    _compare(mine, theirs, member)


def test_what_a_turn_returns_control_with_is_what_invoke_agent_has() -> None:
    theirs = INVOKE.get_event_stream_output().members["returnControl"]

    for operation in ("GetTurn", "ListTurnEvents"):
        shape = OURS.operation_model(operation).output_shape
        if operation == "ListTurnEvents":
            shape = shape.members["events"].member
        _compare(shape.members["returnControl"], theirs, "returnControl")


def _compare(mine: Shape, theirs: Shape, path: str) -> None:
    pairs = list(_pairs(mine, theirs, path, set()))
    for at, one, other in pairs:
        assert one.type_name == other.type_name, at
        assert _constraints(one) == _constraints(other), at
        if isinstance(one, StructureShape):
            assert set(other.members) - set(one.members) == PARTIAL.get(at, set()), at
            assert set(one.required_members) == set(other.required_members), at


def _constraints(shape: Shape) -> dict[str, Any]:
    return {name: shape.metadata[name] for name in SAME if name in shape.metadata}


def test_sessions_and_names_are_checked_as_everywhere() -> None:
    start = OURS.operation_model("StartTurn").input_shape.members

    assert _constraints(start["sessionId"]) == _constraints(INVOKE.input_shape.members["sessionId"])
    assert start["agentId"].name == start["agentAliasId"].name == "AgentIdentifier"


def test_the_exceptions_have_the_statuses_of_the_runtime() -> None:
    known = {shape.name: shape for shape in AWS.error_shapes}
    for shape in OURS.error_shapes:
        assert shape.metadata["error"]["httpStatusCode"] == known[shape.name].metadata["error"]["httpStatusCode"]


def test_the_lists_can_be_paged_and_the_events_are_followed() -> None:
    pages = PaginatorModel(json.loads((FOLDER / "paginators-1.json").read_text(encoding="utf-8")))
    lists = {name for name in OURS.operation_names if name.startswith("List")} - {"ListTurnEvents"}

    assert set(pages._paginator_config) == lists
    for name in lists:
        page, operation = pages.get_paginator(name), OURS.operation_model(name)
        assert {page["input_token"], page["limit_key"]} <= set(operation.input_shape.members)
        assert {page["output_token"], page["result_key"]} <= set(operation.output_shape.members)


def test_the_waiters_name_every_status_that_a_turn_can_rest_in() -> None:
    waiters = WaiterModel(json.loads((FOLDER / "waiters-2.json").read_text(encoding="utf-8")))
    statuses = set(OURS.shape_for("TurnStatus").enum)

    assert waiters.waiter_names == ["TurnCompleted", "TurnSettled"]
    for name in waiters.waiter_names:
        waiter = waiters.get_waiter(name)
        assert waiter.operation == "GetTurn"
        assert {acceptor.expected for acceptor in waiter.acceptors} == statuses - {"QUEUED", "RUNNING"}
