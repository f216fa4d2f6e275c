"""Sessions as a caller meets them: memory between turns, attributes, expiry, ending, and conflicts."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from agents import CHECK, RESERVE, World, collect, functions_group
from botocore.exceptions import ClientError, EventStreamError

from outcrop.messages import text_of
from outcrop.models.base import ToolInputMalformed
from outcrop.testing import call

STREAM = {"streamFinalResponse": True}


def texts(world: World, request: int = -1) -> list[str]:
    """The text of every message that a model call was sent."""
    return [text_of(message) for message in world.model.requests[request].messages]


def test_a_later_turn_sees_the_earlier_ones(world: World) -> None:
    ids = world.agent()
    world.model.then("Hello Ada.", "You are Ada.")

    world.ask(ids, "I am Ada")
    world.ask(ids, "Who am I?")

    assert texts(world) == ["I am Ada", "Hello Ada.", "Who am I?"]


def test_sessions_do_not_see_each_other(world: World) -> None:
    agent, alias = world.agent()
    other = world.control.create_agent_alias(agentId=agent, agentAliasName="TEST")["agentAlias"]["agentAliasId"]
    world.model.then("one", "two", "three")

    world.ask((agent, alias), "first", session="session-1")
    world.ask((agent, alias), "second", session="session-2")
    world.ask((agent, other), "third", session="session-1")

    assert texts(world, 1) == ["second"]
    assert texts(world, 2) == ["third"]


def test_an_idle_session_starts_anew(world: World, outcrop_clock: Any) -> None:
    ids = world.agent(idleSessionTTLInSeconds=60)
    world.model.then("one", "two", "three")

    world.ask(ids, "first")
    outcrop_clock.advance(59)
    world.ask(ids, "second")
    outcrop_clock.advance(61)
    world.ask(ids, "third")

    assert texts(world, 1) == ["first", "one", "second"]
    assert texts(world, 2) == ["third"]


def test_ending_a_session_forgets_it(world: World) -> None:
    ids = world.agent()
    world.model.then("one", "two")

    world.ask(ids, "first")
    ended = world.ask(ids, "bye", endSession=True)
    world.ask(ids, "second")

    assert ended.kinds == ["chunk"]
    assert ended.text == "Session is terminated as 'endSession' flag is set in request."
    assert texts(world) == ["second"]


def test_ending_an_unknown_session_is_no_error(world: World) -> None:
    ids = world.agent()
    assert world.ask(ids, endSession=True).kinds == ["chunk"]


def test_only_so_many_earlier_turns(world: World) -> None:
    ids = world.agent()
    world.model.then("one", "two", "three", "four")
    world.ask(ids, "first")
    world.ask(ids, "second")

    world.ask(ids, "third", promptCreationConfigurations={"previousConversationTurnsToInclude": 1})
    assert texts(world) == ["second", "two", "third"]

    world.ask(ids, "fourth", promptCreationConfigurations={"previousConversationTurnsToInclude": 0})
    assert texts(world) == ["fourth"]


def test_earlier_thinking_is_left_out_on_request(world: World) -> None:
    ids = world.agent()
    world.model.then("<thinking>secret</thinking>one", "two")
    world.ask(ids, "first")

    world.ask(ids, "second", promptCreationConfigurations={"excludePreviousThinkingSteps": True})

    assert texts(world) == ["first", "one", "second"]


def test_a_seeded_conversation_comes_first_and_stays(world: World) -> None:
    ids = world.agent()
    world.model.then("one", "two")
    seed = [
        {"role": "user", "content": [{"text": "I am Ada"}]},
        {"role": "assistant", "content": [{"text": "Hello Ada"}]},
    ]

    world.ask(ids, "first", sessionState={"conversationHistory": {"messages": seed}})
    world.ask(ids, "second")

    assert texts(world) == ["I am Ada", "Hello Ada", "first", "one", "second"]


def test_attributes_reach_the_function_and_its_answer_changes_them(world: World) -> None:
    ids = world.agent(functions_group(CHECK))

    def handler(event: dict[str, Any]) -> dict[str, Any]:
        response = {
            "actionGroup": event["actionGroup"],
            "function": event["function"],
            "functionResponse": {"responseBody": {"TEXT": {"body": "ok"}}},
        }
        return {"messageVersion": "1.0", "response": response, "sessionAttributes": {"seen": "yes"}}

    world.functions.add("inventory", handler)
    world.model.then(
        [call("inventory__check", {"sku": "A-1"})], "one", [call("inventory__check", {"sku": "A-1"})], "two"
    )

    world.ask(
        ids, "first", sessionState={"sessionAttributes": {"user": "ada"}, "promptSessionAttributes": {"now": "noon"}}
    )
    world.ask(ids, "second")

    first, second = world.functions.calls_of("inventory")
    assert (first["sessionAttributes"], first["promptSessionAttributes"]) == ({"user": "ada"}, {"now": "noon"})
    assert (second["sessionAttributes"], second["promptSessionAttributes"]) == ({"seen": "yes"}, {})
    assert first["agent"] == {"name": "stock", "id": ids[0], "alias": ids[1], "version": "1"}
    assert first["inputText"] == "first"


def test_two_calls_at_once_on_one_session_conflict(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    entered, leave = threading.Event(), threading.Event()

    def slow(_event: dict[str, Any]) -> str:
        entered.set()
        assert leave.wait(30)
        return "done"

    world.functions.add("inventory", slow)
    world.model.then([call("inventory__check", {"sku": "A-1"})], "one")
    response = world.runtime.invoke_agent(agentId=ids[0], agentAliasId=ids[1], sessionId="s-1", inputText="first")
    assert entered.wait(30)

    with pytest.raises(ClientError) as caught:
        world.ask(ids, "second", session="s-1")
    leave.set()

    assert caught.value.response["Error"]["Code"] == "ConflictException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert collect(response).text == "one"


def test_a_failed_function_leaves_the_session_usable_and_remembers_what_was_done(world: World) -> None:
    ids = world.agent(functions_group(CHECK, RESERVE))

    def handler(event: dict[str, Any]) -> str:
        if event["function"] == "check":
            raise RuntimeError("broken")
        return "reserved"

    world.functions.add("inventory", handler)
    world.model.then(
        [call("inventory__reserve", {"sku": "A-1", "quantity": 1})], [call("inventory__check", {"sku": "A-1"})], "Fine."
    )

    with pytest.raises(EventStreamError, match="dependencyFailedException"):
        world.ask(ids, "Reserve, then check")
    assert world.ask(ids, "And now?").text == "Fine."

    sent = world.model.requests[-1].messages
    assert [message["role"] for message in sent] == ["user", "assistant"] * 3 + ["user"] or sent
    results = [b["toolResult"]["content"][0]["text"] for m in sent for b in m["content"] if "toolResult" in b]
    assert results[0] == "reserved"
    assert "not completed" in text_of(sent[-2])


def test_a_turn_that_failed_before_anything_was_done_leaves_nothing(world: World) -> None:
    from outcrop.models.base import ModelUnavailable

    ids = world.agent()
    world.model.then(ModelUnavailable("gone"), "Hello.")

    with pytest.raises(EventStreamError, match="dependencyFailedException"):
        world.ask(ids, "first")
    world.ask(ids, "second")

    assert texts(world) == ["second"]


def test_an_empty_reply_after_an_action_is_not_kept(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", "42")
    world.model.then([call("inventory__check", {"sku": "A-1"})], "  ", "Fine.")

    assert world.ask(ids, "Check").text == "Sorry, I am unable to assist you with this request."
    world.ask(ids, "Again")

    sent = world.model.requests[-1].messages
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert "not completed" in text_of(sent[3])


def test_a_long_seed_of_one_role_is_joined_once(world: World) -> None:
    ids = world.agent()
    world.model.then("Fine.")
    seed = [{"role": "user", "content": [{"text": "a"}]}] * 5000

    world.ask(ids, "Hi", sessionState={"conversationHistory": {"messages": seed}})

    assert len(world.model.requests[0].messages[0]["content"]) == 5000


def test_a_call_that_cannot_be_read_is_asked_for_again(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.model.then(ToolInputMalformed("the input of tool check is not JSON"), "Fine.")

    answer = world.ask(ids, "Check")

    assert answer.kinds == ["o.in(0)", "o.obs REPROMPT(0)", "o.in(1)", "o.out(1)", "o.obs FINISH(1)", "chunk"]
    sent = world.model.requests[-1].messages
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert "not JSON" in text_of(sent[-1])


def test_plain_text_leaves_a_turn_that_waits_for_its_caller(world: World) -> None:
    ids = world.agent(functions_group(RESERVE, name="orders", control=True))
    world.model.then([call("orders__reserve", {"sku": "A-1", "quantity": 1})], "All right.")
    world.ask(ids, "Reserve")

    assert world.ask(ids, "Never mind").text == "All right."

    sent = world.model.requests[-1].messages
    [result] = [b["toolResult"] for m in sent for b in m["content"] if "toolResult" in b]
    assert result["status"] == "error"
    assert "cancelled" in result["content"][0]["text"]
    assert text_of(sent[-1]) == "Never mind"


def test_a_question_to_the_user_ends_the_turn_and_is_answered_in_the_next(world: World) -> None:
    ask_user = {"actionGroupName": "user", "parentActionGroupSignature": "AMAZON.UserInput"}
    ids = world.agent(functions_group(CHECK), ask_user)
    world.model.then([call("user__askuser", {"question": "Which SKU?"})], "Thanks.")

    asked = world.ask(ids, "Check it", streamingConfigurations=STREAM)
    world.ask(ids, "SKU-55")

    assert asked.text == "Which SKU?"
    assert asked.kinds[-2:] == ["o.obs ASK_USER(0)", "chunk"]
    assert texts(world) == ["Check it", "Which SKU?", "SKU-55"]


def test_a_loop_of_model_calls_ends_with_a_canned_answer(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", "42")
    world.model.then(*[[call("inventory__check", {"sku": "A-1"})] for _ in range(25)], "Fine.")

    answer = world.ask(ids, "Loop")

    assert answer.kinds[-2:] == ["failure", "chunk"]
    assert answer.text == "Sorry, I am unable to assist you with this request."
    assert "25 iterations" in answer.traces[-1]["trace"]["failureTrace"]["failureReason"]
    assert world.ask(ids, "Again").text == "Fine."


def test_an_alias_moved_to_another_version_keeps_the_conversation(world: World) -> None:
    agent, alias = world.agent()
    world.model.then("one", "two")
    world.ask((agent, alias), "first")

    made = {
        "agentName": "stock",
        "foundationModel": "other.model",
        "agentResourceRoleArn": "arn:aws:iam::123456789012:role/x",
    }
    world.control.update_agent(agentId=agent, instruction="You answer in rhymes, always and without exception.", **made)
    world.control.prepare_agent(agentId=agent)
    world.control.update_agent_alias(agentId=agent, agentAliasId=alias, agentAliasName="PROD")
    answer = world.ask((agent, alias), "second")

    assert texts(world) == ["first", "one", "second"]
    assert world.model.requests[-1].model_id == "other.model"
    assert answer.traces[0]["agentVersion"] == "2"


def test_inline_agents_bring_their_definition_along(world: World) -> None:
    world.functions.add("inventory", "42")
    world.model.then([call("inventory__check", {"sku": "A-1"})], "There are 42.", "Yes.")
    definition = {
        "foundationModel": "anthropic.claude-3-haiku",
        "instruction": "You answer questions about the stock of a warehouse.",
        "actionGroups": [functions_group(CHECK)],
        "sessionId": "session-1",
        "enableTrace": True,
    }

    first = collect(world.runtime.invoke_inline_agent(inputText="Check A-1", **definition))
    second = collect(world.runtime.invoke_inline_agent(inputText="Sure?", **definition))

    assert first.kinds == [
        "o.in(0)", "o.out(0)", "o.inv ACTION_GROUP(0)", "o.obs ACTION_GROUP(0)",
        "o.in(1)", "o.out(1)", "o.obs FINISH(1)", "chunk",
    ]  # fmt: skip
    arn = "arn:aws:bedrock:us-east-1:123456789012:agent-alias/INLINE_AGENT/TSTALIASID"
    assert first.traces[0]["callerChain"] == [{"agentAliasArn": arn}]
    assert not {"agentId", "agentAliasId", "agentVersion"} & set(first.traces[0])
    assert "inferenceConfiguration" not in first.traces[0]["trace"]["orchestrationTrace"]["modelInvocationInput"]
    assert second.text == "Yes."
    assert texts(world)[0] == "Check A-1"


def test_the_same_words_again_are_a_new_turn_once_the_answer_was_heard(world: World) -> None:
    ids = world.agent()
    world.model.then(*[f"answer {number}" for number in range(50)])

    answers = [world.ask(ids, "Hi", enableTrace=False).text for _ in range(50)]

    assert answers == [f"answer {number}" for number in range(50)]
