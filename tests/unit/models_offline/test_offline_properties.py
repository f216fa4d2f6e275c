"""What holds for the offline model whatever the tools, the text and the results are."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from offline_driver import reply_to

from outcrop.messages import Message, tool_result, tool_results, tool_uses, user
from outcrop.models.base import Reply

_VOCABULARY = """
    check list get create order reserve cancel send transfer inventory stock supplier quantity amount sku
    order_id city date email from to name status message query reason enabled tags count threshold SKU-55
    ORD-1 5 two $19.99 2026-12-24 tomorrow Dublin New York a@b.example +353861234567 yes no and then if not
    please it them 50% 14:30 #47 high low group
"""
_WORDS = _VOCABULARY.split()
_JSON_TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}

_texts = st.one_of(
    st.lists(st.sampled_from([*_WORDS, ",", ".", "?", "\n", '"']), max_size=25).map(" ".join),
    st.text(max_size=200),
)
_names = st.one_of(st.sampled_from(_WORDS), st.text(min_size=1, max_size=20))


def _scalar(kind: str, choices: st.SearchStrategy[Any] | None) -> st.SearchStrategy[dict[str, Any]]:
    optional = {"description": _texts}
    if choices is not None:
        optional["enum"] = st.lists(choices, min_size=1, max_size=4)
    return st.fixed_dictionaries({"type": st.just(kind)}, optional=optional)


_scalars = st.one_of(
    _scalar("string", st.one_of(st.sampled_from(_WORDS), st.text(max_size=8))),
    _scalar("integer", st.integers()),
    _scalar("number", st.integers()),
    _scalar("boolean", None),
)
_properties = st.one_of(
    _scalars,
    st.fixed_dictionaries({"type": st.just("array"), "items": _scalars}),
    st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(_names, _scalars, max_size=2)}),
)


@st.composite
def _tools(draw: st.DrawFn) -> dict[str, Any]:
    verb = draw(st.sampled_from(["check", "list", "create", "cancel", "send", "x"]))
    noun = draw(st.sampled_from(["stock", "order", "message", "city", "GET", ""]))
    properties = draw(st.dictionaries(_names, _properties, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    schema = {"type": "object", "properties": properties, "required": required}
    name = f"{draw(st.sampled_from(['GET__', 'POST__', '']))}group__{verb}_{noun}{draw(st.integers(0, 9))}"
    return {"name": name, "description": draw(_texts), "inputSchema": {"json": schema}}


_ASK = {
    "name": "user__askuser",
    "description": "Ask",
    "inputSchema": {
        "json": {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
    },
}
_toolsets = st.tuples(st.lists(_tools(), max_size=4, unique_by=lambda tool: tool["name"]), st.booleans()).map(
    lambda pair: [*pair[0], _ASK] if pair[1] else pair[0]
)
_results = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=3)),
    max_leaves=8,
)
_thoroughly = settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def _reply(messages: list[Message], tools: list[Any]) -> Reply:
    return asyncio.run(reply_to(messages, tools))


def _check(value: Any, schema: dict[str, Any]) -> None:
    kind = schema["type"]
    assert isinstance(value, _JSON_TYPES[kind])
    assert kind == "boolean" or not isinstance(value, bool)
    if schema.get("enum"):
        assert value in schema["enum"]
    if kind == "array":
        for item in value:
            _check(item, schema["items"])
    if kind == "object":
        for name, item in value.items():
            _check(item, schema["properties"][name])


def _check_reply(reply: Reply, tools: list[Any]) -> None:
    by_name = {tool["name"]: tool["inputSchema"]["json"] for tool in tools}
    calls = tool_uses(reply.message)
    assert reply.stop_reason == ("tool_use" if calls else "end_turn")
    assert reply.message["content"]
    assert len({call["toolUseId"] for call in calls}) == len(calls)
    for call in calls:
        schema = by_name[call["name"]]
        assert set(schema["required"]) <= set(call["input"]) <= set(schema["properties"])
        for name, value in call["input"].items():
            _check(value, schema["properties"][name])


@st.composite
def _scenes(draw: st.DrawFn) -> tuple[list[Any], list[str]]:
    """Tools, and texts that mostly speak of them."""
    tools = draw(_toolsets)
    words = list(_WORDS)
    for tool in tools:
        named = tool["name"].replace("__", " ").replace("_", " ").split()[1:]
        words += [" ".join(named), *tool["inputSchema"]["json"]["properties"]] * 6
    spoken = st.lists(st.sampled_from(words), min_size=1, max_size=15).map(" ".join)
    return tools, draw(st.lists(st.one_of(spoken, spoken, _texts), min_size=1, max_size=3))


@_thoroughly
@given(_scenes())
def test_every_reply_is_one_and_every_call_keeps_to_its_schema(scene: tuple[list[Any], list[str]]) -> None:
    tools, (text, *_) = scene
    reply = _reply([user(text)], tools)
    _check_reply(reply, tools)
    assert reply == _reply([user(text)], tools)


@_thoroughly
@given(_scenes(), st.lists(_results, min_size=1, max_size=4), st.booleans())
def test_conversations_go_on_and_turns_end(scene: tuple[list[Any], list[str]], results: list[Any], error: bool) -> None:
    tools, texts = scene
    messages: list[Message] = []
    for text in texts:
        messages.append(user(text))
        for step in range(10):
            reply = _reply(messages, tools)
            _check_reply(reply, tools)
            messages.append(reply.message)
            calls = tool_uses(reply.message)
            if not calls or calls[0]["name"] == _ASK["name"]:
                break
            answer = results[step % len(results)]
            told = answer if isinstance(answer, str) else json.dumps(answer)
            messages.append(tool_results([tool_result(call["toolUseId"], told, error=error) for call in calls]))
        else:
            raise AssertionError("a turn of ten model calls")


@_thoroughly
@given(_scenes(), _results)
def test_no_call_is_repeated_in_a_turn(scene: tuple[list[Any], list[str]], result: Any) -> None:
    tools, (text, *_) = scene
    messages = [user(text)]
    seen: list[str] = []
    while calls := tool_uses((reply := _reply(messages, tools)).message):
        if calls[0]["name"] == _ASK["name"]:
            break
        for call in calls:
            written = json.dumps([call["name"], call["input"]])
            assert written not in seen
            seen.append(written)
        told = [tool_result(call["toolUseId"], json.dumps(result)) for call in calls]
        messages += [reply.message, tool_results(told)]
