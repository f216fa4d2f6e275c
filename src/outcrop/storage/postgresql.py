"""A PostgreSQL database: a few connections in this event loop, each serving its share of what has gathered.

    write(work) -> queue -> lane: BEGIN, its share, COMMIT                  most of the connections
    read(work)  -> queue -> lane: BEGIN ... READ ONLY, its share, COMMIT    the others

A share is what has gathered, divided among the lanes that are called: a transaction for each
work would cost more than the works do, and one for all would keep a single connection busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from outcrop.storage.database import T, Unavailable, Work
from outcrop.storage.lane import Entrance, Lane

_GROUP = 64
"""Works in one transaction at most: those after a slow one wait for it, and all are run again where one fails."""

_ENOUGH = 8
"""Queued works that are worth another connection."""

_PATIENCE_S = 30.0
"""How long the database may take to answer one statement before it counts as lost; as long as SQLite waits."""


_STANDING_STILL = "3s"
"""How long a transaction may wait for its process before PostgreSQL undoes it.

It holds rows that others wait for: those who take over from a process that stands still, or that the network has lost,
would wait for as long as it does. Less than the default lease, so that the rows are free when it is over.
"""


class _Asked:
    """A work, and who waits for it."""

    __slots__ = ("answer", "is_served", "served", "work")

    def __init__(self, work: Work[Any], answer: asyncio.Future[Any]) -> None:
        self.work = work
        self.answer = answer
        self.is_served = False
        self.served: asyncio.Future[None] | None = None

    def succeed(self, value: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(value)
        self._serve()

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
        self._serve()

    def _serve(self) -> None:
        self.is_served = True
        if self.served is not None and not self.served.done():
            self.served.set_result(None)


class _Lanes:
    """The lanes that share one queue."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._all = lanes
        self._idle = list(lanes)
        self._queue: deque[_Asked] = deque()
        self._under_way: dict[Lane, list[_Asked]] = {}
        self._coming = 0
        """Lanes that were called and have not taken their share yet."""
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, work: Work[T]) -> asyncio.Future[T]:
        """What will be the work's answer."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._queue.append(_Asked(work, answer))
        if self._idle and len(self._queue) > self._coming * _ENOUGH:
            self._coming += 1
            task = loop.create_task(self._drain(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answer

    async def settle(self) -> None:
        """Wait for all that is queued or under way now."""
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[None]] = []
        for asked in [*self._queue, *(asked for group in self._under_way.values() for asked in group)]:
            if not asked.is_served:
                asked.served = asked.served or loop.create_future()
                waiting.append(asked.served)
        for served in waiting:
            # Several may wait for it, and one of them may give up.
            await asyncio.shield(served)

    async def close(self) -> None:
        """Finish what is queued, give the connections back."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        for lane in self._all:
            await lane.close()

    async def _drain(self, lane: Lane) -> None:
        self._coming -= 1
        try:
            while self._queue:
                share = min(_GROUP, -(-len(self._queue) // (self._coming + 1)))
                group = self._under_way[lane] = [self._queue.popleft() for _ in range(share)]
                await _serve(lane, group)
        finally:
            self._under_way.pop(lane, None)
            self._idle.append(lane)


async def _serve(lane: Lane, group: Sequence[_Asked]) -> None:
    """Answer everybody in the group."""
    try:
        values = await lane.perform([asked.work for asked in group])
    except Exception as error:
        if len(group) == 1 or isinstance(error, Unavailable):
            for asked in group:
                asked.fail(error)
            return
        # Whatever failed, the whole group is undone; each work is tried alone.
        for asked in group:
            await _serve(lane, [asked])
    except BaseException:
        for asked in group:
            asked.fail(Unavailable("the event loop is ending"))
        raise
    else:
        for asked, value in zip(group, values, strict=True):
            asked.succeed(value)


class PostgresqlDatabase:
    """A PostgreSQL database, which other processes may use at the same time."""

    is_shared = True

    def __init__(
        self, url: str, *, synchronous: str = "full", connections: int = 8, patience_s: float = _PATIENCE_S
    ) -> None:
        """Describe the database; connections are made when they are needed, in the event loop that needs them first.

        Shapes: url is "postgresql://user:password@host:port/name", with what libpq knows as its parameters;
                synchronous is "normal" (a commit does not wait for the server's disk) or "full" (it does what the
                server is set to).
        Units: patience_s is how long the database may take to answer one statement before it counts as lost.
        """
        self.url = url
        self._session = {"application_name": "outcrop", "jit": "off"}
        if synchronous == "normal":
            self._session["synchronous_commit"] = "off"
        self._readers_at_most = max(1, connections // 3)
        self._writers_at_most = max(1, connections - self._readers_at_most)
        self._patience_s = patience_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._writers = self._readers = _Lanes([])

    async def write(self, work: Work[T]) -> T:
        """What work returns, once it is committed.

        Errors: Unavailable; RuntimeError once closed; whatever work raises, and nothing of it is kept then.
        """
        self._check()
        return await self._writers.ask(work)

    async def read(self, work: Work[T]) -> T:
        """What work returns, over one state. Everything committed before the call is seen.

        Errors: Unavailable; RuntimeError once closed; whatever work raises.
        """
        self._check()
        return await self._readers.ask(work)

    async def settle(self) -> None:
        """Wait until every write asked for before is done, also those whose callers have given up."""
        self._check()
        await self._writers.settle()

    def once(self, work: Work[T]) -> T:
        """What work returns, committed, on a connection of its own: for what is done before the event loop runs.

        Errors: Unavailable; whatever work raises.
        """

        async def run() -> T:
            # It may wait for another process that does the same, for as long as that takes.
            lane = Lane(Entrance(self.url, self._session, patience_s=None), "write")
            try:
                return (await lane.perform([work]))[0]
            finally:
                await lane.close()

        # In a thread, because the caller's may have an event loop that runs.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, run()).result()

    async def close(self) -> None:
        """Finish what is queued, then close every connection."""
        self._is_closed = True
        await self._writers.close()
        await self._readers.close()

    def _check(self) -> None:
        """Make the lanes at the first use.

        Errors: RuntimeError once closed, and in another event loop than the first.
        """
        if self._is_closed:
            raise RuntimeError("the database is closed")
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None:
            raise RuntimeError("the database belongs to another event loop")
        self._loop = loop
        session = {**self._session, "idle_in_transaction_session_timeout": _STANDING_STILL}
        entrance = Entrance(self.url, session, self._patience_s)
        self._writers = _Lanes([Lane(entrance, "write") for _ in range(self._writers_at_most)])
        self._readers = _Lanes([Lane(entrance, "read") for _ in range(self._readers_at_most)])
