"""What holds for every test: no network beyond this machine, no account, no blocked event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from postgresql import PostgreSQL

BLOCKED_S = 1.5
"""How long one callback may hold an event loop. Generous, because a test machine is often busy."""

_FROM_OUTSIDE = ("AWS_", "OUTCROP_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
for _name in [name for name in os.environ if name.upper().startswith(_FROM_OUTSIDE)]:
    del os.environ[_name]
os.environ |= {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class NetworkClosed(RuntimeError):
    """A test reached for an address that is not on this machine."""


def _is_here(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost") or str(host).endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    """Python tells audit hooks of every socket call, whichever library makes it."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if isinstance(address, tuple) and not _is_here(address[0]):
            raise NetworkClosed(f"tests stay on this machine, and this one calls {address[0]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and not _is_here(arguments[0]):
        raise NetworkClosed(f"tests stay on this machine, and this one looks up {arguments[0]}")


sys.addaudithook(_guard)


class _Watch:
    """Times every callback of every asyncio loop, and keeps those that held their loop too long."""

    def __init__(self) -> None:
        self.blocked: list[str] = []
        self._waiting_ns: dict[int, int] = {}

    def start(self) -> None:
        self.blocked.clear()
        self._waiting_ns.clear()

    def run(self, handle: asyncio.Handle, perform: Any) -> None:
        thread = threading.get_native_id()
        if thread not in self._waiting_ns:
            self._waiting_ns[thread] = _waited_ns(thread)
        started = time.perf_counter()
        perform(handle)
        took = time.perf_counter() - started
        if took > BLOCKED_S:
            # A machine with more to do than processors makes everybody wait; that is nobody's fault here.
            took -= (_waited_ns(thread) - self._waiting_ns[thread]) / 1e9
            if took > BLOCKED_S:
                self.blocked.append(f"{took:.1f} s in {handle!r}")


def _waited_ns(thread: int) -> int:
    """How long a thread has waited for a processor so far; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/self/task/{thread}/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0


_WATCH = _Watch()


@pytest.fixture(scope="session", autouse=True)
def _watched_loops() -> Iterator[None]:
    plain = asyncio.Handle._run
    asyncio.Handle._run = lambda handle: _WATCH.run(handle, plain)
    yield
    asyncio.Handle._run = plain


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Fail a test in which one callback blocked an event loop."""
    _WATCH.start()
    yield
    if _WATCH.blocked:
        pytest.fail("an event loop was blocked:\n" + "\n".join(_WATCH.blocked), pytrace=False)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """The PostgreSQL of this test process, started by the first test that asks. Not to be stopped: others use it."""
    from postgresql import PostgreSQL

    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def _migrated(postgresql: PostgreSQL) -> str:
    from outcrop.storage.migrate import migrate
    from outcrop.storage.postgresql import PostgresqlDatabase

    migrate(PostgresqlDatabase(postgresql.database("migrated")))
    return "migrated"


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL, _migrated: str) -> Iterator[str]:
    """[server] database for one test: a database of its own, with this release's tables."""
    url = postgresql.database(template=_migrated)
    yield url
    postgresql.drop(url)


@pytest.fixture
def empty_postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """The same without tables."""
    url = postgresql.database()
    yield url
    postgresql.drop(url)
