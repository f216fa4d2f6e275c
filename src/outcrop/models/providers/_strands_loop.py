"""An event loop in a thread of its own, for clients that block: their threads are not the server's.

    run(make)   the caller's loop  <--events--  own loop  <--events--  one of its threads

Used by `providers/strands`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_END = object()


class OwnLoop:
    """Runs asynchronous generators elsewhere and hands their events over."""

    def __init__(self, name: str, threads: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._loop.set_default_executor(self._threads)
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    async def run(self, make: Callable[[threading.Event], AsyncIterator[Any]]) -> AsyncGenerator[Any]:
        """The events of a generator that is made and run on the other loop.

        Shapes: make(cancel) -> generator; cancel is set when nobody wants the rest.
        Errors: what the generator raises.
        """
        here = asyncio.get_running_loop()
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        cancel = threading.Event()

        def hand_over(item: Any) -> None:
            # the caller's loop may have been closed meanwhile
            with contextlib.suppress(RuntimeError):
                here.call_soon_threadsafe(arrived.put_nowait, item)

        async def pump() -> None:
            try:
                async for event in make(cancel):
                    hand_over(event)
                    if cancel.is_set():
                        break
            except Exception as error:
                hand_over(error)
            finally:
                hand_over(_END)

        running = asyncio.run_coroutine_threadsafe(pump(), self._loop)
        try:
            while (item := await arrived.get()) is not _END:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            cancel.set()
            running.cancel()

    async def close(self) -> None:
        """Stop the loop; threads that are still blocked end by themselves."""
        ended = asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop)
        await asyncio.wrap_future(ended)
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._loop.close()


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
