"""Which operations are implemented: `@operation("CreateAgent")` in the service's folder.

The folder says which service it is. Loading imports every module of every service
folder once, so a new file is all that a new operation needs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from outcrop.operations.context import Context

Result = dict[str, Any]
Batch = list[tuple[str, dict[str, Any]]]
SERVICES = {
    "bedrock_agent": "bedrock-agent",
    "bedrock_agent_runtime": "bedrock-agent-runtime",
    "extensions": "outcrop",
}
"""Folder of operations -> the service that they are of."""


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that is an event stream.

    Shapes: head holds the members that travel as headers; events are batches of (member name, member) of the
            stream's union, each batch as soon as it is ready. A Fault raised from events ends the stream with
            its exception frame. `delivered` is called once everything was handed to a client that is still there.
    """

    head: dict[str, Any]
    events: AsyncIterator[Batch]
    delivered: Callable[[], None] | None = None


Handler = Callable[[Context, dict[str, Any]], Awaitable[Result | Stream]]

_HANDLERS: dict[tuple[str, str], Handler] = {}


def operation(name: str) -> Callable[[Handler], Handler]:
    """Declare a function to be the implementation of an operation of its folder's service."""

    def declare(handler: Handler) -> Handler:
        service = SERVICES[handler.__module__.split(".")[-2]]
        assert (service, name) not in _HANDLERS, f"{name} is implemented twice"
        _HANDLERS[service, name] = handler
        return handler

    return declare


def load() -> dict[tuple[str, str], Handler]:
    """All implemented operations by (service, operation name)."""
    for folder in SERVICES:
        package: ModuleType = importlib.import_module(f"outcrop.operations.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_HANDLERS)
