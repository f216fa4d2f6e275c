"""Fixtures of the offline model's tests; what they are made of is importable as `offline_driver`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from outcrop.messages import ToolSpec

if TYPE_CHECKING:
    from offline_driver import Talk

_DRIVER = Path(__file__).with_name("offline_driver.py")
if _DRIVER.stem not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_DRIVER.stem, _DRIVER)
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_DRIVER.stem] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_DRIVER.stem])


@pytest.fixture(scope="session")
def sets() -> dict[str, list[ToolSpec]]:
    """The tool sets, by name."""
    from offline_driver import read_tool_sets

    return read_tool_sets()


@pytest.fixture
def talk(sets: dict[str, list[ToolSpec]]) -> Talk:
    """A conversation about the inventory."""
    from offline_driver import Talk

    return Talk(sets["inventory"])
