"""What the front door lets in at once, how long it waits for a peer, and whether it is closing.

    Door       -- enter ------> Place -- hold -->     requests and bodies, over all connections
    protocols  -- patience, is_draining, cut -->      what one connection may take

One `Gate` per server. It counts; who is turned away, and in which words, is the Door's to say. Connections time their
peers with a `Countdown` each.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from outcrop.config import ServerSettings
from outcrop.errors import RoomError
from outcrop.telemetry.metrics import Metrics

MOST_UNSENT_IN_KERNEL = 65_536
"""Bytes of an answer that the kernel takes before it has sent them, for each connection."""
_LONGEST_WAIT_S = 30
_NO_LINGERING = struct.pack("ii", 1, 0)


class Crowded(RoomError):
    """There is no place for a request now."""

    def __init__(self, message: str, limit: str, retry_after_s: int) -> None:
        """Keep the limit that was reached, and when it is worth coming back."""
        super().__init__(message)
        self.limit, self.retry_after_s = limit, retry_after_s


class Gate:
    """The requests under way in one server, and the bytes of their bodies."""

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        """Open with the settings' limits; the metrics learn who is inside, turned away and cut off."""
        self.request_s = settings.request_timeout_s
        self.keep_alive_s = settings.keep_alive_s
        self.slow_client_s = settings.slow_client_s
        self.is_draining = False
        self._most_requests, self._most_bytes = settings.most_requests, settings.most_body_bytes_at_once
        self._requests = self._bytes = 0
        self._turned_away = 0  # and expected back: everybody who is let in is taken to be one of them
        self._metrics = metrics
        metrics.gauge("outcrop_requests_in_flight", lambda: self._requests)

    def enter(self, declared: int) -> Place:
        """A place for a request whose body says to be that many bytes long, 0 where it does not say.

        Errors: Crowded.
        """
        if self._requests >= self._most_requests:
            raise self._crowded("requests", f"{self._most_requests} requests are being answered")
        self._check_bytes(declared, own=0)
        self._requests += 1
        self._turned_away = max(0, self._turned_away - 1)
        return Place(self)

    def drain(self) -> None:
        """Say from now on that this server goes away; what comes is still answered."""
        self.is_draining = True

    def cut(self, protocol: str) -> None:
        """Count a client that took none of its answer for too long."""
        self._metrics.count("outcrop_slow_clients_cut_total", protocol=protocol)

    # What a place calls ---------------------------------------------------------------------------

    def hold(self, size: int, own: int) -> None:
        """Count more bytes of a body of which that many are held already.

        Errors: Crowded.
        """
        self._check_bytes(size, own)
        self._bytes += size

    def leave(self, own: int) -> None:
        """Give a place back, with the bytes it held."""
        self._requests -= 1
        self._bytes -= own

    # Ours -----------------------------------------------------------------------------------------

    def _check_bytes(self, size: int, own: int) -> None:
        # A body that is alone is let in whatever its size, for it would never find more room.
        if size and self._bytes > own and self._bytes + size > self._most_bytes:
            raise self._crowded("body_bytes", f"{self._bytes} bytes of request bodies are being worked on")

    def _crowded(self, limit: str, sentence: str) -> Crowded:
        self._metrics.count("outcrop_requests_throttled_total", limit=limit)
        wait = min(_LONGEST_WAIT_S, 1 + self._turned_away // self._most_requests)
        self._turned_away += 1
        return Crowded(f"Too much at once: {sentence}. Retry your request later.", limit, wait)


class Place:
    """One request's place inside; `leave` gives it back."""

    __slots__ = ("_gate", "_held")

    def __init__(self, gate: Gate) -> None:
        """Stand for a request that was let in."""
        self._gate, self._held = gate, 0

    def hold(self, size: int) -> None:
        """Keep that many more bytes of the request's body.

        Errors: Crowded.
        """
        self._gate.hold(size, self._held)
        self._held += size

    def leave(self) -> None:
        """The request is answered."""
        self._gate.leave(self._held)


def hold_little(transport: asyncio.Transport) -> None:
    """Let the kernel hold no more of an answer than it can send soon.

    Without it, it takes megabytes for a peer that reads nothing, and wants no more of an answer until a third of them
    is read: a slow peer would look like one that takes nothing.
    """
    peer, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if peer is not None and option is not None and peer.family != getattr(socket, "AF_UNIX", None):
        peer.setsockopt(socket.IPPROTO_TCP, option, MOST_UNSENT_IN_KERNEL)


def cut_off(transport: asyncio.Transport) -> None:
    """End a connection at once, with all that it still holds here and in the kernel."""
    peer = transport.get_extra_info("socket")
    if peer is not None:
        # Without it the kernel would offer the rest of the answer to a peer that takes nothing, for minutes.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
    transport.abort()


class Countdown:
    """Calls something after a while, unless it is stopped before; one thing at a time."""

    __slots__ = ("_handle", "_loop", "_then")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stand still."""
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._then: Callable[[], object] = _nothing

    def __bool__(self) -> bool:
        return self._handle is not None

    def start(self, seconds: float, then: Callable[[], object]) -> None:
        """Count down anew, to that call."""
        self.stop()
        self._then = then
        self._handle = self._loop.call_later(seconds, self._over)

    def stop(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle, self._then = None, _nothing

    def _over(self) -> None:
        then = self._then
        self._handle, self._then = None, _nothing
        then()


def _nothing() -> None:
    pass
