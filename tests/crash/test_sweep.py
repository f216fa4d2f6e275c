"""The short form of `make crash`: a few deaths of every kind, of real processes, and nothing lost or done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = Path(__file__).resolve().parents[2] / "crash"
LIMIT_S = 110.0

pytestmark = pytest.mark.slow


def sweep(out: Path, *options: str) -> dict[str, dict[str, int]]:
    """The figures of some sweeps, by name; a violation fails the test with what repeats it."""
    command = [sys.executable, str(CRASH / "run.py"), *options, "--short", "--out", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = json.loads((out / "latest.json").read_text())["results"]
    return {one["sweep"]: {**one["verdict"], "kills": one["kills"], "runs": one["runs"]} for one in results}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_killed_at_its_writes_a_node_loses_and_repeats_nothing(database: str, tmp_path: Path) -> None:
    figures = sweep(tmp_path, "writes", "--database", database)["every write"]

    assert figures["runs"] == figures["kills"] == 4
    assert figures["turns"] >= figures["runs"]
    assert figures["effects"] > figures["repeats"] == figures["lost"] == 0


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_killed_at_random_under_load_nodes_lose_and_repeat_nothing(database: str, tmp_path: Path) -> None:
    figures = sweep(tmp_path, "kills", "--database", database)["killed at random"]

    assert figures["kills"] == 2
    assert figures["turns"] >= figures["runs"]
    assert figures["effects"] > figures["repeats"] == figures["lost"] == 0


def test_a_killed_database_and_nodes_cut_off_from_it_lose_and_repeat_nothing(tmp_path: Path) -> None:
    figures = sweep(tmp_path, "database", "cut", "--variant", "plain", "--database", "postgresql")

    assert figures["database killed"]["kills"] == 1
    assert figures["cut off"]["runs"] == figures["cut off"]["uncertain"] == 4
    assert all(one["repeats"] == one["lost"] == 0 for one in figures.values())


def test_a_rolling_restart_fails_no_call_that_boto3_does_not_retry(tmp_path: Path) -> None:
    figures = sweep(tmp_path, "rolling", "--database", "postgresql")

    assert figures["rolling restart"]["kills"] == 2
    assert figures["rolling restart"]["turns"] >= figures["rolling restart"]["runs"] > 0
    assert figures["rolling restart"]["lost"] == 0


def test_a_sweep_that_does_not_exist_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(CRASH / "run.py"), "floods", "--out", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    assert ran.returncode == 2
    assert "no sweep floods" in ran.stderr
