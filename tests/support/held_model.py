"""A scripted model whose calls can be held, before their first word or after some, in a server of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from outcrop.models.base import ConverseRequest, Delta
from outcrop.models.providers.scripted import Reply, ScriptedModel

_PATIENCE_S = 30


class Hold:
    """Where one call waits. Tests wait in `reached`, and let it go on with `release`."""

    def __init__(self, after: int) -> None:
        self.after = after
        self._reached = threading.Event()
        self._is_released = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gate = asyncio.Event()

    def reached(self) -> None:
        assert self._reached.wait(_PATIENCE_S), "the model was not asked"

    def release(self) -> None:
        self._is_released = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._gate.set)

    async def wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reached.set()
        if not self._is_released:
            await self._gate.wait()


class HeldModel(ScriptedModel):
    """`hold(n)` lets call number n (from 1) wait."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__(replies)
        self._holds: dict[int, Hold] = {}

    def hold(self, call: int, *, after: int = 0) -> Hold:
        """Let that call wait once that many pieces of its reply are out."""
        found = self._holds[call] = Hold(after)
        return found

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        hold = self._holds.get(len(self.requests) + 1)
        pieces = 0
        async for delta in super().stream(request):
            if hold is not None and "contentBlockDelta" in delta:
                if pieces == hold.after:
                    await hold.wait()
                pieces += 1
            yield delta
