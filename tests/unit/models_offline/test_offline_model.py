"""The offline model as a provider: its stream, its count of tokens, what it says it is, and how fast it is."""

from __future__ import annotations

import time
from typing import Any

import pytest
from offline_driver import Talk, read_cases, reply_to, said

from outcrop import plugins
from outcrop.config import Binding, ConfigMistake
from outcrop.messages import Message, ToolSpec, tool_uses, user
from outcrop.models.base import ConverseRequest, Delta, ModelProvider, fold
from outcrop.models.providers.offline import provider


def _model() -> ModelProvider:
    return provider(Binding("*", {"provider": "offline"}))


async def _deltas(request: ConverseRequest) -> list[Delta]:
    return [delta async for delta in _model().stream(request)]


def _request(text: str, tools: list[ToolSpec], **given: Any) -> ConverseRequest:
    return ConverseRequest("any", [user(text)], tools=tools, **given)


async def test_the_folder_knows_it() -> None:
    made = plugins.load("outcrop.models.providers", "offline", "provider")(Binding("*", {"provider": "offline"}))
    request = _request("hello", [])
    assert said(await fold(made.stream(request), request))
    await made.close()


async def test_settings_that_nobody_reads_are_a_mistake() -> None:
    with pytest.raises(ConfigMistake, match="temperature"):
        provider(Binding("*", {"provider": "offline", "temperature": 1}))


async def test_the_events_come_in_the_order_of_converse_stream(sets: dict[str, list[ToolSpec]]) -> None:
    request = _request("check inventory for SKU-55 and reserve 5 units", sets["inventory"])
    kinds = [next(iter(delta)) for delta in await _deltas(request)]
    squeezed = [kind for at, kind in enumerate(kinds) if at == 0 or kind != kinds[at - 1]]
    call = ["contentBlockStart", "contentBlockDelta", "contentBlockStop"]
    assert squeezed == [
        "messageStart",
        "contentBlockDelta",
        "contentBlockStop",
        *call,
        *call,
        "messageStop",
        "metadata",
    ]


async def test_text_comes_in_pieces_and_each_is_a_token(sets: dict[str, list[ToolSpec]]) -> None:
    deltas = await _deltas(_request("who are you?", sets["inventory"]))
    pieces = [delta["contentBlockDelta"]["delta"]["text"] for delta in deltas if "contentBlockDelta" in delta]
    usage = deltas[-1]["metadata"]["usage"]
    assert len(pieces) > 10
    assert max(len(piece.strip()) for piece in pieces) <= 7
    assert usage["outputTokens"] == len(pieces)
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]


async def test_input_tokens_grow_with_what_is_sent(sets: dict[str, list[ToolSpec]]) -> None:
    bare = await reply_to([user("hello")], [])
    with_system = await reply_to([user("hello")], [], "You are the stock clerk of a shop.")
    with_tools = await reply_to([user("hello")], sets["inventory"])
    assert 0 < bare.usage["inputTokens"] < with_system.usage["inputTokens"] < with_tools.usage["inputTokens"]
    assert not bare.estimated


async def test_equal_requests_get_equal_events(sets: dict[str, list[ToolSpec]]) -> None:
    for case in read_cases("cases.txt")[:40]:
        request = _request(case.text, sets[case.tools])
        assert await _deltas(request) == await _deltas(request)


async def test_the_tokens_asked_for_are_the_most_it_writes() -> None:
    request = _request("who are you?", [], inference={"maxTokens": 5})
    reply = await fold(_model().stream(request), request)
    assert reply.stop_reason == "max_tokens"
    assert reply.usage["outputTokens"] == 5


async def test_a_stop_sequence_ends_the_text() -> None:
    request = _request("who are you?", [], inference={"stopSequences": ["model"]})
    reply = await fold(_model().stream(request), request)
    assert reply.stop_reason == "stop_sequence"
    assert said(reply).endswith("built-in offline ")


async def test_calls_are_never_cut_short(sets: dict[str, list[ToolSpec]]) -> None:
    request = _request(
        "Check inventory for SKU-55", sets["inventory"], inference={"maxTokens": 1, "stopSequences": [">"]}
    )
    reply = await fold(_model().stream(request), request)
    assert reply.stop_reason == "tool_use"


@pytest.mark.parametrize(
    "text", ["who are you?", "What are you", "Which model is this?", "are you an AI?", "what's your name?"]
)
async def test_asked_what_it_is_it_says_so(text: str, sets: dict[str, list[ToolSpec]]) -> None:
    for tools in (sets["inventory"], []):
        reply = said(await reply_to([user(text)], tools))
        assert "offline model" in reply
        assert "outcrop.toml" in reply


async def test_without_tools_it_says_what_it_is_in_two_sentences() -> None:
    reply = said(await reply_to([user("Tell me about Dublin")], []))
    assert "offline model" in reply
    assert reply.count(". ") == 1


async def test_where_no_tool_fits_it_says_what_it_can_do(talk: Talk) -> None:
    reply = said(await talk.say("Tell me a joke"))
    assert reply.startswith("None of my tools fits that. I can check inventory, list low stock, ")
    assert "offline model" in reply


async def test_asked_what_it_can_do_it_lists_its_tools(talk: Talk) -> None:
    assert said(await talk.say("What can you do?")).startswith("I can check inventory, ")


async def test_where_a_tool_answers_it_does_not_talk_of_itself(talk: Talk) -> None:
    asked = said(await talk.say("Check inventory for SKU-55"))
    answered = said(await talk.results({"sku": "SKU-55", "on_hand": 1}))
    assert "offline" not in asked + answered


async def test_thanks_are_welcome(talk: Talk) -> None:
    assert said(await talk.say("Thank you!")) == "You are welcome."


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "\u200b", "🙂", "?" * 5_000, "﷽" * 100, "\ud800"])
async def test_texts_without_words_are_answered(text: str, talk: Talk) -> None:
    reply = await talk.say(text)
    assert said(reply)
    assert not tool_uses(reply.message)


async def test_no_messages_at_all_are_answered() -> None:
    assert "offline model" in said(await reply_to([], []))


_HOSTILE: list[Any] = [
    {"json": {}}, {"json": {"type": "object"}}, {"json": None}, {}, {"json": {"type": "object", "properties": []}},
    {"json": {"properties": {"sku": None, "x": True, "y": {"type": 7}, "z": {"enum": "none"}}, "required": ["ghost"]}},
    {"json": {"properties": {"sku": {"type": ["string", "null"]}}, "required": "sku"}},
    {"json": {"properties": {"": {}, "é": {"type": "string"}, "a b-c": {"type": "string"}}, "required": ["", "a b-c"]}},
]  # fmt: skip


@pytest.mark.parametrize("schema", _HOSTILE)
async def test_hostile_schemas_are_lived_with(schema: Any) -> None:
    tool: Any = {"name": "check_inventory", "description": None, "inputSchema": schema}
    bare: Any = {"name": "check_inventory"}
    for tools in ([tool], [bare], [tool, bare]):
        assert await reply_to([user("check inventory of SKU-55 for 3 é")], tools)


def _seconds(text: str, tools: list[ToolSpec], messages: list[Message] | None = None) -> float:
    """CPU seconds of one reply: the best of three."""

    async def run() -> None:
        async for _ in _model().stream(ConverseRequest("any", [*(messages or []), user(text)], tools=tools)):
            pass

    best = 9.0
    for _ in range(3):
        begun = time.process_time()
        coroutine = run()
        with pytest.raises(StopIteration):
            coroutine.send(None)
        best = min(best, time.process_time() - begun)
    return best


@pytest.mark.parametrize(
    "text",
    [
        "check inventory for SKU-55 and reserve 5 units, then " * 2_000,
        "a" * 100_000,
        "1" * 100_000,
        "A-" * 50_000,
        "to " * 33_000,
        "Aa " * 33_000,
        '"' * 100_000,
        "1, " * 33_000,
        "one hundred and " * 6_000,
        "a@" * 50_000,
        " " * 100_000,
        "<thinking>" * 10_000,
        "reason: because " * 6_000,
        "check. " * 14_000,
        "if " * 33_000,
        "\n" * 100_000,
        "#" * 100_000,
        "2026-" * 20_000,
        "'a' " * 25_000,
        "a, b and c " * 9_000,
        "SKU-1 " * 16_000,
    ],
)
def test_a_very_long_text_takes_no_longer_than_it_may(text: str, sets: dict[str, list[ToolSpec]]) -> None:
    assert _seconds(text[:100_000], sets["inventory"]) < 0.1


def test_usual_requests_take_about_a_millisecond(sets: dict[str, list[ToolSpec]]) -> None:
    cases = read_cases("cases.txt")
    taken = sorted(_seconds(case.text, sets[case.tools]) for case in cases)
    assert taken[len(taken) // 2] < 0.004, f"median {taken[len(taken) // 2] * 1000:.2f} ms"
