"""Fixtures of the model tests: fake model servers on loopback, importable as `fake_servers`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_FAKES = Path(__file__).with_name("fake_servers.py")
if _FAKES.stem not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_FAKES.stem, _FAKES)
    sys.modules[_FAKES.stem] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_FAKES.stem])


@pytest.fixture
async def openai_server():
    """A fake OpenAI-compatible server."""
    from fake_servers import FakeOpenAI, serving

    async with serving(FakeOpenAI()) as server:
        yield server


@pytest.fixture
async def anthropic_server():
    """A fake of Anthropic's API."""
    from fake_servers import FakeAnthropic, serving

    async with serving(FakeAnthropic()) as server:
        yield server


@pytest.fixture
async def bedrock_server():
    """A fake of Bedrock's runtime API."""
    from fake_servers import FakeBedrock, serving

    async with serving(FakeBedrock()) as server:
        yield server
