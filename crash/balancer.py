"""A TCP load balancer: each connection goes to the next node whose /healthz answers 200, asked ten times a second.

python balancer.py PORT...     It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Sequence
from contextlib import suppress

from model import end_with_standard_input

_LOOK_S = 0.1
_ASK = b"GET /healthz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n"


class Balancer:
    """The nodes, and which of them take connections now."""

    def __init__(self, ports: Sequence[int]) -> None:
        """Know the nodes; none is healthy yet."""
        self._ports = ports
        self._healthy: list[int] = []
        self._turn = itertools.count()

    async def watch(self) -> None:
        """Ask every node how it is, again and again."""
        while True:
            found = await asyncio.gather(*(_is_well(port) for port in self._ports))
            self._healthy = [port for port, well in zip(self._ports, found, strict=True) if well]
            await asyncio.sleep(_LOOK_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on; it is closed where no node takes it."""
        number = next(self._turn)
        nodes = [self._healthy[(number + step) % len(self._healthy)] for step in range(len(self._healthy))]
        for port in nodes:
            try:
                there, onwards = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            await asyncio.gather(_pump(reader, onwards), _pump(there, writer))
            return
        writer.close()


async def _is_well(port: int) -> bool:
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_ASK)
            line = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in line


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends; the other is told that it did."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(ports: Sequence[int]) -> None:
    """Balance until killed; says where on standard output."""
    balancer = Balancer(ports)
    watching = asyncio.ensure_future(balancer.watch())
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0, backlog=1024)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.gather(watching, server.serve_forever())


if __name__ == "__main__":
    end_with_standard_input()
    asyncio.run(serve([int(port) for port in sys.argv[1:]]))
