"""The pulse of a worker: it says that it lives, takes up turns that nobody carries, and stops those that shall stop.

    every half second:  beat -> orphans -> Turns.recover      stops -> Turns.stop_here

It runs beside the turns from the engine's start to its stop. A database that is away is waited
for; the turns' own writes wait by themselves.
"""

from __future__ import annotations

import asyncio
import logging

from outcrop.ids import TurnId
from outcrop.orchestration.turns import Turns
from outcrop.sessions.leases import Leases
from outcrop.storage.database import Unavailable

LOG = logging.getLogger("outcrop.turns")
_MOST_AT_ONCE = 256
"""Turns taken up at one beat: with more, the beat itself would come late."""


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
        self._troubled: set[TurnId] = set()

    async def start(self) -> None:
        """Take up what was interrupted, then go on doing so.

        Errors: Unavailable.
        """
        await self.once()
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
        try:
            async with asyncio.timeout(2.0):
                await self._leases.leave()
        except (Unavailable, TimeoutError):
            LOG.warning("the database is away; others notice by themselves that this worker has stopped")

    async def once(self) -> None:
        """One beat.

        Errors: Unavailable.
        """
        await self._turns.carrier.release_dropped()
        sight = await self._leases.beat()
        for turn_id, how in sight.held.items():
            if how:
                self._turns.stop_here(turn_id, how)
        if not self._takes_up:
            return
        # Its own that it does not carry: the write that began it was kept, and whoever asked for it had given up.
        uncarried = {turn_id for turn_id in sight.held if self._turns.carrier.find(turn_id) is None}
        lost, self._uncarried = sorted(uncarried & self._uncarried), uncarried
        await asyncio.gather(*(self._recover(turn_id) for turn_id in [*sight.orphans, *lost][:_MOST_AT_ONCE]))

    async def _recover(self, turn_id: TurnId) -> None:
        """Take one turn up; one that cannot be is no reason to leave the others.

        Errors: Unavailable.
        """
        try:
            await self._turns.recover(turn_id)
        except Unavailable:
            raise
        except Exception:
            if turn_id not in self._troubled:
                LOG.exception("turn=<%s> | it cannot be taken up here", turn_id)
                self._troubled.add(turn_id)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            try:
                await self.once()
            except Unavailable:
                LOG.warning("the database is away; no beat")
            except Exception:
                LOG.exception("a beat failed")
