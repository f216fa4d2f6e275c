"""Writes that outlast a database that is away for a while.

A write whose connection broke may have been kept or not: it is tried again, and told so, and
looks first. Works that change nothing on a second run need not look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from outcrop.storage.database import Database, Unavailable

T = TypeVar("T")
LOG = logging.getLogger("outcrop.sessions")
_FIRST_WAIT_S = 0.05
_MOST_WAIT_S = 1.0


class Durable:
    """Writes to one database, tried again while it cannot be reached."""

    def __init__(self, database: Database, patience_s: float) -> None:
        """Try for that long."""
        self._database = database
        self._patience_s = patience_s

    async def settle(self) -> None:
        """Wait until every write asked for before is done, also those whose callers have given up.

        Errors: Unavailable.
        """
        await self._database.settle()

    async def write(self, work: Callable[[Connection, bool], T]) -> T:
        """What work returns, once it is committed; its second argument says that an earlier try may have been kept.

        Errors: Unavailable when the database stayed away for longer than the patience; what work raises.
        """
        again, wait_s = False, _FIRST_WAIT_S
        until = 0.0
        while True:
            try:
                return await self._database.write(lambda connection, again=again: work(connection, again))
            except Unavailable:
                now = time.monotonic()
                until = until or now + self._patience_s
                if now + wait_s > until:
                    raise
                LOG.warning("the database is away; the write is tried again in %.2f s", wait_s)
            again = True
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _MOST_WAIT_S)
