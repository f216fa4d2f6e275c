"""Events from a turn to whoever listens, in batches: what was ready together travels together.

The turn never waits for a listener, and one that goes away changes nothing for it. Whoever
joins late hears everything from the start of the call: the events are kept, by reference,
until the last of the turn's task and its listeners lets go of the channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from outcrop.events import Event
from outcrop.ids import TurnId

_MOST_AT_ONCE = 64
"""Events in one batch, so that a listener who reads slowly is noticed before a whole answer was made into bytes."""


class Channel:
    """One call's events, for any number of listeners. `is_over` once the turn has ended, not only stopped or waits."""

    __slots__ = ("_closed", "_told", "_waiters", "is_over", "turn_id")

    def __init__(self, turn_id: TurnId, told: Sequence[Event] = ()) -> None:
        """Start with what was told before, where the turn goes on from its journal."""
        self.turn_id = turn_id
        self.is_over = False
        self._told = list(told)
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False

    def emit(self, event: Event) -> None:
        """Hand one event over."""
        self._told.append(event)
        self._wake()

    def close(self) -> None:
        """No more events come."""
        self._closed = True
        self._wake()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """The events from the first on, all that are ready at a time; ends when the call does."""
        heard = 0
        while True:
            if heard < len(self._told):
                batch = self._told[heard : heard + _MOST_AT_ONCE]
                heard += len(batch)
                yield batch
            elif self._closed:
                return
            else:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
