"""The scripted model says what was written, keeps what it was asked, and complains when the script does not fit."""

from __future__ import annotations

import json

import pytest

from outcrop.config import Binding, ConfigMistake
from outcrop.messages import reasoning_of, text_of, tool_uses, user
from outcrop.models.base import ConverseRequest, ModelThrottled, ModelUnavailable, fold
from outcrop.models.providers import scripted
from outcrop.models.providers.scripted import ScriptedModel, ScriptMistake, call, thinking

REQUEST = ConverseRequest("m", [user("Check inventory for SKU-55")], "Be brief.")


async def listen(model, seen):
    async for delta in model.stream(REQUEST):
        seen.append(next(iter(delta)))


async def say(model, request=REQUEST):
    return await fold(model.stream(request), request)


async def test_a_conversation_as_written():
    model = ScriptedModel(
        ["Hello there, friend.", [thinking("Stock first."), "One moment.", call("get", {"sku": "S"}), call("price")]]
    )
    first, second = await say(model), await say(model)
    assert text_of(first.message) == "Hello there, friend."
    assert first.stop_reason == "end_turn"
    assert (reasoning_of(second.message), text_of(second.message)) == ("Stock first.", "One moment.")
    assert tool_uses(second.message) == [
        {"toolUseId": "tooluse_1", "name": "get", "input": {"sku": "S"}},
        {"toolUseId": "tooluse_2", "name": "price", "input": {}},
    ]
    assert second.stop_reason == "tool_use"
    assert model.requests == [REQUEST, REQUEST]
    model.assert_finished()


async def test_text_comes_word_by_word_and_usage_counts_words():
    deltas = [delta async for delta in ScriptedModel(["Hello there,  friend.\n"]).stream(REQUEST)]
    texts = [d["contentBlockDelta"]["delta"]["text"] for d in deltas if "contentBlockDelta" in d]
    assert texts == ["Hello", " there,", "  friend.", "\n"]
    assert deltas[-1] == {"metadata": {"usage": {"inputTokens": 6, "outputTokens": 4, "totalTokens": 10}}}


async def test_a_single_call_needs_no_list():
    reply = await say(ScriptedModel([call("f", {"x": 1})]))
    assert tool_uses(reply.message)[0]["input"] == {"x": 1}


async def test_errors_are_raised_before_or_within_a_reply():
    model = ScriptedModel([ModelThrottled("busy"), ModelUnavailable, ["Half a", ModelUnavailable("cut")]])
    with pytest.raises(ModelThrottled, match="busy"):
        await say(model)
    with pytest.raises(ModelUnavailable):
        await say(model)
    seen = []
    with pytest.raises(ModelUnavailable, match="cut"):
        await listen(model, seen)
    assert seen == ["messageStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop"]


async def test_a_reply_may_be_a_function_of_the_request():
    model = ScriptedModel([lambda request: f"You said {text_of(request.messages[-1])}", lambda _: 5])
    assert text_of((await say(model)).message) == "You said Check inventory for SKU-55"
    with pytest.raises(ScriptMistake, match="reply 2 of the script is 5"):
        await say(model)


async def test_a_call_beyond_the_script_shows_what_was_asked():
    model = ScriptedModel(["one"])
    await say(model)
    with pytest.raises(ScriptMistake, match=r"call 2 .* script of 1 replies; .*SKU-55"):
        await say(model)


async def test_replies_nobody_asked_for_are_a_mistake():
    model = ScriptedModel(["one", "two", "three"])
    await say(model)
    with pytest.raises(ScriptMistake, match="2 of 3 replies were never asked for; the next is 'two'"):
        model.assert_finished()


async def test_more_can_be_written_later():
    model = ScriptedModel()
    model.then("one", call("f"))
    assert text_of((await say(model)).message) == "one"
    with pytest.raises(ScriptMistake, match="reply 3 of the script is 7"):
        model.then(7)


async def test_a_script_that_repeats():
    model = ScriptedModel(["one", "two"], repeat=True)
    assert [text_of((await say(model)).message) for _ in range(5)] == ["one", "two", "one", "two", "one"]
    model.assert_finished()


@pytest.mark.parametrize("reply", [None, 5, {"text": "x"}, [], ["a", {"x": 1}], [["nested"]]])
def test_what_is_no_reply_is_refused_at_once(reply):
    with pytest.raises(ScriptMistake, match="reply 2 of the script is"):
        ScriptedModel(["fine", reply])


def test_one_text_is_no_script():
    with pytest.raises(ScriptMistake, match="a list of replies"):
        ScriptedModel("Hello")


def bound(path, content, **settings):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return scripted.provider(Binding("*", {"provider": "scripted", "path": str(path), **settings}))


async def test_a_script_in_a_file(tmp_path):
    replies = [
        "Hello.",
        {"thinking": "Hm.", "text": "One moment.", "calls": [{"name": "f", "input": {"x": 1}}, {"name": "g"}]},
        {"error": "throttled", "message": "slow down"},
        {"text": "Half", "error": "unavailable"},
    ]
    model = bound(tmp_path / "script.json", replies)
    assert text_of((await say(model)).message) == "Hello."
    second = await say(model)
    assert reasoning_of(second.message) == "Hm."
    assert [(use["name"], use["input"]) for use in tool_uses(second.message)] == [("f", {"x": 1}), ("g", {})]
    with pytest.raises(ModelThrottled, match="slow down"):
        await say(model)
    with pytest.raises(ModelUnavailable):
        await say(model)
    with pytest.raises(ScriptMistake):
        await say(model)
    repeating = bound(tmp_path / "again.json", ["Hi"], repeat=True)
    assert [text_of((await say(repeating)).message) for _ in range(2)] == ["Hi", "Hi"]
    await repeating.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "is not JSON"),
        ({"a": 1}, "is not a list of replies"),
        ([5], "reply 1: 5 is neither"),
        ([{}], "reply 1: {} is neither"),
        (["a", {"txt": "b"}], "reply 2: unknown key 'txt'; did you mean 'text'"),
        ([{"calls": [{"input": {}}]}], "is no call with a name"),
        ([{"calls": [{"name": "f", "input": 5}]}], "is no call with a name"),
        ([{"error": "boom"}], "error 'boom' is not one of access_denied"),
    ],
)
def test_a_file_that_is_no_script_is_named(tmp_path, content, words):
    with pytest.raises(ConfigMistake, match=words):
        bound(tmp_path / "script.json", content)


def test_a_script_needs_a_file_that_is_there(tmp_path):
    with pytest.raises(ConfigMistake, match="needs the path"):
        scripted.provider(Binding("*", {"provider": "scripted"}))
    with pytest.raises(ConfigMistake, match="No such file"):
        scripted.provider(Binding("*", {"provider": "scripted", "path": str(tmp_path / "none.json")}))
    with pytest.raises(ConfigMistake, match="unknown key 'file'"):
        scripted.provider(Binding("*", {"provider": "scripted", "file": "x"}))
