"""A scripted runtime, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from scripted_runtime import Runtime

from outcrop.client import AgentClient


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The server; replies that nobody asked for fail the test."""
    server = Runtime()
    yield server
    server.close()
    assert not server.replies, "the client asked less often than the script says"


@pytest.fixture(scope="session")
def boto() -> boto3.Session:
    """One session for all clients, because it reads the service models once."""
    return boto3.Session()


@pytest.fixture
def client(runtime: Runtime, boto: boto3.Session) -> Iterator[Callable[..., AgentClient]]:
    """Makes clients of that server that do not wait between attempts."""
    made: list[AgentClient] = []

    def make(**settings: Any) -> AgentClient:
        made.append(AgentClient(runtime.url, **{"backoff_s": 0.0, "session": boto, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()
