"""Every fenced block of the documentation is true.

```python   runs as a script of its own; the line before may say otherwise:
            <!-- runs: server -->            with `outcrop serve` on port 8700 (a free one, here);
                                             more options may follow: server --config examples/x/outcrop.toml
            <!-- runs: after the block above -->  as the continuation of the Python block above it
            <!-- not run: REASON -->         only compiled
```toml     loads as outcrop.toml
```json     parses
```sh       every `make` verb exists, every `outcrop` command line parses
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from outcrop import config
from outcrop.cli.main import parser

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\w*)[^\n`]*\n(?P<text>.*?)^ *(?P=ticks) *$", re.M | re.S
)
_MARK = re.compile(r"<!-- *(runs|not run): *((?:(?!-->).)*?) *-->\s*\Z", re.S)
_AFTER = "after the block above"
_OTHER_NAMES = {"py": "python", "pycon": "python", "python3": "python", "bash": "sh", "shell": "sh", "console": "sh"}


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what it holds, and what the comment before it says."""

    page: str
    line: int
    language: str
    text: str
    mark: tuple[str, str] | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def _blocks(page: Path) -> list[Block]:
    text, found = page.read_text(encoding="utf-8"), []
    for match in _FENCE.finditer(text):
        mark = _MARK.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 2
        name = page.relative_to(ROOT).as_posix()
        found.append(Block(name, line, match["language"], dedent(match["text"]), mark and (mark[1], mark[2])))
    return found


def _stories() -> list[list[Block]]:
    """The Python blocks that run, each with those that continue it."""
    stories: list[list[Block]] = []
    for page in _pages():
        for block in _blocks(page):
            if block.language == "python" and block.mark and block.mark == ("runs", _AFTER):
                assert stories, f"{block}: there is no block above"
                assert stories[-1][0].page == block.page, f"{block}: there is no block above on this page"
                stories[-1].append(block)
            elif block.language == "python" and not (block.mark and block.mark[0] == "not run"):
                stories.append([block])
    return stories


@pytest.mark.parametrize("story", _stories(), ids=lambda story: str(story[0]))
def test_python_blocks_run(
    story: list[Block], served: Callable[[str], str], run_script: Callable[[str, str], str]
) -> None:
    script = ""
    for block in story:
        script += "\n" * (block.line - 1 - script.count("\n")) + block.text  # so that errors name the page's lines
    kind, _, options = (story[0].mark[1] if story[0].mark else "").partition(" ")
    assert kind in ("", "server"), f"{story[0]}: '{kind}' is no way to run a block; it is 'server' or '{_AFTER}'"
    if kind == "server":
        port = served(options).rpartition(":")[2].strip("/")
        script = script.replace("8700", port)
    run_script(story[0].page.replace("/", "-") + ".py", script)


@pytest.mark.parametrize("block", [block for page in _pages() for block in _blocks(page)], ids=str)
def test_every_block_is_what_it_says(block: Block, tmp_path: Path) -> None:
    if block.mark and block.mark[0] == "not run":
        assert block.mark[1], f"{block}: say why it is not run"
    if block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language == "toml":
        _check_settings(block, tmp_path / "outcrop.toml")
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "sh":
        _check_shell(block)
    else:
        assert block.language not in _OTHER_NAMES, (
            f"{block}: say ```{_OTHER_NAMES[block.language]}, so that it is checked"
        )


def _check_settings(block: Block, file: Path) -> None:
    file.write_text(block.text, encoding="utf-8")
    config.load(file, environ={})


def _check_shell(block: Block) -> None:
    lines = block.text.replace("\\\n", " ").splitlines()
    for command in (command for line in lines for command in line.removeprefix("$ ").split("&&")):
        words = shlex.split(command, comments=True)
        if words and words[0] == "make":
            _check_make(block, words)
        elif words and words[0] in ("outcrop", ".venv/bin/outcrop"):
            _check_outcrop(block, words)


def _check_make(block: Block, words: list[str]) -> None:
    ran = subprocess.run(["make", "-pnq", "help"], cwd=ROOT, capture_output=True, text=True, check=False)
    verbs = set(re.findall(r"^([a-z]+):", ran.stdout, re.M))
    asked = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    assert set(asked) <= verbs, f"{block}: the Makefile has no {', '.join(sorted(set(asked) - verbs))}"


def _check_outcrop(block: Block, words: list[str]) -> None:
    try:
        parser().parse_args(words[1:])
    except SystemExit as ended:
        if ended.code:
            pytest.fail(f"{block}: outcrop does not take: {shlex.join(words)}", pytrace=False)


def test_the_readme_shows_something_that_runs() -> None:
    assert any(story[0].page == "README.md" for story in _stories())
