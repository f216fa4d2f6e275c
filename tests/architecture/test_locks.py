"""What is installed is written down, with hashes, wherever it comes from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

LOCKS = ("core", "dev")
_PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_host(lock: str, root: Path) -> None:
    text = _text(root, lock)
    for block in re.split(r"\n(?=\S)", text.strip()):
        first, *hashes = block.split(" \\\n")
        assert _PIN.match(first), f"{lock}.lock: {first} is no pin"
        assert hashes, f"{lock}.lock: {first} has no hash"
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes), first
    assert "://" not in text


def test_the_core_lock_holds_what_the_package_asks_for(root: Path) -> None:
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {_normal(line) for line in table["project"]["dependencies"] + table["dependency-groups"]["build"]}
    assert wanted <= set(_pins(root, "core")), "run make lock"
    assert {_normal(line) for line in table["dependency-groups"]["dev"]} <= set(_pins(root, "dev")), "run make lock"


def test_the_dev_lock_holds_the_core_lock(root: Path) -> None:
    core, dev = _pins(root, "core"), _pins(root, "dev")
    differing = {name: (version, dev.get(name)) for name, version in core.items() if dev.get(name) != version}
    assert not differing, "both locks go into one environment; run make lock"


def _text(root: Path, lock: str) -> str:
    return (root / "requirements" / f"{lock}.lock").read_text(encoding="utf-8")


def _pins(root: Path, lock: str) -> dict[str, str]:
    return dict(_PIN.findall(_text(root, lock)))


def _normal(requirement: str) -> str:
    match = _NAME.match(requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()
