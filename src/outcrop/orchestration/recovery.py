"""The pulse of a worker: it says that it lives, takes up turns that nobody carries, and stops those that shall stop.

    every half second:  beat -> orphans -> Turns.recover      stops -> Turns.stop_here

It runs beside the turns from the engine's start to its stop. A database that is away is waited
for; the turns' own writes wait by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from outcrop.ids import TurnId
from outcrop.orchestration.turns import Turns
from outcrop.sessions.leases import Leases, Sight
from outcrop.storage.database import Unavailable

LOG = logging.getLogger("outcrop.turns")
_MOST_AT_ONCE = 64
"""Turns that are being taken up at once; the others wait for a later beat."""
_RELEASES = "releases"
_TROUBLED_S = 30.0
_MOST_TROUBLED = 10_000


class Recovery:
    """Keeps one worker's leases and takes up others' turns; one instance per engine."""

    def __init__(self, leases: Leases, turns: Turns, beat_s: float) -> None:
        """Beat for these turns.

        Units: beat_s is the time between two beats.
        """
        self._leases = leases
        self._turns = turns
        self._beat_s = beat_s
        self._takes_up = True
        self._task: asyncio.Task[None] | None = None
        self._uncarried: set[TurnId] = set()
        self._troubled: dict[TurnId, float] = {}
        self._aside_of: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Take up what was interrupted, then go on doing so.

        Errors: Unavailable.
        """
        self._follow(await self._beat())
        self._task = asyncio.ensure_future(self._run())

    def drain(self) -> None:
        """Take up nothing more. The worker goes on saying that it lives, for it still carries turns, until `stop`."""
        self._takes_up = False

    async def stop(self) -> None:
        """Say that this worker carries nothing any more, where the database can be reached, and fall silent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for aside in (left := list(self._aside_of.values())):
            aside.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        try:
            async with asyncio.timeout(2.0):
                await self._leases.leave()
        except (Unavailable, TimeoutError):
            LOG.warning("the database is away; others notice by themselves that this worker has stopped")

    async def once(self) -> None:
        """One beat, and what follows from it, to its end.

        Errors: Unavailable.
        """
        await asyncio.gather(*self._follow(await self._beat()))

    async def _beat(self) -> Sight:
        sight = await self._leases.beat()
        for turn_id, how in sight.held.items():
            if how:
                self._turns.stop_here(turn_id, how)
        return sight

    def _follow(self, sight: Sight) -> list[asyncio.Task[None]]:
        """Release what was dropped and take up what nobody carries, beside the beats: they must not wait for it."""
        todo = (
            [self._aside(_RELEASES, self._turns.carrier.release_dropped())] if _RELEASES not in self._aside_of else []
        )
        if not self._takes_up:
            return todo
        # Its own that it does not carry: the write that began it was kept, and whoever asked for it had given up.
        uncarried = {turn_id for turn_id in sight.held if not self._turns.carrier.is_here(turn_id)}
        lost, self._uncarried = sorted(uncarried & self._uncarried), uncarried
        now = time.monotonic()
        wanted = [turn_id for turn_id in [*sight.orphans, *lost] if turn_id not in self._aside_of]
        wanted = [turn_id for turn_id in wanted if self._troubled.get(turn_id, 0.0) <= now]
        room = max(_MOST_AT_ONCE - len(self._aside_of), 0)
        return todo + [self._aside(turn_id, self._recover(turn_id)) for turn_id in wanted[:room]]

    def _aside(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(_quietly(work))
        self._aside_of[name] = task
        task.add_done_callback(lambda _: self._aside_of.pop(name, None))
        return task

    async def _recover(self, turn_id: TurnId) -> None:
        """Take one turn up; one that cannot be is no reason to leave the others, and is tried again later.

        Errors: Unavailable.
        """
        try:
            await self._turns.recover(turn_id)
        except Unavailable:
            raise
        except Exception:
            if turn_id not in self._troubled:
                LOG.exception("turn=<%s> | it cannot be taken up here", turn_id)
            if len(self._troubled) >= _MOST_TROUBLED:
                self._troubled.clear()
            self._troubled[turn_id] = time.monotonic() + _TROUBLED_S

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            try:
                self._follow(await self._beat())
            except Unavailable:
                LOG.warning("the database is away; no beat")
            except Exception:
                LOG.exception("a beat failed")


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    """What is done beside the beats waits for the database by being done again."""
    try:
        await work
    except Unavailable:
        LOG.warning("the database is away; turns are taken up later")
