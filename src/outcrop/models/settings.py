"""The settings of a model binding, each read with its type, and the key that opens a provider's door.

Used by the files of `providers/`. A key is never a setting itself: settings say where it is found.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from outcrop.config import Binding, ConfigMistake
from outcrop.models.base import ModelAccessDenied

KEY_SETTINGS = ("api_key_env", "api_key_file")
"""The settings that say where a provider's key is found; the key itself is never a setting."""


def read_key(binding: Binding) -> str:
    """The provider's key, from the environment or a file; empty where the binding names neither.

    Errors: ModelAccessDenied when the variable is not set or the file cannot be read.
    """
    variable, path = binding.settings.get("api_key_env"), binding.settings.get("api_key_file")
    if variable:
        key = os.environ.get(str(variable), "").strip()
        if not key:
            raise ModelAccessDenied(f"[models] '{binding.pattern}': environment variable {variable} is not set")
        return key
    if path:
        try:
            return Path(str(path)).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ModelAccessDenied(f"[models] '{binding.pattern}': key file {path}: {reason}") from error
    return ""


def number(binding: Binding, name: str, default: float) -> float:
    """A setting that is a number.

    Errors: ConfigMistake when it is something else, or negative.
    """
    value: Any = binding.settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ConfigMistake(f"[models] '{binding.pattern}': {name} = {value!r} is no number of at least 0")
    return float(value)


def word(binding: Binding, name: str, default: str = "") -> str:
    """A setting that is a text.

    Errors: ConfigMistake when it is something else.
    """
    value: Any = binding.settings.get(name, default)
    if not isinstance(value, str):
        raise ConfigMistake(f"[models] '{binding.pattern}': {name} = {value!r} is no text")
    return value


def switch(binding: Binding, name: str, default: bool) -> bool:
    """A setting that is true or false.

    Errors: ConfigMistake when it is something else.
    """
    value: Any = binding.settings.get(name, default)
    if not isinstance(value, bool):
        raise ConfigMistake(f"[models] '{binding.pattern}': {name} = {value!r} is neither true nor false")
    return value


def table(binding: Binding, name: str) -> dict[str, Any]:
    """A setting that is a table; empty where it is absent.

    Errors: ConfigMistake when it is something else.
    """
    value: Any = binding.settings.get(name, {})
    if not isinstance(value, dict):
        raise ConfigMistake(f"[models] '{binding.pattern}': {name} = {value!r} is no table")
    return dict(cast("dict[str, Any]", value))
