"""The first bytes of a connection decide what it speaks: HTTP/2 with prior knowledge, or HTTP/1.1.

uvicorn makes one `EitherHttp` per connection. It reads until it can tell, hands the connection and
what was read to the protocol that was asked for, and is out of the way from then on.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outcrop.server.http2 import Http2Protocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class EitherHttp(asyncio.Protocol):
    """Waits for the first bytes of one connection and passes it on.

    Source: RFC 9113 3.3 and 3.4 (prior knowledge, connection preface).
    """

    def __init__(
        self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Stand ready for one connection of a uvicorn server; these are the arguments that uvicorn gives."""
        self._given = (config, server_state, app_state, _loop or asyncio.get_running_loop())
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection among the server's."""
        self._transport = cast("asyncio.Transport", transport)
        _, server_state, _, _ = self._given
        server_state.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Pass the connection on, unless this is only the beginning of the preface."""
        self._read += data
        if len(self._read) < len(PREFACE) and PREFACE.startswith(self._read):
            if self._patience is None and self._transport is not None:
                config, _, _, loop = self._given
                self._patience = loop.call_later(config.timeout_keep_alive, self._transport.close)
        else:
            self._pass_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection: it ended before it said anything."""
        self._let_go()

    def shutdown(self) -> None:
        """Close the connection, which has asked for nothing yet."""
        if self._transport is not None:
            self._transport.close()

    def _let_go(self) -> None:
        _, server_state, _, _ = self._given
        server_state.connections.discard(self)
        if self._patience is not None:
            self._patience.cancel()

    def _pass_on(self) -> None:
        assert self._transport is not None
        self._let_go()
        speaker = (Http2Protocol if self._read.startswith(PREFACE) else HttpToolsProtocol)(*self._given)
        speaker.connection_made(self._transport)
        self._transport.set_protocol(speaker)
        speaker.data_received(self._read)
