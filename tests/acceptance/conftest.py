"""The world that acceptance tests start from, on SQLite and, where the journal's work shows, on PostgreSQL too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agents import World
from background import POLICIES, Scene
from held_model import HeldModel
from postgresql import PostgreSQL
from workers import emptied

from outcrop.clock import StillClock
from outcrop.config import Config, ServerSettings
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel

ON_BOTH = (
    "test_control_plane",
    "test_failures",
    "test_functions",
    "test_restarts",
    "test_return_of_control",
    "test_sessions",
)
"""The files whose tests run on each database; all others run on SQLite."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH and "database_setting" in metafunc.fixturenames:
        metafunc.parametrize("database_setting", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def _acceptance_url(postgresql: PostgreSQL, _migrated: str) -> str:
    return postgresql.database(template=_migrated)


@pytest.fixture
def _postgresql_setting(postgresql: PostgreSQL, _acceptance_url: str) -> Iterator[str]:
    yield _acceptance_url
    emptied(postgresql, _acceptance_url)


@pytest.fixture
def database_setting(request: pytest.FixtureRequest) -> str:
    """[server] database for one test: one with nothing in it."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return request.getfixturevalue("_postgresql_setting")
    return "sqlite:memory"


@pytest.fixture
def outcrop_server(
    outcrop_model: ScriptedModel,
    outcrop_functions: RecordedFunctions,
    outcrop_clock: StillClock,
    database_setting: str,
) -> Iterator[LocalServer]:
    """The plugin's server, on the database of the test."""
    config = Config(server=ServerSettings(database=database_setting))
    with LocalServer(outcrop_model, outcrop_functions, config=config, clock=outcrop_clock) as server:
        yield server


@pytest.fixture
def world(outcrop_server: LocalServer, outcrop_model: ScriptedModel, outcrop_functions: RecordedFunctions) -> World:
    """A server in this process, with a scripted model and recorded functions."""
    return World(outcrop_server, outcrop_model, outcrop_functions)


@pytest.fixture(scope="module")
def serving() -> Iterator[Scene]:
    """A server for turns in the background, for all tests of a file."""
    model, functions, clock = HeldModel(), RecordedFunctions(), StillClock()
    config = Config(server=ServerSettings(database="sqlite:memory"), agents=POLICIES)
    with LocalServer(model, functions, config=config, clock=clock) as server:
        yield Scene(server, model, functions, clock)


@pytest.fixture
def scene(serving: Scene) -> Iterator[Scene]:
    """That server, with nothing in its script."""
    serving.functions.handlers.clear()
    serving.functions.events.clear()
    serving.functions.add("inventory", "42")
    yield serving
    serving.model.assert_finished()
