"""What the house's inspection looks at: every Python file parsed once, and every tracked file."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class Source:
    """One Python file, and the ways the rules look at it."""

    path: Path

    @property
    def name(self) -> str:
        """The path from the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def module(self) -> str:
        """The dotted name inside the package, "" for the package itself: "models.base"."""
        parts = self.path.relative_to(ROOT / "src" / "outcrop").with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__")

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.text, self.name)
        except SyntaxError as error:
            pytest.fail(self.at(error.lineno or 1, f"does not parse: {error.msg}"), pytrace=False)

    def at(self, line: int, sentence: str) -> str:
        """A complaint in the form an editor can jump to."""
        return f"{self.name}:{line}: {sentence}"

    def definitions(self) -> Iterator[tuple[str, Definition]]:
        """Every class, and every function that is no local of another, with its dotted name."""
        return _definitions(self.tree.body, "")

    def functions(self) -> Iterator[Function]:
        """Every function, local ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def _definitions(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, Definition]]:
    for node in body:
        if isinstance(node, Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions([*node.body, *node.orelse], prefix)


def _sources(*folders: str) -> list[Source]:
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [Source(path) for path in sorted(paths) if not {"node_modules", ".cache"} & set(path.parts)]


@pytest.fixture(scope="session")
def complain() -> Callable[[Iterable[str]], None]:
    """Fails a test with one line per complaint, and nothing else."""

    def fail(complaints: Iterable[str]) -> None:
        lines = list(complaints)
        if lines:
            pytest.fail("\n".join(lines), pytrace=False)

    return fail


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def package() -> list[Source]:
    """Every module of the package."""
    return _sources("src/outcrop")


@pytest.fixture(scope="session")
def code() -> list[Source]:
    """Every Python file of the repository."""
    return _sources("src", "tests", "bench", "crash", "examples", "docs")


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every text file under version control; in an unpacked archive, every file that would be."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode == 0:
        found = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        hidden = {".git", ".venv", ".cache", "node_modules", "__pycache__"}
        found = [path for path in ROOT.rglob("*") if not hidden & set(path.relative_to(ROOT).parts)]
    return [path for path in sorted(found) if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


@pytest.fixture(scope="session")
def generator() -> ModuleType:
    """The module that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("outcrop_docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
