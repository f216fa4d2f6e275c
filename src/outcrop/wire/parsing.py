"""Request -> the input dict of its operation: path, query, headers and JSON body, typed by the model.

    JSON        string   integer  float  boolean  timestamp            blob      document
    in the dict str      int      float  bool     str, ISO-8601        bytes     as sent

A reader is compiled per shape, when its operation is first called. Unknown members are
ignored, null members are absent. Whether the values are allowed is validation's question.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qs

import orjson
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from outcrop.clock import iso
from outcrop.errors import ValidationException
from outcrop.wire.exchange import Request
from outcrop.wire.routing import Match

Reader = Callable[[Any], Any]

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?")
_BITS = {"integer": 31, "long": 63}
_LAST_EPOCH = 253_402_300_799  # 9999-12-31T23:59:59Z


class _Misfit(Exception):
    """A value is not of its member's type; carries the way to it, innermost first."""

    def __init__(self, expected: str) -> None:
        self.expected = expected
        self.path: list[str] = []
        super().__init__(expected)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read one operation's input: (wire name, member, reader) for each place, and the body."""

    labels: list[tuple[str, str, Reader]]
    query: list[tuple[str, str, Reader]]
    headers: list[tuple[str, str, Reader]]
    body: Reader | None


def parse(match: Match, request: Request) -> dict[str, Any]:
    """The input of the matched operation.

    Errors: ValidationException when the body is no JSON object or a value has the wrong type; it names the member.
    """
    plan = _plan(match.operation)
    try:
        given: dict[str, Any] = {} if plan.body is None else plan.body(_body(request.body))
        for wire, member, read in plan.labels:
            given[member] = _named(read, match.labels[wire], member)
        if plan.query and request.raw_query:
            _read_query(plan, request.raw_query, given)
        for wire, member, read in plan.headers:
            if wire in request.headers:
                given[member] = _named(read, request.headers[wire], member)
    except _Misfit as misfit:
        raise _complaint(misfit) from misfit
    return given


def _body(body: bytes) -> Any:
    try:
        given: Any = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ValidationException(f"The request body is not valid JSON: {error}") from error
    if type(given) is not dict:
        raise ValidationException("The request body must be a JSON object.")
    return cast("Any", given)


def _read_query(plan: _Plan, raw_query: str, given: dict[str, Any]) -> None:
    texts = parse_qs(raw_query, keep_blank_values=True)
    for wire, member, read in plan.query:
        if wire in texts:
            given[member] = _named(read, texts[wire], member)


def _named(read: Reader, value: Any, name: str) -> Any:
    try:
        return read(value)
    except _Misfit as misfit:
        misfit.path.append(name)
        raise


def _complaint(misfit: _Misfit) -> ValidationException:
    path = ".".join(reversed(misfit.path))
    constraint = f"Member must be {misfit.expected}"
    return ValidationException(
        f"1 validation error detected: Value at '{path}' failed to satisfy constraint: {constraint}",
        fieldList=[{"name": path, "message": constraint}],
    )


@cache
def _plan(operation: OperationModel) -> _Plan:
    plan = _Plan([], [], [], None)
    shape = operation.input_shape
    if shape is None:
        return plan
    readers = _Readers()
    body: dict[str, tuple[str, Reader]] = {}
    for member, target in shape.members.items():
        wire: str = target.serialization.get("name", member)
        match target.serialization.get("location"):
            case "uri":
                plan.labels.append((wire, member, _text_reader(target)))
            case "querystring":
                plan.query.append((wire, member, _query_reader(target)))
            case "header":
                plan.headers.append((wire.lower(), member, _text_reader(target)))
            case _:
                body[wire] = (member, readers.reader(target))
    return _Plan(plan.labels, plan.query, plan.headers, _structure(body)) if body else plan


class _Readers:
    """The readers of one operation's shapes, each made once, so that a shape may contain itself."""

    def __init__(self) -> None:
        self._made: dict[str, Reader] = {}

    def reader(self, shape: Shape) -> Reader:
        """The function that reads a JSON value of this shape."""
        if shape.name not in self._made:
            self._made[shape.name] = lambda value: self._made[shape.name](value)
            self._made[shape.name] = self._make(shape)
        return self._made[shape.name]

    def _make(self, shape: Shape) -> Reader:
        if isinstance(shape, StructureShape):
            if shape.is_document_type:
                return _as_sent
            members = shape.members.items()
            return _structure({m.serialization.get("name", name): (name, self.reader(m)) for name, m in members})
        if isinstance(shape, ListShape):
            return _list(self.reader(shape.member), shape.metadata.get("max"))
        if isinstance(shape, MapShape):
            return _map(self.reader(shape.value), shape.metadata.get("max"))
        return _SCALARS[shape.type_name]


def _structure(members: Mapping[str, tuple[str, Reader]]) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Misfit("a JSON object")
        given: dict[str, Any] = {}
        key = ""
        try:
            for key, item in cast("dict[str, Any]", value).items():
                if key in members and item is not None:
                    member, reader = members[key]
                    given[member] = reader(item)
        except _Misfit as misfit:
            misfit.path.append(key)
            raise
        return given

    return read


def _list(element: Reader, most: int | None = None) -> Reader:
    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _Misfit("a list")
        items = cast("list[Any]", value)
        if most is not None and len(items) > most:
            return items  # validation refuses it for its length alone
        given: list[Any] = []
        try:
            for item in items:
                given.append(None if item is None else element(item))
        except _Misfit as misfit:
            misfit.path.append(f"{len(given) + 1}.member")
            raise
        return given

    return read


def _map(element: Reader, most: int | None = None) -> Reader:
    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Misfit("a map")
        items = {key: item for key, item in cast("dict[str, Any]", value).items() if item is not None}
        if most is not None and len(items) > most:
            return items  # validation refuses it for its length alone
        return {key: _named(element, item, key) for key, item in items.items()}

    return read


def _as_sent(value: Any) -> Any:
    return value


def _string(value: Any) -> str:
    if type(value) is not str:
        raise _Misfit("a string")
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _Misfit("a boolean")
    return value


def _integer(type_name: str) -> Reader:
    bits = _BITS[type_name]

    def read(value: Any) -> int:
        whole = int(value) if type(value) is float and value.is_integer() else value
        if type(whole) is not int or not -(1 << bits) <= whole < 1 << bits:
            raise _Misfit(f"a whole number of {bits + 1} bits")
        return whole

    return read


def _float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise _Misfit("a number")
    return value


def _blob(value: Any) -> bytes:
    try:
        return base64.b64decode(_string(value), validate=True)
    except (binascii.Error, ValueError, _Misfit) as error:
        raise _Misfit("base64 text") from error


def _timestamp(value: Any) -> str:
    if type(value) in (int, float) and 0 <= value <= _LAST_EPOCH:
        return iso(value)
    try:
        datetime.fromisoformat(_string(value))
    except (ValueError, _Misfit) as error:
        raise _Misfit("a timestamp in ISO-8601 or seconds since the epoch") from error
    return value


_SCALARS: dict[str, Reader] = {
    "string": _string,
    "boolean": _boolean,
    "integer": _integer("integer"),
    "long": _integer("long"),
    "float": _float,
    "double": _float,
    "blob": _blob,
    "timestamp": _timestamp,
}


def _typed(type_name: str, text: str) -> Any:
    """The JSON value that a text of the path, the query or a header stands for."""
    if type_name == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if type_name in _BITS and _INTEGER.fullmatch(text):
        return int(text)
    if type_name in ("float", "double", "timestamp") and _NUMBER.fullmatch(text):
        return float(text)
    return text


def _text_reader(shape: Shape) -> Reader:
    read, type_name = _SCALARS[shape.type_name], shape.type_name
    return read if type_name == "string" else lambda text: read(_typed(type_name, text))


def _query_reader(shape: Shape) -> Reader:
    if isinstance(shape, ListShape):
        return _list(_text_reader(shape.member))
    read = _text_reader(shape)
    return lambda texts: read(texts[0])
