"""The folder is the registry: load one module by the name that a setting or a record gives.

A seam is a package whose modules each provide one factory. Third parties register theirs
under the entry-point group that carries the package's name.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from outcrop.errors import RoomError

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class UnknownPlugin(RoomError):
    """No file of the folder, and no installed entry point, has this name."""


def names(package: str) -> list[str]:
    """The names that a seam knows: its files, then installed entry points, sorted.

    Shapes: a dotted package name ("outcrop.models.providers") -> module names without the package.
    """
    return sorted(_files(package) | {point.name for point in entry_points(group=package)})


@cache
def _files(package: str) -> set[str]:
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return {module.name for module in found if not module.name.startswith("_")}


def load(package: str, name: str, factory: str) -> Any:
    """The factory of one kind: attribute `factory` of module `package.name`, or of the entry point.

    Errors: UnknownPlugin when the folder and the entry points lack the name; ImportError (naming
            the missing extra, as the module words it) when its library is not installed.
    """
    if _NAME.fullmatch(name):
        if name in _files(package):
            return getattr(importlib.import_module(f"{package}.{name}"), factory)
        for point in entry_points(group=package, name=name):
            return point.load()
    raise UnknownPlugin(f"{package} has no '{name}'; it has {', '.join(names(package))}")
