"""Tools from the OpenAPI schema of an action group, with complaints that say where.

    text --_documents.read--> values --_operations--> operations --api_tools--> [Tool, ...]
                                          '-- SchemaMistake: what is wrong, pointer, line, how to mend it

`check` runs when a schema is written, `api_tools` when a definition is built. Unknown
keywords are ignored, as AWS ignores them; references are followed inside the document only.
Reading a large document takes tenths of a second of CPU: call from a thread where that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast

import jsonschema_rs

from outcrop.tools._documents import Unreadable, escaped, line_of, read
from outcrop.tools._groups import executor_of, spec_of, tool_name
from outcrop.tools._operations import Operation, operations
from outcrop.tools._schemas import Mistake
from outcrop.tools.base import SchemaMistake, Tool

_TOLERATED = frozenset({"additionalProperties", "unevaluatedProperties", "format"})
_LONGEST_DETAIL = 300
_OPENING = "Failed to create OpenAPI 3 model from the JSON/YAML object that you provided for action: {name}. Detail: "

T = TypeVar("T")
Kind = jsonschema_rs.ValidationErrorKind


def api_tools(group: Mapping[str, Any], document_text: str) -> list[Tool]:
    """The tools of one action group, one per operation, in the document's order.

    Shapes: group is an agentActionGroup record, or an action group of an inline agent.
    Errors: SchemaMistake.
    Source: docs/behaviour/action-groups.md 3 (stated; names observed; a derived operationId inferred).
    """
    name = group["actionGroupName"]
    return _told(name, document_text, lambda: [_tool(group, o) for o in _remembered(document_text)])


def check(document_text: str, group_name: str) -> None:
    """Refuse a document that cannot become tools, or is no OpenAPI document.

    Errors: SchemaMistake in AWS's words, with the place and how to mend it.
    Source: docs/behaviour/action-groups.md 3 (observed wording; order of checks inferred).
    """
    api_tools({"actionGroupName": group_name}, document_text)
    _told(group_name, document_text, lambda: _check_structure(document_text))


def _told(group_name: str, text: str, work: Callable[[], T]) -> T:
    """What `work` gives, its complaints told as AWS tells them."""
    opening = _OPENING.format(name=group_name)
    try:
        return work()
    except Unreadable as error:
        raise SchemaMistake(f"{opening}{error}") from error
    except (Mistake, SchemaMistake) as error:
        line = line_of(text, error.pointer)
        where = f" (at {error.pointer or '/'}{f', line {line}' if line else ''})"
        raise SchemaMistake(f"{opening}{error}{where}", error.pointer) from error


def _tool(group: Mapping[str, Any], operation: Operation) -> Tool:
    verb = operation.verb.upper()
    name = tool_name(verb, group["actionGroupName"], operation.name, pointer=operation.pointer + "/operationId")
    execution, arn = executor_of(group)
    return Tool(
        spec=spec_of(name, operation.description, operation.properties, operation.parameters),
        kind="api",
        action_group=group["actionGroupName"],
        execution=execution,
        parameters=operation.parameters,
        api_path=operation.path,
        http_method=verb,
        lambda_arn=arn,
        requires_confirmation=operation.requires_confirmation,
    )


@lru_cache(maxsize=32)
def _remembered(text: str) -> tuple[Operation, ...]:
    """The operations of a document; an inline agent sends the same schema with every call."""
    return operations(read(text))


def _check_structure(text: str) -> None:
    """Compare with the OpenAPI 3.0 meta-schema; what AWS tolerates is let pass."""
    document = cast(dict[str, Any], read(text))
    if not str(document["openapi"]).startswith("3.0"):
        return
    info = document.get("info")
    if info is None or isinstance(info, dict):
        document["info"] = {"title": "untitled", "version": "1", **cast(dict[str, Any], info or {})}
    document["openapi"] = "3.0.0"
    for error in _meta_schema().iter_errors(document):
        if real := _intolerable(error):
            raise Mistake(_wording(real), escaped(*real.instance_path))


@lru_cache(maxsize=1)
def _meta_schema() -> jsonschema_rs.Draft4Validator:
    from openapi_spec_validator import schemas  # a third of a second; only writing a schema needs it

    return jsonschema_rs.Draft4Validator(dict(cast(Any, schemas).schema_v30))


def _intolerable(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError | None:
    """The innermost error that matters, None where AWS would let it pass."""
    kind = error.kind
    if kind.name in _TOLERATED or isinstance(kind, Kind.OneOfMultipleValid) or _is_about_path_parameter(error):
        return None
    if isinstance(kind, Kind.OneOfNotValid | Kind.AnyOf):
        branches = [_real(branch) for branch in kind.context]
        if not all(branches):
            return None
        return next((found[0] for found in branches if not _wants_reference(found)), error)
    return error


def _real(errors: Iterable[jsonschema_rs.ValidationError]) -> list[jsonschema_rs.ValidationError]:
    return [found for error in errors if (found := _intolerable(error))]


def _wants_reference(errors: Sequence[jsonschema_rs.ValidationError]) -> bool:
    """Whether a branch failed because the value is written out instead of referred to."""
    kind = errors[0].kind
    return isinstance(kind, Kind.Required) and kind.property == "$ref"


def _is_about_path_parameter(error: jsonschema_rs.ValidationError) -> bool:
    """Whether a path parameter does not say `required: true`; it is required all the same."""
    kind = error.kind
    if isinstance(kind, Kind.Required):
        return kind.property == "required"
    return isinstance(kind, Kind.Enum) and error.instance_path[-1:] == ["required"]


def _wording(error: jsonschema_rs.ValidationError) -> str:
    if isinstance(error.kind, Kind.Required):
        return f"'{error.kind.property}' is missing"
    return error.message if len(error.message) <= _LONGEST_DETAIL else f"{error.message[:_LONGEST_DETAIL]}..."
