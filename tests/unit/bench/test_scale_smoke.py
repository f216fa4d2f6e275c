"""Every row of the scale table measures: a handful of everything, on real servers and both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"
LIMIT_S = 90.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's processor clocks"),
]


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "scale.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def _figures(out: Path, *rows: str) -> tuple[dict[str, Any], str]:
    ran = _run("--smoke", "--only", ",".join(rows), "--out", str(out))
    assert ran.returncode == 0, ran.stderr
    results = json.loads((out / "scale.json").read_text())
    return {row: results[row]["figures"] for row in rows}, ran.stdout


def test_the_journal_is_written_on_both_databases_with_and_without_fsync(tmp_path: Path) -> None:
    figures, said = _figures(tmp_path, "journal")

    runs = figures["journal"]["runs"]
    kinds = [(run["kind"], run["synchronous"]) for run in runs]
    assert kinds == [(kind, how) for kind in ("sqlite", "postgresql") for how in ("normal", "full")]
    assert all(one["cpu_ms"] > 0 for run in runs for one in run["figures"])
    assert all(one["server_cpu_ms"] > 0 for run in runs[2:] for one in run["figures"])
    assert "steps a second" in said


def test_one_process_and_two_answer_every_turn_rightly(tmp_path: Path) -> None:
    figures, said = _figures(tmp_path, "turns")

    setups = figures["turns"]["setups"]
    assert list(setups) == ["sqlite", "one", "two", "half"]
    assert all(run["turns"] > 0 and not run["errors"] for setup in setups.values() for run in setup["runs"])
    assert "From one process to two" in said


def test_turns_of_a_killed_server_go_on_at_another_and_after_a_restart(tmp_path: Path) -> None:
    figures, _ = _figures(tmp_path, "recovery")

    for kills in figures["recovery"]["kills"].values():
        assert all(kill["taken_s"] <= kill["ended_s"] for kill in kills)


def test_long_sessions_and_filled_databases_take_turns(tmp_path: Path) -> None:
    figures, said = _figures(tmp_path, "growth")

    assert [run["earlier"] for run in figures["growth"]["sessions"]["sqlite"]] == [1, 3]
    for kind in ("sqlite", "postgresql"):
        assert [run["stored"] for run in figures["growth"]["databases"][kind]] == [1, 50]
    assert "hourly sweep" in said


def test_a_server_rests_and_takes_everything_at_once(tmp_path: Path) -> None:
    figures, _ = _figures(tmp_path, "rest", "soak")

    assert all(run["empty"]["rss_bytes"] > 0 for run in figures["rest"]["runs"].values())

    for run in figures["soak"]["runs"].values():
        assert run["in_flight"] == 0
        assert run["looks"][-1]["turns"] > 0


def test_turns_run_in_the_background_and_a_crowd_is_turned_away(tmp_path: Path) -> None:
    figures, _ = _figures(tmp_path, "jobs", "overload")

    assert all(run["burst"]["done_per_second"] > 0 for run in figures["jobs"]["runs"].values())
    assert 0 < figures["overload"]["crowd"]["refused"] < 1


def test_a_row_that_does_not_exist_is_named() -> None:
    ran = _run("--smoke", "--only", "journal,diary")

    assert ran.returncode == 1
    assert "no row diary" in ran.stderr
