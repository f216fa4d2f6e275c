"""`outcrop worker`: a process without a door, for turns in the background and those that nobody carries any more."""

from __future__ import annotations

import asyncio
import signal

import uvloop

from outcrop.config import Config, ConfigMistake
from outcrop.engine import Engine


def work(config: Config) -> int:
    """Take jobs and take up turns until told to stop; what it returns is the process's exit status.

    Errors: ConfigMistake where no other process could bring it work; what `Engine.build` and `Engine.start` raise.
    """
    if config.server.database.startswith("sqlite"):
        raise ConfigMistake("[server] database: a worker shares its work with servers, which takes PostgreSQL")
    engine = Engine.build(config)
    uvloop.run(_until_stopped(engine))
    return 0


async def _until_stopped(engine: Engine) -> None:
    stopped = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stopped.set)
    try:
        await engine.start(takes_jobs=True)
        print(f"outcrop worker {engine.journal.holder} takes jobs", flush=True)
        await stopped.wait()
    finally:
        await engine.close()
