"""Makes the fake model servers of the unit tests importable here; tests are not on the import path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_FAKES = Path(__file__).parents[1] / "unit" / "models" / "fake_servers.py"
if _FAKES.stem not in sys.modules:
    _spec = importlib.util.spec_from_file_location(_FAKES.stem, _FAKES)
    sys.modules[_FAKES.stem] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_FAKES.stem])
