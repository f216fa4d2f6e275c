"""A TCP proxy between one node and its database, which can be cut, or stand still, and be mended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class Proxy:
    """Passes bytes on while it is whole, in a thread of its own.

    Cut, it ends every connection and lets none through; standing still, it keeps them and passes nothing on until it is
    mended: what was sent meanwhile comes late.
    """

    def __init__(self, port: int) -> None:
        """Stand before this port of the loopback address."""
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._passes: asyncio.Event
        self._is_cut = False
        self.port = 0
        self.ports: set[int] = set()
        """Its own ends of the connections to the target, by which the target knows them."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """End every connection, and let none through."""
        self._run(self._cut())

    def stall(self) -> None:
        """Keep every connection, and pass nothing on."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def mend(self) -> None:
        """Pass on what was kept and what comes."""
        self._is_cut = False
        self._loop.call_soon_threadsafe(self._passes.set)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._passes = asyncio.Event()
        self._passes.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _cut(self) -> None:
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        with suppress(OSError):
            there, onwards = await asyncio.open_connection("127.0.0.1", self._target)
            self.ports.add(onwards.get_extra_info("sockname")[1])
            both = {writer, onwards}
            self._writers |= both
            await asyncio.gather(self._pump(reader, onwards), self._pump(there, writer))
            self._writers -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
