"""The first bytes of a connection decide what it speaks: HTTP/2 with prior knowledge, or HTTP/1.1.

uvicorn makes one `EitherHttp` per connection. It reads until it can tell, hands the connection and
what was read to the protocol that was asked for, and is out of the way from then on. A connection that
says nothing is closed as an idle one is.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from outcrop.server.http1 import Http1Protocol
from outcrop.server.http2 import Http2Protocol
from outcrop.server.limits import Countdown, Gate, hold_little

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Connection(Protocol):
    """What every connection of the server does beside what uvicorn asks."""

    def drain(self) -> None:
        """Let the peer know that it should go elsewhere; what it asks meanwhile is answered."""
        ...


class EitherHttp(asyncio.Protocol):
    """Waits for the first bytes of one connection and passes it on.

    Source: RFC 9113 3.3 and 3.4 (prior knowledge, connection preface).
    """

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate,
    ) -> None:
        """Stand ready for one connection of a uvicorn server, whose arguments these are, but for the gate."""
        loop = _loop or asyncio.get_running_loop()
        self._given = (config, server_state, app_state, loop, gate)
        self._waiting = Countdown(loop)
        self._transport: asyncio.Transport | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection among the server's."""
        self._transport = cast("asyncio.Transport", transport)
        hold_little(self._transport)
        _, server_state, _, _, gate = self._given
        server_state.connections.add(self)
        self._waiting.start(gate.keep_alive_s, self._transport.close)

    def data_received(self, data: bytes) -> None:
        """Pass the connection on, unless this is only the beginning of the preface."""
        assert self._transport is not None
        is_first = not self._read
        self._read += data
        if len(self._read) >= len(PREFACE) or not PREFACE.startswith(self._read):
            self._pass_on(self._transport)
        elif is_first:
            *_, gate = self._given
            self._waiting.start(gate.request_s, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection: it ended before it said anything."""
        self._let_go()

    def drain(self) -> None:
        """Wait on: what this connection may still ask is answered."""

    def shutdown(self) -> None:
        """Close the connection, which has asked for nothing yet."""
        if self._transport is not None:
            self._transport.close()

    def _let_go(self) -> None:
        _, server_state, _, _, _ = self._given
        server_state.connections.discard(self)
        self._waiting.stop()

    def _pass_on(self, transport: asyncio.Transport) -> None:
        self._let_go()
        speaker = (Http2Protocol if self._read.startswith(PREFACE) else Http1Protocol)(*self._given)
        speaker.connection_made(transport)
        transport.set_protocol(speaker)
        speaker.data_received(self._read)
