"""A request that is made again hears its turn from the start: what was told is not told twice, nothing is missed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from scripted_runtime import ACTED, Runtime, chunk, failed, refusal, stream, trace

from outcrop.client import (
    AgentClient,
    AgentDependencyFailed,
    AgentInterrupted,
    AgentStillRunning,
    AgentThrottled,
    Answer,
    Step,
)

Make = Callable[..., AgentClient]
WHO = ("AX123", "PROD", "session-789")
LATE = "Turn 01a1 did not end within the 29 seconds of one call. It goes on; retry the request to join it."
STOPPED = "Turn 01a1 did not end within the 29 seconds of one call. It was stopped."
CONTROL = {
    "invocationId": "inv-1",
    "invocationInputs": [{"functionInvocationInput": {"actionGroup": "stock", "function": "reserve"}}],
}


def model(tokens: int, millis: int = 5) -> tuple[str, Any]:
    usage = {"totalTimeMs": millis, "usage": {"inputTokens": tokens, "outputTokens": 1}}
    return trace(modelInvocationOutput={"metadata": usage})


def result(text: str) -> tuple[str, Any]:
    return trace(observation={"type": "ACTION_GROUP", "actionGroupInvocationOutput": {"text": text}})


def final(text: str) -> tuple[str, Any]:
    return trace(observation={"type": "FINISH", "finalResponse": {"text": text}})


def failure(reason: str) -> tuple[str, Any]:
    return "trace", {"trace": {"failureTrace": {"traceId": "r-0", "failureCode": 500, "failureReason": reason}}}


class Caller:
    """Somebody who writes down everything in the order in which it was told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def ask(self, agents: AgentClient, **members: Any) -> Answer:
        return agents.ask(*WHO, "Check", on_chunk=self.heard.append, on_step=self.step, **members)

    def step(self, step: Step) -> None:
        self.heard.append((step.kind, step.name if step.kind == "retry" else step.text))

    @property
    def kinds(self) -> list[str]:
        return [one if isinstance(one, str) else one[0] for one in self.heard]


@pytest.fixture
def caller() -> Caller:
    return Caller()


RETRY = ("retry", "Interrupted")
VOID = ("retry", "AnswerVoid")


def test_steps_and_text_are_told_once(caller: Caller, runtime: Runtime, client: Make) -> None:
    begun = [model(10), ACTED, result("42")]
    runtime.then(
        stream(*begun, chunk("There "), chunk("ar"), cut=True),
        stream(*begun, chunk("There are "), chunk("42."), model(20), final("There are 42.")),
    )

    answer = caller.ask(client())

    assert [step.kind for step in answer.steps] == ["model", "action", "result", "retry", "model", "answer"]
    assert caller.kinds == ["model", "action", "result", "There ", "ar", "retry", "e ", "42.", "model", "answer"]
    assert answer.text == "There are 42."
    assert answer.input_tokens == 30


def test_an_answer_that_comes_whole_after_its_pieces(caller: Caller, runtime: Runtime, client: Make) -> None:
    runtime.then(
        stream(chunk("There "), chunk("are "), cut=True),
        stream(model(10), final("There are 42."), chunk("There are 42.")),
    )

    assert caller.ask(client()).text == "There are 42."
    assert "".join(one for one in caller.heard if isinstance(one, str)) == "There are 42."


def test_a_step_that_took_another_time_in_the_journal_is_the_same(
    caller: Caller, runtime: Runtime, client: Make
) -> None:
    runtime.then(stream(model(10, millis=7), ACTED, cut=True), stream(model(10, millis=6), ACTED, chunk("42.")))

    assert [step.kind for step in caller.ask(client()).steps] == ["model", "action", "retry"]


def test_a_model_that_says_something_else_the_second_time(caller: Caller, runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("There are 4"), cut=True), stream(chunk("There "), chunk("might "), chunk("be 42.")))

    answer = caller.ask(client())

    assert answer.text == "There might be 42."
    assert caller.heard == ["There are 4", RETRY, VOID, "There might ", "be 42."]


def test_an_answer_that_is_shorter_than_what_was_told(caller: Caller, runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("There are 42, I think"), cut=True), stream(chunk("There "), chunk("are 42")))

    assert caller.ask(client()).text == "There are 42"
    assert caller.heard == ["There are 42, I think", RETRY, VOID, "There are 42"]


def test_white_space_at_the_end_is_no_other_answer(caller: Caller, runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("There are "), chunk("42.\n"), cut=True), stream(chunk("There are 42.")))

    caller.ask(client())

    assert caller.heard == ["There are ", "42.\n", RETRY]


def test_words_before_an_action_that_no_journal_keeps(caller: Caller, runtime: Runtime, client: Make) -> None:
    runtime.then(
        stream(chunk("Let me see."), model(10), ACTED, cut=True), stream(model(10), ACTED, ("returnControl", CONTROL))
    )

    answer = caller.ask(client())

    assert answer.return_control is not None
    assert answer.text == ""
    assert caller.heard[-1] == VOID


def test_a_step_that_came_out_differently_is_told_and_all_that_follow(
    caller: Caller, runtime: Runtime, client: Make
) -> None:
    """The engine died after the action and before it was written down."""
    unknown = "It is not known whether this action took place."
    runtime.then(
        stream(model(10), ACTED, result("paid"), cut=True),
        stream(model(10), ACTED, result(unknown), cut=True),
        stream(model(10), ACTED, result(unknown), model(10), chunk("Please check.")),
    )

    answer = caller.ask(client())

    told = [(step.kind, step.text) for step in answer.steps if step.kind in ("action", "result")]
    assert told == [("action", ""), ("result", "paid"), ("result", unknown)]
    assert [step.kind for step in answer.steps].count("model") == 2


def test_what_stopped_an_attempt_is_no_step_of_the_turn(caller: Caller, runtime: Runtime, client: Make) -> None:
    stopping = [failure("The server is stopping."), failed("internalServerException", "The server is stopping.")]
    runtime.then(stream(model(10), ACTED, *stopping), stream(model(10), ACTED, model(20), chunk("42.")))

    kinds = [step.kind for step in caller.ask(client()).steps]

    assert kinds == ["model", "action", "failure", "retry", "model"]


def test_a_character_that_was_cut_in_two(caller: Caller, runtime: Runtime, client: Make) -> None:
    data = "Größe 🏬".encode()
    runtime.then(stream(chunk(data[:3]), cut=True), stream(chunk(data[:2]), chunk(data[2:])))

    assert caller.ask(client()).text == "Größe 🏬"
    assert caller.heard == ["Gr", RETRY, "öße 🏬"]


def test_citations_of_the_attempt_that_came_through(runtime: Runtime, client: Make) -> None:
    cited = {"citations": [{"retrievedReferences": []}]}
    runtime.then(stream(chunk("4", attribution=cited), cut=True), stream(chunk("42.", attribution=cited)))

    assert client().ask(*WHO, "Check").citations == cited["citations"]


def test_results_keep_the_names_of_their_actions(runtime: Runtime, client: Make) -> None:
    called = {"actionGroupName": "stock", "function": "reserve", "executionType": "RETURN_CONTROL"}
    asked = trace(invocationInput={"invocationType": "ACTION_GROUP", "actionGroupInvocationInput": called})
    runtime.then(
        stream(model(10), asked, ("returnControl", CONTROL)),
        stream(result("R-1"), cut=True),
        stream(result("R-1"), model(20), chunk("Reserved.")),
    )

    answer = client().ask(*WHO, "Reserve", on_return_control=lambda _: "R-1")

    told = [(step.kind, step.name) for step in answer.steps]
    assert told == [
        ("model", ""), ("action", "stock.reserve"), ("result", "stock.reserve"), RETRY, ("model", ""),
    ]  # fmt: skip


# under which id ----------------------------------------------------------------------------------


def test_every_attempt_bears_the_id_of_its_request(runtime: Runtime, client: Make) -> None:
    runtime.then(
        refusal(503, ""),
        stream(("returnControl", CONTROL)),
        stream(cut=True),
        stream(chunk("Reserved.")),
    )

    client().ask(*WHO, "Reserve", on_return_control=lambda _: "R-1")

    keys = [key for key, _ in runtime.names]
    assert [number for _, number in runtime.names] == ["attempt=1", "attempt=2"] * 2
    assert [one == other for one, other in pairwise(keys)] == [True, False, True]


def test_a_turn_that_failed_is_made_anew_under_an_id_of_its_own(caller: Caller, runtime: Runtime, client: Make) -> None:
    runtime.then(stream(model(10), failed("throttlingException")), stream(model(10), chunk("42.")))

    answer = caller.ask(client())

    assert [step.kind for step in answer.steps] == ["model", "retry", "model"]
    assert answer.input_tokens == 20
    (first, _), (second, number) = runtime.names
    assert first != second
    assert number == "attempt=1"


# turns that are longer than a call ---------------------------------------------------------------


def test_a_turn_that_is_longer_than_a_call_is_joined_at_once_and_uses_no_attempt_up(
    caller: Caller, runtime: Runtime, client: Make
) -> None:
    late = failed("dependencyFailedException", LATE)
    runtime.then(stream(model(10), late), *[stream(model(10), ACTED, late)] * 9, stream(model(10), ACTED, chunk("42.")))

    answer = caller.ask(client(attempts=1, backoff_s=30.0))

    assert answer.text == "42."
    assert [step.kind for step in answer.steps if step.kind != "retry"] == ["model", "action"]
    assert [number for _, number in runtime.names] == [f"attempt={number}" for number in range(1, 12)]


def test_patience_comes_to_an_end(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("There"), failed("dependencyFailedException", LATE)))

    with pytest.raises(AgentStillRunning) as caught:
        client(patience_s=0).ask(*WHO, "Check")
    assert isinstance(caught.value, AgentDependencyFailed)
    assert (caught.value.partial_text, caught.value.message) == ("There", LATE)


@pytest.mark.parametrize("settings", [{"resumes": False}, {}])
def test_a_turn_that_was_stopped_or_that_nobody_resumes_is_not_joined(
    settings: dict[str, Any], runtime: Runtime, client: Make
) -> None:
    message = LATE if settings else STOPPED
    runtime.then(stream(failed("dependencyFailedException", message)))

    with pytest.raises(AgentDependencyFailed):
        client(**settings).ask(*WHO, "Check")


def test_a_server_that_goes_away_while_a_long_turn_is_waited_for(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(failed("dependencyFailedException", LATE)), refusal(503, ""), stream(chunk("42.")))

    assert client(attempts=2).ask(*WHO, "Check").text == "42."


def test_a_long_turn_whose_server_then_forbids_the_call(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(failed("dependencyFailedException", LATE)), refusal(429, "ThrottlingException"))

    with pytest.raises(AgentStillRunning) as caught:
        client(attempts=1).ask(*WHO, "Check")
    assert isinstance(caught.value.__cause__, AgentThrottled)


def test_an_attempt_that_says_nothing_leaves_what_was_told(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("There"), cut=True), stream(cut=True))

    with pytest.raises(AgentInterrupted) as caught:
        client(attempts=2).ask(*WHO, "Check")
    assert caught.value.partial_text == "There"
