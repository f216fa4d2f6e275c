"""Result dict -> response: status and headers from the model, the rest as its JSON body.

    str, int, float, bool -> themselves      bytes -> base64        datetime -> ISO-8601
    None -> left out                         unknown members -> left out    documents -> as they are

The server calls `serialize` for whole answers and `stream_head` before an event stream.
Records already hold the wire's shapes, so writing is mostly leaving things out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from outcrop.wire.exchange import Response

Writer = Callable[[Any], Any]

REQUEST_ID = "x-amzn-RequestId"
JSON_TYPE = ("Content-Type", "application/json")
STREAM_TYPE = ("Content-Type", "application/vnd.amazon.eventstream")

_OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_NO_CONTENT = 204


@dataclass(frozen=True, slots=True)
class _Plan:
    status: int
    headers: list[tuple[str, str]]
    body: Writer


def serialize(operation: OperationModel, result: dict[str, Any], request_id: str) -> Response:
    """The whole answer of an operation without a stream."""
    plan = _plan(operation)
    headers = [(REQUEST_ID, request_id), *_header_members(plan, result)]
    if plan.status == _NO_CONTENT:
        return Response(plan.status, headers, b"")
    return Response(plan.status, [JSON_TYPE, *headers], to_json(plan.body(result)))


def stream_head(operation: OperationModel, head: dict[str, Any], request_id: str) -> Response:
    """Status and headers of an answer whose events follow; `head` holds the members that travel as headers."""
    plan = _plan(operation)
    return Response(plan.status, [STREAM_TYPE, (REQUEST_ID, request_id), *_header_members(plan, head)], b"")


def to_json(value: Any, *, sort: bool = False) -> bytes:
    """JSON of wire-shaped values: bytes as base64, instants as ISO-8601, keys in order if asked."""
    try:
        return orjson.dumps(value, _plain, _OPTIONS | orjson.OPT_SORT_KEYS if sort else _OPTIONS)
    except orjson.JSONEncodeError:
        # a lone surrogate from a model's half emoji, or a number beyond 64 bits: slower, and still JSON
        return json.dumps(value, default=_plain, sort_keys=sort, separators=(",", ":")).encode()


def _plain(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form on the wire")


def without_nulls(shape: Shape, value: dict[str, Any]) -> dict[str, Any]:
    """A structure's value without null and unknown members, to any depth."""
    return _writer(shape)(value)


def _header_members(plan: _Plan, members: dict[str, Any]) -> list[tuple[str, str]]:
    given = ((wire, members.get(member)) for wire, member in plan.headers)
    return [(wire, str(value)) for wire, value in given if value is not None]


@cache
def _writer(shape: Shape) -> Writer:
    return _Writers().writer(shape)


@cache
def _plan(operation: OperationModel) -> _Plan:
    shape = operation.output_shape
    headers: list[tuple[str, str]] = []
    body: dict[str, tuple[str, Writer]] = {}
    writers = _Writers()
    for member, target in shape.members.items() if shape else ():
        wire: str = target.serialization.get("name", member)
        if target.serialization.get("location") == "header":
            headers.append((wire, member))
        elif not target.serialization.get("eventstream"):
            body[member] = (wire, writers.writer(target))
    return _Plan(operation.http.get("responseCode", 200), headers, _structure(body))


class _Writers:
    """The writers of some shapes, each made once, so that a shape may contain itself."""

    def __init__(self) -> None:
        self._made: dict[str, Writer] = {}

    def writer(self, shape: Shape) -> Writer:
        """The function that turns a value of this shape into what JSON can carry."""
        if shape.name not in self._made:
            self._made[shape.name] = lambda value: self._made[shape.name](value)
            self._made[shape.name] = self._make(shape)
        return self._made[shape.name]

    def _make(self, shape: Shape) -> Writer:
        if isinstance(shape, StructureShape) and not shape.is_document_type:
            members = shape.members.items()
            return _structure({name: (m.serialization.get("name", name), self.writer(m)) for name, m in members})
        if isinstance(shape, ListShape):
            return _list(self.writer(shape.member))
        if isinstance(shape, MapShape):
            return _map(self.writer(shape.value))
        return _as_is


def _structure(members: dict[str, tuple[str, Writer]]) -> Writer:
    def write(value: dict[str, Any]) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for name, item in value.items():
            if item is not None and name in members:
                wire, writer = members[name]
                written[wire] = item if writer is _as_is else writer(item)
        return written

    return write


def _list(element: Writer) -> Writer:
    if element is _as_is:
        return lambda value: [item for item in value if item is not None]
    return lambda value: [element(item) for item in value if item is not None]


def _map(element: Writer) -> Writer:
    return lambda value: {key: element(item) for key, item in value.items() if item is not None}


def _as_is(value: Any) -> Any:
    return value
