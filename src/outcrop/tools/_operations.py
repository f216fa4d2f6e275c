"""The operations of an OpenAPI document, checked by the rules of the action-group contract.

    {"paths": {"/x": {"get": {...}}}}  --operations-->  (Operation, ...)

`openapi` calls this and words the complaints; which group the operations belong to, and what
the model is told of them, is its business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from outcrop.tools._documents import escaped
from outcrop.tools._schemas import Expansion, Mistake, Object, as_object, type_of
from outcrop.tools.base import Parameter

_VERBS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_BESIDE_VERBS = ("summary", "description", "servers", "parameters")
_WITHOUT_BODY = ("get", "delete")
_PLACES = ("path", "query", "header", "cookie")
_OPERATION_ID = re.compile(r"[a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a document, before it belongs to a group."""

    path: str
    verb: str
    name: str
    description: str
    parameters: tuple[Parameter, ...]
    properties: Mapping[str, Any]
    requires_confirmation: bool
    pointer: str


def operations(values: Any) -> tuple[Operation, ...]:
    """The operations of a document, in its order.

    Shapes: values as JSON has them; each top-level property of a JSON body is a parameter, and a body
            that is no object is the one parameter `body`.
    Errors: Mistake.
    Source: docs/behaviour/action-groups.md 3 (stated; a derived operationId inferred).
    """
    document = as_object(values, "the document", "")
    version = document.get("openapi")
    if version is None:
        raise Mistake("'openapi' is missing; write openapi: \"3.0.0\" at the top", "")
    if not re.fullmatch(r"3\.[01](\.\d+)?", str(version)):
        raise Mistake(f"'openapi' is {version!r}; this service reads 3.0.0", "/openapi")
    paths = as_object(document.get("paths"), "'paths'", "/paths")
    if not paths:
        raise Mistake("'paths' is empty; describe at least one operation", "/paths")
    expansion, found = Expansion(document), list[Operation]()
    for path, item in paths.items():
        if not path.startswith("x-"):
            found.extend(_of_path(expansion, path, item))
    _check_unique(found)
    return tuple(found)


def _of_path(expansion: Expansion, path: str, given: Any) -> Iterator[Operation]:
    pointer = escaped("paths", path)
    if not path.startswith("/"):
        raise Mistake(f"path '{path}' must begin with '/'", pointer)
    item = expansion.resolved(as_object(given, f"path {path}", pointer), pointer)
    seen: set[str] = set()
    for key, operation in item.items():
        verb = key.lower()
        if key in _BESIDE_VERBS or key.startswith("x-"):
            continue
        if verb not in _VERBS:
            raise Mistake(f"'{key}' is no HTTP method, for path: {path}", f"{pointer}{escaped(key)}")
        if verb in seen:
            raise Mistake(f"method {verb} occurs twice for path: {path}", f"{pointer}{escaped(key)}")
        seen.add(verb)
        yield _operation(expansion, path, verb, operation, item.get("parameters"), f"{pointer}{escaped(key)}")


def _operation(expansion: Expansion, path: str, verb: str, given: Any, shared: Any, pointer: str) -> Operation:
    operation = as_object(given, f"operation {verb} of path {path}", pointer)
    _require_text(operation, "description", f"path: {path}", pointer)
    parameters, properties = _parameters(expansion, path, shared, operation.get("parameters"), pointer)
    if "requestBody" in operation:
        if verb in _WITHOUT_BODY:
            raise Mistake(
                f"'requestBody' is not allowed on {verb.upper()} for path: {path}; use parameters",
                f"{pointer}/requestBody",
            )
        for parameter, schema in _body(expansion, operation["requestBody"], path, f"{pointer}/requestBody"):
            parameters.append(parameter)
            properties.setdefault(parameter.name, schema)
    _check_responses(expansion, operation, path, pointer)
    confirmation = operation.get("x-requireConfirmation", "DISABLED")
    if confirmation not in ("ENABLED", "DISABLED"):
        raise Mistake(
            f"'x-requireConfirmation' is {confirmation!r} for path: {path}; it may be ENABLED or DISABLED",
            f"{pointer}/x-requireConfirmation",
        )
    return Operation(
        path=path,
        verb=verb,
        name=_operation_id(operation, path, pointer),
        description=operation["description"],
        parameters=tuple(parameters),
        properties=properties,
        requires_confirmation=confirmation == "ENABLED",
        pointer=pointer,
    )


def _operation_id(operation: Object, path: str, pointer: str) -> str:
    given = operation.get("operationId")
    if given is None:
        return re.sub(r"[^a-zA-Z0-9-]+", "_", path).strip("_") or "root"
    if not isinstance(given, str) or not _OPERATION_ID.fullmatch(given):
        raise Mistake(
            f"'operationId' is {given!r} for path: {path}; use letters, digits, - and _", f"{pointer}/operationId"
        )
    return given


def _parameters(
    expansion: Expansion, path: str, shared: Any, own: Any, pointer: str
) -> tuple[list[Parameter], dict[str, Any]]:
    """Parameters of the path, overridden by the operation's of the same name and place."""
    found: dict[tuple[str, str], tuple[Parameter, Any]] = {}
    for given, where in ((shared, pointer.rpartition("/")[0]), (own, pointer)):
        for index, entry in enumerate(_listed(given, f"{where}/parameters")):
            parameter, schema = _parameter(expansion, path, entry, f"{where}/parameters/{index}")
            found[parameter.name, parameter.place] = parameter, schema
    properties: dict[str, Any] = {}
    for parameter, schema in found.values():
        properties.setdefault(parameter.name, schema)
    return [parameter for parameter, _ in found.values()], properties


def _parameter(expansion: Expansion, path: str, given: Any, pointer: str) -> tuple[Parameter, Any]:
    entry = expansion.resolved(as_object(given, "a parameter", pointer), pointer)
    _require_text(entry, "name", f"a parameter of path: {path}", pointer)
    owner = f"parameter: {entry['name']} of path: {path}"
    _require_text(entry, "in", owner, pointer)
    if entry["in"] not in _PLACES:
        raise Mistake(f"'in' is {entry['in']!r} for {owner}; it may be {', '.join(_PLACES)}", f"{pointer}/in")
    hint = "; write it beside 'name', not inside 'schema'" if "description" in _mapping(entry.get("schema")) else ""
    _require_text(entry, "description", owner + hint, pointer)
    schema, where = entry.get("schema"), f"{pointer}/schema"
    if schema is None and entry.get("content"):
        schema, where = _content(entry["content"], f"{pointer}/content")[1:]
    expanded = expansion.expanded({} if schema is None else schema, where)
    parameter = Parameter(
        name=entry["name"],
        type=type_of(expanded),
        place=entry["in"],
        required=entry["in"] == "path" or entry.get("required") is True,
        description=entry["description"],
    )
    return parameter, {"type": parameter.type, **expanded, "description": parameter.description}


def _body(expansion: Expansion, given: Any, path: str, pointer: str) -> Iterator[tuple[Parameter, Any]]:
    body = expansion.resolved(as_object(given, "'requestBody'", pointer), pointer)
    if not body.get("content"):
        raise Mistake(f"'content' is missing for the request body of path: {path}", pointer)
    media, schema, where = _content(body["content"], f"{pointer}/content")
    whole = expansion.flattened({} if schema is None else schema, where)
    is_needed = body.get("required") is True
    if not whole.get("properties") and type_of(whole) != "object":
        yield _property("body", {"description": body.get("description", ""), **whole}, media, required=is_needed)
        return
    required = whole.get("required", [])
    for name, detail in whole.get("properties", {}).items():
        yield _property(name, detail, media, required=name in required)


def _property(name: str, schema: Mapping[str, Any], media: str, *, required: bool) -> tuple[Parameter, Any]:
    kind, description = type_of(schema), str(schema.get("description", ""))
    return Parameter(name, kind, media, required, description), {"type": kind, **schema}


def _content(given: Any, pointer: str) -> tuple[str, Any, str]:
    """The media type that is used (JSON where there is a choice), its schema, and the schema's pointer."""
    content = as_object(given, "'content'", pointer)
    media = next((name for name in content if name.startswith("application/json")), next(iter(content), ""))
    where = f"{pointer}{escaped(media)}"
    return media, as_object(content.get(media), f"content {media}", where).get("schema"), f"{where}/schema"


def _check_responses(expansion: Expansion, operation: Object, path: str, pointer: str) -> None:
    if not operation.get("responses"):
        raise Mistake(f"'responses' is missing for path: {path}", pointer)
    pointer = f"{pointer}/responses"
    for status, given in as_object(operation["responses"], "'responses'", pointer).items():
        if status.startswith("x-"):
            continue
        where = f"{pointer}{escaped(status)}"
        response = expansion.resolved(as_object(given, f"response {status}", where), where)
        _require_text(response, "description", f"response: {status} of path: {path}", where)


def _check_unique(operations: Sequence[Operation]) -> None:
    seen: dict[tuple[str, str], Operation] = {}
    for operation in operations:
        other = seen.setdefault((operation.verb, operation.name), operation)
        if other is not operation:
            raise Mistake(
                f"operationId '{operation.name}' is used for {operation.verb} of both {other.path} and "
                f"{operation.path}; give each operation its own",
                operation.pointer,
            )


def _require_text(owner: Object, member: str, whose: str, pointer: str) -> None:
    value = owner.get(member)
    if value is None or value == "":
        raise Mistake(f"'{member}' is missing for {whose}", pointer)
    if not isinstance(value, str):
        raise Mistake(f"'{member}' is no text for {whose}", f"{pointer}/{member}")


def _listed(given: Any, pointer: str) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise Mistake("'parameters' is no list; write each parameter as '- name: ...'", pointer)
    return cast(list[Any], given)


def _mapping(value: Any) -> Object:
    return cast(Object, value) if isinstance(value, Mapping) else {}
