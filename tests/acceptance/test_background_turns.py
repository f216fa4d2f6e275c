"""Turns without their caller, through boto3: started, followed, answered, cancelled, resumed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import CHECK, INSTRUCTION, RESERVE, ROLE, World, functions_group
from botocore.exceptions import ClientError
from gated_model import GatedModel
from held_model import HeldModel
from serving import Served

from outcrop.clock import StillClock
from outcrop.config import Binding, Config, ServerSettings
from outcrop.models.base import ModelUnavailable
from outcrop.testing import LocalServer, RecordedFunctions, call

CHECK_A = [call("inventory__check", {"sku": "A"})]
DAY_S = 86_400.0
POLICIES = (
    Binding("thrifty-*", {"budget": {"agent_steps": 1, "period": "day", "at_limit": "pause"}}),
    Binding("patient-*", {"busy_session": "enqueue"}),
)


class Scene(World):
    """One server for all tests of a process, because its jobs take a second to launch; each test has its own agents."""

    def __init__(self, server: LocalServer, model: HeldModel, functions: RecordedFunctions, clock: StillClock) -> None:
        super().__init__(server, model, functions)
        self.model, self.clock = model, clock
        self.outcrop = server.client("outcrop")
        self.numbers = itertools.count(1)

    def hold(self, call: int = 1, *, after: int = 0) -> Any:
        """Let the model's n-th call from now on wait."""
        return self.model.hold(len(self.model.requests) + call, after=after)

    def some(self, *groups: dict[str, Any], name: str = "stock") -> tuple[str, str]:
        """An agent of this test's own."""
        return self.agent(*groups, name=f"{name}-{next(self.numbers)}")

    def start(self, ids: tuple[str, str], text: str = "", *, session: str = "session-1", **members: Any) -> str:
        """A turn's id."""
        self.clock.advance(0.01)
        given = {"inputText": text} if text else {}
        began = self.outcrop.start_turn(agentId=ids[0], agentAliasId=ids[1], sessionId=session, **given, **members)
        return began["turnId"]

    def get(self, turn_id: str, wait_s: int = 30) -> dict[str, Any]:
        """The turn once it rests."""
        told = self.outcrop.get_turn(turnId=turn_id, waitSeconds=wait_s)
        told.pop("ResponseMetadata")
        return told

    def events(self, turn_id: str, **members: Any) -> tuple[list[dict[str, Any]], str | None, str]:
        """One page, where it goes on, and the status."""
        told = self.outcrop.list_turn_events(turnId=turn_id, **members)
        return told["events"], told.get("nextToken"), told["status"]

    def all_events(self, turn_id: str, page: int = 100) -> list[dict[str, Any]]:
        """What there is at the moment, traces included, read in pages."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            events, following, _ = self.events(turn_id, includeTrace=True, maxResults=page, **token)
            found += events
            if not events or following is None:
                return found
            token = {"nextToken": following}


@pytest.fixture(scope="module")
def serving() -> Iterator[Scene]:
    model, functions, clock = HeldModel(), RecordedFunctions(), StillClock()
    config = Config(server=ServerSettings(database="sqlite:memory"), agents=POLICIES)
    with LocalServer(model, functions, config=config, clock=clock) as server:
        yield Scene(server, model, functions, clock)


@pytest.fixture
def scene(serving: Scene) -> Iterator[Scene]:
    serving.functions.handlers.clear()
    serving.functions.events.clear()
    serving.functions.add("inventory", "42")
    yield serving
    serving.model.assert_finished()


def results(control: dict[str, Any], text: str = "R-1") -> dict[str, Any]:
    """A sessionState with an answer to everything that was asked."""
    brought = []
    for given in control["invocationInputs"]:
        asked = given["functionInvocationInput"]
        named = {"actionGroup": asked["actionGroup"], "function": asked["function"]}
        brought.append({"functionResult": {**named, "responseBody": {"TEXT": {"body": text}}}})
    return {"invocationId": control["invocationId"], "returnControlInvocationResults": brought}


def refusal(of: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        of()
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]


# starting and looking ------------------------------------------------------------------------------


def test_a_turn_is_started_and_answered_without_its_caller(scene: Scene) -> None:
    agent, alias = ids = scene.some(functions_group(CHECK))
    scene.model.then(CHECK_A, "42 in stock.")

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


# lists ------------------------------------------------------------------------------------------------


def test_turns_are_listed_newest_first_by_agent_session_and_status(scene: Scene) -> None:
    one, other = scene.some(functions_group(CHECK, control=True)), scene.some()
    scene.model.then("A.", "B.", CHECK_A, "C.")
    first = scene.start(one, "A", session="listed-1")
    scene.get(first)
    second = scene.start(one, "B", session="listed-2")
    scene.get(second)
    third = scene.start(one, "C", session="listed-1")
    scene.get(third)
    foreign = scene.start(other, "D", session="listed-1")
    scene.get(foreign)

    def listed(**members: Any) -> list[str]:
        return [turn["turnId"] for turn in scene.outcrop.list_turns(**members)["turnSummaries"]]

    name = scene.control.get_agent(agentId=one[0])["agent"]["agentName"]
    assert listed()[:4] == [foreign, third, second, first]
    assert listed(agentId=one[0]) == listed(agentId=name) == [third, second, first]
    assert listed(agentId=one[0], agentAliasId="PROD") == [third, second, first]
    assert listed(agentId=one[0], agentAliasId="TSTALIASID") == []
    assert listed(agentId=one[0], sessionId="listed-1") == [third, first]
    assert listed(agentId=one[0], agentAliasId=one[1], sessionId="listed-1") == [third, first]
    assert listed(sessionId="listed-1") == [foreign, third, first]
    assert listed(sessionId="isted-1") == []
    assert listed(agentId=one[0], status="WAITING_FOR_INPUT") == [third]
    assert listed(agentId=one[0], status="COMPLETED", maxResults=1) == [second]
    [summary] = scene.outcrop.list_turns(agentId=one[0], status="COMPLETED", sessionId="listed-2")["turnSummaries"]
    assert summary["agentVersion"] == "1"
    assert not {"inputText", "answer"} & set(summary)
    pages = scene.outcrop.get_paginator("list_turns").paginate(agentId=one[0], PaginationConfig={"PageSize": 1})
    assert [turn["turnId"] for page in pages for turn in page["turnSummaries"]] == [third, second, first]


def test_turns_of_a_deleted_agent_are_still_listed_by_its_id(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("A.")
    turn_id = scene.start(ids, "A")
    scene.get(turn_id)
    scene.control.delete_agent(agentId=ids[0], skipResourceInUseCheck=True)

    [summary] = scene.outcrop.list_turns(agentId=ids[0])["turnSummaries"]

    assert summary["turnId"] == turn_id
    assert refusal(lambda: scene.outcrop.list_turns(agentId="no-such"))[0] == "ResourceNotFoundException"


def test_turns_of_calls_are_turns_too(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.", "Inline.")
    scene.ask(ids, "Hi", session="calls")
    answer = scene.runtime.invoke_inline_agent(
        foundationModel="m", instruction="You answer questions about stock, briefly.", sessionId="inline-calls",
        inputText="Hi",
    )  # fmt: skip
    list(answer["completion"])

    [called] = scene.outcrop.list_turns(agentId=ids[0])["turnSummaries"]
    [inline] = scene.outcrop.list_turns(agentId="INLINE_AGENT", sessionId="inline-calls")["turnSummaries"]

    assert scene.get(called["turnId"])["answer"] == "Hello."
    assert (inline["agentId"], inline["agentAliasId"]) == ("INLINE_AGENT", "TSTALIASID")
    assert scene.get(inline["turnId"])["answer"] == "Inline."


# bad input ----------------------------------------------------------------------------------------------


def test_what_is_missing_or_wrong_is_named(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.")
    turn_id = scene.start(ids, "Hi")
    scene.get(turn_id)
    scene.clock.advance(1)
    client = scene.outcrop
    events = client.list_turn_events(turnId=turn_id, includeTrace=True, maxResults=1)["nextToken"]
    listed = client.list_turns(maxResults=1).get("nextToken", events)

    def naming(field: str, of: Callable[[], Any]) -> None:
        with pytest.raises(ClientError) as raised:
            of()
        assert raised.value.response["Error"]["Code"] == "ValidationException"
        assert [one["name"] for one in raised.value.response["fieldList"]] == [field]

    naming("inputText", lambda: scene.start(ids))
    naming("agentAliasId", lambda: client.list_turns(agentAliasId="PROD"))
    naming("nextToken", lambda: client.list_turns(nextToken="made-up"))
    naming("nextToken", lambda: client.list_turns(nextToken=events))
    naming("nextToken", lambda: client.list_turns(agentId=ids[0], nextToken=listed))
    naming("nextToken", lambda: client.list_turn_events(turnId=turn_id, nextToken=listed[:-4]))
    naming("status", lambda: client.list_turns(status="DONE"))
    naming("busySession", lambda: scene.start(ids, "Hi", busySession="WAIT"))


def test_unknown_things_are_not_found(scene: Scene) -> None:
    ids = scene.some()
    unknown = "0" * 32
    client = scene.outcrop

    for of in (client.get_turn, client.list_turn_events, client.cancel_turn, client.resume_turn):
        assert refusal(lambda of=of: of(turnId=unknown)) == (
            "ResourceNotFoundException",
            f"There is no turn {unknown}.",
        )
    assert refusal(lambda: scene.start(("no-such", ids[1]), "Hi"))[0] == "ResourceNotFoundException"
    assert refusal(lambda: scene.start((ids[0], "no-such"), "Hi"))[0] == "ResourceNotFoundException"


def test_an_agent_that_is_not_prepared_is_refused_before_anything_is_kept(scene: Scene) -> None:
    agent = scene.control.create_agent(agentName=f"raw-{next(scene.numbers)}", foundationModel="m")["agent"]["agentId"]

    code, message = refusal(lambda: scene.start((agent, "TSTALIASID"), "Hi"))

    assert code == "ValidationException"
    assert message.startswith("StartTurn operation can't be performed on Agent when it is in Not Prepared state.")
    assert scene.outcrop.list_turns(agentId=agent)["turnSummaries"] == []


def test_turns_of_another_account_are_not_found(scene: Scene) -> None:
    ids = scene.some()
    scene.model.then("Hello.")
    turn_id = scene.start(ids, "Hi")
    scene.get(turn_id)

    def move(connection: Any) -> None:
        connection.exec_driver_sql(
            "UPDATE turns SET session_key = replace(session_key, '123456789012/', '999999999999/') WHERE id = ?",
            (turn_id,),
        )

    scene.server.run(scene.server.engine.database.write(move))

    assert refusal(lambda: scene.get(turn_id))[0] == "ResourceNotFoundException"
    assert refusal(lambda: scene.outcrop.cancel_turn(turnId=turn_id))[0] == "ResourceNotFoundException"
    assert scene.outcrop.list_turns(agentId=ids[0])["turnSummaries"] == []


# a server that is killed --------------------------------------------------------------------------------


@pytest.mark.slow
def test_turns_of_a_killed_server_end_after_its_restart_without_anybody_asking(tmp_path: Path) -> None:
    config = tmp_path / "outcrop.toml"
    with GatedModel(lambda messages: {"content": f"I have seen {len(messages)} messages."}) as model:
        bound = f'{{ provider = "openai", base_url = "{model.url}", model = "m" }}'
        config.write_text(f'[models]\n"*" = {bound}\n')
        at = {"agentId": "afar", "agentAliasId": "TSTALIASID", "sessionId": "s-1"}
        with Served(tmp_path / "data", config=config) as server:
            control, client = server.client("bedrock-agent"), server.client("outcrop")
            made = {"agentName": "afar", "foundationModel": "m", "instruction": INSTRUCTION}
            control.create_agent(**made, agentResourceRoleArn=ROLE)
            control.prepare_agent(agentId="afar")
            model.hold(1)
            running = client.start_turn(**at, inputText="First", clientToken="order-1")["turnId"]
            assert model.reached.wait(30)
            queued = client.start_turn(**at, inputText="Second", busySession="ENQUEUE")["turnId"]
            server.kill()
        model.release()

        with Served(tmp_path / "data", config=config) as server:
            client = server.client("outcrop")
            first, second = (client.get_turn(turnId=turn_id, waitSeconds=60) for turn_id in (running, queued))
            again = client.start_turn(**at, inputText="First", clientToken="order-1")["turnId"]

    # The system prompt, what was said before, and the user's words.
    assert first["answer"] == "I have seen 2 messages."
    assert second["answer"] == "I have seen 4 messages."
    assert again == running
    assert len(model.requests) == 3
