"""Method and raw path -> operation and labels, for all services on one origin.

    PUT /agents/                 "agents" -> ""                CreateAgent
    POST /agents/{agentId}/      "agents" -> {} -> ""          PrepareAgent
    POST /agents/{sessionId}     "agents" -> {}                InvokeInlineAgent

One tree of path segments per method. Segments are matched as they were sent and decoded one
by one afterwards, so an encoded slash stays inside its label and a trailing slash counts.
A literal beats a label, a label beats a greedy label. The server calls `Router.match`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from botocore.model import OperationModel, ServiceModel

from outcrop.errors import UnknownOperationException, ValidationException
from outcrop.wire.services import RUNTIME

_OWNERS_BY_ARN_KIND = {"session": RUNTIME}


@dataclass(frozen=True, slots=True)
class Match:
    """The operation that a request is for, and the decoded labels of its path."""

    service: str
    operation: OperationModel
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Route:
    service: str
    operation: OperationModel
    labels: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    label: _Node | None = None
    greedy: _Node | None = None
    routes: list[_Route] = field(default_factory=list[_Route])

    def child(self, segment: str) -> _Node:
        if not segment.startswith("{"):
            return self.literals.setdefault(segment, _Node())
        if segment.endswith("+}"):
            self.greedy = self.greedy or _Node()
            return self.greedy
        self.label = self.label or _Node()
        return self.label


class Router:
    """The paths of some services, compiled once."""

    def __init__(self, services: Mapping[str, ServiceModel]) -> None:
        """Compile the paths; where two services share one, the first named owns what no rule decides."""
        self._roots: dict[str, _Node] = {}
        for name, service in services.items():
            for operation in map(service.operation_model, service.operation_names):
                self._add(name, operation)

    def _add(self, service: str, operation: OperationModel) -> None:
        segments: list[str] = operation.http["requestUri"].partition("?")[0].split("/")[1:]
        node = self._roots.setdefault(operation.http["method"], _Node())
        for segment in segments:
            node = node.child(segment)
        labels = tuple(segment.strip("{+}") for segment in segments if segment.startswith("{"))
        node.routes.append(_Route(service, operation, labels))

    def match(self, method: str, raw_path: str) -> Match:
        """The operation for a method and a raw path.

        Errors: UnknownOperationException when there is none; ValidationException when a label is no UTF-8.
        """
        root = self._roots.get(method)
        start, *segments = raw_path.split("/")
        values: list[str] = []
        routes = None if root is None or start else _walk(root, segments, 0, values)
        if routes is None:
            raise UnknownOperationException(f"No operation has this method and path: {method} {raw_path[:256]}")
        decoded = [_decode(value) if "%" in value else value for value in values]
        route = routes[0] if len(routes) == 1 else _owner(routes, decoded[0] if decoded else "")
        return Match(route.service, route.operation, dict(zip(route.labels, decoded, strict=True)))


def _walk(node: _Node, segments: list[str], index: int, values: list[str]) -> list[_Route] | None:
    if index == len(segments):
        return node.routes or None
    segment = segments[index]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _walk(literal, segments, index + 1, values)
        if found is not None:
            return found
    if not segment:
        return None
    if node.label is not None:
        values.append(segment)
        found = _walk(node.label, segments, index + 1, values)
        if found is not None:
            return found
        values.pop()
    return None if node.greedy is None else _walk_greedy(node.greedy, segments, index, values)


def _walk_greedy(node: _Node, segments: list[str], index: int, values: list[str]) -> list[_Route] | None:
    for end in range(len(segments), index, -1):
        values.append("/".join(segments[index:end]))
        found = _walk(node, segments, end, values)
        if found is not None:
            return found
        values.pop()
    return None


def _decode(value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise ValidationException(f"A part of the path is not UTF-8: {value[:256]}") from error


def _owner(routes: list[_Route], arn: str) -> _Route:
    """The route of the service that owns the resource an ARN names; the first one where no kind decides."""
    kind = arn.split(":", 5)[-1].partition("/")[0]
    owner = _OWNERS_BY_ARN_KIND.get(kind, routes[0].service)
    return next((route for route in routes if route.service == owner), routes[0])
