"""A process that takes jobs, and notes what it does in a file that all such processes share."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from outcrop.config import JobSettings
from outcrop.jobs.base import Job, Kind
from outcrop.jobs.durable import DurableJobs

ASKED = json.loads(sys.argv[1])
FOLDER = Path(ASKED["folder"])


def note(*words: Any) -> None:
    """One line, in one write, so that lines of several processes do not mix."""
    with (FOLDER / "notes").open("ab", buffering=0) as file:
        file.write(" ".join(map(str, [words[0], os.getpid(), *words[1:]])).encode() + b"\n")


async def hold(job: Job) -> None:
    """End when the test says so."""
    note("begin", job.key, job.attempt)
    try:
        while True:
            if (FOLDER / f"go-{job.key}").exists():
                break
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        note("cancelled", job.key)
        raise
    note("end", job.key)


async def brief(job: Job) -> None:
    """Take a moment in which another could begin."""
    note("begin", job.key, job.attempt)
    await asyncio.sleep(0.1)
    note("end", job.key)


async def sweep() -> None:
    """Say so."""
    note("swept")


async def main() -> None:
    """Take jobs until told to stop; each line of the input is a job to submit."""
    jobs = DurableJobs(ASKED["database"], FOLDER, JobSettings(**ASKED["settings"]))
    jobs.handle(Kind("hold", hold))
    jobs.handle(Kind("alone", brief, at_once_everywhere=1))
    jobs.every("sweep", 0.5, sweep)
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    await jobs.start(eager=ASKED["eager"])
    note("started", "dbos" in sys.modules)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def submit() -> None:
        while line := await lines.readline():
            kind, key, body = json.loads(line)
            await jobs.submit(kind, key, body)
            note("submitted", key)

    submitting = asyncio.create_task(submit())
    await stopping.wait()
    submitting.cancel()
    await jobs.close(0.2)
    note("stopped")


asyncio.run(main())
