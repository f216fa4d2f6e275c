"""Deltas fold to one reply, with or without block indexes."""

from __future__ import annotations

import pytest

from outcrop.models.base import ConverseRequest, Folder, ModelThrottled, ToolInputMalformed

REQUEST = ConverseRequest("m", [])


def fold(*deltas):
    folder = Folder()
    for delta in deltas:
        folder.feed(delta)
    return folder.reply(REQUEST)


def delta(part, index=None):
    event = {"delta": part}
    if index is not None:
        event["contentBlockIndex"] = index
    return {"contentBlockDelta": event}


def start(name, index=None):
    event = {"start": {"toolUse": {"toolUseId": f"id_{name}", "name": name}}}
    if index is not None:
        event["contentBlockIndex"] = index
    return {"contentBlockStart": event}


def tool(text):
    return {"toolUse": {"input": text}}


STOP = {"contentBlockStop": {}}


def test_blocks_without_index_follow_one_another():
    reply = fold(
        delta({"text": "a"}), delta({"text": "b"}), STOP, delta({"text": "c"}), start("f"), delta(tool("{}")), STOP,
        start("g"), delta(tool('{"x"')), delta(tool(": 1}")), STOP,
    )  # fmt: skip
    assert reply.message["content"] == [
        {"text": "ab"},
        {"text": "c"},
        {"toolUse": {"toolUseId": "id_f", "name": "f", "input": {}}},
        {"toolUse": {"toolUseId": "id_g", "name": "g", "input": {"x": 1}}},
    ]


def test_blocks_with_index_may_interleave():
    reply = fold(start("f", 0), start("g", 1), delta(tool('{"x"'), 0), delta(tool("{}"), 1), delta(tool(": 1}"), 0))
    assert [block["toolUse"]["input"] for block in reply.message["content"]] == [{"x": 1}, {}]


def test_reasoning_keeps_its_signature():
    reasoning = [{"reasoningContent": {"text": "Hm"}}, {"reasoningContent": {"signature": "s"}}]
    redacted = {"reasoningContent": {"redactedContent": b"r"}}
    reply = fold(*(delta(part, 0) for part in reasoning), delta(redacted, 1), delta({"text": "Hi"}, 2))
    assert reply.message["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "cg=="}},
        {"text": "Hi"},
    ]


def test_a_call_keeps_what_its_provider_added():
    begun = {"toolUse": {"toolUseId": "id_f", "name": "f", "reasoningSignature": "sig"}}
    reply = fold({"contentBlockStart": {"start": begun}}, delta(tool("{}")))
    assert reply.message["content"] == [{"toolUse": {**begun["toolUse"], "input": {}}}]


def test_an_input_that_is_no_object_is_named():
    with pytest.raises(ToolInputMalformed, match="tool f"):
        fold(start("f"), delta(tool("[1]")))
    with pytest.raises(ToolInputMalformed, match="tool f"):
        fold(start("f"), delta(tool('{"x": ')))


def test_an_error_says_how_long_to_wait():
    assert ModelThrottled("busy", retry_after_s=3).retry_after_s == 3
    assert ModelThrottled("busy").retry_after_s is None
    assert str(ModelThrottled()).startswith("The provider refused the call because of its rate")
