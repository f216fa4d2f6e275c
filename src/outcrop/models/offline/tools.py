"""What the offline model reads out of tool specifications: names, labels, parameters and what they are for.

    ToolSpec -> ToolView(name, label, parameters, action, weights)

Called by ranking, slot filling and planning. It trusts no schema: what it cannot read becomes
a parameter of free text, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, cast

import orjson

from outcrop.messages import ToolSpec
from outcrop.models.offline.purposes import ACTION_OF, HTTP_ACTIONS, Action, Purpose, purpose_of
from outcrop.models.offline.words import STOPWORDS, label, name_words, stem, stems, words

ASK_USER = "user__askuser"
_KNOWLEDGE_BASE = "x_amz_knowledgebase_"
_NOT_OURS = "codeinterpreteraction"

_EXAMPLE = re.compile(r"(?:e\.g\.?|for example|example|such as|like|i\.e\.)[:,]?\s*[\"'`“]?([^\"'`”,;)]{1,60})", re.I)
_DEFAULT = re.compile(r"\bdefaults?(?:\s+(?:is|to|value|of))*\s*[:=]?\s*[\"'`]?([\w.-]{1,40})", re.I)


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter, as the slot filler sees it.

    Shapes: type is a JSON schema type; item is the type of an array's items; fields are an object's.
    """

    name: str
    type: str
    purpose: Purpose
    required: bool
    description: str
    label: str
    stems: frozenset[str]
    words: tuple[str, ...]
    hints: frozenset[str]
    choices: tuple[Any, ...] = ()
    examples: tuple[str, ...] = ()
    default: Any = None
    item: str = "string"
    fields: tuple[Param, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolView:
    """One tool, as ranking and planning see it.

    Shapes: weights are how much each stem speaks for the tool; heads are the stems of its own name.
    """

    name: str
    label: str
    action: Action
    params: tuple[Param, ...]
    weights: Mapping[str, float]
    heads: frozenset[str]
    knows: bool

    @property
    def required(self) -> tuple[Param, ...]:
        """The parameters that a call must carry."""
        return tuple(param for param in self.params if param.required)


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools of one request.

    Shapes: rarity is the weight of a stem among the tools; prefixes maps the letters that ids start with
            to the names of parameters they belong to; wanting counts the tools that require a purpose.
    """

    tools: tuple[ToolView, ...]
    rarity: Mapping[str, float]
    prefixes: Mapping[str, frozenset[str]]
    wanting: Mapping[str, int]
    may_ask: bool

    def named(self, name: str) -> ToolView | None:
        """The tool of a name, None where it is not offered."""
        return next((tool for tool in self.tools if tool.name == name), None)


_REMEMBERED: dict[bytes, Toolset] = {}
_MOST_REMEMBERED = 64


def toolset(specs: Sequence[ToolSpec]) -> Toolset:
    """What there is to know about the tools of a request; remembered by their content."""
    try:
        key = orjson.dumps(specs if isinstance(specs, list) else list(specs))
    except TypeError:
        return _read(specs)
    known = _REMEMBERED.get(key)
    if known is None:
        if len(_REMEMBERED) >= _MOST_REMEMBERED:
            _REMEMBERED.clear()
        known = _REMEMBERED[key] = _read(specs)
    return known


def _read(specs: Sequence[ToolSpec]) -> Toolset:
    tools = tuple(_view(spec) for spec in specs if spec["name"] != ASK_USER and _NOT_OURS not in spec["name"].lower())
    counted: dict[str, int] = {}
    for tool in tools:
        for word in tool.weights:
            counted[word] = counted.get(word, 0) + 1
    rarity = {word: log(1 + len(tools) / count) for word, count in counted.items()}
    prefixes: dict[str, set[str]] = {}
    for param in (param for tool in tools for param in tool.params):
        for prefix in _prefixes(param):
            prefixes.setdefault(prefix, set()).add(canonical(param.name))
    wanting: dict[str, int] = {}
    for purpose in (
        purpose for tool in tools for purpose in {param.purpose for param in tool.params if param.required}
    ):
        wanting[purpose] = wanting.get(purpose, 0) + 1
    owned = {prefix: frozenset(names) for prefix, names in prefixes.items()}
    return Toolset(tools, rarity, owned, wanting, any(spec["name"] == ASK_USER for spec in specs))


def canonical(name: str) -> str:
    """A name without case and separators: "orderId", "order_id" and "OrderID" are one."""
    return "".join(name_words(name)) or name.lower()


def letters_of(value: str) -> str:
    """The letters that an id starts with, in lower case."""
    match = re.match(r"[A-Za-z]+", value)
    return match.group().lower() if match else ""


def belongs(prefix: str, param: Param, offered: Toolset) -> bool:
    """Whether ids that start with these letters are the parameter's, by its examples or its name ("ORD": order_id)."""
    if not prefix:
        return False
    owners = offered.prefixes.get(prefix)
    if owners is not None:
        return canonical(param.name) in owners
    return any(_abbreviates(prefix, word) for word in param.words if word not in _ID_WORDS)


_ID_WORDS = frozenset({"id", "code", "number", "no", "ref", "key", "identifier", "reference"})


def _abbreviates(short: str, word: str) -> bool:
    if len(short) < 2 or len(short) > len(word) or short[0] != word[0]:
        return False
    letters = iter(word)
    return all(letter in letters for letter in short)


def _prefixes(param: Param) -> set[str]:
    found = {letters_of(example) for example in param.examples if re.search(r"\d", example)}
    if param.purpose == "id":
        found |= {word for word in param.words if word not in {"id", "number", "code", "no", "ref", "key"}}
    return found - {""}


def _view(spec: ToolSpec) -> ToolView:
    name, description = spec["name"], _text(spec.get("description"))
    parts = [part for part in name.split("__") if part]
    method = parts[0].lower() if len(parts) > 1 and parts[0].lower() in HTTP_ACTIONS else ""
    own = parts[-1] if parts else name
    params = _params(_mapping(spec.get("inputSchema")).get("json"))
    heads = [stem(word) for word in name_words(own)]
    knows = _KNOWLEDGE_BASE in name
    weights: dict[str, float] = {}
    groups = [] if knows else [stem(word) for part in parts[1 if method else 0 : -1] for word in name_words(part)]
    _raise(weights, () if knows else heads, 2.0)
    _raise(weights, stems(description), 1.0)
    _raise(weights, groups, 0.6)
    for param in () if knows else params:
        _raise(weights, param.stems, 1.0)
        _raise(weights, stems(param.description), 0.4)
        _raise(weights, [s for choice in param.choices for s in stems(label(str(choice)))], 0.7)
    action = "read" if knows else _action(heads, method, description)
    return ToolView(name, label(own), action, params, weights, frozenset(heads), knows)


def _raise(weights: dict[str, float], found: Iterable[str], weight: float) -> None:
    for word in found:
        if word and word not in STOPWORDS:
            weights[word] = max(weight, weights.get(word, 0.0))


def _action(heads: Sequence[str], method: str, description: str) -> Action:
    if method and HTTP_ACTIONS[method] != "unknown":
        return HTTP_ACTIONS[method]
    for word in (*heads[:1], *[stem(word) for word in words(description)[:1]], *heads[1:2]):
        if word in ACTION_OF:
            return ACTION_OF[word]
    return "create" if method else "read"


def _params(body: Any, depth: int = 0) -> tuple[Param, ...]:
    if not isinstance(body, dict):
        return ()
    schema = cast("dict[str, Any]", body)
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or depth > 3:
        return ()
    needed = set(map(str, cast("list[Any]", required))) if isinstance(required, list) else set[str]()
    listed = cast("dict[str, Any]", properties)
    return tuple(_param(str(name), about, str(name) in needed, depth) for name, about in listed.items())


def _param(name: str, about: Any, required: bool, depth: int) -> Param:
    schema = _mapping(about)
    description = _text(schema.get("description"))
    kind, items = _type(schema), _mapping(schema.get("items"))
    item = _type(items)
    own = tuple(name_words(name))
    choices = _choices(schema, item if kind == "array" else kind) or _choices(items, item)
    examples = tuple(match.strip(" .") for match in _EXAMPLE.findall(description)[:4])
    given = schema.get("example")
    if isinstance(given, (str, int)) and not isinstance(given, bool):
        examples = (*examples, str(given))
    default = schema.get("default")
    if default is None and (match := _DEFAULT.search(description)):
        default = match.group(1).rstrip(".")
    return Param(
        name=name,
        type=kind,
        purpose=purpose_of(kind if kind != "array" else item, own, description, schema, bool(choices)),
        required=required,
        description=description,
        label=label(name),
        stems=frozenset(stem(word) for word in own),
        words=own,
        hints=frozenset(stems(description)),
        choices=choices,
        examples=examples,
        default=default,
        item=item,
        fields=_params(items if kind == "array" else schema, depth + 1) if "object" in (kind, item) else (),
    )


_CHOSEN: Mapping[str, type | tuple[type, ...]] = {"string": str, "integer": int, "number": (int, float)}


def _choices(schema: Mapping[str, Any], kind: str) -> tuple[Any, ...]:
    listed, wanted = schema.get("enum"), _CHOSEN.get(kind)
    if not isinstance(listed, list) or wanted is None:
        return ()
    choices = cast("list[Any]", listed)
    return tuple(choice for choice in choices if isinstance(choice, wanted) and not isinstance(choice, bool))


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in cast("list[Any]", kind) if one != "null"), "string")
    known = {"string", "number", "integer", "boolean", "array", "object"}
    if isinstance(kind, str) and kind.lower() in known:
        return kind.lower()
    return "object" if isinstance(schema.get("properties"), dict) else "string"


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value[:4_000] if isinstance(value, str) else ""
