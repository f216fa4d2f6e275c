"""Pytest fixtures for agents: `outcrop_server`, its scripted model and its recorded functions.

Installed as a plugin, so a test only names them. Each test has a server, a model and functions
of its own; a script that was not used up fails the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from outcrop.clock import StillClock
from outcrop.models.providers.scripted import ScriptedModel
from outcrop.testing.functions import RecordedFunctions
from outcrop.testing.local import LocalServer


@pytest.fixture
def outcrop_clock() -> StillClock:
    """A clock that stands still until the test moves it."""
    return StillClock()


@pytest.fixture
def outcrop_model() -> Iterator[ScriptedModel]:
    """A model whose replies the test writes with `outcrop_model.reply(...)`; leftovers fail the test."""
    model = ScriptedModel([])
    yield model
    model.assert_finished()


@pytest.fixture
def outcrop_functions() -> RecordedFunctions:
    """Functions that the test adds by name, and the events they were sent."""
    return RecordedFunctions()


@pytest.fixture
def outcrop_server(
    outcrop_model: ScriptedModel, outcrop_functions: RecordedFunctions, outcrop_clock: StillClock
) -> Iterator[LocalServer]:
    """A server in this process on that model, those functions and that clock; its data ends with the test."""
    with LocalServer(outcrop_model, outcrop_functions, clock=outcrop_clock) as server:
        yield server


@pytest.fixture
def bedrock_agent(outcrop_server: LocalServer) -> Any:
    """A boto3 client of the control plane."""
    return outcrop_server.client("bedrock-agent")


@pytest.fixture
def bedrock_agent_runtime(outcrop_server: LocalServer) -> Any:
    """A boto3 client of the runtime."""
    return outcrop_server.client("bedrock-agent-runtime")
