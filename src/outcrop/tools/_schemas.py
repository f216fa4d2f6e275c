"""Schemas of an OpenAPI document, with references followed, as a model can be shown them.

    {"$ref": "#/components/schemas/Item"}  --Expansion.expanded-->  {"type": "object", "properties": {...}}

`openapi` calls this. References that lead back into themselves end in an open object, and
the written-out size is limited, so no document can make this run long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from outcrop.tools._documents import escaped, unescaped

Object = Mapping[str, Any]

MAX_EXPANDED = 50_000
_MAX_HOPS = 20
_PLAIN = (
    "title",
    "description",
    "format",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
)
_CHOICES = ("allOf", "anyOf", "oneOf")
TYPES = ("string", "number", "integer", "boolean", "array", "object")


class Mistake(Exception):
    """What is wrong with a document, and the JSON pointer of the place."""

    def __init__(self, message: str, pointer: str) -> None:
        """Keep the sentence and the place."""
        super().__init__(message)
        self.pointer = pointer


def as_object(value: Any, what: str, pointer: str) -> Object:
    """A value that has to be an object.

    Errors: Mistake when it is missing or something else.
    """
    if value is None:
        raise Mistake(f"{what} is missing", pointer)
    if not isinstance(value, Mapping):
        raise Mistake(f"{what} is no object", pointer)
    return cast(Object, value)


def type_of(schema: Object) -> str:
    """The type that a parameter is announced with; text where the schema does not say."""
    given: Any = schema.get("type")
    if isinstance(given, list):
        given = next((kind for kind in cast(list[Any], given) if kind in TYPES), None)
    if given in TYPES:
        return str(given)
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


class Expansion:
    """Follows the references of one document, within one budget."""

    def __init__(self, document: Object) -> None:
        """Keep the document."""
        self._document = document
        self._left = MAX_EXPANDED

    def resolved(self, value: Object, pointer: str) -> Object:
        """The object itself, or what its `$ref` leads to.

        Errors: Mistake when a reference leaves the document, leads nowhere, or in a circle.
        """
        hops = 0
        while "$ref" in value:
            hops += 1
            if hops > _MAX_HOPS:
                raise Mistake(f"'$ref' {value['$ref']!r} leads in a circle", pointer)
            value = self._target(value["$ref"], pointer)
        return value

    def expanded(self, value: Any, pointer: str, inside: tuple[str, ...] = ()) -> dict[str, Any]:
        """A schema with every reference in it written out.

        Errors: Mistake when a reference cannot be followed or the whole grows over the limit.
        """
        self._spend(pointer)
        schema = as_object(value, "a schema", pointer)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in inside:
                return {"type": "object"}
            return self.expanded(self._target(reference, pointer), reference.lstrip("#"), (*inside, reference))
        found: dict[str, Any] = {key: schema[key] for key in _PLAIN if key in schema}
        if "type" in schema or "properties" in schema:
            found["type"] = type_of(schema)
        if "items" in schema:
            found["items"] = self.expanded(schema["items"], f"{pointer}/items", inside)
        if "properties" in schema:
            given = as_object(schema["properties"], "'properties'", f"{pointer}/properties")
            found["properties"] = {
                name: self.expanded(detail, f"{pointer}/properties{escaped(name)}", inside)
                for name, detail in given.items()
            }
        if isinstance(schema.get("required"), list):
            found["required"] = [name for name in schema["required"] if isinstance(name, str)]
        for choice in _CHOICES:
            if isinstance(schema.get(choice), list):
                found[choice] = [
                    self.expanded(option, f"{pointer}/{choice}/{index}", inside)
                    for index, option in enumerate(schema[choice])
                ]
        return found

    def flattened(self, value: Any, pointer: str) -> dict[str, Any]:
        """An expanded schema whose `allOf` is merged into its properties, which become parameters.

        Errors: Mistake.
        """
        whole = self.expanded(value, pointer)
        for part in whole.pop("allOf", []):
            whole["properties"] = {**part.get("properties", {}), **whole.get("properties", {})}
            whole["required"] = [*whole.get("required", []), *part.get("required", [])]
        return whole

    def _target(self, reference: Any, pointer: str) -> Object:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise Mistake(f"'$ref' {reference!r} leaves the document; only '#/...' is followed", pointer)
        value: Any = self._document
        for step in unescaped(reference[1:]):
            if isinstance(value, list) and step.isdecimal() and int(step) < len(cast(list[Any], value)):
                value = cast(list[Any], value)[int(step)]
            elif isinstance(value, Mapping) and step in value:
                value = cast(Object, value)[step]
            else:
                raise Mistake(f"'$ref' {reference!r} leads nowhere; define it or mend the name", pointer)
        return as_object(value, f"what '$ref' {reference!r} leads to", pointer)

    def _spend(self, pointer: str) -> None:
        self._left -= 1
        if self._left < 0:
            raise Mistake(
                f"the schemas of one path have more than {MAX_EXPANDED} parts, references written out", pointer
            )
