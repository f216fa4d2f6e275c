"""A turn's events, told as they happen and retold from its journal, are the same; a longer journal tells more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turning import Stage, agent, answer_of, hear, plain

from outcrop.events import Answered, ControlReturned, Event, Failed, ModelCalled
from outcrop.models.base import ModelThrottled, ToolInputMalformed
from outcrop.models.providers.scripted import thinking
from outcrop.orchestration.definition import Definition
from outcrop.orchestration.limits import Allowance, Budget
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.retelling import retell
from outcrop.orchestration.turn import Opening, Turn
from outcrop.sessions.entries import OpenTurn
from outcrop.testing import call

CHECK = call("shop__check", {"sku": "A"})
BUY = call("shop__buy", {"sku": "A"})
ASK_CHECK = call("desk__check", {"sku": "B"})
ASK_BUY = call("desk__buy", {"sku": "B"})
REJECTED = call("nothing", {})
MALFORMED = ToolInputMalformed("no JSON")
BAD_TEMPLATE = {
    "promptOverrideConfiguration": {
        "promptConfigurations": [
            {
                "promptType": "ORCHESTRATION",
                "promptCreationMode": "OVERRIDDEN",
                "basePromptTemplate": '{"system": "$instruction$',
            }
        ]
    }
}


def mends(event: dict[str, Any]) -> dict[str, Any]:
    """A function that asks the model to mend its input."""
    told = {"responseState": "REPROMPT", "responseBody": {"TEXT": {"body": "Another SKU, please."}}}
    response = {"actionGroup": event["actionGroup"], "function": event["function"], "functionResponse": told}
    return {"messageVersion": "1.0", "response": response, "sessionAttributes": {"seen": "yes"}}


def breaks(_event: dict[str, Any]) -> str:
    raise RuntimeError("broken")


@dataclass
class Shape:
    """A turn: what the model says, and what the caller says to what it is asked."""

    script: Sequence[Any]
    states: Sequence[str] = ()
    function: Callable[[dict[str, Any]], Any] | str | None = "42"
    policy: Policy = field(default_factory=Policy)
    definition: Callable[[], Definition] = agent
    streams: bool = False


SHAPES = {
    "a plain answer": Shape(["Hello."]),
    "an answer with thoughts": Shape([[thinking("Politely."), "<thinking>Who?</thinking>Hello."]]),
    "a streamed answer": Shape(["Hello there, Ada."], streams=True),
    "a streamed answer after a tool": Shape([[CHECK], "There are 42."], streams=True),
    "an empty reply": Shape(["  "]),
    "one tool": Shape([["Let me see.", CHECK], "42"]),
    "several tools in a row": Shape([[CHECK], [CHECK], [CHECK], "42"]),
    "parallel tools": Shape([[CHECK, CHECK, CHECK], "42"]),
    "a rejected call": Shape([[REJECTED], "Sorry."]),
    "a rejected call beside a tool": Shape([[REJECTED, CHECK, call("shop__check", {})], "Sorry."]),
    "an unreadable call": Shape([MALFORMED, "Sorry."]),
    "unreadable calls to the end": Shape([[CHECK], MALFORMED, MALFORMED, MALFORMED]),
    "a reprompt": Shape([[CHECK], "Which?"], function=mends),
    "a function that fails": Shape([[CHECK]], function=breaks),
    "a function that fails beside another": Shape([[CHECK, REJECTED, CHECK]], function=breaks),
    "a function that there is not": Shape([[CHECK]], function=None),
    "a model that fails": Shape([ModelThrottled("slow")]),
    "a model that fails after a tool": Shape([[CHECK], ModelThrottled("slow")]),
    "a loop": Shape([[CHECK], [CHECK]], policy=Policy(max_iterations=2)),
    "return of control": Shape([[ASK_CHECK], "42"]),
    "return of control for several, and again": Shape([[ASK_CHECK, ASK_CHECK], [CHECK], [ASK_CHECK], "42"]),
    "an action that is allowed": Shape([[BUY], "Bought."], ["CONFIRM"]),
    "an action that is not allowed": Shape([[BUY], "All right."], ["DENY"]),
    "actions of which one is allowed": Shape([[BUY, BUY, BUY], "Bought."], ["CONFIRM", "DENY"]),
    "an action that is allowed and fails": Shape([[BUY]], ["CONFIRM"], breaks),
    "an action that its caller does once allowed": Shape([[ASK_BUY], "Bought."], ["CONFIRM"]),
    "an action that its caller may not do": Shape([[ASK_BUY], "All right."], ["DENY"]),
    "everything at once": Shape(
        [[CHECK, ASK_CHECK, BUY, REJECTED, ASK_BUY, BUY], "Done."], ["CONFIRM", "CONFIRM", "DENY"]
    ),
    "a question to the user": Shape([[call("user__askuser", {"question": "Which?"})]]),
    "a question that is empty": Shape([[call("user__askuser", {"question": " "})]]),
    "a budget that is used up": Shape([[CHECK]], policy=Policy(budget=Budget(turn=Allowance(steps=1)))),
    "a template that cannot be filled": Shape([], definition=lambda: agent(**BAD_TEMPLATE)),
}  # fmt: skip


async def live(stage: Stage, shape: Shape) -> list[list[Event]]:
    """The events of every call of a turn, as its callers heard them."""
    if shape.function is not None:
        stage.functions.add("shop", shape.function)
    calls = [await hear(await stage.begin(definition=shape.definition(), stream_answer=shape.streams))]
    while isinstance(calls[-1][-1], ControlReturned):
        calls.append(await hear(await stage.resume(answer_of(calls[-1][-1], *shape.states))))
    return calls


def retold(kept: OpenTurn, definition: Definition) -> list[list[Event]]:
    """The events of a journal as it was read, by call."""
    read = orjson.loads(orjson.dumps(kept.opening))
    return retell(Turn(kept.id, definition, Opening(**read), (), kept.started_at), kept).calls


def check_that_longer_journals_tell_more(pictures: Sequence[OpenTurn], definition: Definition) -> None:
    """Every picture's events begin with those of the one before, call by call; a place that stays tells nothing new."""
    before: list[list[Event]] = [[]]
    for number, picture in enumerate(pictures):
        told = [plain(call) for call in retold(picture, definition)]
        assert len(told) >= len(before), f"picture {number} lost a call"
        for index, (earlier, later) in enumerate(zip(before, told, strict=False)):
            assert later[: len(earlier)] == earlier, f"picture {number}, call {index}"
            assert index == len(before) - 1 or later == earlier, f"picture {number}: call {index} was over"
        if number and place(pictures[number - 1]) == place(picture):
            assert told == before, f"picture {number} tells more at the same place"
        before = told


def place(kept: OpenTurn) -> tuple[Any, ...]:
    """As `Journal.places` has it."""
    return kept.state, kept.lease, len(kept.entries), sum(entry.outcome is not None for entry in kept.entries)


@pytest.mark.parametrize("name", SHAPES)
async def test_what_is_retold_is_what_was_told(name: str) -> None:
    shape = SHAPES[name]
    stage = Stage(shape.script, shape.policy)

    heard = await live(stage, shape)
    told = await stage.told()

    assert [plain(call, timeless=True) for call in told] == [plain(call, timeless=True) for call in heard]
    assert isinstance(heard[-1][-1], Answered | Failed)
    stage.model.assert_finished()
    await stage.close()


@pytest.mark.parametrize("name", SHAPES)
async def test_a_longer_journal_tells_more_and_nothing_else(name: str) -> None:
    shape = SHAPES[name]
    stage = Stage(shape.script, shape.policy)

    await live(stage, shape)

    assert len(stage.pictures) >= 2
    check_that_longer_journals_tell_more(stage.pictures, shape.definition())
    await stage.close()


calls = st.sampled_from([CHECK, CHECK, BUY, ASK_CHECK, ASK_BUY, REJECTED])
rounds = st.lists(st.lists(calls, min_size=1, max_size=4) | st.just(MALFORMED), max_size=4)
endings = st.sampled_from(["Done.", " ", MALFORMED, ModelThrottled("slow"), [call("user__askuser", {"question": "?"})]])


@settings(max_examples=40, deadline=None)
@given(rounds, endings, st.lists(st.sampled_from(["CONFIRM", "DENY"]), min_size=1, max_size=3))
def test_turns_of_any_shape_are_retold_as_they_were_told(script: list[Any], ending: Any, states: list[str]) -> None:
    shape = Shape([*script, ending, MALFORMED, MALFORMED, MALFORMED], states)

    async def story() -> None:
        stage = Stage(shape.script, shape.policy)
        heard = await live(stage, shape)
        told = await stage.told()
        assert [plain(call, timeless=True) for call in told] == [plain(call, timeless=True) for call in heard]
        check_that_longer_journals_tell_more(stage.pictures, agent())
        await stage.close()

    asyncio.run(story())


async def test_a_paused_turn_is_retold_as_far_as_it_came_and_goes_on() -> None:
    """Given a budget that lets a turn pause, when it goes on with another, then its events go on as one story."""
    stage = Stage([[CHECK], "42"], Policy(budget=Budget(turn=Allowance(steps=2), at_limit="pause")))
    stage.functions.add("shop", "42")

    first = await hear(await stage.begin())
    so_far = await stage.told()
    kept = await stage.kept()
    stage.policy = Policy()
    again = await stage.turns.let_go_on(stage.turn_id)
    assert again is not None
    second = await hear(again)

    assert isinstance(first[-1], Failed)
    assert (first[-1].code, kept.state) == (402, "paused")
    assert [plain(call, timeless=True) for call in so_far] == [plain(first[:-1], timeless=True)]
    assert plain(second[: len(first) - 1], timeless=True) == plain(first[:-1], timeless=True)
    assert isinstance(second[-1], Answered)
    assert [plain(call, timeless=True) for call in await stage.told()] == [plain(second, timeless=True)]
    check_that_longer_journals_tell_more(stage.pictures, agent())
    assert await stage.turns.let_go_on(stage.turn_id) is None, "it is not paused any more"
    await stage.close()


@pytest.mark.parametrize("state", ["awaiting", "paused"])
async def test_a_turn_that_its_caller_left_is_retold_to_its_end(state: str) -> None:
    policy = Policy(budget=Budget(turn=Allowance(steps=2), at_limit="pause"))
    stage = Stage([[CHECK, ASK_CHECK] if state == "awaiting" else [CHECK]], policy)
    stage.functions.add("shop", "42")
    heard = await hear(await stage.begin())
    session, open_turn = await stage.open()
    assert open_turn is not None

    left = await stage.turns.leave(session, open_turn)
    told = await stage.told()

    assert left.open_turn == ""
    assert [len(turn) for turn in left.history] == [4]
    [*before, last] = [event for call in told for event in call]
    assert isinstance(last, Failed)
    assert last.reason == "The turn was left for a newer request of its session."
    assert len(before) == len(heard) - (state == "paused")
    check_that_longer_journals_tell_more(stage.pictures, agent())
    await stage.close()


async def test_a_turn_that_was_forgotten_with_its_session_is_retold_to_its_end() -> None:
    stage = Stage([[ASK_CHECK], "Hello."])
    await hear(await stage.begin())
    first = stage.turn_id
    stage.clock.at += 10_000
    await hear(await stage.begin())

    [[called, *_]] = await stage.told()
    assert isinstance(called, ModelCalled)
    assert len(called.messages) == 1, "the session started anew"
    [*_, last] = [event for call in await stage.told(first) for event in call]
    assert isinstance(last, Failed)
    await stage.close()


async def test_a_turn_is_retold_with_what_came_before_it() -> None:
    stage = Stage(["one", "two", "three"])
    turns = [await stage.begin(f"turn {n}") and await _heard(stage) for n in range(3)]

    for number, turn_id in enumerate(turns):
        [[called, *_]] = await stage.told(turn_id)
        assert isinstance(called, ModelCalled)
        assert len(called.messages) == 2 * number + 1
    await stage.close()


async def _heard(stage: Stage) -> str:
    await hear(stage.turns.follow(stage.turn_id, 0))
    return stage.turn_id


async def test_a_turn_that_nobody_knows_is_not_retold() -> None:
    stage = Stage()
    assert await stage.turns.retold(stage.turn_id) is None
    await stage.close()
