"""What servers stream becomes Converse events, however the bytes arrive and whatever the server leaves out."""

from __future__ import annotations

import itertools

import pytest
from fake_servers import DONE, USAGE, chunk, sse
from hypothesis import given
from hypothesis import strategies as st

from outcrop.messages import reasoning_of, text_of, tool_uses
from outcrop.models.base import (
    ConverseRequest,
    Folder,
    ModelAccessDenied,
    ModelRejected,
    ModelThrottled,
    ModelUnavailable,
)
from outcrop.models.chat_stream import ChatDecoder, error_text


def call(index, call_id=None, name=None, arguments=None):
    piece = {"function": {}}
    for key, value in (("index", index), ("id", call_id)):
        if value is not None:
            piece[key] = value
    for key, value in (("name", name), ("arguments", arguments)):
        if value is not None:
            piece["function"][key] = value
    return chunk({"tool_calls": [piece]})


def folded(*reads, names=None):
    decoder, folder = ChatDecoder(names), Folder()
    for read in reads:
        for delta in decoder.feed(read):
            folder.feed(delta)
    for delta in decoder.finish():
        folder.feed(delta)
    return folder.reply(ConverseRequest("m", []))


def inputs(reply):
    return [(use["name"], use["input"]) for use in tool_uses(reply.message)]


WHOLE = b"".join(
    (
        b": a comment\r\n\r\n",
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Stöck "}),
        chunk({"reasoning_content": "first."}).replace(b"\n", b"\r\n"),
        chunk({"content": "Größe ☃ "}),
        b"event: message\nid: 7\n" + chunk({"content": "one moment."}),
        call(0, "call_a", "get_inventory", '{"sku":'),
        call(0, None, None, '"SKU-55"}'),
        call(1, "call_b", "get_price", "{}"),
        chunk({}, "tool_calls"),
        USAGE,
        DONE,
    )
)


def expect_whole(reply):
    assert reasoning_of(reply.message) == "Stöck first."
    assert text_of(reply.message) == "Größe ☃ one moment."
    assert inputs(reply) == [("get_inventory", {"sku": "SKU-55"}), ("get_price", {})]
    assert reply.stop_reason == "tool_use"
    assert reply.usage == {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}


def test_a_stream_cut_in_two_reads_at_every_byte_reads_the_same():
    for at in range(len(WHOLE) + 1):
        expect_whole(folded(WHOLE[:at], WHOLE[at:]))


def test_a_stream_that_comes_byte_by_byte_reads_the_same():
    expect_whole(folded(*(WHOLE[i : i + 1] for i in range(len(WHOLE)))))


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12).map(sorted))
def test_a_stream_cut_anywhere_any_number_of_times_reads_the_same(cuts):
    edges = [0, *cuts, len(WHOLE)]
    expect_whole(folded(*(WHOLE[a:b] for a, b in itertools.pairwise(edges))))


def test_a_stream_that_ends_at_any_byte_before_the_model_has_is_broken_off():
    finished = WHOLE.index(b'"finish_reason": "tool_calls"')
    end_of_finish = WHOLE.index(b"\n\n", finished)
    for at in range(len(WHOLE)):
        decoder = ChatDecoder()
        decoder.feed(WHOLE[:at])
        if at >= end_of_finish:
            assert decoder.finish()
        else:
            with pytest.raises(ModelUnavailable):
                decoder.finish()


def test_events_carry_the_index_of_their_block_and_every_block_ends():
    decoder = ChatDecoder()
    deltas = [*decoder.feed(chunk({"content": "Hi"}) + call(0, "c", "f", "{}") + chunk({}, "tool_calls"))]
    deltas += decoder.finish()
    assert deltas == [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hi"}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"contentBlockStart": {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "c", "name": "f"}}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}}},
        {"contentBlockStop": {"contentBlockIndex": 1}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]


def test_pieces_of_two_calls_may_interleave():
    reply = folded(
        call(0, "a", "f", '{"x":'),
        call(1, "b", "g", '{"y":'),
        call(0, None, None, "1}"),
        call(1, None, None, "2}"),
        DONE,
    )
    assert inputs(reply) == [("f", {"x": 1}), ("g", {"y": 2})]


def test_whole_calls_without_index_or_id_are_separate_calls_with_ids_of_our_own():
    reply = folded(call(None, None, "f", '{"x": 1}'), call(None, None, "f", '{"x": 2}'), chunk({}, "tool_calls"))
    assert inputs(reply) == [("f", {"x": 1}), ("f", {"x": 2})]
    assert len({use["toolUseId"] for use in tool_uses(reply.message)}) == 2


def test_whole_calls_that_are_all_numbered_0_are_told_apart_by_their_ids():
    reply = folded(call(0, "a", "f", '{"x": 1}'), call(0, "b", "f", '{"x": 2}'), chunk({}, "stop"))
    assert inputs(reply) == [("f", {"x": 1}), ("f", {"x": 2})]


def test_pieces_without_index_go_to_the_call_that_was_begun_last():
    reply = folded(call(None, "a", "f", '{"x":'), call(None, None, None, "1}"), chunk({}, "tool_calls"))
    assert inputs(reply) == [("f", {"x": 1})]


def test_a_server_that_repeats_id_and_name_with_every_piece_makes_one_call():
    reply = folded(call(0, "a", "f", '{"x":'), call(0, "a", "f", "1}"), chunk({}, "tool_calls"))
    assert inputs(reply) == [("f", {"x": 1})]


def test_arguments_may_come_as_an_object():
    assert inputs(folded(call(0, "a", "f", {"x": 1}), chunk({}, "tool_calls"))) == [("f", {"x": 1})]


def test_the_old_function_call_is_a_tool_call():
    pieces = [{"name": "f", "arguments": '{"x"'}, {"arguments": ": 1}"}]
    reply = folded(*(chunk({"function_call": piece}) for piece in pieces), chunk({}, "function_call"))
    assert inputs(reply) == [("f", {"x": 1})]
    assert reply.stop_reason == "tool_use"


def test_a_call_without_a_name_is_the_servers_mistake():
    with pytest.raises(ModelUnavailable, match="without a name"):
        ChatDecoder().feed(call(0, "a", None, "{}"))


def test_names_are_turned_back():
    assert inputs(folded(call(0, "a", "short", "{}"), DONE, names={"short": "a very long name"})) == [
        ("a very long name", {})
    ]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "content_filtered"),
        ("tool_calls", "end_turn"),
        ("something new", "end_turn"),
    ],
)
def test_finish_reasons_of_a_text(reason, stop):
    assert folded(chunk({"content": "Hi"}), chunk({}, reason)).stop_reason == stop


def test_a_server_that_says_stop_though_it_asks_for_a_tool():
    assert folded(call(0, "a", "f", "{}"), chunk({}, "stop")).stop_reason == "tool_use"


def test_a_call_cut_off_by_the_token_limit_is_not_taken_for_a_tool_use():
    decoder = ChatDecoder()
    decoder.feed(call(0, "a", "f", '{"x": 1}') + chunk({}, "length"))
    assert {"messageStop": {"stopReason": "max_tokens"}} in decoder.finish()


def test_usage_is_estimated_where_the_server_sends_none():
    reply = folded(chunk({"content": "Hello there"}), chunk({}, "stop"), DONE)
    assert reply.estimated
    assert reply.usage["totalTokens"] > 0


def test_usage_may_come_with_the_last_choice_or_with_every_chunk():
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    more = {"prompt_tokens": 3, "completion_tokens": 2}
    reply = folded(chunk({"content": "Hi"}, usage=usage), chunk({}, "stop", usage=more), DONE)
    assert reply.usage == {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    assert not reply.estimated


def test_usage_of_an_unknown_form_is_ignored():
    assert folded(chunk({"content": "Hi"}, "stop", usage={"prompt_tokens": "many"})).usage["inputTokens"] == 0


def test_text_may_come_as_parts_and_a_refusal_is_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert text_of(folded(chunk({"content": parts}), chunk({"refusal": "c"}), DONE).message) == "abc"


def test_an_event_spread_over_several_data_lines_is_one_event():
    pretty = b'data: {"choices":\ndata: [{"index": 0, "delta": {"content": "Hi"},\ndata: "finish_reason": "stop"}]}\n\n'
    for at in range(len(pretty)):
        assert text_of(folded(pretty[:at], pretty[at:]).message) == "Hi"


def test_an_event_that_is_not_json_is_the_servers_mistake():
    with pytest.raises(ModelUnavailable, match="not JSON: <html>"):
        ChatDecoder().feed(b"data: <html>\n\n")


@pytest.mark.parametrize("event", [{"choices": 5}, {"choices": [5]}, {"choices": [{"delta": {"tool_calls": 5}}]}])
def test_an_event_of_an_unknown_form_is_the_servers_mistake(event):
    with pytest.raises(ModelUnavailable, match="unknown form"):
        ChatDecoder().feed(sse(event))


def test_nothing_counts_after_done():
    assert text_of(folded(chunk({"content": "Hi"}), DONE, chunk({"content": " there"})).message) == "Hi"


def test_a_reply_of_nothing_is_an_empty_message():
    reply = folded(chunk({"role": "assistant"}), chunk({}, "stop"), DONE)
    assert reply.message == {"role": "assistant", "content": []}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "slow down", "code": "rate_limit_exceeded"}, ModelThrottled),
        ({"message": "slow down", "code": 429}, ModelThrottled),
        ({"message": "too long", "type": "invalid_request_error"}, ModelRejected),
        ({"message": "no", "type": "authentication_error", "code": None}, ModelAccessDenied),
        ({"message": "overloaded"}, ModelUnavailable),
        ("just text", ModelUnavailable),
    ],
)
def test_an_error_in_mid_stream_is_typed(error, kind):
    decoder = ChatDecoder()
    decoder.feed(chunk({"content": "Hi"}))
    with pytest.raises(kind) as raised:
        decoder.feed(sse({"error": error}))
    assert type(raised.value) is kind
    assert str(raised.value) in ("slow down", "too long", "no", "overloaded", "just text")


def test_an_error_object_without_an_error_member_is_one_too():
    with pytest.raises(ModelRejected, match="context"):
        ChatDecoder().feed(sse({"object": "error", "message": "context too long", "code": 400}))


def test_a_reply_that_comes_whole_though_a_stream_was_asked_for():
    tool = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"role": "assistant", "content": "One moment.", "tool_calls": [tool]}
    body = sse({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {"prompt_tokens": 1}})
    folder = Folder()
    for delta in ChatDecoder().whole(body[6:].strip()):
        folder.feed(delta)
    reply = folder.reply(ConverseRequest("m", []))
    assert text_of(reply.message) == "One moment."
    assert inputs(reply) == [("f", {"x": 1})]
    with pytest.raises(ModelUnavailable):
        ChatDecoder().whole(b"{}")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "b"}, "b"),
        ({"message": "c"}, "c"),
        ({"detail": [{"msg": "d"}]}, "[{'msg': 'd'}]"),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_words_of_an_error_body(body, text):
    assert error_text(body) == text
