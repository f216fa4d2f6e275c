"""uvicorn's HTTP/1.1 with time limits: for requests that do not come, answers that nobody takes, idle connections.

    nothing asked   -- keep_alive_s -->   closed
    a request half here   -- request_s, or too long a head -->   408 or 431, closed
    answered before its body has come   -- read and dropped, within limits -->   the next request
    an answer that nobody takes   -- slow_client_s without a byte -->   cut off

`protocol.EitherHttp` hands connections over. Parsing and answering are uvicorn's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from outcrop.server.limits import Countdown, Gate, cut_off

MOST_HEAD = 65_536
"""Bytes of a request that may come without a byte of its body: its head, its trailers, the frames of its chunks."""
MOST_DRAINED = 67_108_864
"""Bytes of a body that are read and dropped once the answer is out, so that its sender gets to reading the answer."""
MOST_PIPELINED = 16
"""Requests that may wait behind the one that is being answered."""

_REFUSALS = {408: b"The request did not come whole in time.", 431: b"The head of the request is too long."}


class Http1Protocol(HttpToolsProtocol):
    """One HTTP/1.1 connection of a uvicorn server."""

    def __init__(
        self, config: Any, server_state: Any, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop, gate: Gate
    ) -> None:
        """Stand ready for a connection whose first bytes have come."""
        super().__init__(config, server_state, app_state, loop)
        self._gate = gate
        self._hint = (b"keep-alive", b"timeout=%d" % gate.keep_alive_s)
        self._receiving = self._headed = self._bodied = False  # a request is half here; its head is; some of its body
        self._leaving = False  # no request is taken after the one under way
        self._dry = self._drained = 0
        self._waiting = Countdown(loop)  # while idle, or while a request is half here
        self._slow = Countdown(loop)  # while the peer takes nothing
        self._unsent = 0

    # What the transport and uvicorn's server call -------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._outlet = _Outlet(transport, self._finish)
        self._waiting.start(self._gate.keep_alive_s, self._idle_over)

    def data_received(self, data: bytes) -> None:
        """Take in a part of a request, whose rest must come in time."""
        self._dry += len(data)
        super().data_received(data)
        if self._receiving and not self.transport.is_closing():
            if self._dry > MOST_HEAD:
                self._refuse(431)
            elif not self._waiting:
                self._waiting.start(self._gate.request_s, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for anything."""
        self._waiting.stop()
        self._slow.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Hold answers back, and see that the peer takes what there is."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Let answers go on."""
        super().resume_writing()
        self._slow.stop()

    def drain(self) -> None:
        """Answer what is under way or comes, but say that the connection ends with it."""
        cycle = self._owed
        if cycle is not None:
            cycle.keep_alive = False

    def shutdown(self) -> None:
        """Take no more requests; the connection ends with the answer under way."""
        self._leaving = True
        self.drain()
        if not self._is_busy():
            self._after_a_look(self._close_unless_busy)

    # What the parser calls ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._waiting.stop()
        self._receiving, self._headed, self._bodied, self._drained = True, False, False, 0

    def on_headers_complete(self) -> None:
        """A request's head is here."""
        super().on_headers_complete()
        self._headed, self._dry = True, 0
        self.cycle.transport = self._outlet
        if self._leaving or self._gate.is_draining:
            self.cycle.keep_alive = False
        elif self.cycle.keep_alive:
            self.cycle.default_headers = [*self.cycle.default_headers, self._hint]
        if len(self.pipeline) > MOST_PIPELINED:
            cut_off(self.transport)

    def on_body(self, body: bytes) -> None:
        """More of a request's body, which nobody wants any more once the request is answered."""
        super().on_body(body)
        self._bodied, self._dry = True, 0
        if self.cycle.response_complete:
            self._drained += len(body)
            if self._drained > MOST_DRAINED:
                self._close()

    def on_message_complete(self) -> None:
        """A request is whole."""
        super().on_message_complete()
        self._receiving, self._dry = False, 0
        self._waiting.stop()
        if self.cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        """An answer is whole."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's own, which any byte would end
        if not self._receiving:
            self._rest()
        elif self.expect_100_continue and not self._bodied:
            self._close()  # the peer was never told to go on, and what it sends next is no body

    # Ours -----------------------------------------------------------------------------------------

    @property
    def _owed(self) -> RequestResponseCycle | None:
        """The newest answer that is still owed."""
        newest = cast("RequestResponseCycle | None", self.cycle)  # there is none before the first head
        return None if newest is None or newest.response_complete else newest

    def _is_busy(self) -> bool:
        return self._receiving or self._owed is not None

    def _rest(self) -> None:
        """Wait for the next request, if there may be one."""
        if self._leaving:
            self._close_unless_busy()
        elif not self._is_busy():
            self._waiting.start(self._gate.keep_alive_s, self._idle_over)

    def _idle_over(self) -> None:
        self._after_a_look(self._close_unless_busy)

    def _after_a_look(self, then: Callable[[], None]) -> None:
        """Call something once the loop has looked at the socket: a request may be here that it has not seen yet."""
        self.loop.call_soon(self.loop.call_soon, then)

    def _close_unless_busy(self) -> None:
        if not self._is_busy():
            self._close()

    def _too_late(self) -> None:
        owed = self._owed
        before = owed is not None and not owed.more_body  # the request before the one that is half here
        if before or self.pipeline or self.flow.read_paused:  # not the peer's doing, or harmful to another answer
            self._waiting.start(self._gate.request_s, self._too_late)
        else:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Close the connection over a request that is half here, and say why where an answer has its place."""
        owed = self._owed
        has_place = not self.cycle.response_started if self._headed else owed is None
        if has_place and not self.pipeline:
            sentence = _REFUSALS[status]
            fields = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(sentence)
            self.transport.write(STATUS_LINE[status] + fields + b"connection: close\r\n\r\n" + sentence)
        if owed is not None:
            owed.disconnected = True
            owed.message_event.set()
        self._close()

    def _finish(self) -> None:
        """End the connection with the answer that says so; what is still coming of its request is read first.

        Closing at once would reset the connection, and with it the answer.
        """
        if self._receiving and self._headed and not self.expect_100_continue and not self.pipeline:
            self._leaving = True
            self.transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch()

    # Peers that take nothing ----------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._slow:
            self._unsent = self.transport.get_write_buffer_size()
            self._slow.start(self._gate.slow_client_s, self._look_at_peer)

    def _look_at_peer(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:
            self._watch()
        elif unsent:
            self._gate.cut("http/1.1")
            cut_off(self.transport)


class _Outlet(asyncio.Transport):
    """The transport as one answer sees it: what ends the answer need not end the connection at once."""

    def __init__(self, transport: asyncio.Transport, finish: Callable[[], None]) -> None:
        super().__init__()
        self._transport, self._finish = transport, finish

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._finish()
