"""A turn's events as readers number them: what is read early is the beginning of what is read late, to the letter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from turning import Stage, agent, answer_of, hear

from outcrop.events import ControlReturned
from outcrop.models.base import ModelThrottled, ToolInputMalformed
from outcrop.operations.extensions.turn_events import numbered
from outcrop.orchestration.encoding import opening_of
from outcrop.orchestration.retelling import retell
from outcrop.orchestration.turn import Turn
from outcrop.sessions.entries import OpenTurn
from outcrop.testing import call
from outcrop.wire.serializing import to_json

AGENT = agent()
CALLS = st.sampled_from(
    [
        call("shop__check", {"sku": "A"}),
        call("shop__buy", {"sku": "A"}),
        call("desk__check", {"sku": "B"}),
        call("desk__buy", {"sku": "B"}),
        call("nothing", {}),
    ]
)
REPLIES = st.one_of(
    st.lists(CALLS, min_size=1, max_size=4),
    st.just(ToolInputMalformed("no JSON")),
)
ENDS = st.sampled_from(["Done.", "", ModelThrottled("slow"), [call("user__askuser", {"question": "Which?"})]])


@given(
    script=st.lists(REPLIES, max_size=3),
    end=ENDS,
    last=st.sampled_from(["resume", "cancel", "leave"]),
    rounds=st.integers(0, 3),
    function=st.sampled_from(["42", None]),
)
@settings(max_examples=80, deadline=None)
def test_what_is_read_from_a_turn_under_way_is_a_prefix_of_what_is_read_later(
    script: Sequence[Any], end: Any, last: str, rounds: int, function: str | None
) -> None:
    asyncio.run(check([*script, end], last, rounds, function))


async def check(script: Sequence[Any], last: str, rounds: int, function: str | None) -> None:
    """A turn that is answered so many times, then left or cancelled where it still waits; every picture is read."""
    stage = Stage([*script, "Spare.", "Spare."])
    if function is not None:
        stage.functions.add("shop", function)
    events = await hear(await stage.begin())
    while isinstance(events[-1], ControlReturned) and (rounds > 0 or last == "resume"):
        rounds -= 1
        events = await hear(await stage.resume(answer_of(events[-1], "CONFIRM")))
    turn_id = stage.turn_id
    if isinstance(events[-1], ControlReturned):
        if last == "cancel":
            await stage.turns.stop(turn_id, "cancel", "Never mind.")
        else:
            session, open_turn = await stage.open()
            assert open_turn is not None
            await stage.turns.leave(session, open_turn)
    found = await stage.turns.retold(turn_id)
    assert found is not None
    whole = [to_json(event) for event in numbered(*found)]

    read: list[bytes] = []
    for picture in stage.pictures:
        again = read_of(picture)
        assert again[: len(read)] == read
        read = again
    await stage.close()

    assert read == whole
    assert len(whole) == len(set(whole))
    sequences = [event["sequence"] for event in numbered(*found)]
    assert sequences == list(range(1, len(whole) + 1))


def read_of(picture: OpenTurn) -> list[bytes]:
    """What a reader sees of a turn whose journal is as it was in the picture."""
    told = retell(Turn(picture.id, AGENT, opening_of(picture), (), picture.started_at), picture)
    return [to_json(event) for event in numbered(picture, told)]
