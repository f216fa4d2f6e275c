r"""The model's constraints -> AWS's own sentence for every value that breaks one.

    required   length   range   pattern (always of the whole value)   enum   union (exactly one)

A check is compiled per shape, when its operation is first called. Patterns run on the Rust
engine of jsonschema-rs: it knows `\p{C}`, and its time is linear in the text, so no request
can stall the server with a long almost-match. Nor can one with very many mistakes: what is in a
list or map that is too long is not looked at, and after a hundred violations no more are
looked for. Sensitive values are never repeated.
Types are parsing's business: a value that reaches a check has the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, cast

from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape
from jsonschema_rs import Draft202012Validator, FancyRegexOptions, RegexOptions
from jsonschema_rs import ValidationError as UnsupportedPattern

from outcrop.errors import ValidationException

_NESTING = (StructureShape, ListShape, MapShape)
_MOST_SHOWN = 256
_MOST_LISTED = 20
_MOST_FOUND = 100

Path = tuple[str, ...]
Rule = tuple[Callable[[Any], bool], str]


@dataclass(frozen=True, slots=True)
class _Violation:
    path: Path
    value: str
    constraint: str

    def sentence(self) -> str:
        return f"Value {self.value}at '{'.'.join(self.path)}' failed to satisfy constraint: {self.constraint}"


class _EnoughFound(Exception):
    """One violation more than are counted was found; ends the search."""


class _Found(list[_Violation]):
    """The violations found so far."""

    def add(self, path: Path, value: str, constraint: str) -> None:
        """Count one more.

        Errors: _EnoughFound when the most are counted already.
        """
        if len(self) >= _MOST_FOUND:
            raise _EnoughFound
        self.append(_Violation(path, value, constraint))


Check = Callable[[Any, Path, _Found], None]


def validate(operation: OperationModel, params: dict[str, Any]) -> None:
    """Nothing, when the input keeps every constraint of its operation's model.

    Errors: ValidationException with one sentence for each violation, and the same as its fieldList. At most 100 are
            counted ("At least 100 validation errors detected"), 20 of them listed.
    Source: docs/behaviour/control-plane.md 2 (observed); lists, unions and the limits (inferred).
    """
    check = _plan(operation)
    found = _Found()
    least = ""
    if check is not None:
        try:
            check(params, (), found)
        except _EnoughFound:
            least = "At least "
    if found:
        count = f"{least}{len(found)} validation error{'s' if len(found) > 1 else ''} detected: "
        listed = found[:_MOST_LISTED]
        raise ValidationException(
            count + "; ".join(violation.sentence() for violation in listed),
            fieldList=[{"name": ".".join(item.path), "message": item.constraint} for item in listed],
        )


@cache
def _plan(operation: OperationModel) -> Check | None:
    shape = operation.input_shape
    return None if shape is None else _Checks().check(shape, secret=False)


class _Checks:
    """The checks of one operation's shapes, each made once, so that a shape may contain itself."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, bool], Check | None] = {}

    def check(self, shape: Shape, *, secret: bool) -> Check | None:
        """The function that checks a value of this shape; None when the model constrains nothing in it."""
        key = (shape.name, secret or bool(shape.metadata.get("sensitive")))
        if key not in self._made:
            self._made[key] = lambda value, path, found: self._again(key, value, path, found)
            self._made[key] = self._make(shape, secret=key[1])
        return self._made[key]

    def _again(self, key: tuple[str, bool], value: Any, path: Path, found: _Found) -> None:
        check = self._made[key]
        assert check is not None, "a shape that contains itself is a structure, and those have checks"
        check(value, path, found)

    def _make(self, shape: Shape, *, secret: bool) -> Check | None:
        if isinstance(shape, StructureShape):
            return None if shape.is_document_type else self._structure(shape, secret=secret)
        if isinstance(shape, ListShape):
            return self._list(shape, secret=secret)
        if isinstance(shape, MapShape):
            return self._map(shape, secret=secret)
        rules = _rules(shape)
        return _scalar(rules, secret=secret) if rules else None

    def _structure(self, shape: StructureShape, *, secret: bool) -> Check:
        made = {name: self.check(member, secret=secret) for name, member in shape.members.items()}
        checks = {name: check for name, check in made.items() if check is not None}
        required = frozenset(shape.required_members)
        union = _one_of(shape) if shape.is_tagged_union else None

        def check(value: dict[str, Any], path: Path, found: _Found) -> None:
            if not required <= value.keys():
                for name in shape.required_members:
                    if name not in value:
                        found.add((*path, name), "null ", "Member must not be null")
            if union is not None and len(value) != 1:
                found.add(path, "", union)
            for name, item in value.items():
                inner = checks.get(name)
                if inner is not None:
                    inner(item, (*path, name), found)

        return check

    def _list(self, shape: ListShape, *, secret: bool) -> Check:
        own, most = _scalar(_rules(shape), secret=True), shape.metadata.get("max")
        element = shape.member
        nests = isinstance(element, _NESTING)
        inner = self.check(element, secret=secret) if nests else None
        rules = [] if nests else _rules(element)
        hidden = secret or bool(element.metadata.get("sensitive"))
        constraint = _members_sentence("Member", rules)

        def check(value: list[Any], path: Path, found: _Found) -> None:
            own(value, path, found)
            if most is not None and len(value) > most:
                return
            if not all(item is None or holds(item) for holds, _ in rules for item in value):
                found.add(path, _shown(value, secret=hidden), constraint)
            for number, item in enumerate(value, 1):
                if item is None:
                    found.add((*path, str(number), "member"), "null ", "Member must not be null")
                elif inner is not None:
                    inner(item, (*path, str(number), "member"), found)

        return check

    def _map(self, shape: MapShape, *, secret: bool) -> Check:
        own, most = _scalar(_rules(shape), secret=True), shape.metadata.get("max")
        target = shape.value
        nests = isinstance(target, _NESTING)
        inner = self.check(target, secret=secret) if nests else None
        keys, values = _rules(shape.key), [] if nests else _rules(target)
        hidden = secret or nests or bool(target.metadata.get("sensitive"))

        def check(value: dict[str, Any], path: Path, found: _Found) -> None:
            own(value, path, found)
            if most is not None and len(value) > most:
                return
            for rules, items, which in ((keys, value.keys(), "Map keys"), (values, value.values(), "Map value")):
                if not all(holds(item) for holds, _ in rules for item in items):
                    found.add(path, _shown(value, secret=hidden), _members_sentence(which, rules))
            if inner is not None:
                for key, item in value.items():
                    inner(item, (*path, key), found)

        return check


def _scalar(rules: Sequence[Rule], *, secret: bool) -> Check:
    def check(value: Any, path: Path, found: _Found) -> None:
        for holds, constraint in rules:
            if not holds(value):
                found.add(path, _shown(value, secret=secret), constraint)

    return check


def _rules(shape: Shape) -> list[Rule]:
    """What the model says about a value itself, as (does it hold, AWS's sentence); what is in it comes separately."""
    traits = shape.metadata
    rules: list[Rule] = []
    if shape.type_name in ("integer", "long", "float", "double"):
        if "max" in traits:
            rules.append(_at_most(traits["max"]))
        if "min" in traits:
            rules.append(_at_least(traits["min"]))
        return rules
    if "max" in traits:
        rules.append(_no_longer(traits["max"]))
    if traits.get("min"):
        rules.append(_no_shorter(traits["min"]))
    if "pattern" in traits:
        pattern: str = traits["pattern"]
        rules.append((_fits(pattern), f"Member must satisfy regular expression pattern: {pattern}"))
    if isinstance(shape, StringShape) and shape.enum:
        allowed = frozenset(shape.enum)
        rules.append((allowed.__contains__, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"))
    return rules


def _at_most(limit: float) -> Rule:
    return (lambda value: value <= limit), f"Member must have value less than or equal to {limit}"


def _at_least(limit: float) -> Rule:
    return (lambda value: value >= limit), f"Member must have value greater than or equal to {limit}"


def _no_longer(limit: int) -> Rule:
    return (lambda value: len(value) <= limit), f"Member must have length less than or equal to {limit}"


def _no_shorter(limit: int) -> Rule:
    return (lambda value: len(value) >= limit), f"Member must have length greater than or equal to {limit}"


@cache
def _fits(pattern: str) -> Callable[[Any], bool]:
    schema = {"pattern": f"^(?:{pattern})$"}
    try:
        return Draft202012Validator(schema, pattern_options=RegexOptions()).is_valid
    except UnsupportedPattern:  # it looks ahead, which the linear engine does not; the other one stops after a limit
        return Draft202012Validator(schema, pattern_options=FancyRegexOptions()).is_valid


def _members_sentence(which: str, rules: Sequence[Rule]) -> str:
    return f"{which} must satisfy constraint: [{', '.join(constraint for _, constraint in rules)}]"


def _one_of(shape: StructureShape) -> str:
    return f"Member must have exactly one of these members set: [{', '.join(shape.members)}]"


def _shown(value: Any, *, secret: bool) -> str:
    """A value as a sentence repeats it, quoted and with a space behind; nothing where it must not or cannot be."""
    if secret or isinstance(value, bytes):
        return ""
    if isinstance(value, list):
        text = f"[{', '.join(map(str, islice(cast('list[Any]', value), _MOST_SHOWN)))}]"
    elif isinstance(value, dict):
        pairs = islice(cast("dict[str, Any]", value).items(), _MOST_SHOWN)
        text = f"{{{', '.join(f'{key}={item}' for key, item in pairs)}}}"
    else:
        text = str(value)
    return f"'{text[:_MOST_SHOWN]}{'...' if len(text) > _MOST_SHOWN else ''}' "
