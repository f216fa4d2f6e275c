"""Values made from the models' shapes, and the official client as the oracle for both directions."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import prepare_request_dict
from botocore.eventstream import EventStream
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from outcrop.wire.exchange import Request, Response
from outcrop.wire.routing import Router
from outcrop.wire.services import services

OPERATIONS = [
    pytest.param(service.operation_model(name), id=f"{service.service_name}.{name}")
    for service in services().values()
    for name in service.operation_names
]
STREAMING = [param for param in OPERATIONS if param.values[0].has_event_stream_output]
WHOLE = [param for param in OPERATIONS if not param.values[0].has_event_stream_output]

_LETTERS = "abcXYZ019 _-./:%+&=?#'\"\\<>äß東🜂"
_DEEPEST = 6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, operations in (("operation", OPERATIONS), ("streaming", STREAMING), ("whole", WHOLE)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, operations)


@dataclass
class Values:
    """Random values of shapes: wild ones of the right type, or ones that keep every constraint."""

    random: random.Random
    wild: bool
    optional: float

    def of(self, shape: Shape, depth: int = 0) -> Any:
        if shape.type_name == "structure":
            return self._structure(shape, depth)
        if shape.type_name == "list":
            return [self.of(shape.member, depth + 1) for _ in range(self._size(shape, depth))]
        if shape.type_name == "map":
            return {self._key(shape.key): self.of(shape.value, depth + 1) for _ in range(self._size(shape, depth))}
        return getattr(self, f"_{shape.type_name}")(shape)

    def _structure(self, shape: Shape, depth: int) -> Any:
        if shape.is_document_type:
            return {"a": [1, "b", {"c": False}], "ü": 0.5}
        names = list(shape.members)
        if shape.is_tagged_union:
            flat = [name for name in names if shape.members[name].type_name not in ("structure", "list", "map")]
            names = [self.random.choice(flat or names if depth > _DEEPEST else names)]
            return {name: self.of(shape.members[name], depth + 1) for name in names}
        wanted = self.optional if depth < _DEEPEST else 0.0
        chosen = [name for name in names if name in shape.required_members or self.random.random() < wanted]
        return {name: self.of(shape.members[name], depth + 1) for name in chosen}

    def _size(self, shape: Shape, depth: int) -> int:
        low = shape.metadata.get("min", 0)
        return max(low, min(shape.metadata.get("max", 3), self.random.randint(0, 3) if depth < _DEEPEST else 0))

    def _key(self, shape: Shape) -> str:
        return self._string(shape) or "k"

    def _string(self, shape: Shape) -> str:
        if shape.enum and not self.wild:
            return self.random.choice(shape.enum)
        low, high = shape.metadata.get("min", 0), shape.metadata.get("max", 1000)
        if "pattern" in shape.metadata and not self.wild:
            return self._matching(shape.metadata["pattern"], low, high)
        return "".join(self.random.choices(_LETTERS, k=min(max(low, self.random.randint(1, 12)), high)))

    def _matching(self, pattern: str, low: int, high: int) -> str:
        for _ in range(200):
            text = matching(pattern, self.random)
            if low <= len(text) <= high:
                return text
        raise AssertionError(f"no text of {low} to {high} characters for {pattern}")

    def _number(self, shape: Shape) -> int:
        low = shape.metadata.get("min", 0)
        return self.random.randint(int(low), int(shape.metadata.get("max", low + 100)))

    _integer = _long = _number

    def _float(self, shape: Shape) -> float:
        return float(self._number(shape))

    _double = _float

    def _boolean(self, shape: Shape) -> bool:
        return self.random.random() < 0.5

    def _blob(self, shape: Shape) -> bytes:
        return self.random.randbytes(max(shape.metadata.get("min", 0), self.random.randint(0, 9)))

    def _timestamp(self, shape: Shape) -> datetime:
        return datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=self.random.randint(-(10**9), 10**9))


def matching(pattern: str, chance: random.Random) -> str:
    """A text that a pattern matches as a whole, drawn from the parsed pattern."""
    readable = pattern.replace(r"[^\p{C}]", "[a-z ]").replace(r"\P{C}", "[a-z ]").replace(r"(?!\s*$)", "")
    return _drawn(re._parser.parse(readable, re.ASCII), chance)


def _drawn(parsed: Iterable[tuple[Any, Any]], chance: random.Random) -> str:
    return "".join(_one(str(kind), value, chance) for kind, value in parsed)


def _one(kind: str, value: Any, chance: random.Random) -> str:
    match kind:
        case "LITERAL":
            return chr(value)
        case "ANY":
            return chance.choice("abc/1")
        case "NOT_LITERAL":
            return "z"
        case "IN":
            return chance.choice(_class(value))
        case "BRANCH":
            return _drawn(chance.choice(value[1]), chance)
        case "SUBPATTERN":
            return _drawn(value[3], chance)
        case "MAX_REPEAT":
            low, high, inner = value
            few = chance.randint(low, min(int(high), max(low * 2, 12)))
            return "".join(_drawn(inner, chance) for _ in range(few))
        case "AT" | "ASSERT_NOT":
            return ""
    raise AssertionError(f"patterns have not had {kind} so far")


def _class(items: list[tuple[Any, Any]]) -> str:
    members = {"CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "xyz", "CATEGORY_DIGIT": "0123456789"}
    listed = ""
    for kind, value in items:
        if str(kind) == "RANGE":
            listed += "".join(map(chr, range(value[0], value[1] + 1)))
        elif str(kind) == "CATEGORY":
            listed += members[str(value)]
        elif str(kind) == "LITERAL":
            listed += chr(value)
    negated = str(items[0][0]) == "NEGATE"
    return "".join(sorted(set("abcdef123") - set(listed))) if negated else listed


@pytest.fixture
def values() -> Callable[..., Values]:
    """A source of values: `values(seed)` draws wild ones, `values(seed, wild=False)` only allowed ones."""

    def make(seed: int, *, wild: bool = True, optional: float | None = None) -> Values:
        chance = random.Random(seed)
        return Values(chance, wild, chance.choice((0.0, 0.4, 1.0)) if optional is None else optional)

    return make


@pytest.fixture(scope="session")
def router() -> Router:
    """The router of all services."""
    return Router(services())


class Oracle:
    """What the official client makes of it."""

    def request(self, operation: OperationModel, params: dict[str, Any]) -> Request:
        """The request that botocore sends for some parameters."""
        made = create_serializer("rest-json", include_validation=False).serialize_to_request(params, operation)
        prepare_request_dict(made, "http://localhost:8700")
        url = urlsplit(made["url"])
        headers = {name.lower(): value for name, value in made["headers"].items()}
        return Request(made["method"], url.path, url.query, headers, made["body"] or b"")

    def result(self, operation: OperationModel, response: Response) -> dict[str, Any]:
        """What botocore reads from a response, without its metadata."""
        parsed = self.answer(operation, response)
        parsed.pop("ResponseMetadata")
        return parsed

    def answer(self, operation: OperationModel, response: Response) -> dict[str, Any]:
        """What botocore reads from a response, all of it."""
        headers = {name.lower(): value for name, value in response.headers}
        given = {"status_code": response.status, "headers": headers, "body": response.body}
        return create_parser("rest-json").parse(given, operation.output_shape)

    def stream(self, operation: OperationModel, *frames: bytes) -> EventStream:
        """The events that botocore iterates over when these frames arrive."""
        parser = create_parser("rest-json")._event_stream_parser
        return EventStream(_Socket(frames), operation.get_event_stream_output(), parser, operation.name)


class _Socket:
    """Gives the frames in pieces that do not end where frames end, as a network does."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._data = b"".join(frames)

    def stream(self) -> Iterable[bytes]:
        yield from (self._data[start : start + 7] for start in range(0, len(self._data), 7))

    def close(self) -> None:
        self._data = b""


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """The official client."""
    return Oracle()


def plain(value: Any) -> Any:
    """A value with its instants as seconds, however they were written."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*(Z|\+00:00)", value):
        return datetime.fromisoformat(value).timestamp()
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return value


@pytest.fixture(scope="session", name="plain")
def plain_fixture() -> Callable[[Any], Any]:
    """Makes values comparable: instants become seconds."""
    return plain
