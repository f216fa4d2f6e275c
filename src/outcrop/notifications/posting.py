"""One HTTP request to a receiver that nobody here knows: short, without redirects, and never inwards.

    Post.send --> aiohttp --> name --> address --is it refused?--> connection --> Answer

The address is looked at when its socket is made, so a name that leads elsewhere the second time
(DNS rebinding) gains nothing. Targets call it; what an answer means is theirs, but for `failure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from outcrop.clock import Clock
from outcrop.models.failures import retry_after
from outcrop.notifications.base import Refused, Undeliverable

MOST_RETRY_AFTER_S = 3600.0
"""The longest wait that a receiver can ask for."""

_MOST_BODY_BYTES = 65_536
_LEAVE_WITHIN_S = 1.0
_TRY_AGAIN = (408, 425, 429)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ALSO_PRIVATE = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("fec0::/10"))
"""What some releases of Python take for public."""

_HEADERS = {"User-Agent": "outcrop", "Content-Type": "application/json"}


class PrivateAddress(OSError):
    """The receiver's address is on a private network or on this machine."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered; the body is its beginning, as far as it came in time."""

    place: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Post:
    """The connections to all receivers; those that may be private are kept apart from those that may not."""

    def __init__(
        self,
        *,
        connect_s: float = 5.0,
        total_s: float = 20.0,
        resolver: AbstractResolver | None = None,
        refused: Callable[[str], bool] | None = None,
        remember_names_s: float = 10.0,
    ) -> None:
        """Keep the limits.

        Shapes: resolver asks the system where none is given; refused tells of an address whether it is
                out of bounds, `is_private` where none is given.
        """
        self._timeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s)
        self._resolver = resolver
        self._refused = refused or is_private
        self._remember_names_s = remember_names_s
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def refuses(self, host: str) -> bool:
        """Whether a host is out of bounds already as it is written; most names show only when they are resolved."""
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            name = host.lower().rstrip(".")
            written = _as_number(name)
            return self._refused(written) if written else name == "localhost" or name.endswith(".localhost")
        return self._refused(host)

    async def send(
        self,
        url: URL,
        body: bytes,
        headers: Mapping[str, str],
        *,
        allow_private: bool = False,
        read_within_s: float = _LEAVE_WITHIN_S,
    ) -> Answer:
        """The answer to one POST; of its body no more than 64 KB, and no more than comes in time.

        Errors: Undeliverable when no answer came; Refused when the address is private and must not be, or is none.
        """
        place = place_of(url)
        try:
            async with self._session(allow_private).post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                beginning = await _beginning(response, read_within_s)
                return Answer(place, response.status, response.headers.copy(), beginning)
        except aiohttp.ClientSSLError as error:
            raise Undeliverable(f"{place} cannot be reached: its certificate or its TLS cannot be used") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PrivateAddress):
                raise Refused(f"{place} is on a private network or on this machine, which is not allowed") from error
            raise Undeliverable(f"{place} cannot be reached: {_reason(error)}") from error
        except aiohttp.InvalidURL as error:
            raise Refused(f"{place} is no address that can be called") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Undeliverable(f"{place} took no connection within {self._timeout.connect:g} s") from error
        except TimeoutError as error:
            raise Undeliverable(f"{place} did not answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Undeliverable(f"{place} broke off, or answered no HTTP: {type(error).__name__}") from error

    async def close(self) -> None:
        """Give back the connections; a later `send` would make new ones."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        """A session, made when first needed: it belongs to the running loop."""
        if allow_private not in self._sessions:
            self._sessions[allow_private] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver,
                    use_dns_cache=self._remember_names_s > 0,
                    ttl_dns_cache=math.ceil(self._remember_names_s),
                    socket_factory=None if allow_private else self._socket,
                ),
                # Receivers know nothing of each other, also not by a cookie; and nothing is unpacked unasked.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding",),
                headers=_HEADERS,
                timeout=self._timeout,
            )
        return self._sessions[allow_private]

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = address
        if self._refused(str(where[0])):
            raise PrivateAddress("a private address")
        return socket.socket(family, kind, protocol)


@dataclass(frozen=True, slots=True)
class Means:
    """What targets work with: the connections, the time, and the region that requests are signed for by default."""

    post: Post
    clock: Clock
    region: str = "us-east-1"


def is_private(address: str) -> bool:
    """Whether an IP address is anything but a public one: private, loopback, link-local, reserved, multicast.

    Shapes: "10.0.0.1" or "fe80::1%eth0"; IPv6 that carries IPv4 within is judged by that.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return not ip.is_global or ip.is_multicast or ip.is_reserved or any(ip in network for network in _ALSO_PRIVATE)


def place_of(url: URL) -> str:
    """A receiver as messages name it: without path and query, which may hold a password."""
    return str(url.origin())


def failure(answer: Answer) -> Undeliverable | Refused:
    """What an answer other than a success means. Its words are not repeated: they are for nobody here."""
    place, status = answer.place, answer.status
    if 300 <= status < 400:
        return Undeliverable(f"{place} answered {status}: redirects are not followed; give the address they lead to")
    if status in _TRY_AGAIN or not 400 <= status < 500:
        wait_s = retry_after(answer.headers)
        return Undeliverable(
            f"{place} answered {status}", retry_after_s=None if wait_s is None else min(wait_s, MOST_RETRY_AFTER_S)
        )
    return Refused(f"{place} answered {status}", gone=status == 410)


def _as_number(name: str) -> str | None:
    """The address that a name stands for which is a number to the system, such as 2130706433, 0x7f000001 or 127.1."""
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except (OSError, ValueError):
        return None


def _reason(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    return error.os_error.strerror or "no connection"


async def _beginning(response: aiohttp.ClientResponse, within_s: float) -> bytes:
    """The body's first bytes. Read to its end, it leaves a connection that can be used again."""
    taken = bytearray()
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(within_s):
            while len(taken) < _MOST_BODY_BYTES:
                piece = await response.content.read(_MOST_BODY_BYTES - len(taken))
                if not piece:
                    break
                taken += piece
    return bytes(taken)
