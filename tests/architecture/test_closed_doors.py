"""The guards around every test work: the network ends at this machine, and a blocked loop is noticed."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import boto3
import pytest

pytest_plugins = ["pytester"]


def test_the_network_ends_at_this_machine() -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match="this machine"):
        client.connect(("192.0.2.1", 80))
    with pytest.raises(RuntimeError, match=r"looks up example\.com"):
        urllib.request.urlopen("http://example.com/")


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        server.accept()[0].close()


def test_clients_find_credentials_that_open_nothing() -> None:
    session = boto3.Session()
    assert session.get_credentials().access_key == "AKIAIOSFODNN7EXAMPLE"
    assert session.region_name == "us-east-1"
    assert session.available_profiles == []


def test_a_test_that_blocks_its_event_loop_fails(pytester: pytest.Pytester, root: Path) -> None:
    pytester.makeconftest((root / "tests" / "conftest.py").read_text().replace("BLOCKED_S = 1.5", "BLOCKED_S = 0.05"))
    pytester.makepyfile(
        """
        import asyncio, time

        def test_blocks():
            async def turn():
                time.sleep(0.2)
            asyncio.run(turn())

        def test_waits():
            asyncio.run(asyncio.sleep(0.2))
        """
    )
    ran = pytester.runpytest_subprocess("-p", "no:outcrop", "-p", "no:randomly", "-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1, failed=1)
    ran.stdout.fnmatch_lines(["*an event loop was blocked*"])
