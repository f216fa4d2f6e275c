"""A turn's events for a listener that the turn's own process does not feed: read from the journal as it grows.

The turn may be carried by another process, have ended long ago, or wait. Followers ask how far
their turns have come, together and a few times a second, only while there are any; what changes in
this process they hear at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from outcrop.clock import Clock
from outcrop.events import Answered, ControlReturned, Event, Failed
from outcrop.ids import TurnId
from outcrop.orchestration.retelling import Retold, paused_word
from outcrop.sessions.entries import OpenTurn
from outcrop.sessions.journal import Journal

_LOOK_S = 0.1
Place = tuple[Any, ...] | None
Retell = Callable[[TurnId], Awaitable[tuple[OpenTurn, Retold] | None]]


class Watch:
    """Tells waiters when a turn has come further."""

    def __init__(self, journal: Journal, look_s: float = _LOOK_S) -> None:
        """Look into this journal.

        Units: look_s is the time between two looks.
        """
        self._journal = journal
        self._look_s = look_s
        self._waiting: dict[TurnId, list[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self.listeners: list[Callable[[TurnId], None]] = []
        """Hear of every turn that comes to rest, or may have, by what this process did."""

    async def place(self, turn_id: TurnId) -> Place:
        """How far a turn has come; None where there is no such turn.

        Errors: Unavailable.
        """
        return (await self._journal.places([turn_id]))[0]

    async def moved(self, turn_id: TurnId, place: Place) -> None:
        """Return once the turn is not at that place any more; ask anew what became of it.

        Errors: Unavailable.
        """
        while await self.place(turn_id) == place:
            await self._next_look(turn_id)

    def tell(self, turn_id: TurnId) -> None:
        """Wake those who wait for a turn that this process has just written."""
        self._wake(turn_id)
        for hear in self.listeners:
            hear(turn_id)

    async def close(self) -> None:
        """Stop looking; whoever still waits is cancelled."""
        for turn_id in list(self._waiting):
            for waiter in self._waiting.pop(turn_id):
                waiter.cancel()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _next_look(self, turn_id: TurnId) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(turn_id, []).append(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        await waiter

    async def _look(self) -> None:
        """Wake each waiter once a period: it asks for its own turn's place, and waits again where nothing changed."""
        while self._waiting:
            await asyncio.sleep(self._look_s)
            for turn_id in list(self._waiting):
                self._wake(turn_id)

    def _wake(self, turn_id: TurnId) -> None:
        for waiter in self._waiting.pop(turn_id, ()):
            if not waiter.done():
                waiter.set_result(None)


class Followed:
    """One call's part of a turn, as its journal tells it. `is_over` once the turn has ended."""

    def __init__(self, turn_id: TurnId, call: int, retell: Retell, watch: Watch, clock: Clock) -> None:
        """Follow call number `call` of a turn, the first being 0."""
        self.turn_id = turn_id
        self.is_over = False
        self._call = call
        self._retell = retell
        self._watch = watch
        self._clock = clock

    async def batches(self) -> AsyncIterator[list[Event]]:
        """The events from the first on, as they are written; ends when the call does.

        Errors: Unavailable.
        """
        heard = 0
        while True:
            place = await self._watch.place(self.turn_id)
            found = await self._retell(self.turn_id)
            if found is None:
                return
            kept, told = found
            events = told.calls[self._call] if self._call < len(told.calls) else []
            ends = bool(events) and isinstance(events[-1], Answered | Failed | ControlReturned)
            # Before it is told: a fault ends the telling.
            self.is_over = ends and not isinstance(events[-1], ControlReturned)
            if events[heard:]:
                yield events[heard:]
                heard = len(events)
            if ends:
                return
            if kept.state == "paused":
                yield [paused_word(kept, self._clock.now())]
                return
            await self._watch.moved(self.turn_id, place)
