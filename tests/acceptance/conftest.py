"""The world that acceptance tests start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agents import World
from background import POLICIES, Scene
from held_model import HeldModel

from outcrop.clock import StillClock
from outcrop.config import Config, ServerSettings
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel


@pytest.fixture
def world(outcrop_server: LocalServer, outcrop_model: ScriptedModel, outcrop_functions: RecordedFunctions) -> World:
    """A server in this process, with a scripted model and recorded functions."""
    return World(outcrop_server, outcrop_model, outcrop_functions)


@pytest.fixture(scope="module")
def serving() -> Iterator[Scene]:
    model, functions, clock = HeldModel(), RecordedFunctions(), StillClock()
    config = Config(server=ServerSettings(database="sqlite:memory"), agents=POLICIES)
    with LocalServer(model, functions, config=config, clock=clock) as server:
        yield Scene(server, model, functions, clock)


@pytest.fixture
def scene(serving: Scene) -> Iterator[Scene]:
    serving.functions.handlers.clear()
    serving.functions.events.clear()
    serving.functions.add("inventory", "42")
    yield serving
    serving.model.assert_finished()
