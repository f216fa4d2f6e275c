"""`outcrop serve` as a process of its own, to be killed and started again on the same data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from botocore.config import Config

from outcrop.client import sdk_session

READY = "outcrop listening on "


class Served:
    """One server process on a data folder; `with` starts it and ends it."""

    def __init__(self, data_dir: Path, *options: str, config: Path | None = None) -> None:
        given = ["--config", str(config)] if config else []
        self.command = [sys.executable, "-m", "outcrop.cli.main", "serve", "--port", "0"]
        self.command += ["--data-dir", str(data_dir), *given, *options]
        self.process: subprocess.Popen[str]
        self.url = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(READY), f"the server did not start: {line!r}"
        self.url = line.removeprefix(READY).strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill(self) -> None:
        """SIGKILL: the process gets no chance to do anything more."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def client(self, service: str) -> Any:
        """A plain boto3 client without retries."""
        return sdk_session().client(service, endpoint_url=self.url, config=Config(retries={"max_attempts": 0}))
