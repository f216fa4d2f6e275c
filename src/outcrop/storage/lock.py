"""One server per data folder: a lock that ends with its process, however that ends.

A second server on the same file would take the first one's turns for interrupted ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from outcrop.errors import RoomError


class FolderInUse(RoomError):
    """Another process serves from this data folder."""


class FolderLock:
    """Held from its making until `release`, or until the process is gone."""

    def __init__(self, database: Path) -> None:
        """Take the lock beside a database file, which is one file by whatever links it is reached.

        Errors: FolderInUse naming the process that has it; OSError when the file cannot be made.
        """
        real = _resolved(database)
        path = real.with_name(f"{real.name}.lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise FolderInUse(f"{database} is in use by process {holder}") from error
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let another process take it."""
        os.close(self._file)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:  # how Python before 3.13 says it; later ones raise OSError
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
