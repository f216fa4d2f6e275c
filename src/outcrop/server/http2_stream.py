"""One HTTP/2 request and its answer, between a connection and an ASGI application.

`http2.Http2Protocol` makes one per stream, tells it what came, and runs it. It knows parts of bodies
and when to wait; frames and windows are the connection's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol
from urllib.parse import unquote

from h2.errors import ErrorCodes
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outcrop.server.limits import Countdown, Gate

LOG = logging.getLogger("outcrop.server")

OF_CONNECTIONS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""Headers that only mean something to HTTP/1.1 (RFC 9113 8.2.2)."""

Headers = list[tuple[bytes, bytes]]


class Misplaced(Exception):
    """The application sent a message that has no place at this point of an answer."""


class Connection(Protocol):
    """What a stream asks of its connection; streams go by their numbers."""

    @property
    def gate(self) -> Gate:
        """The limits of the server."""
        ...

    @property
    def usual_headers(self) -> Headers:
        """The headers of every answer."""
        ...

    def room(self, number: int) -> int:
        """How many bytes of an answer may be sent now."""
        ...

    def put_head(self, number: int, headers: Headers) -> None:
        """Send the head of an answer."""
        ...

    def put(self, number: int, data: bytes, *, last: bool) -> None:
        """Send data, for which there must be room, or nothing but the end."""
        ...

    def acknowledge(self, number: int, size: int) -> None:
        """Let the peer send that much more."""
        ...

    def reset(self, number: int, code: ErrorCodes) -> None:
        """End a stream at once."""
        ...

    def cut(self, number: int) -> None:
        """Give up on a stream whose peer takes nothing of its answer."""
        ...

    def flush(self) -> None:
        """Write what is to be sent."""
        ...

    def finished(self, number: int) -> None:
        """Forget a stream whose application has returned."""
        ...


class Http2Stream:
    """One request and its answer, as an application receives and sends them."""

    def __init__(self, connection: Connection, number: int, scope: Scope) -> None:
        """Stand for a request whose headers have come."""
        self._connection, self._number, self._scope = connection, number, scope
        self._body = bytearray()
        self._owed = 0  # bytes taken from the peer's windows and not given back
        self._ended = self._handed_over = False  # the request
        self._started = self._complete = self._lost = False  # the answer
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._late = Countdown(loop)  # while the request is not whole
        self._slow = Countdown(loop)  # while the peer takes nothing of the answer

    # What the connection calls --------------------------------------------------------------------

    def body(self, data: bytes, size: int) -> None:
        """More of the request's body, which cost the peer that much of its windows."""
        self._owed += size
        if self._lost or self._complete:
            self._settle()
        else:
            self._body += data
            self._news.set()

    def body_ended(self) -> None:
        """The request is whole."""
        self._ended = True
        self._late.stop()
        self._news.set()

    def lost(self) -> None:
        """Nobody reads the answer any more; the application hears of it and may work to its end."""
        self._lost = True
        self._late.stop()
        self._slow.stop()
        self._body.clear()
        self._settle()
        self._news.set()

    def stir(self) -> None:
        """Look again whether there is room."""
        self._news.set()

    async def run(self, app: ASGIApp) -> None:
        """Call the application and see that the stream is ended, however it went."""
        if not self._ended:
            self._late.start(self._connection.gate.request_s, self._too_late)
        try:
            await app(self._scope, self.receive, self.send)
        except Exception:
            LOG.exception("stream=<%d> | the application failed", self._number)
            if not self._started:
                await _failed(self._scope, self.receive, self.send)
        finally:
            self._late.stop()
            self._slow.stop()
            self._settle()
            if not self._lost:
                self._release()
            self._connection.finished(self._number)

    # What the application calls -------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next part of the request, or, when there is none to come, the end of the exchange."""
        while not self._lost and not self._complete:
            if self._body or (self._ended and not self._handed_over):
                part = bytes(self._body)
                self._body.clear()
                self._handed_over = self._ended
                self._settle()
                self._connection.flush()
                return {"type": "http.request", "body": part, "more_body": not self._ended}
            await self._look_again()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send the answer's head or a part of its body; to a peer that went away, nothing.

        Errors: Misplaced when the message cannot come now; ProtocolError of h2 for a header that cannot be sent.
        """
        if self._lost:
            await asyncio.sleep(0)  # so that an application that only sends comes to hear of it
            return
        if message["type"] == "http.response.start" and not self._started:
            self._started = True
            self._connection.put_head(self._number, _head(message, self._connection.usual_headers))
        elif message["type"] == "http.response.body" and self._started and not self._complete:
            data = b"" if self._scope["method"] == "HEAD" else message.get("body", b"")
            await self._send(data, last=not message.get("more_body", False))
        else:
            raise Misplaced(f"{message['type']} cannot come now")

    async def _send(self, data: bytes, last: bool) -> None:
        sent = 0
        while sent < len(data) and not self._lost:
            room = self._connection.room(self._number)
            if room:
                self._slow.stop()
                part, sent = data[sent : sent + room], sent + room
                self._connection.put(self._number, part, last=last and sent >= len(data))
            else:
                if not self._slow:
                    self._slow.start(self._connection.gate.slow_client_s, self._taken_by_nobody)
                await self._look_again()
        if last and not data and not self._lost:
            self._connection.put(self._number, b"", last=True)
        if last:
            self._complete = True
            self._news.set()

    async def _look_again(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _too_late(self) -> None:
        """The rest of the request did not come."""
        self._connection.reset(self._number, ErrorCodes.CANCEL)
        self._connection.flush()
        self.lost()

    def _taken_by_nobody(self) -> None:
        self._connection.cut(self._number)
        self.lost()

    def _settle(self) -> None:
        owed, self._owed = self._owed, 0
        if owed:
            self._connection.acknowledge(self._number, owed)

    def _release(self) -> None:
        """End a stream that is still open: an answer that broke off, or a request that nobody will read."""
        if not self._complete:
            self._connection.reset(self._number, ErrorCodes.INTERNAL_ERROR)
        elif not self._ended:
            self._connection.reset(self._number, ErrorCodes.NO_ERROR)


def request_scope(headers: Headers) -> Scope:
    """The ASGI scope of a request's headers; what belongs to the connection is not in it."""
    pseudo = {name: value for name, value in headers if name.startswith(b":")}
    fields = [(bytes(name), bytes(value)) for name, value in headers if name not in pseudo]
    authority = pseudo.get(b":authority")
    if authority:
        fields = [(b"host", authority), *((name, value) for name, value in fields if name != b"host")]
    path, _, query = pseudo.get(b":path", b"").partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": pseudo[b":method"].decode("latin-1"),
        "scheme": "http",
        "root_path": "",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query,
        "headers": fields,
    }


async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers, as an application, that there is too much to do."""
    await _say(503, b"Service Unavailable", send)


async def _failed(scope: Scope, receive: Receive, send: Send) -> None:
    await _say(500, b"Internal Server Error", send)


async def _say(status: int, sentence: bytes, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(sentence))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence})


def _head(message: Message, usual: Headers) -> Headers:
    given = [(name.lower(), value) for name, value in message.get("headers", ())]
    return [
        (b":status", b"%d" % message["status"]),
        *usual,
        *((name, value) for name, value in given if name not in OF_CONNECTIONS),
    ]
