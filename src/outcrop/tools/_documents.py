"""An API schema's text as plain JSON values, read so that no document can hurt the reader.

    text --read--> values        pointer --line_of--> line of the text

`openapi` calls this. Refused: a text over the size limit, nesting over the depth limit, YAML
aliases that multiply or point into themselves, and a key that occurs twice in one object.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any, cast

import orjson
import yaml

_YAML = cast(Any, yaml)
"""The functions whose types the library leaves open."""

MAX_DOCUMENT_BYTES = 1_000_000
MAX_DEPTH = 100
MAX_NODES = 200_000


class Unreadable(Exception):
    """The text is no usable document; the message says where and why."""


def read(text: str) -> Any:
    """The values of a JSON or YAML text; keys are strings, dates stay text.

    Errors: Unreadable.
    """
    if len(text.encode(errors="replace")) > MAX_DOCUMENT_BYTES:
        raise Unreadable(f"the document is larger than {MAX_DOCUMENT_BYTES} bytes; split it into several action groups")
    values = _values(text)
    try:
        orjson.dumps(values)
    except orjson.JSONEncodeError as error:
        raise Unreadable(f"the document holds a value that JSON cannot carry: {error}") from error
    return values


def line_of(text: str, pointer: str) -> int | None:
    """The line that a JSON pointer's value stands on, from 1; None where the text does not show it.

    Shapes: text was read before, so it is safe to compose; the deepest member that exists is taken.
    """
    try:
        node: Any = _YAML.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return None
    if node is None:
        return None
    line = node.start_mark.line + 1
    for step in unescaped(pointer):
        found = _child(node, step)
        if found is None:
            break
        mark, node = found
        line = mark.line + 1
    return line


def unescaped(pointer: str) -> list[str]:
    """The steps of a JSON pointer: "/paths/~1x/get" -> ["paths", "/x", "get"]."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def escaped(*steps: object) -> str:
    """A JSON pointer from its steps, the inverse of `unescaped`."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def _values(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return _yaml(text)
    try:
        return _json(text)
    except json.JSONDecodeError as error:
        try:
            return _yaml(text)  # YAML may start with a brace too
        except Unreadable:
            raise Unreadable(f"no valid JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error


def _child(node: Any, step: str) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark, value
    elif isinstance(node, yaml.SequenceNode) and step.isdecimal() and int(step) < len(node.value):
        value = node.value[int(step)]
        return value.start_mark, value
    return None


def _json(text: str) -> Any:
    try:
        values = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise Unreadable(f"no valid JSON: {error}") from error
    except RecursionError as error:
        raise Unreadable(f"the document is nested deeper than {MAX_DEPTH} levels") from error
    _check_size(values)
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Unreadable(f"the key '{twice}' occurs twice in one object; remove or rename one")
    return found


def _check_size(values: Any) -> None:
    """JSON has no aliases, so a plain walk sees every value once."""
    waiting: list[tuple[Any, int]] = [(values, 1)]
    nodes = 0
    while waiting:
        value, depth = waiting.pop()
        nodes += 1
        _check(depth, nodes)
        if isinstance(value, dict):
            waiting.extend((child, depth + 1) for child in cast(dict[str, Any], value).values())
        elif isinstance(value, list):
            waiting.extend((child, depth + 1) for child in cast(list[Any], value))


def _check(depth: int, nodes: int) -> None:
    if depth > MAX_DEPTH:
        raise Unreadable(f"the document is nested deeper than {MAX_DEPTH} levels")
    if nodes > MAX_NODES:
        raise Unreadable(f"the document has more than {MAX_NODES} values, aliases written out")


class _Loader(yaml.CSafeLoader):
    """The safe loader, with dates left as text and repeated keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """One mapping, with its keys as text."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if key.value in seen and key.value != "<<":
                told = f"the key '{key.value}' occurs twice in one mapping; remove or rename one"
                raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
            seen.add(key.value)
        return {_key(key): value for key, value in super().construct_mapping(node, deep).items()}


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _key(key: Hashable) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _yaml(text: str) -> Any:
    try:
        _check_events(text)
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Unreadable(f"no valid YAML{where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:  # a character or a number that YAML cannot hold
        raise Unreadable(f"no valid YAML: {str(error).splitlines()[0]}") from error


def _check_events(text: str) -> None:
    """Measure the document before anything is built: each alias counts as much as what it stands for."""
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    nodes = 0
    for event in _YAML.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise Unreadable(f"the alias '*{event.anchor}' points to nothing before it, or into itself")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            nodes += 1
            opened.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = nodes - before + 1
        _check(len(opened), nodes)
