"""Several calls on one session at once: the same call joins its turn, another is refused, waits or takes its place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from agents import CHECK, Answer, World, collect, functions_group
from botocore.exceptions import EventStreamError
from held_model import HeldModel
from refusals import refused

from outcrop.clock import StillClock
from outcrop.config import Config, ServerSettings, TurnSettings
from outcrop.messages import text_of
from outcrop.models.base import ModelThrottled
from outcrop.models.providers.scripted import Reply
from outcrop.testing import LocalServer, RecordedFunctions, call

CHECK_A = [call("inventory__check", {"sku": "A"})]
STREAMED = {"streamingConfigurations": {"streamFinalResponse": True}}
INTERRUPTED = "The turn was interrupted by a newer request of its session."


class Counter(World):
    """A world whose model can be held, and where callers ask side by side."""

    model: HeldModel

    def __init__(self, server: LocalServer, model: HeldModel, functions: RecordedFunctions) -> None:
        super().__init__(server, model, functions)
        self._callers = ThreadPoolExecutor()
        functions.add("inventory", "42")
        self.ids = self.agent(functions_group(CHECK))

    def begin(self, text: str, **members: Any) -> Future[Answer]:
        """A call of which the head is there, read to its end aside."""
        response = self.open(text, **members)
        return self._callers.submit(collect, response)

    def open(self, text: str, **members: Any) -> dict[str, Any]:
        agent, alias = self.ids
        given = {"inputText": text, "enableTrace": True, "sessionId": "session-1", **members}
        found: dict[str, Any] = self.runtime.invoke_agent(agentId=agent, agentAliasId=alias, **given)
        return found

    def asked(self) -> list[str]:
        """What each model call was last told by the user."""
        return [text_of(request.messages[-1]) for request in self.model.requests]

    def close(self) -> None:
        self._callers.shutdown()


Open = Callable[..., Counter]


@pytest.fixture
def counter() -> Iterator[Open]:
    """Makes such a world with these settings of turns, on a model with these replies."""
    with ExitStack() as stack:

        def make(*replies: Reply, **turns: Any) -> Counter:
            config = Config(server=ServerSettings(database="sqlite:memory"), turns=TurnSettings(**turns))
            model, functions = HeldModel(*replies), RecordedFunctions()
            server = stack.enter_context(LocalServer(model, functions, config=config, clock=StillClock()))
            made = Counter(server, model, functions)
            stack.callback(made.close)
            stack.callback(model.assert_finished)
            return made

        yield make


# the same call -----------------------------------------------------------------------------------


def test_two_callers_with_the_same_words_hear_one_turn(counter: Open) -> None:
    world = counter(CHECK_A, "There are 42 of them.")
    midway = world.model.hold(2, after=2)

    first = world.begin("How many?", **STREAMED)
    midway.reached()
    second = world.begin("How many?", **STREAMED)
    midway.release()

    one, other = first.result(30), second.result(30)
    assert one.text == other.text == "There are 42 of them."
    assert one.kinds == other.kinds
    assert one.kinds[0] == "o.in(0)"
    assert len(world.model.requests) == 2
    assert len(world.functions.events) == 1


def test_whoever_joins_while_an_action_runs_hears_of_it_once_it_is_done(counter: Open) -> None:
    world = counter(CHECK_A, "There are 42.")
    entered, leave = threading.Event(), threading.Event()

    def slowly(_event: dict[str, Any]) -> str:
        entered.set()
        assert leave.wait(30)
        return "42"

    world.functions.add("inventory", slowly)
    first = world.begin("How many?")
    assert entered.wait(30)
    second = world.begin("How many?")
    leave.set()

    assert first.result(30).kinds == second.result(30).kinds
    assert len(world.functions.events) == 1


def test_the_same_words_are_a_new_turn_once_the_answer_was_heard(counter: Open) -> None:
    world = counter("Hello.", "Hello again.")

    assert world.begin("Hi").result(30).text == "Hello."
    assert world.begin("Hi").result(30).text == "Hello again."


def test_the_same_results_join_the_turn_that_they_let_go_on(counter: Open) -> None:
    world = counter([call("orders__check", {"sku": "A"})], "There are 42.")
    world.ids = world.agent(functions_group(CHECK, name="orders", control=True), name="orders")
    hold = world.model.hold(2)
    control = world.begin("How many?").result(30).control
    assert control is not None
    result = {"actionGroup": "orders", "function": "check", "responseBody": {"TEXT": {"body": "42"}}}
    state = {
        "invocationId": control["invocationId"],
        "returnControlInvocationResults": [{"functionResult": result}],
    }

    first = world.begin("", sessionState=state)
    hold.reached()
    second = world.begin("", sessionState=state)
    hold.release()

    assert first.result(30).kinds == second.result(30).kinds
    assert second.result(30).text == "There are 42."
    assert len(world.model.requests) == 2


def retry(world: Counter, text: str, key: str, attempt: str) -> tuple[int, bytes]:
    """A call as an SDK sends it; `attempt` is its header."""
    agent, alias = world.ids
    path = f"/agents/{agent}/agentAliases/{alias}/sessions/session-1/text"
    headers = {"content-type": "application/json", "amz-sdk-invocation-id": key, "amz-sdk-request": attempt}
    answer = world.server.request("POST", path, json.dumps({"inputText": text}).encode(), headers)
    return answer.status_code, b"".join(answer.raw.stream())


def test_an_sdk_that_tries_again_gets_the_answer_that_was_sent_before(counter: Open) -> None:
    world = counter("Hello.", "Hello again.")

    first = retry(world, "Hi", "one", "attempt=1; max=3")
    again = retry(world, "Hi", "one", "attempt=2; max=3")
    anew = retry(world, "Hi", "two", "attempt=1; max=3")

    assert first == again
    assert b"SGVsbG8u" in again[1]  # Hello.
    assert anew != first
    assert world.asked() == ["Hi", "Hi"]


@pytest.mark.parametrize("odd", ["", "attempt=", "attempt=two", "max=3", "attempt=1e9"])
def test_an_attempt_that_nobody_can_read_is_a_first_one(odd: str, counter: Open) -> None:
    world = counter("Hello.", "Hello again.")

    retry(world, "Hi", "one", "attempt=1; max=3")

    assert b"SGVsbG8gYWdhaW4u" in retry(world, "Hi", "one", odd)[1]  # Hello again.


# other words -------------------------------------------------------------------------------------


def test_other_words_are_refused(counter: Open) -> None:
    world = counter("Hello.", "Well.")
    hold = world.model.hold(1)
    first = world.begin("Hi")
    hold.reached()

    code, status, message = refused(world.open, "Well?")
    hold.release()

    assert (code, status) == ("ConflictException", 409)
    assert message == "Session session-1 has a request in progress. Retry when it has ended."
    assert first.result(30).text == "Hello."
    assert world.begin("Well?").result(30).text == "Well."


def test_other_words_wait_in_the_order_in_which_they_came(counter: Open) -> None:
    world = counter("One.", "Two.", "Three.", "Four.", busy_session="enqueue")
    hold = world.model.hold(1)
    calls = [world.begin("1")]
    hold.reached()
    calls += [world.begin(text) for text in ("2", "3", "4")]
    hold.release()

    assert [one.result(30).text for one in calls] == ["One.", "Two.", "Three.", "Four."]
    assert world.asked() == ["1", "2", "3", "4"]
    assert len(world.model.requests[-1].messages) == 7


def test_who_waits_with_the_words_of_another_who_waits_hears_one_turn(counter: Open) -> None:
    world = counter("One.", "Two.", busy_session="enqueue")
    one, two = world.model.hold(1), world.model.hold(2)
    first = world.begin("1")
    one.reached()
    second, twin = world.begin("2"), iter(world.open("2")["completion"])
    one.release()
    two.reached()
    heard = [next(twin)]
    two.release()
    heard += twin

    assert first.result(30).text == "One."
    assert second.result(30).text == "Two."
    assert [next(iter(event)) for event in heard] == [name for name, _ in second.result(30).frames]
    assert heard[-1]["chunk"]["bytes"] == b"Two."


def test_a_failure_that_was_told_to_a_call_that_waited_was_heard(counter: Open) -> None:
    world = counter("One.", ModelThrottled("slow down"), "Two.", busy_session="enqueue")
    hold = world.model.hold(1)
    first = world.begin("1")
    hold.reached()
    second = world.begin("2")
    hold.release()

    assert first.result(30).text == "One."
    with pytest.raises(EventStreamError) as caught:
        second.result(30)

    assert caught.value.response["Error"]["Code"] == "throttlingException"
    assert world.begin("2").result(30).text == "Two."
    assert world.asked() == ["1", "2", "2"]


def test_newer_words_interrupt_and_what_was_done_stays(counter: Open) -> None:
    world = counter(CHECK_A, "Never said.", "Never mind.", busy_session="interrupt")
    hold = world.model.hold(2)
    first = world.begin("How many?")
    hold.reached()

    second = world.begin("Forget it")

    with pytest.raises(EventStreamError) as caught:
        first.result(30)
    error = caught.value.response["Error"]
    assert error["Code"] == "conflictException"
    assert error["Message"].startswith(INTERRUPTED)
    assert caught.value.answer.kinds[-1] == "failure"
    assert second.result(30).text == "Never mind."
    told = world.model.requests[-1].messages
    assert any("toolResult" in block for message in told for block in message["content"])
    assert text_of(told[-1]) == "Forget it"


def test_an_interrupted_caller_that_asks_again_interrupts_in_turn(counter: Open) -> None:
    world = counter("Never said.", "Never said either.", "Hello.", busy_session="interrupt")
    one, other = world.model.hold(1), world.model.hold(2)
    first = world.begin("Hi")
    one.reached()
    second = world.begin("Stop")
    other.reached()

    third = world.begin("Hi")

    for interrupted in (first, second):
        with pytest.raises(EventStreamError):
            interrupted.result(30)
    assert third.result(30).text == "Hello."


def test_a_session_is_not_ended_under_a_turn(counter: Open) -> None:
    world = counter("Hello.")
    hold = world.model.hold(1)
    first = world.begin("Hi")
    hold.reached()

    code, status, _ = refused(world.open, "", endSession=True)
    hold.release()

    assert (code, status) == ("ConflictException", 409)
    assert first.result(30).text == "Hello."


def test_a_session_that_is_ended_interrupts_its_turn_where_newer_calls_do(counter: Open) -> None:
    world = counter("Never said.", "Hello.", busy_session="interrupt")
    hold = world.model.hold(1)
    first = world.begin("Hi")
    hold.reached()

    assert world.begin("", endSession=True).result(30).text.startswith("Session is terminated")

    with pytest.raises(EventStreamError):
        first.result(30)
    world.begin("Who am I?").result(30)
    assert len(world.model.requests[-1].messages) == 1
