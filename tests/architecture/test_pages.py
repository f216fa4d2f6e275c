"""The generated pages say what the code says, and the written ones hold together."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import get_args

from outcrop import config, errors, events

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(`{3,}).*?^\1|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def test_every_generated_page_is_what_the_code_says(generator, complain) -> None:
    complain(
        f"{name} is out of date; run make docs and read the difference"
        for name, text in generator.pages().items()
        if text != generator.current(name)
    )


def test_every_setting_has_a_meaning_and_is_listed(root: Path) -> None:
    page = (root / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for section, kind in config.SECTIONS.items():
        for setting in dataclasses.fields(kind):
            assert setting.metadata.get("meaning"), f"[{section}] {setting.name} has no meaning"
            assert f"| `{setting.name}` |" in page
    for section in config.BINDINGS:
        assert f"`[{section}]`" in page


def test_every_fault_is_listed_and_drawn(root: Path) -> None:
    page = (root / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
    for fault in errors.Fault.__subclasses__():
        assert f"`{fault.__name__}`" in page
        assert f"- {fault.__name__}" in (errors.__doc__ or ""), f"errors.py opens with the tree of faults; draw {fault}"


def test_every_event_is_in_the_union_and_listed(root: Path) -> None:
    page = (root / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    kinds = {kind for kind in vars(events).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type)}
    ours = {kind for kind in kinds if kind.__module__ == events.__name__}
    assert ours == set(get_args(events.Event)), "the union Event holds every event of events.py and nothing else"
    for kind in ours:
        assert f"## {kind.__name__}\n" in page


def test_every_folder_of_a_room_is_a_described_seam(package, generator, complain) -> None:
    page = generator.current("docs/reference/seams.md")
    complaints = []
    for source in package:
        room, _, rest = source.module.partition(".")
        folder, _, file = rest.partition(".")
        seam = f"outcrop.{room}.{folder}"
        if not file or file.startswith("_") or room in ("operations", "storage", "testing"):
            continue
        if seam in generator.PARTS:
            continue
        if seam not in generator.SEAMS:
            complaints.append(source.at(1, f"{seam} is a folder of kinds; describe it in SEAMS of docs/generate.py"))
        elif f"| `{file}` |" not in page.partition(f"## {seam}\n")[2]:
            complaints.append(source.at(1, "is not in docs/reference/seams.md; run make docs"))
    complain(complaints)


def test_every_link_of_every_page_leads_somewhere(tracked: list[Path], root: Path, complain) -> None:
    broken = []
    for page in (path for path in tracked if path.suffix == ".md"):
        for match in LINK.finditer(CODE.sub("", page.read_text(encoding="utf-8"))):
            target = match[1] or match[2]
            if not re.match(r"[a-z]+:", target) and not _leads_somewhere(page, target):
                broken.append(f"{page.relative_to(root)}: nothing at {target}")
    complain(broken)


def test_the_licence_is_apache_2(root: Path) -> None:
    licence = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert _project(root)["license"] == "Apache-2.0"


def test_the_changelog_covers_this_version(root: Path) -> None:
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.escape(_project(root)["version"])
    assert re.search(rf"^## (Unreleased|{version}\b)", changes, re.MULTILINE)


def test_every_decision_says_why_and_what_would_reverse_it(root: Path) -> None:
    pages = sorted((root / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Context", "Options", "Choice", "What would reverse it"], page.name


def _leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    there = (page.parent / name).resolve() if name else page
    if not there.exists():
        return False
    return not anchor or there.suffix != ".md" or anchor in _anchors(there.read_text(encoding="utf-8"))


def _anchors(text: str) -> set[str]:
    """The anchors a Markdown page gets from its headings."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _project(root: Path) -> dict[str, str]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
