"""A Converse request becomes a chat-completions body, and what was sent before is not encoded again."""

from __future__ import annotations

import json

import pytest

from outcrop.messages import assistant, tool_result, tool_results, user
from outcrop.models import chat_request
from outcrop.models.base import ConverseRequest, ModelRejected
from outcrop.models.chat_request import ChatEncoder, ChatOptions, wire_name

TOOL = {"name": "get_inventory", "description": "Stock.", "inputSchema": {"json": {"type": "object", "properties": {}}}}


def body(request, options=None, encoder=None):
    encoded, _ = (encoder or ChatEncoder(options)).encode(request, "qwen3")
    return json.loads(encoded)


def ask(*messages, **more):
    return ConverseRequest("anthropic.claude", list(messages), **more)


def use(use_id, name, given):
    return {"toolUse": {"toolUseId": use_id, "name": name, "input": given}}


def test_a_turn_with_tools_as_chat_messages():
    calls = {"role": "assistant", "content": [use("a", "f", {"x": "ü"}), use("b", "g", {})]}
    results = tool_results([tool_result("a", "42"), tool_result("b", "no such thing", error=True)])
    asked = ask(user("Hi"), calls, results, assistant("Done."), system="Be brief.", tools=(TOOL,))
    assert body(asked) == {
        "model": "qwen3",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":"ü"}'}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "a", "content": "42"},
            {"role": "tool", "tool_call_id": "b", "content": "Error: no such thing"},
            {"role": "assistant", "content": "Done."},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_inventory",
                    "description": "Stock.",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
    }


def test_text_before_calls_is_kept_and_reasoning_is_not_sent_back_unless_asked_for():
    thought = {"reasoningContent": {"reasoningText": {"text": "Stock first."}}}
    said = {"role": "assistant", "content": [thought, {"text": "One moment."}, use("a", "f", {})]}
    plain = body(ask(user("Hi"), said))["messages"][1]
    assert plain["content"] == "One moment."
    assert "reasoning_content" not in plain
    kept = body(ask(user("Hi"), said), ChatOptions(send_reasoning=True))["messages"][1]
    assert kept["reasoning_content"] == "Stock first."


def test_results_and_text_in_one_message_and_results_as_json():
    block = {"toolResult": {"toolUseId": "a", "content": [{"json": {"n": 1}}, {"text": "x"}]}}
    message = {"role": "user", "content": [block, {"text": "And now?"}, {"text": "Well?"}]}
    assert body(ask(message))["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": '{"n":1}\nx'},
        {"role": "user", "content": "And now?\nWell?"},
    ]


def test_messages_with_nothing_to_send():
    empty_user, empty_assistant = {"role": "user", "content": []}, {"role": "assistant", "content": []}
    assert body(ask(empty_user, user("Hi"), empty_assistant))["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": ""},
    ]
    assert body(ask())["messages"] == []
    assert body(ask(empty_user, system="S"))["messages"] == [{"role": "system", "content": "S"}]


def test_images_go_as_data_urls():
    blocks = [{"text": "What is this?"}, {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}]
    assert body(ask({"role": "user", "content": blocks}))["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
    ]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"document": {"format": "pdf"}}, "kind 'document'"),
        ({"image": {"format": "bmp", "source": {"bytes": b""}}}, "an image must be png"),
        ({"image": {"format": "png", "source": {"s3Location": {}}}}, "given as bytes"),
        ({"toolResult": {"toolUseId": "a", "content": [{"video": {}}]}}, "result of kind 'video'"),
        ({"text": "\ud800"}, "cannot be written as JSON"),
    ],
)
def test_what_this_api_cannot_carry_is_refused_by_name(block, words):
    with pytest.raises(ModelRejected, match=words):
        body(ask({"role": "user", "content": [block]}))


def test_cache_points_mean_nothing_here():
    message = {"role": "user", "content": [{"text": "Hi"}, {"cachePoint": {"type": "default"}}]}
    assert body(ask(message))["messages"] == [{"role": "user", "content": "Hi"}]


def test_inference_settings():
    inference = {"maxTokens": 9, "temperature": 0.0, "topP": 0.5, "topK": 40, "stopSequences": ["END"]}
    sent = body(ask(user("Hi"), inference=inference))
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"], sent["stop"]) == (9, 0.0, 0.5, ["END"])
    assert "top_k" not in sent
    options = ChatOptions(max_tokens_field="max_completion_tokens", top_k=True, stream_usage=False)
    sent = body(ask(user("Hi"), inference=inference), options)
    assert (sent["max_completion_tokens"], sent["top_k"]) == (9, 40)
    assert "max_tokens" not in sent
    assert "stream_options" not in sent


def test_additional_fields_win_over_extra_body_but_not_over_what_is_ours():
    options = ChatOptions(extra_body={"seed": 1, "user": "shop"})
    sent = body(ask(user("Hi"), additional={"seed": 2, "model": "other", "stream": False}), options)
    assert (sent["seed"], sent["user"], sent["model"], sent["stream"]) == (2, "shop", "qwen3", True)


def test_names_that_do_not_fit_are_cut_short_and_turned_back():
    long, odd = "a" * 80, "inventory::check"
    encoder = ChatEncoder()
    tools = tuple({**TOOL, "name": name} for name in (long, odd, "fine-name_1"))
    said = {"role": "assistant", "content": [use("a", long, {})]}
    encoded, names = encoder.encode(ask(user("Hi"), said, tools=tools), "m")
    sent = json.loads(encoded)
    wire = [tool["function"]["name"] for tool in sent["tools"]]
    assert wire[2] == "fine-name_1"
    assert [names[name] for name in wire[:2]] == [long, odd]
    assert all(len(name) <= 64 for name in wire)
    assert sent["messages"][1]["tool_calls"][0]["function"]["name"] == wire[0]
    assert wire_name(long) != wire_name(long + "b")
    assert wire_name("a" * 64) == "a" * 64


def test_a_tool_without_parameters_has_an_empty_object():
    sent = body(ask(user("Hi"), tools=({**TOOL, "inputSchema": {}},)))
    assert sent["tools"][0]["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.fixture
def encoded(monkeypatch):
    """The messages that were encoded, in order."""
    seen = []
    plain = chat_request.encode_message

    def noting(message, send_reasoning=False):
        seen.append(message)
        return plain(message, send_reasoning)

    monkeypatch.setattr(chat_request, "encode_message", noting)
    return seen


def test_earlier_messages_are_not_encoded_again(encoded):
    encoder = ChatEncoder()
    history = [user("one"), assistant("two")]
    first = body(ask(*history, user("three")), encoder=encoder)
    assert len(encoded) == 3
    last = [user("four"), assistant("five"), user("six")]
    second = body(ask(*history, *last), encoder=encoder)
    assert encoded[3:] == last
    third = body(ask(*history, *last), encoder=encoder)
    assert len(encoded) == 6
    assert [m["content"] for m in first["messages"]] == ["one", "two", "three"]
    assert [m["content"] for m in second["messages"]] == ["one", "two", "four", "five", "six"]
    assert second == third
    assert [m["content"] for m in body(ask(history[0]), encoder=encoder)["messages"]] == ["one"]
    assert len(encoded) == 6


def test_equal_messages_that_are_other_objects_are_encoded_for_themselves(encoded):
    encoder = ChatEncoder()
    for text in ("one", "two", "one"):
        assert body(ask(user(text)), encoder=encoder)["messages"][0]["content"] == text
    assert len(encoded) == 3


def test_a_conversation_whose_first_message_went_away_cannot_be_mistaken_for_another():
    encoder = ChatEncoder()
    for n in range(3000):
        assert body(ask(user(str(n))), encoder=encoder)["messages"][0]["content"] == str(n)


def test_what_is_kept_has_a_bound(monkeypatch):
    monkeypatch.setattr(chat_request, "_MOST_BYTES", 10_000)
    monkeypatch.setattr(chat_request, "_MOST_CONVERSATIONS", 5)
    encoder = ChatEncoder()
    messages = [user("x" * 3000) for _ in range(8)]
    for message in messages:
        body(ask(message), encoder=encoder)
    assert len(encoder._conversations) == 3
    assert encoder._bytes == sum(kept.size for kept in encoder._conversations.values())
    small = [user("x") for _ in range(8)]
    for message in small:
        body(ask(message), encoder=encoder)
    assert len(encoder._conversations) == 5
    body(ask(user("x" * 20_000)), encoder=encoder)
    assert (len(encoder._conversations), encoder._bytes) == (0, 0)


def test_tools_are_kept_by_tuple_and_lists_are_read_anew(monkeypatch):
    encoder = ChatEncoder()
    monkeypatch.setattr(chat_request, "_MOST_TOOL_SETS", 2)
    sets = [({**TOOL, "name": f"tool_{n}"},) for n in range(4)]
    for _ in range(2):
        for tools in sets:
            assert body(ask(tools=tools), encoder=encoder)["tools"][0]["function"]["name"] == tools[0]["name"]
    assert len(encoder._tools) == 2
    listed = [TOOL]
    body(ask(tools=listed), encoder=encoder)
    listed.append({**TOOL, "name": "other"})
    assert len(body(ask(tools=listed), encoder=encoder)["tools"]) == 2
