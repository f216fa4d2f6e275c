"""Running what the documentation shows: Python blocks, against a server where a block needs one."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READY = "outcrop listening on "
START_S = 30.0
RUN_S = 60.0


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts `outcrop serve` with further options on a free port, and gives its address."""
    with ExitStack() as running:
        yield lambda options: running.enter_context(_server(tmp_path / "data", shlex.split(options)))


@contextmanager
def _server(data_dir: Path, options: list[str]) -> Iterator[str]:
    command = [Path(sys.executable).with_name("outcrop"), "serve", "--port", "0", "--data-dir", data_dir, *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    ready = threading.Event()
    reader = threading.Thread(target=_listen, args=(process, said, ready))
    reader.start()
    try:
        ready.wait(START_S)
        address = next((line.removeprefix(READY).strip() for line in said if line.startswith(READY)), None)
        assert address, f"outcrop serve did not say '{READY}...' but:\n{''.join(said)}"
        yield address
    finally:
        process.terminate()
        process.wait(START_S)
        reader.join()
        process.stdout.close()


def _listen(process: subprocess.Popen[str], said: list[str], ready: threading.Event) -> None:
    """Read all the server says, so that it never waits for us; done when it said it is ready, or ended."""
    for line in process.stdout:
        said.append(line)
        if line.startswith(READY):
            ready.set()
    ready.set()


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[[str, str], str]:
    """Runs a script in an empty folder as a reader would, and gives what it printed."""

    def run(name: str, script: str) -> str:
        folder = tmp_path / "reader"
        folder.mkdir(exist_ok=True)
        file = folder / name
        file.write_text(script, encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, file],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )
        assert ran.returncode == 0, f"{name} failed:\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    return run
