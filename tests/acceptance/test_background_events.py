"""Turns in the background while they run: what they tell, what they ask, how they are stopped."""

from __future__ import annotations

import itertools
import threading
from typing import Any

from agents import CHECK, RESERVE, functions_group
from background import CHECK_A, DAY_S, Scene, refusal, results

from outcrop.testing import call

# events ---------------------------------------------------------------------------------------------


def test_events_are_followed_by_cursor_and_are_those_of_invoke_agent(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK))
    scene.model.then(CHECK_A, "42 in stock.", CHECK_A, "42 in stock.")
    hold = scene.hold()
    turn_id = scene.start(ids, "Check A")
    hold.reached()
    first, token, status = scene.events(turn_id, includeTrace=True)
    nothing, same, _ = scene.events(turn_id, includeTrace=True, nextToken=token)
    hold.release()

    followed = list(first)
    while token is not None:
        news, token, status = scene.events(turn_id, includeTrace=True, waitSeconds=30, nextToken=token)
        assert news or status == "COMPLETED"
        followed += news

    assert [set(event) for event in first] == [{"sequence", "trace"}]
    assert nothing == []
    assert same is not None
    assert status == "COMPLETED"
    assert [event["sequence"] for event in followed] == list(range(1, len(followed) + 1))
    assert followed == scene.all_events(turn_id) == scene.all_events(turn_id, page=1)
    asked = scene.ask(ids, "Check A", session="session-2")
    kinds = [next(iter(set(event) - {"sequence"})) for event in followed]
    assert kinds == [name for name, _ in asked.frames]
    parts = [event["trace"]["trace"]["orchestrationTrace"] for event in followed if "trace" in event]
    assert [set(part) for part in parts] == [set(trace["trace"]["orchestrationTrace"]) for trace in asked.traces]
    assert parts[0]["modelInvocationInput"]["traceId"] == f"{turn_id}-0"
    without, _, _ = scene.events(turn_id)
    assert without == followed[-1:]
    assert without[0]["chunk"]["bytes"] == b"42 in stock."


def test_what_was_told_is_the_beginning_of_what_is_told_later(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK, name="inventory"), functions_group(RESERVE, name="desk", control=True))
    reserve = [call("desk__reserve", {"sku": "A", "quantity": 1})]
    scene.model.then(CHECK_A, reserve, [*CHECK_A, *reserve], "Reserved.")
    holds = [scene.hold(number) for number in (1, 2, 3, 4)]
    turn_id = scene.start(ids, "Reserve A")
    told: list[list[dict[str, Any]]] = []
    for number, hold in enumerate(holds, 1):
        hold.reached()
        told.append(scene.all_events(turn_id))
        hold.release()
        if number in (2, 3):
            waiting = scene.get(turn_id)
            told.append(scene.all_events(turn_id))
            scene.start(ids, sessionState=results(waiting["returnControl"]))
    scene.get(turn_id)
    told.append(scene.all_events(turn_id))

    assert [event["returnControl"]["invocationId"] for event in told[-1] if "returnControl" in event]
    for earlier, later in itertools.pairwise(told):
        assert len(earlier) < len(later)
        assert later[: len(earlier)] == earlier


def test_a_cancelled_turn_keeps_what_it_asked_for_and_ends_with_its_failure(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK, control=True))
    scene.model.then(CHECK_A)
    turn_id = scene.start(ids, "Check A")
    scene.get(turn_id)
    before = scene.all_events(turn_id)

    scene.outcrop.cancel_turn(turnId=turn_id)
    after = scene.all_events(turn_id)

    assert "returnControl" in before[-1]
    assert after[: len(before)] == before
    assert after[-1]["failure"]["code"] == "ConflictException"


def test_a_wait_for_events_ends_when_its_seconds_are_over(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.")
    hold = scene.hold()
    turn_id = scene.start(ids, "Hi")
    hold.reached()

    nothing, token, status = scene.events(turn_id, waitSeconds=1)
    hold.release()
    news, end, _ = scene.events(turn_id, waitSeconds=30, nextToken=token)

    assert (nothing, status) == ([], "RUNNING")
    assert [event["chunk"]["bytes"] for event in news] == [b"Hello."]
    assert end is None


# return of control, pauses, cancellations --------------------------------------------------------------


def test_control_is_returned_to_whoever_looks_and_results_come_through_start_turn(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK, control=True))
    scene.model.then(CHECK_A, "R-1 it is.")
    turn_id = scene.start(ids, "Check A")
    waiting = scene.get(turn_id)
    [asked] = waiting["returnControl"]["invocationInputs"]

    wrong = refusal(lambda: scene.start(ids, sessionState={**results(waiting["returnControl"]), "invocationId": "x"}))
    went_on = scene.start(ids, sessionState=results(waiting["returnControl"]))
    again = scene.start(ids, sessionState=results(waiting["returnControl"]))
    done = scene.get(turn_id)

    assert waiting["status"] == "WAITING_FOR_INPUT"
    assert asked["functionInvocationInput"]["function"] == "check"
    assert wrong[0] == "ValidationException"
    assert "sessionState.invocationId" in wrong[1]
    assert went_on == again == turn_id
    assert (done["status"], done["answer"]) == ("COMPLETED", "R-1 it is.")
    assert "returnControl" not in done


def test_results_may_come_through_invoke_agent_too(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK, control=True))
    scene.model.then(CHECK_A, "R-1 it is.")
    turn_id = scene.start(ids, "Check A")
    waiting = scene.get(turn_id)

    answer = scene.ask(ids, sessionState=results(waiting["returnControl"]))

    assert answer.text == "R-1 it is."
    assert scene.get(turn_id)["answer"] == "R-1 it is."


def test_a_turn_over_its_budget_pauses_and_goes_on_when_it_is_resumed(scene: Scene) -> None:
    ids = scene.some(name="thrifty")
    scene.model.then("One.", "Two.")
    scene.get(scene.start(ids, "First"))
    turn_id = scene.start(ids, "Second")

    paused = scene.get(turn_id)
    again = scene.outcrop.resume_turn(turnId=turn_id)
    still = scene.get(turn_id)
    scene.clock.advance(DAY_S)
    resumed = scene.outcrop.resume_turn(turnId=turn_id)
    done = scene.get(turn_id)

    assert paused["status"] == still["status"] == "PAUSED"
    assert paused["statusReason"] == "BUDGET_EXCEEDED: The agent reached its budget of 1 step a day: 1 used."
    assert again["ResponseMetadata"]["HTTPStatusCode"] == resumed["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (done["status"], done["answer"]) == ("COMPLETED", "Two.")
    assert refusal(lambda: scene.outcrop.resume_turn(turnId=turn_id)) == (
        "ConflictException",
        f"Turn {turn_id} is COMPLETED. Only a PAUSED one can be resumed.",
    )


def test_a_cancelled_turn_stops_between_two_words_of_its_model(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("One two three four.", "Hello.")
    hold = scene.hold(after=2)
    turn_id = scene.start(ids, "Count")
    hold.reached()

    cancelled = scene.outcrop.cancel_turn(turnId=turn_id, reason="I counted myself.")
    turn = scene.get(turn_id, 0)
    again = scene.outcrop.cancel_turn(turnId=turn_id, reason="Twice.")

    assert cancelled["status"] == turn["status"] == again["status"] == "CANCELLED"
    assert cancelled["statusReason"] == turn["statusReason"] == again["statusReason"] == "I counted myself."
    assert "answer" not in turn
    assert scene.ask(ids, "Hi").text == "Hello."


def test_an_action_that_a_cancellation_cut_off_is_uncertain(scene: Scene) -> None:
    ids = scene.some(functions_group(CHECK))
    entered, leave = threading.Event(), threading.Event()

    def slow(_event: dict[str, Any]) -> str:
        entered.set()
        leave.wait(30)
        return "42"

    scene.functions.add("inventory", slow)
    scene.model.then(CHECK_A)
    turn_id = scene.start(ids, "Check A")
    assert entered.wait(30)

    scene.outcrop.cancel_turn(turnId=turn_id)
    turn = scene.get(turn_id)
    leave.set()

    assert turn["status"] == "CANCELLED"
    assert turn["statusReason"] == "The turn was cancelled."
    [action] = turn["uncertainActions"]
    assert (action["actionGroup"], action["function"]) == ("inventory", "check")
    assert turn["startedAt"] <= action["at"] <= turn["endedAt"]


def test_a_queued_turn_that_is_cancelled_never_begins(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("One.", "Three.")
    hold = scene.hold()
    one = scene.start(ids, "First")
    hold.reached()
    two = scene.start(ids, "Second", busySession="ENQUEUE")
    three = scene.start(ids, "Third", busySession="ENQUEUE")

    cancelled = scene.outcrop.cancel_turn(turnId=two, reason="Never mind.")
    hold.release()

    assert (cancelled["status"], cancelled["statusReason"]) == ("CANCELLED", "Never mind.")
    assert scene.get(one)["answer"] == "One."
    assert scene.get(three)["answer"] == "Three."
    told = scene.get(two)
    assert (told["status"], told["inputText"]) == ("CANCELLED", "Second")
    assert "startedAt" not in told
    [event], following, _ = scene.events(two)
    assert event["failure"]["message"] == "Never mind."
    assert following is None


def test_a_turn_ends_at_its_deadline_and_a_queued_one_with_it(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("One.")
    scene.hold()
    one = scene.start(ids, "First", deadlineSeconds=1)
    late = scene.get(one)
    again = scene.some(functions_group(CHECK, control=True))
    scene.model.then(CHECK_A)
    scene.get(scene.start(again, "Waits"))
    behind = scene.start(again, "Behind", busySession="ENQUEUE", deadlineSeconds=60)
    scene.clock.advance(61)

    never = scene.get(behind)

    assert late["status"] == never["status"] == "FAILED"
    assert late["statusReason"] == "The turn did not end within the 1 seconds it was given."
    assert never["statusReason"] == "The turn did not end within the 60 seconds it was given."
    assert "startedAt" not in never
