"""Write the pages that are read off the code: settings, faults, events, seams, commands, the tree.

    python docs/generate.py --write     write what has changed
    python docs/generate.py --check     say what has changed, exit 1 if anything has

`make docs` writes; a test checks.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import dataclasses
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from outcrop import config, errors, events, plugins
from outcrop.wire.faults import fault_response
from outcrop.wire.services import SERVICES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "outcrop"
COVERAGE = Path(__file__).with_name("generate_coverage.py")
TREE = ("<!-- tree: written by `make docs` -->", "<!-- end of tree -->")
NOTE = "<!-- Written by `make docs` from the code; changes made here are lost. -->"

SEAMS = {
    "outcrop.models.providers": ("`provider` of a `[models]` binding", "outcrop.models.base.ModelProvider"),
    "outcrop.tools.executors": ("`kind` of a `[functions]` binding", "outcrop.tools.base.Executor"),
    "outcrop.orchestration.strategies": ("the agent's orchestration", "outcrop.orchestration.strategy.Strategy"),
    "outcrop.notifications.targets": ("`kind` of a notification target", "outcrop.notifications.base.Target"),
}
"""Every folder that is a registry: what names a file of it, and the protocol its files fulfil."""

PARTS = ("outcrop.models.offline",)
"""Folders that are no registry: the parts of one thing, called by one file of a seam."""

BINDINGS = {
    "models": "model id, ARN or inference profile -> what answers; `provider` names a file of `models/providers/`",
    "functions": "Lambda ARN or function name -> what runs it; `kind` names a file of `tools/executors/`",
    "buckets": "S3 bucket -> a folder (`path`) or an S3 endpoint (`endpoint_url`)",
    "stores": "vector index ARN -> a vector store; read by a later release",
    "agents": "agent name, id or ARN -> what holds for its turns instead of [turns], and its `budget`",
}


def main(arguments: list[str] | None = None) -> int:
    """0 when every page is, or now is, what the code says; 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    stale = [name for name, text in pages().items() if text != current(name)]
    for name in stale:
        if asked.write:
            (ROOT / name).write_text(pages()[name], encoding="utf-8")
        print(f"{name}: {'written' if asked.write else 'out of date; make docs writes it'}")
    coverage = 0
    if COVERAGE.exists():
        coverage = subprocess.run([sys.executable, COVERAGE, "--write" if asked.write else "--check"]).returncode
    return coverage or int(bool(stale) and not asked.write)


def current(name: str) -> str:
    """A page as it is on disk, "" where there is none."""
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def pages() -> dict[str, str]:
    """Every generated page by its path, as it should be."""
    reference = {"settings": settings, "faults": faults, "events": observed, "seams": seams, "cli": commands}
    written = {f"docs/reference/{name}.md": f"{NOTE}\n\n{page()}" for name, page in reference.items()}
    return written | {"ARCHITECTURE.md": with_tree(current("ARCHITECTURE.md"))}


def settings() -> str:
    """Every setting of every section, and the bindings."""
    lines = [
        "# Settings",
        "",
        "From lowest to highest: the defaults, `outcrop.toml`, environment variables, the command line.",
    ]
    for name, kind in config.SECTIONS.items():
        lines += ["", f"## [{name}]", "", _after_colon(_doc(kind)), ""]
        lines += _table(
            ("Setting", "Default", "Environment", "Meaning"),
            (
                (f"`{f.name}`", _default(f), f"`OUTCROP_{name}_{f.name}`".upper(), _meaning(kind, f))
                for f in dataclasses.fields(kind)
            ),
        )
    lines += ["", "## Bindings", ""]
    lines += ["Keys are globs over names and ARNs, and the first match in file order wins.", ""]
    lines += _table(("Section", "Binds"), ((f"`[{name}]`", BINDINGS[name]) for name in config.BINDINGS))
    own = ", ".join(f"`{name}`" for name in config.PER_AGENT)
    lines += ["", "### [agents]", "", f"A binding sets {own} as [turns] does, and a table `budget`:", ""]
    lines += _table(
        ("Setting", "Default", "Meaning"),
        (
            (f"`{f.name}`", _default(f), _meaning(config.BudgetSettings, f))
            for f in dataclasses.fields(config.BudgetSettings)
        ),
    )
    return "\n".join([*lines, ""])


def faults() -> str:
    """Every fault with its status at each door and the message it has where nothing better is known."""
    kinds = sorted(errors.Fault.__subclasses__(), key=lambda fault: fault.__name__)
    rows = (
        (f"`{fault.__name__}`", *(str(fault_response(door, fault(), "").status) for door in SERVICES), _doc(fault))
        for fault in kinds
    )
    lines = [
        "# Faults",
        "",
        "What a caller can get instead of an answer: the code, its HTTP status at each door before the first byte (a",
        "later fault ends the stream as an exception frame), and the message where the rule has no words of its own.",
        "",
        *_table(("Fault", *(f"`{service}`" for service in SERVICES), "Message"), rows),
    ]
    return "\n".join([*lines, ""])


def observed() -> str:
    """Every event of a turn, with its members."""
    lines = ["# Events", "", inspect.cleandoc(events.__doc__ or "").partition("\n")[0]]
    for kind in get_args(events.Event):
        lines += ["", f"## {kind.__name__}", "", inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0], ""]
        lines += _table(
            ("Member", "Type"), ((f"`{member.name}`", f"`{member.type}`") for member in dataclasses.fields(kind))
        )
    return "\n".join([*lines, ""])


def seams() -> str:
    """Every folder that is a registry, with its files."""
    lines = ["# Seams", "", "A folder is a registry: adding a kind is adding a file, or an entry point of the group."]
    for package, (chosen, protocol) in SEAMS.items():
        module, _, name = protocol.rpartition(".")
        promise = _doc(getattr(importlib.import_module(module), name))
        lines += ["", f"## {package}", "", f"`{name}`: {promise} Chosen by {chosen}.", ""]
        lines += _table(("File", "Gives"), _files(package))
    return "\n".join([*lines, ""])


def commands() -> str:
    """Every subcommand of `outcrop` with its options."""
    parser: argparse.ArgumentParser = importlib.import_module("outcrop.cli.main").parser()
    lines = ["# Commands", "", (parser.description or "").strip()]
    for action in _subcommands(parser):
        says = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, command in action.choices.items():
            lines += ["", f"## outcrop {name}", "", says.get(name) or command.description or "", ""]
            lines += _table(("Option", "Default", "Meaning"), _options(command))
    return "\n".join([*lines, ""])


def with_tree(page: str) -> str:
    """ARCHITECTURE.md with the tree between its marks as the modules' first lines say."""
    before, mark, rest = page.partition(TREE[0])
    _, end, after = rest.partition(TREE[1])
    if not mark or not end:
        raise SystemExit(f"ARCHITECTURE.md lacks the marks {TREE[0]} and {TREE[1]}")
    drawn = "\n".join(["```", *tree(), "```"])
    return f"{before}{mark}\n{drawn}\n{end}{after}"


def tree() -> Iterator[str]:
    """The rooms from the roof down, each with its modules and what they say of themselves."""
    for floor in floors():
        for room in floor:
            yield from _drawn(PACKAGE / room, 0)


def floors() -> list[list[str]]:
    """The rooms of each floor from the roof down, as the import contract has them."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    drawn = contracts["importlinter:contract:house"]["layers"].strip().splitlines()
    return [floor.replace("|", " ").replace(":", " ").split() for floor in drawn]


def _drawn(path: Path, depth: int) -> Iterator[str]:
    module = path.with_suffix(".py")
    if module.exists():
        yield f"{'  ' * depth + module.name:<28}{_first_line(module)}"
    elif path.is_dir():
        yield f"{'  ' * depth + path.name + '/':<28}{_first_line(path / '__init__.py')}"
        inside = [entry for entry in path.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").exists()]
        for entry in sorted(inside, key=lambda entry: (entry.is_dir(), entry.name)):
            if not entry.name.startswith("_"):
                yield from _drawn(entry.with_suffix(""), depth + 1)


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".")


def _files(package: str) -> Iterator[tuple[str, str]]:
    folder = Path(next(iter(importlib.import_module(package).__path__)))
    for name in plugins.names(package):
        if (folder / f"{name}.py").exists():
            yield f"`{name}`", _first_line(folder / f"{name}.py")


def _subcommands(parser: argparse.ArgumentParser) -> list[argparse._SubParsersAction[Any]]:
    return [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]


def _options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str]]:
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            name = " ".join(action.option_strings) or action.metavar or action.dest
            shown = action.default not in (None, False, argparse.SUPPRESS)
            meaning = (action.help or "") % {"default": action.default, "prog": parser.prog}
            if action.choices:
                meaning = "; ".join(filter(None, [meaning, f"one of {', '.join(map(str, action.choices))}"]))
            yield f"`{name}`", f"`{action.default}`" if shown else "", meaning


def _doc(thing: type | ModuleType) -> str:
    return " ".join(inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0].split())


def _after_colon(sentence: str) -> str:
    rest = sentence.partition(": ")[2] or sentence
    return rest[:1].upper() + rest[1:]


def _default(setting: dataclasses.Field[Any]) -> str:
    return "none" if setting.default is None else f"`{_toml(setting.default)}`"


def _meaning(kind: type[Any], setting: dataclasses.Field[Any]) -> str:
    """What a setting means and, where it is a choice, all that may be chosen."""
    allowed = ", ".join(f"`{choice}`" for choice in config.choices(kind)[setting.name])
    return setting.metadata["meaning"] + (f"; one of {allowed}" if allowed else "")


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[str]:
    body = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {row} |" for row in body)]


if __name__ == "__main__":
    raise SystemExit(main())
