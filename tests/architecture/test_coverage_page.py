"""The pages about operations say what the models and the registry have, and are up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from outcrop.operations import registry
from outcrop.wire.services import services


@pytest.fixture(scope="module")
def coverage(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("outcrop_docs_coverage", root / "docs" / "generate_coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_what_the_code_says(coverage: ModuleType, complain) -> None:
    complain(
        f"docs/reference/{name}.md is out of date; run make docs and read the difference"
        for name, page in coverage.pages().items()
        if page != coverage.current(name)
    )


def test_every_operation_is_listed_once(coverage: ModuleType) -> None:
    page = coverage.coverage_page()
    for name, service in services().items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for operation in service.operation_names:
            assert section.count(f"| `{operation}` |") == 1


def test_our_own_operations_are_told_with_all_their_members(coverage: ModuleType) -> None:
    page, model = coverage.extension_page(), services()["outcrop"]
    for operation in map(model.operation_model, model.operation_names):
        section = page.partition(f"\n## {operation.name}\n")[2].partition("\n## ")[0]
        members = {*operation.input_shape.members, *operation.output_shape.members}
        assert not {member for member in members if f"| `{member}`" not in section}


def test_what_is_registered_exists_in_the_service_model() -> None:
    models = services()
    unknown = [key for key in registry.load() if key[0] not in models or key[1] not in models[key[0]].operation_names]
    assert not unknown, "an operation's name is AWS's; these are none"


def test_checking_fails_on_a_stale_page_and_writing_mends_it(
    coverage: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(vars(coverage), "REFERENCE", tmp_path / "reference")

    assert coverage.main(["--check"]) == 1
    assert "make docs writes it" in capsys.readouterr().out
    assert coverage.main(["--write"]) == 0
    assert coverage.main(["--check"]) == 0
