"""Names that say nothing, work put off, waivers, mocks and traces of one machine stay out."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

EMPTY_NAMES = re.compile(r"^(utils?|helpers?|common|misc|managers?|handlers?|base_\w+|\w+_(utils?|helpers?|manager))$")
PUT_OFF = re.compile(r"\b(TO" + "DO|FIX" + r"ME|XX" + r"X)\b")
WAIVER = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:|basedpyright:|mypy:|ruff:|pylint:)")
MOCK = re.compile(
    r"unittest\.mock|\b(Magic|Async|NonCallable)?Mock\(|\bmocker\b|\bpatch(\.\w+)?\(|monkeypatch\.setattr"
)
MOCKS_PER_THOUSAND = 2
MACHINE = re.compile(r"(?<![\w.])/(?:work|farm|root|home/\w+|tmp/" + r"outcrop)/[\w.]")
INDEX = re.compile(
    r"(?:py" + r"pi\.org|pythonhosted\.org|registry\.npm" + r"js\.org|registry\.yarn" + r"pkg\.com|/simple/\s)"
)


def test_every_module_name_says_what_it_holds(package, complain) -> None:
    empty = {
        f"{source.name}: '{part}' says nothing; name the module for what it holds"
        for source in package
        for part in source.module.split(".")
        if EMPTY_NAMES.match(part)
    }
    complain(empty)


def test_nothing_is_put_off(code, complain) -> None:
    put_off = [
        source.at(number, "is put off; do it, or open an issue and delete the comment")
        for source in code
        for number, comment in _comments(source)
        if PUT_OFF.search(comment)
    ]
    complain(put_off)


def test_the_package_carries_no_waivers(package, complain) -> None:
    waived = [
        source.at(number, f"'{comment.strip()}' waives a rule; mend the cause: a cast, a TypedDict, a smaller function")
        for source in package
        for number, comment in _comments(source)
        if WAIVER.match(comment)
    ]
    complain(waived)


def test_tests_use_fakes_not_mocks(code, complain) -> None:
    tests = [source for source in code if source.name.startswith("tests/") and source.path != Path(__file__)]
    total = sum(source.text.count("\n") for source in tests)
    mocks = [
        source.at(number, line.strip())
        for source in tests
        for number, line in enumerate(source.text.splitlines(), 1)
        if MOCK.search(line)
    ]
    budget = total * MOCKS_PER_THOUSAND // 1000
    heading = f"{total} test lines may hold {budget} mock lines; a fake is a function:"
    if len(mocks) > budget:
        complain([heading, *mocks])


def test_no_file_knows_a_machine_or_a_package_host(tracked: list[Path], root: Path, complain) -> None:
    found = [
        f"{path.relative_to(root)}:{number}: a path of one machine or a package host: {line.strip()[:100]}"
        for path in tracked
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE.search(line) or INDEX.search(line)
    ]
    complain(found)


def _comments(source) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
