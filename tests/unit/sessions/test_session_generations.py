"""Which session a turn belongs to: the one that was read, as it was read, whatever the clocks of its servers say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from turning import KEY, HeldModel, Stage, Ticking, hear, memory
from workers import Worker

from outcrop.events import Answered
from outcrop.messages import text_of
from outcrop.sessions.entries import Moved
from outcrop.testing import ScriptedModel

NewWorker = Callable[[str], Worker]
NOW = 1_800_000_000.0


async def remembered(one: Worker, now: float) -> list[str]:
    session = await one.session(now=now)
    return [message["content"][0]["text"] for turn in session.history for message in turn]


@pytest.mark.parametrize("how", ["begins a turn", "starts it anew", "ends it"])
async def test_a_whole_turn_that_came_and_went_is_not_overlooked(worker: NewWorker, how: str) -> None:
    """Given a session without a turn before and after, then whoever read it before still has to look again."""
    one, two = worker("one"), worker("two")
    await one.end(await one.begun("t1"))
    read = await one.session(now=1000.0 if how == "starts it anew" else 3.0)
    assert read.replaces == (how == "starts it anew")
    pages = await two.begun("t2", now=4.0)
    await two.end(pages, KEY, 5.0, "Pay B")
    assert (await two.session(now=6.0)).open_turn == read.open_turn == ""

    with pytest.raises(Moved):
        await (one.sessions.delete(read) if how == "ends it" else one.begin(read, "t3", 6.0))

    assert await remembered(one, 6.0) == ["Pay B"]
    assert (await one.turn("t2")).state == "done"
    await one.begun("t3", now=7.0)  # having looked again
    assert (await one.turn("t3")).base == 1


async def test_a_turn_begun_by_a_slow_clock_belongs_to_its_session() -> None:
    """Given a session younger than two clocks differ, then whoever takes up its turn knows what came before."""
    database = memory()
    fast = Stage(["Hello Ann."], database=database, name="fast", clock=Ticking(NOW))
    first = await fast.begin("I am Ann")
    await hear(first)
    await fast.sessions.heard(KEY, first.turn_id)
    held = HeldModel(ScriptedModel([]))
    slow = Stage(database=database, name="slow", model=held, clock=Ticking(NOW - 2.0))
    await slow.begin("Who am I?")
    await held.held.reached.wait()
    await slow.turns.close(0.0)

    model = ScriptedModel(["You are Ann."])
    third = Stage(database=database, name="third", model=model, clock=Ticking(NOW + 1.0))
    channel = await third.turns.recover(slow.turn_id)
    assert channel is not None
    heard = await hear(channel)

    assert isinstance(heard[-1], Answered)
    assert [text_of(message) for message in model.requests[0].messages] == ["I am Ann", "Hello Ann.", "Who am I?"]
    session, _ = await third.open()
    assert (session.idle_ttl_s, session.is_new, len(session.history)) == (600, False, 2)
    assert session.started_at < NOW + 1.0
    for stage in (fast, third):
        await stage.turns.close(5.0)
    await database.close()
