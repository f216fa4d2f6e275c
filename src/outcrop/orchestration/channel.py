"""Events from a turn to whoever listens, in batches: what was ready together travels together.

The turn never waits for its listener, and a listener that goes away changes nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from outcrop.events import Event
from outcrop.ids import TurnId


class Channel:
    """One turn's events, for one listener. `is_over` once the turn has ended and not only stopped or waits."""

    __slots__ = ("_closed", "_ready", "_waiter", "is_over", "turn_id")

    def __init__(self, turn_id: TurnId) -> None:
        self.turn_id = turn_id
        self.is_over = False
        self._ready: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def emit(self, event: Event) -> None:
        """Hand one event over."""
        self._ready.append(event)
        self._wake()

    def close(self) -> None:
        """No more events come."""
        self._closed = True
        self._wake()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """The events as they come, all that are ready at a time; ends when the turn does."""
        while True:
            if self._ready:
                batch, self._ready = self._ready, []
                yield batch
            elif self._closed:
                return
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
