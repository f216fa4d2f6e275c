"""Imports go down only, and each library has its rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# A library's rooms, as module prefixes inside the package; "" is everywhere.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "aiohttp": ("models.providers.openai", "tools.executors", "notifications"),
    "alembic": ("storage",),
    "asyncpg": ("storage.lane",),
    "boto3": ("models.providers", "tools.bindings", "tools.executors.aws_lambda", "client", "testing", "cli"),
    "botocore": (
        "wire",
        "models.providers",
        "tools.bindings",
        "tools.executors.aws_lambda",
        "notifications.targets",
        "client",
        "testing",
        "cli",
    ),
    "dbos": ("jobs.runtime",),
    "h2": ("server",),
    "jsonschema_rs": ("wire", "tools"),
    "openapi_spec_validator": ("tools.openapi",),
    "opentelemetry": ("telemetry.spans",),
    "orjson": ("",),
    "pytest": ("testing",),
    "rich": ("cli",),
    "sqlalchemy": ("storage", "sessions", "jobs"),
    "starlette": ("server",),
    "strands": ("models.providers.strands",),
    "uvicorn": ("cli", "server.http1"),
    "uvloop": ("cli",),
    "yaml": ("tools", "storage"),
    "yarl": ("models.providers.openai", "tools.executors", "notifications"),
}


def test_every_floor_imports_downwards_only(root: Path, complain) -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([lint, "--no-cache", "--no-logo"], cwd=root, capture_output=True, text=True, check=False)
    if ran.returncode:
        complain([ran.stdout, ran.stderr, "The floors are drawn in ARCHITECTURE.md and ruled in .importlinter."])


def test_every_library_stays_in_its_rooms(package, complain) -> None:
    strays = []
    for source in package:
        for line, library in _libraries(source.tree):
            rooms = LIBRARIES.get(library)
            if rooms is None:
                strays.append(source.at(line, f"{library} has no room yet; give it one in LIBRARIES of {_here()}"))
            elif not any(_inside(source.module, room) for room in rooms):
                strays.append(source.at(line, f"{library} belongs in {', '.join(rooms)}; receive a value from there"))
    complain(strays)


def _libraries(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The libraries a module imports, also inside functions, with the line."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top != "outcrop" and top not in sys.stdlib_module_names:
                yield node.lineno, top


def _inside(module: str, room: str) -> bool:
    return not room or module == room or module.startswith(f"{room}.")


def _here() -> str:
    return "tests/architecture/test_floors.py"
