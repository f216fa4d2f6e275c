"""Turns without their caller, through boto3: started, followed, answered, cancelled, resumed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from agents import CHECK, functions_group
from background import CHECK_A, Scene, refusal, results
from botocore.exceptions import ClientError

from outcrop.models.base import ModelUnavailable

# starting and looking ------------------------------------------------------------------------------


def test_a_turn_is_started_and_answered_without_its_caller(scene: Scene) -> None:
    agent, alias = ids = scene.some(functions_group(CHECK))
    scene.model.then(CHECK_A, "42 in stock.")

    scene.clock.advance(0.01)
    began = scene.outcrop.start_turn(
        agentId=agent,
        agentAliasId=alias,
        sessionId="session-1",
        inputText="Check A",
        sessionState={"sessionAttributes": {"who": "Ada"}},
    )
    turn = scene.get(began["turnId"])

    assert began["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert {name: began[name] for name in ("agentId", "agentAliasId", "agentVersion", "sessionId")} == {
        "agentId": agent,
        "agentAliasId": alias,
        "agentVersion": "1",
        "sessionId": "session-1",
    }
    assert turn["status"] == "COMPLETED"
    assert (turn["inputText"], turn["answer"]) == ("Check A", "42 in stock.")
    assert (turn["usage"]["modelCalls"], turn["usage"]["toolCalls"]) == (2, 1)
    assert turn["usage"]["inputTokens"] > turn["usage"]["outputTokens"] > 0
    assert turn["createdAt"] <= turn["startedAt"] <= turn["endedAt"]
    assert not {"failure", "returnControl", "statusReason", "uncertainActions"} & set(turn)
    assert scene.functions.calls_of("inventory")[0]["sessionAttributes"] == {"who": "Ada"}
    scene.model.then("As I said, 42.")
    assert scene.ask(ids, "And now?").text == "As I said, 42."
    assert len(scene.model.requests[-1].messages) == 5


def test_names_are_good_where_ids_are(scene: Scene) -> None:
    agent, alias = scene.some(name="named")
    name = scene.control.get_agent(agentId=agent)["agent"]["agentName"]
    scene.model.then("Hello.")

    turn = scene.get(scene.start((name, "PROD"), "Hi"))

    assert (turn["agentId"], turn["agentAliasId"], turn["answer"]) == (agent, alias, "Hello.")


def test_waiting_is_over_after_its_seconds_and_the_turn_is_told_as_it_is(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.")
    hold = scene.hold()
    turn_id = scene.start(ids, "Hi")
    hold.reached()

    running = scene.get(turn_id, 0)
    still = scene.get(turn_id, 1)
    hold.release()

    assert (running["status"], still["status"]) == ("RUNNING", "RUNNING")
    assert "endedAt" not in running
    assert "answer" not in running
    assert running["usage"]["modelCalls"] == 0
    assert scene.get(turn_id)["status"] == "COMPLETED"


def test_a_turn_that_fails_says_with_which_exception(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then(ModelUnavailable("the model is on holiday"))

    turn = scene.get(turn_id := scene.start(ids, "Hi"))

    assert turn["status"] == "FAILED"
    assert turn["failure"]["code"] == "DependencyFailedException"
    assert turn["failure"]["message"] == turn["statusReason"] != ""
    assert scene.all_events(turn_id)[-1]["failure"] == turn["failure"]


def test_a_sentence_of_apology_is_an_answer_and_a_failure(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("  ")

    turn = scene.get(turn_id := scene.start(ids, "Hi"))
    events, _, status = scene.events(turn_id)

    assert turn["status"] == status == "FAILED"
    assert turn["answer"] == "Sorry, I am unable to assist you with this request."
    assert turn["failure"]["code"] == "TurnFailed"
    assert [set(event) - {"sequence"} for event in events] == [{"chunk"}, {"failure"}]


def test_the_same_token_starts_one_turn_wherever_that_is_by_now(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK, control=True))
    scene.model.then(CHECK_A, "Done.")
    hold = scene.hold()

    first = scene.start(ids, "Check A", clientToken="order-1")
    hold.reached()
    running = scene.start(ids, "Check A", clientToken="order-1")
    interrupting = scene.start(ids, "Check A", clientToken="order-1", busySession="INTERRUPT")
    hold.release()
    waiting = scene.get(first)
    again = scene.start(ids, "Check A", clientToken="order-1", busySession="REJECT")
    scene.start(ids, sessionState=results(waiting["returnControl"]))
    done = scene.get(first)
    afterwards = scene.start(ids, "Check A", clientToken="order-1")

    assert waiting["status"] == "WAITING_FOR_INPUT"
    assert done["status"] == "COMPLETED"
    assert {first, running, interrupting, again, afterwards} == {first}


def test_a_token_of_the_longest_kind_and_another_of_the_same_beginning_are_two(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("One.", "Two.")

    one = scene.start(ids, "Hi", clientToken="x" * 256)
    scene.get(one)
    two = scene.start(ids, "Hi", clientToken="x" * 255)

    assert scene.get(two)["answer"] == "Two."
    assert one != two


# busy sessions --------------------------------------------------------------------------------------


def test_a_session_that_is_busy_refuses_a_second_turn(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.")
    hold = scene.hold()
    turn_id = scene.start(ids, "Hi")
    hold.reached()

    by_default = refusal(lambda: scene.start(ids, "Another"))
    by_wish = refusal(lambda: scene.start(ids, "Another", busySession="REJECT"))
    hold.release()

    assert by_default[0] == by_wish[0] == "ConflictException"
    assert "session-1" in by_wish[1]
    assert scene.get(turn_id)["answer"] == "Hello."


def test_queued_turns_of_a_session_run_one_after_the_other_in_the_order_they_came(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("One.", "Two.", "Three.")
    hold = scene.hold()
    one = scene.start(ids, "First")
    hold.reached()

    two = scene.start(ids, "Second", busySession="ENQUEUE")
    three = scene.start(ids, "Third", busySession="ENQUEUE")
    queued = scene.get(two, 0)
    refused = refusal(lambda: scene.start(ids, "Fourth", busySession="REJECT"))
    hold.release()

    assert (queued["status"], queued["inputText"]) == ("QUEUED", "Second")
    assert "startedAt" not in queued
    assert refused[0] == "ConflictException"
    assert [scene.get(turn)["answer"] for turn in (one, two, three)] == ["One.", "Two.", "Three."]
    said = [message["content"][0]["text"] for message in scene.model.requests[-1].messages]
    assert said == ["First", "One.", "Second", "Two.", "Third"]


def test_an_agents_policy_queues_where_the_caller_says_nothing(scene: Scene) -> None:
    ids = scene.some(name="patient")
    scene.model.then("One.", "Two.")
    hold = scene.hold()
    scene.start(ids, "First")
    hold.reached()

    second = scene.start(ids, "Second")
    hold.release()

    assert scene.get(second)["answer"] == "Two."


def test_a_turn_that_interrupts_cancels_the_one_that_runs(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("One.", "Two.")
    hold = scene.hold()
    first = scene.start(ids, "First")
    hold.reached()

    second = scene.start(ids, "Second", busySession="INTERRUPT")

    assert scene.get(second)["answer"] == "Two."
    left = scene.get(first)
    assert left["status"] == "CANCELLED"
    assert left["statusReason"] == "The turn was interrupted by a newer request of its session."


def test_plain_text_leaves_a_turn_that_waits_and_enqueue_waits_for_it(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK, control=True))
    scene.model.then(CHECK_A, "One.", "Two.", CHECK_A, "Three.")
    first = scene.get(scene.start(ids, "First"))

    behind = scene.start(ids, "Behind", busySession="ENQUEUE")
    assert scene.get(behind, 1)["status"] == "QUEUED"
    scene.start(ids, sessionState=results(first["returnControl"]))
    assert scene.get(first["turnId"])["answer"] == "One."
    assert scene.get(behind)["answer"] == "Two."
    waiting = scene.get(scene.start(ids, "Third"))
    after = scene.get(scene.start(ids, "Fourth", busySession="REJECT"))

    assert waiting["status"] == "WAITING_FOR_INPUT"
    assert after["answer"] == "Three."
    left = scene.get(waiting["turnId"])
    assert (left["status"], left["statusReason"]) == (
        "CANCELLED",
        "The turn was left for a newer request of its session.",
    )


def test_invoke_agent_joins_a_background_turn_with_its_words_and_is_refused_with_others(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.", "Hello again.")
    hold = scene.hold()
    turn_id = scene.start(ids, "Hi")
    hold.reached()
    heard: list[str] = []
    caller = threading.Thread(target=lambda: heard.append(scene.ask(ids, "Hi").text))
    caller.start()

    with pytest.raises(ClientError, match="ConflictException"):
        scene.ask(ids, "Something else")
    hold.release()
    caller.join()

    assert heard == ["Hello."]
    assert scene.get(turn_id)["answer"] == "Hello."
    assert scene.ask(ids, "Hi").text == "Hello again."


def test_invoke_agent_waits_its_turn_behind_a_queued_one(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK, control=True))
    scene.model.then(CHECK_A, "One.", "Two.")
    first = scene.get(scene.start(ids, "First"))
    behind = scene.start(ids, "Behind", busySession="ENQUEUE")

    with pytest.raises(ClientError, match="ConflictException"):
        scene.ask(ids, "Something else")
    joined: list[str] = []
    caller = threading.Thread(target=lambda: joined.append(scene.ask(ids, "Behind").text))
    caller.start()
    scene.start(ids, sessionState=results(first["returnControl"]))
    caller.join()

    assert joined == ["Two."]
    assert scene.get(behind)["answer"] == "Two."


def test_an_end_that_was_told_is_heard_so_the_same_words_are_a_new_turn(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("One.", "Two.", "Three.")

    scene.get(scene.start(ids, "Hi"))
    after_get = scene.ask(ids, "Hi").text
    turn_id = scene.start(ids, "Hi")
    token: dict[str, Any] = {}
    while True:
        _, following, _ = scene.events(turn_id, waitSeconds=30, **token)
        if following is None:
            break
        token = {"nextToken": following}
    scene.model.then("Four.")

    assert after_get == "Two."
    assert scene.ask(ids, "Hi").text == "Four."
