"""One call's events for any number of listeners: late ones hear all, and nobody keeps the turn waiting."""

from __future__ import annotations

import asyncio

from turning import hear

from outcrop.events import Event, TextStreamed
from outcrop.ids import TurnId
from outcrop.orchestration.channel import Channel

ONE, TWO, THREE = (TextStreamed(word) for word in ("one", "two", "three"))


def channel(*told: Event) -> Channel:
    return Channel(TurnId("t"), told)


async def test_what_is_ready_together_comes_together() -> None:
    told = channel(ONE)
    told.emit(TWO)
    batches = told.batches()

    assert await anext(batches) == [ONE, TWO]
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    told.emit(THREE)
    assert await waiting == [THREE]
    told.close()
    assert await anext(batches, None) is None


async def test_every_listener_hears_everything_and_a_late_one_from_the_start() -> None:
    told = channel()
    first, second = asyncio.ensure_future(hear(told)), asyncio.ensure_future(hear(told))
    await asyncio.sleep(0)
    told.emit(ONE)
    await asyncio.sleep(0)
    late = asyncio.ensure_future(hear(told))
    told.emit(TWO)
    await asyncio.sleep(0)
    told.close()

    assert await first == await second == await late == [ONE, TWO]
    assert await hear(told) == [ONE, TWO], "also after its end"


async def test_a_listener_that_goes_away_changes_nothing_for_others() -> None:
    told = channel()
    away, stays = asyncio.ensure_future(hear(told)), asyncio.ensure_future(hear(told))
    await asyncio.sleep(0)
    away.cancel()
    await asyncio.gather(away, return_exceptions=True)

    told.emit(ONE)
    told.close()
    assert await stays == [ONE]


async def test_a_call_that_ends_without_a_word_ends_its_listeners() -> None:
    told = channel()
    listener = asyncio.ensure_future(hear(told))
    await asyncio.sleep(0)
    told.close()

    assert await listener == []
    assert not told.is_over
