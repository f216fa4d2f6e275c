"""HTTP/2 on one cleartext connection: frames in, one ASGI call per stream, frames out.

    data_received -> h2 -> Http2Stream.receive -> application
    transport     <- h2 <- Http2Stream.send    <-'

`protocol.EitherHttp` hands connections over. h2 keeps the protocol's state; this module moves bytes,
waits for windows, and keeps uvicorn's accounts. Trailers, pushes and priorities are not used.

It says goodbye in two steps, so that no request is lost on its way: a GOAWAY that forbids nothing yet, with a PING;
when that comes back, all that was sent before the peer knew is here, and a second GOAWAY names the last stream.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Protocol, cast

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from outcrop.server.http2_connection import CONNECTION_WINDOW, RUNNING, ServerConnection
from outcrop.server.http2_stream import Headers, Http2Stream, busy, request_scope
from outcrop.server.limits import Countdown, Gate, cut_off

PIECE = 65_536
"""Bytes of an answer that are framed at a time, so that streams take turns."""
MOST_UNSENT = 1_048_576
"""Bytes waiting to be sent beyond which a peer is not reading what it makes us answer."""
ANY_STREAM = 2**31 - 1
"""The last stream of a GOAWAY that still lets requests come (RFC 9113 6.8)."""
_FAREWELL = b"farewell"
_FAREWELL_S = 1.0
"""Seconds for a peer to hear that we leave; a request that takes longer to come was sent in spite of it."""


class Config(Protocol):
    """What is asked of uvicorn's configuration."""

    loaded_app: Any
    limit_concurrency: int | None


class ServerState(Protocol):
    """What uvicorn's server keeps for all connections."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: Headers


class Http2Protocol(asyncio.Protocol):
    """One HTTP/2 connection of a uvicorn server."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        gate: Gate,
    ) -> None:
        """Stand ready for a connection whose first bytes are the preface."""
        self._config, self._server, self._app_state, self._loop = config, server_state, app_state, loop
        self._gate = gate
        self._h2 = ServerConnection()
        self._streams: dict[int, Http2Stream] = {}
        self._transport: asyncio.Transport
        self._about: dict[str, Any] = {}
        self._full = False
        self._parting = self._leaving = False  # goodbye is said, but what comes is answered; no more is answered
        self._waiting = Countdown(loop)  # while idle, or until the peer has heard our goodbye
        self._lingering = Countdown(loop)  # for the peer to take our last words

    # What the transport and uvicorn's server call -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection among the server's and send our settings."""
        self._transport = cast("asyncio.Transport", transport)
        self._about = {"client": _address(transport, "peername"), "server": _address(transport, "sockname")}
        self._server.connections.add(self)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - self._h2.inbound_flow_control_window)
        self.flush()
        self._waiting.start(self._gate.keep_alive_s, self.drain)

    def data_received(self, data: bytes) -> None:
        """Take in frames; what breaks the protocol ends the connection."""
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._close()
            return
        for event in events:
            self._take(event)
        self.flush()
        if self._transport.get_write_buffer_size() > MOST_UNSENT:
            cut_off(self._transport)
        elif self._leaving and not self._streams:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the applications that nobody listens any more."""
        self._server.connections.discard(self)
        self._waiting.stop()
        self._lingering.stop()
        self._lose()

    def pause_writing(self) -> None:
        """Hold answers back: the peer reads more slowly than we write."""
        self._full = True

    def resume_writing(self) -> None:
        """Let answers go on."""
        self._full = False
        self._stir()

    def drain(self) -> None:
        """Ask for no more requests; those that are on their way are answered still."""
        if self._parting or self._leaving or self._transport.is_closing():
            return
        self._parting = True
        self._h2.close_connection(last_stream_id=ANY_STREAM)
        self._h2.ping(_FAREWELL)
        self.flush()
        self._waiting.start(_FAREWELL_S, self._leave)

    def shutdown(self) -> None:
        """Take no more requests; the connection ends with the last answer under way."""
        self.drain()

    # What a stream calls --------------------------------------------------------------------------

    @property
    def gate(self) -> Gate:
        """The limits of the server."""
        return self._gate

    @property
    def usual_headers(self) -> Headers:
        """The headers of every answer."""
        return self._server.default_headers

    def room(self, number: int) -> int:
        """How many bytes of an answer may be sent now."""
        return 0 if self._full else max(0, min(PIECE, self._h2.local_flow_control_window(number)))

    def put_head(self, number: int, headers: Headers) -> None:
        """Send the head of an answer."""
        self._h2.send_headers(number, headers)
        self.flush()

    def put(self, number: int, data: bytes, *, last: bool) -> None:
        """Send data, for which there must be room."""
        frame = self._h2.max_outbound_frame_size
        for start in range(0, len(data), frame):
            self._h2.send_data(number, data[start : start + frame], end_stream=last and start + frame >= len(data))
        if last and not data:
            self._h2.end_stream(number)
        self.flush()

    def acknowledge(self, number: int, size: int) -> None:
        """Let the peer send that much more."""
        # The stream or the connection may have ended in the read whose events are being handled.
        with suppress(ProtocolError):
            self._h2.acknowledge_received_data(size, number)

    def reset(self, number: int, code: ErrorCodes) -> None:
        """End a stream at once."""
        with suppress(ProtocolError):
            self._h2.reset_stream(number, code)

    def flush(self) -> None:
        """Write what h2 has for the peer."""
        data = self._h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def cut(self, number: int) -> None:
        """Give up on a stream whose peer takes nothing of its answer, or on the peer, if it takes nothing at all."""
        self._gate.cut("http/2")
        if self._full:
            cut_off(self._transport)
        else:
            self.reset(number, ErrorCodes.CANCEL)
            self.flush()

    def finished(self, number: int) -> None:
        """Forget a stream whose application has returned."""
        del self._streams[number]
        self._server.total_requests += 1
        self.flush()
        if self._streams or self._transport.is_closing():
            return
        if self._leaving:
            self._close()
        elif not self._parting:
            self._waiting.start(self._gate.keep_alive_s, self.drain)

    # Ours -----------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=number):
                self._begin(number, cast("Headers", event.headers))
            case DataReceived(stream_id=number):
                if number in self._streams:
                    self._streams[number].body(event.data, event.flow_controlled_length)
                else:
                    self.acknowledge(number, event.flow_controlled_length)
            case StreamEnded(stream_id=number) if number in self._streams:
                self._streams[number].body_ended()
            case StreamReset(stream_id=number) if number in self._streams:
                self._streams[number].lost()
            case WindowUpdated() | RemoteSettingsChanged():
                self._stir()
            case PingAckReceived(ping_data=data) if self._parting and data == _FAREWELL:
                self._leave()
            case ConnectionTerminated():
                self._leaving = True
            case _:
                pass

    def _begin(self, number: int, headers: Headers) -> None:
        if self._leaving or len(self._streams) >= RUNNING:
            self.reset(number, ErrorCodes.REFUSED_STREAM)
            return
        if not self._parting:
            self._waiting.stop()
        scope = {**request_scope(headers), **self._about, "state": self._app_state.copy()}
        stream = self._streams[number] = Http2Stream(self, number, scope)
        tasks, limit = self._server.tasks, self._config.limit_concurrency
        crowded = limit is not None and max(len(tasks), len(self._server.connections)) >= limit
        task = self._loop.create_task(stream.run(busy if crowded else self._config.loaded_app))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _stir(self) -> None:
        for stream in self._streams.values():
            stream.stir()

    def _lose(self) -> None:
        for stream in self._streams.values():
            stream.lost()

    def _leave(self) -> None:
        """The second step of a goodbye: nothing that comes now is answered."""
        self._waiting.stop()
        if not self._leaving:
            self._leaving = True
            self._h2.close_connection(last_stream_id=self._h2.highest_inbound_stream_id)
            self.flush()
        if not self._streams:
            self._close()

    def _close(self) -> None:
        self._lose()
        self.flush()
        self._transport.close()
        if not self._lingering and self._transport.get_write_buffer_size():
            self._lingering.start(self._gate.slow_client_s, self._give_up)

    def _give_up(self) -> None:
        """The peer does not take our last words."""
        self._gate.cut("http/2")
        cut_off(self._transport)


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    address: Any = transport.get_extra_info(name)
    if not isinstance(address, tuple):  # a Unix socket
        return None
    host, port = cast("tuple[str, int]", address[:2])
    return host, port
