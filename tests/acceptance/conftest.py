"""The world that acceptance tests start from."""

from __future__ import annotations

import pytest
from agents import World

from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel


@pytest.fixture
def world(outcrop_server: LocalServer, outcrop_model: ScriptedModel, outcrop_functions: RecordedFunctions) -> World:
    """A server in this process, with a scripted model and recorded functions."""
    return World(outcrop_server, outcrop_model, outcrop_functions)
