"""Reads and checks the settings of one [functions] binding; executors call it when they are built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from outcrop.config import Binding, ConfigMistake


def place(binding: Binding) -> str:
    """How a message names the binding."""
    return f"[functions] '{binding.pattern}'"


def text(binding: Binding, key: str, default: str = "") -> str:
    """A setting that is a string.

    Errors: ConfigMistake when it is something else.
    """
    value = binding.settings.get(key, default)
    if not isinstance(value, str):
        raise ConfigMistake(f"{place(binding)}: {key} = {value!r} is no text")
    return value


def seconds(binding: Binding, key: str, default: float) -> float:
    """A setting that is a positive number of seconds.

    Errors: ConfigMistake when it is something else.
    """
    value = binding.settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ConfigMistake(f"{place(binding)}: {key} = {value!r} is no positive number of seconds")
    return float(value)


def count(binding: Binding, key: str, default: int) -> int:
    """A setting that is a whole number above zero.

    Errors: ConfigMistake when it is something else.
    """
    value = binding.settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigMistake(f"{place(binding)}: {key} = {value!r} is no whole number above zero")
    return value


def table(binding: Binding, key: str) -> dict[str, str]:
    """A setting that is a table of strings; numbers and booleans in it become text.

    Errors: ConfigMistake when it is no table, or holds a list or a table.
    """
    value: Any = binding.settings.get(key, {})
    if not isinstance(value, Mapping):
        raise ConfigMistake(f"{place(binding)}: {key} is no table")
    found: dict[str, str] = {}
    for name, entry in cast(Mapping[str, Any], value).items():
        if not isinstance(entry, str | int | float):
            raise ConfigMistake(f"{place(binding)}: {key}.{name} is no text")
        found[str(name)] = str(entry)
    return found


def names(binding: Binding, key: str) -> list[str]:
    """A setting that is a list of names.

    Errors: ConfigMistake when it is something else.
    """
    value: Any = binding.settings.get(key, [])
    listed: list[Any] = cast(list[Any], value) if isinstance(value, list) else [None]
    if not all(isinstance(name, str) for name in listed):
        raise ConfigMistake(f"{place(binding)}: {key} is no list of names")
    return listed
