"""The benchmark measures: a handful of turns of every kind, against the floors and the real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[3] / "bench"
LIMIT_S = 90.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's processor clocks"),
]


def _run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / program), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_every_contestant_answers_every_workload_rightly(tmp_path: Path) -> None:
    ran = _run("run.py", "--smoke", "--out", str(tmp_path))

    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "latest.json").read_text())
    workloads = {"turn_1", "turn_16", "turn_64", "report_4", "paced_16", "regions_1", "long_1"}
    for name in ("floor", "floor-wal", "floor-pool", "outcrop"):
        (figures,) = results["rounds"][name]
        assert workloads <= figures.keys()
        assert all(figures[workload]["turns"] > 0 for workload in workloads)
        assert all(figures[workload]["server_cpu_ms"] > 0 for workload in workloads)
    assert results["rounds"]["outcrop"][0]["traced_1"]["traces"] > 0
    assert results["memory"]["outcrop"]["sessions"] > 0
    assert {one["data"] for one in results["starts"]} == {"new", "again"}
    assert "turn, 1 at a time" in ran.stdout
    assert "x floor-wal" in (tmp_path / "latest.md").read_text()


def test_a_contestant_that_does_not_exist_is_named() -> None:
    ran = _run("run.py", "--smoke", "--only", "floor,flour")

    assert ran.returncode == 1
    assert "no contestant flour" in ran.stderr


def test_the_profile_says_where_the_time_goes() -> None:
    ran = _run("profiling.py", "turn", "--turns", "30", "--calls")

    assert ran.returncode == 0, ran.stderr
    for heading in ("by thread", "by room", "functions, their own time", "calls per turn", "other threads"):
        assert heading in ran.stdout
