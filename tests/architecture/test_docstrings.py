"""Every public thing says what it gives, under our four headings, with sources that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

HEADINGS = ("Shapes", "Units", "Errors", "Source")
_HEADING = re.compile(r"^([A-Z][A-Za-z]+):(?:\s|$)")
_SENTENCE = re.compile(r"[.!?:][\"'`)\]]*$")
_CITED = re.compile(r"(docs/behaviour/[\w-]+\.md)([^(;:\n]*)")
_KNOWN = re.compile(r"\([^)]*\b(stated|observed|inferred)\b")


def test_every_public_thing_has_a_docstring(package, complain) -> None:
    bare = [
        source.at(line, f"{name} has no docstring; say in a sentence what it gives")
        for source in package
        for name, line, text, _ in _documented(source)
        if not text
    ]
    complain(bare)


def test_every_docstring_opens_with_a_sentence(package, complain) -> None:
    broken = []
    for source in package:
        for name, line, text, _ in _documented(source):
            if text and not _SENTENCE.search(text.partition("\n\n")[0].rstrip()):
                broken.append(source.at(line, f"the first paragraph of {name} does not end like a sentence"))
    complain(broken)


def test_every_heading_is_one_of_ours_and_in_order(package, complain) -> None:
    wrong = []
    for source in package:
        for name, line, text, _ in list(_documented(source))[1:]:  # a module draws and tells as it likes
            found = list(_headings(text))
            strange = [heading for heading in found if heading not in HEADINGS]
            if strange:
                wrong.append(source.at(line, f"{name} has the heading {strange[0]}; ours are {', '.join(HEADINGS)}"))
            elif found != [heading for heading in HEADINGS if heading in found]:
                wrong.append(source.at(line, f"{name} has its headings as {found}; the order is {', '.join(HEADINGS)}"))
    complain(wrong)


def test_every_public_function_that_raises_lists_its_errors(package, complain) -> None:
    silent = [
        source.at(line, f"{name} raises, so its docstring needs the heading Errors: which, and when")
        for source in package
        for name, line, text, node in _documented(source)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(isinstance(inner, ast.Raise) for inner in _own(node))
        and "Errors" not in _headings(text)
    ]
    complain(silent)


def test_every_cited_page_and_section_exists(package, root, complain) -> None:
    lost: dict[str, list[str]] = {}
    for source in package:
        for number, line in enumerate(source.text.splitlines(), 1):
            for page, sections in _CITED.findall(line):
                for missing in _missing(root / page, sections):
                    lost.setdefault(f"{page}{missing}", []).append(f"{source.name}:{number}")
    complain(f"{places[0]}: {what} does not exist ({len(places)} citations)" for what, places in lost.items())


def test_every_source_says_how_we_know(package, complain) -> None:
    complain(
        source.at(line, f"the source of {name} does not say (stated), (observed) or (inferred)")
        for source in package
        for name, line, text, _ in _documented(source)
        if _CITED.search(block := _block(text, "Source")) and not _KNOWN.search(block)
    )


def _missing(page: Path, sections: str) -> Iterator[str]:
    """What of a citation leads nowhere: "" for the page, " 4.1" for a section, by number or by title."""
    if not page.is_file():
        yield ""
        return
    headings = re.findall(r"^#+ +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    for section in re.split(r",| and ", sections):
        wanted = section.strip(' .`"')
        if wanted and ".md" not in wanted and not any(_is_section(heading, wanted) for heading in headings):
            yield f" {wanted}"


def _is_section(heading: str, wanted: str) -> bool:
    number, _, title = heading.partition(" ")
    if wanted[0].isdigit():
        return number.rstrip(".") == wanted
    return wanted.lower() in (title.lower(), heading.lower())


def _documented(source) -> Iterator[tuple[str, int, str, ast.AST]]:
    """Every public thing of a module that owes a docstring: its name, line, docstring and node."""
    yield f"module {source.module or 'outcrop'}", 1, _docstring(source.tree), source.tree
    for name, node in source.definitions():
        if not any(part.startswith("_") for part in name.split(".")) and not _is_variant(node):
            yield name, node.lineno, _docstring(node), node


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return cleandoc(ast.get_docstring(node, clean=False) or "").strip()


def _is_variant(node: ast.AST) -> bool:
    """Whether a function repeats another one's name: an overload, or the setter of a property."""
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in getattr(node, "decorator_list", [])}
    return bool(marks & {"overload", "setter", "deleter", "override"})


def _headings(text: str) -> Iterator[str]:
    """The headings of a docstring: unindented, after an empty line or after another heading."""
    before, seen = "", False
    for line in text.splitlines():
        match = _HEADING.match(line)
        if match and (seen or not before.strip()):
            seen = True
            yield match[1]
        before = line


def _block(text: str, heading: str) -> str:
    """The text under one heading."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(f"{heading}:")]
    if not starts:
        return ""
    rest = lines[starts[0] + 1 :]
    ends = next((number for number, line in enumerate(rest) if line and not line.startswith(" ")), len(rest))
    return "\n".join([lines[starts[0]], *rest[:ends]])


def _own(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Every node of a function's body, without those of functions and classes inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield node
            waiting.extend(ast.iter_child_nodes(node))
