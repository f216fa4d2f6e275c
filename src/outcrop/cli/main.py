"""The command `outcrop`: starts the server. It only reads arguments and settings; the engine does the rest."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import logging
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import cast

from outcrop.config import Config, ConfigMistake, check, load
from outcrop.errors import RoomError

_LAST_WORDS_S = 3
"""Seconds for the last frames of turns that were stopped to reach their callers."""


def parser() -> argparse.ArgumentParser:
    """The command line, described."""
    outcrop = argparse.ArgumentParser(prog="outcrop", description="Run Amazon Bedrock Agents code on any model.")
    commands = outcrop.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="answer Bedrock Agents calls over HTTP")
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    worker = commands.add_parser("worker", help="take jobs and interrupted turns of a PostgreSQL database, no calls")
    for command in (serve, worker):
        command.add_argument("--config", type=Path, help="configuration file (default: ./outcrop.toml, if it is there)")
        command.add_argument("--data-dir", help="folder of the database and of function code")
        command.add_argument("--database", help="sqlite, sqlite:memory, sqlite:///PATH, or postgresql://USER@HOST/NAME")
        command.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    commands.add_parser("sdk-path", help="print the folder for AWS_DATA_PATH: then boto3 and `aws` know our API")
    return outcrop


def main(arguments: list[str] | None = None) -> int:
    """Run the command; what it returns is the process's exit status."""
    options = parser().parse_args(arguments)
    if options.command == "sdk-path":
        return _sdk_path()
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        config = _config(options)
        return _work(config) if options.command == "worker" else _serve(config)
    except (RoomError, OSError) as error:
        print(f"outcrop: {error}", file=sys.stderr)
        return 2


def _sdk_path() -> int:
    # Imported here: boto3 takes longer to load than `outcrop --help` may take.
    from outcrop.client import sdk_path

    print(sdk_path())
    return 0


def _config(options: argparse.Namespace) -> Config:
    path: Path | None = options.config
    if path is None and Path("outcrop.toml").is_file():
        path = Path("outcrop.toml")
    config = load(path)
    given = {name: getattr(options, name, None) for name in ("host", "port", "data_dir", "database")}
    config = replace(config, server=replace(config.server, **{k: v for k, v in given.items() if v is not None}))
    if not 0 <= config.server.port <= 65535:
        raise ConfigMistake(f"[server] port: {config.server.port} is no port")
    check(config)
    return config


def _work(config: Config) -> int:
    # Imported here: `outcrop --help` and a mistake in the settings need none of it.
    from outcrop.cli.worker import work

    return work(config)


def _serve(config: Config) -> int:
    # Imported here: `outcrop --help` and a mistake in the settings need none of it.
    import uvicorn

    from outcrop.engine import Engine
    from outcrop.server.app import application
    from outcrop.server.limits import Gate
    from outcrop.server.protocol import Connection, EitherHttp

    listening = _listen(config.server.host, config.server.port)
    engine = Engine.build(config)
    gate, hurried, refused = Gate(config.server, engine.metrics), asyncio.Event(), list[RoomError]()
    settings = uvicorn.Config(
        application(lambda: engine, gate, is_started=True),
        http=cast("type[asyncio.Protocol]", partial(EitherHttp, gate=gate)),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        # The turns end first, and tell their callers; what is left of a connection then is cut.
        timeout_graceful_shutdown=int(config.server.stop_grace_s) + _LAST_WORDS_S,
    )

    class Announcing(uvicorn.Server):
        """Says where it listens, once it does, and that it goes away, before it does."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """Say so at once; the rest comes when the loop finds the time. A second signal ends the waiting."""
            gate.drain()
            if self.should_exit:
                asyncio.get_running_loop().call_soon_threadsafe(hurried.set)
            super().handle_exit(sig, frame)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Start, then print the address for whoever waits for it; or give up, with a reason that is one line."""
            try:
                await engine.start()
            except RoomError as error:
                refused.append(error)
                self.should_exit = True
                await engine.close()
                return
            await super().startup(sockets)
            if self.started:
                _settle_memory()
                port = listening.getsockname()[1]
                print(f"outcrop listening on http://{_shown(config.server.host)}:{port}", flush=True)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Send clients elsewhere, let turns end within the grace period while no connections are taken, stop."""
            gate.drain()
            for connection in list(self.server_state.connections):
                cast("Connection", connection).drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(hurried.wait(), config.server.drain_s)
            ending = asyncio.ensure_future(engine.stop_turns())
            await super().shutdown(sockets)
            await ending

    server = Announcing(settings)
    server.run(sockets=[listening])
    if refused:
        raise refused[0]
    return 0 if server.started else 1


def _settle_memory() -> None:
    """Take what was loaded by now out of garbage collection, and let it run less often.

    Everything imported and built stays for the life of the process; looking through it again and again costs a turn
    in a long session a quarter of its processor time (docs/benchmarks.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        setting = "host" if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL else "port"
        raise ConfigMistake(f"[server] {setting}: cannot listen on {host}:{port}: {error.strerror}") from error
    except UnicodeError as error:
        listening.close()
        raise ConfigMistake(f"[server] host: {host!r} is no address and no name") from error
    return listening


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    sys.exit(main())
