"""`outcrop serve` as a process beside this one, for the length of a `with` block."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = "outcrop listening on "
START_S = 60.0
STOP_S = 15.0


class NotStarted(Exception):
    """The server did not come up; the message holds what it said."""


@contextmanager
def serving(config: Path, data_dir: Path, port: int, environment: dict[str, str]) -> Iterator[str]:
    """The address of a server that is ready, on a port of its choice where port is 0.

    Errors: NotStarted.
    """
    command = [sys.executable, "-m", "outcrop.cli.main", "serve", "--port", str(port)]
    command += ["--config", str(config), "--data-dir", str(data_dir)]
    log = data_dir.with_suffix(".log")
    with log.open("w", encoding="utf-8") as complaints:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env={**os.environ, **environment}
        )
        assert process.stdout is not None
        giving_up = threading.Timer(START_S, process.kill)
        try:
            giving_up.start()
            line = process.stdout.readline()
            giving_up.cancel()
            if not line.startswith(READY):
                process.kill()
                process.wait()
                raise NotStarted(f"outcrop serve did not start:\n{line}{log.read_text(encoding='utf-8')}".strip())
            yield line.removeprefix(READY).strip()
        finally:
            giving_up.cancel()
            _stop(process)
            process.stdout.close()


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
