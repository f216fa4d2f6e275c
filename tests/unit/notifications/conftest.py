"""A receiver of notices on this machine, and names that lead wherever a test says."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outcrop.clock import StillClock
from outcrop.notifications.base import Notice
from outcrop.notifications.posting import Means, Post


class Receiver:
    """Takes every POST and keeps it; `answers` holds what the next ones get instead of 204."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.answers: deque[Any] = deque()
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        self.runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/hook?to=me"

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.taken.append((dict(request.headers), await request.read()))
        self.connections.add(request.transport.get_extra_info("peername"))
        answer = self.answers.popleft() if self.answers else web.Response(status=204)
        return await answer(request) if callable(answer) else answer

    async def parting(self, request: web.Request) -> web.StreamResponse:
        """Answer, and end the connection."""
        response = web.Response(status=204)
        response.force_close()
        return response

    async def open(self, port: int = 0, ssl_context: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=100_000_000)
        app.router.add_post("/{path:.*}", self.take)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, self.host, port, ssl_context=ssl_context).start()
        self.port = self.runner.addresses[0][1]


class Names(AbstractResolver):
    """Every name leads to the addresses that the test put next; the last ones stay."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = deque(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if not addresses:
            raise OSError("no such name")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=_family(address), proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture
def names() -> type[Names]:
    """A resolver; its arguments are the addresses of one answer after the other."""
    return Names


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.open()
    yield receiver
    await receiver.runner.cleanup()


@pytest.fixture
async def receivers() -> AsyncIterator[Callable[[str, int], Any]]:
    """Further receivers, on other addresses of this machine."""
    opened = []

    async def open_one(host: str, port: int = 0, ssl_context: ssl.SSLContext | None = None) -> Receiver:
        receiver = Receiver(host)
        await receiver.open(port, ssl_context)
        opened.append(receiver)
        return receiver

    yield open_one
    for receiver in opened:
        await receiver.runner.cleanup()


@pytest.fixture
def clock() -> StillClock:
    return StillClock(at=1_800_000_000.25)


@pytest.fixture
async def means(clock: StillClock) -> AsyncIterator[Callable[..., Means]]:
    """What targets work with; the options are Post's."""
    posts = []

    def make(**options: Any) -> Means:
        posts.append(Post(**options))
        return Means(posts[-1], clock)

    yield make
    for post in posts:
        await post.close()


@pytest.fixture
def notice() -> Notice:
    return Notice(
        id="turn-1:7",
        kind="turn.completed",
        at=1_799_999_990.5,
        body={"turnId": "turn-1", "agentId": "AGENT00001", "status": "COMPLETED", "answer": "Twelve are left."},
        agent=("warehouse", "AGENT00001", "arn:aws:bedrock:us-east-1:123456789012:agent/AGENT00001"),
    )


@pytest.fixture
def forever() -> Callable[[web.Request], Any]:
    """A handler that never answers."""

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return hang


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """What a server needs for TLS, with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
