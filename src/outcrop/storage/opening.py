"""The database that the settings name, brought to this release's tables; called by the engine, once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.parse import urlsplit

from outcrop.config import ConfigMistake, ServerSettings
from outcrop.storage.database import Database
from outcrop.storage.lock import FolderLock
from outcrop.storage.migrate import migrate
from outcrop.storage.postgresql import PostgresqlDatabase
from outcrop.storage.sqlite import SqliteDatabase

_SCHEMES = ("postgresql+asyncpg", "postgresql", "postgres")


def open_database(settings: ServerSettings) -> Database:
    """The database of [server], with its tables; `close` gives back what it holds.

    Errors: ConfigMistake for a setting that this release cannot use, or a folder that cannot be made; FolderInUse;
            DatabaseTooNew; DatabaseUnusable; Unavailable.
    """
    if settings.synchronous not in ("auto", "normal", "full"):
        raise ConfigMistake(f"[server] synchronous: '{settings.synchronous}' is none of auto, normal, full")
    url = database_url(settings.database, Path(settings.data_dir))
    if url.startswith("sqlite:"):
        return _sqlite(settings, url)
    synchronous = "full" if settings.synchronous == "auto" else settings.synchronous
    database = PostgresqlDatabase(url, synchronous=synchronous, connections=settings.database_connections)
    migrate(database)
    return database


def database_url(setting: str, data_dir: Path) -> str:
    """The URL of [server] database: "sqlite" is one file in the data folder, "sqlite:memory" is gone with the process.

    Shapes: "sqlite:///PATH" or "postgresql://...", as drivers and libpq read it.
    Errors: ConfigMistake for a database that this release cannot use, or whose drivers are not installed.
    """
    if setting == "sqlite":
        return f"sqlite:///{data_dir / 'outcrop.db'}"
    if setting == "sqlite:memory":
        return "sqlite:///:memory:"
    if setting.startswith("sqlite:///"):
        return setting
    # What is said of it may hold a password, so no message repeats it.
    scheme, separator, rest = setting.partition("://")
    if not separator or scheme not in _SCHEMES:
        known = "sqlite, sqlite:memory, sqlite:///PATH, postgresql://USER@HOST/NAME"
        raise ConfigMistake(f"[server] database: '{scheme if separator else setting}' is none of {known}")
    missing = [name for name in ("asyncpg", "greenlet") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigMistake(f"[server] database: PostgreSQL needs {' and '.join(missing)}: install outcrop[postgresql]")
    url = f"postgresql://{rest}"
    if not _is_sound(url):
        wanted = "postgresql://USER:PASSWORD@HOST:PORT/NAME, with %-codes for special characters in the password"
        raise ConfigMistake(f"[server] database: the URL cannot be read; it has the form {wanted}")
    return url


def _is_sound(url: str) -> bool:
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        ports = [host.rpartition(":")[2] for host in hosts.split(",") if ":" in host.rpartition("]")[2]]
        return bool(parts.path.strip("/")) and "@" not in parts.path and all(port.isdigit() for port in ports)
    except ValueError:
        return False


def _sqlite(settings: ServerSettings, url: str) -> Database:
    lock = _locked(settings, url.removeprefix("sqlite:///"))
    synchronous = "normal" if settings.synchronous == "auto" else settings.synchronous
    database = SqliteDatabase(url, synchronous=synchronous, lock=lock)
    try:
        migrate(database)
        database.open()
    except BaseException:
        database.stop()
        raise
    return database


def _locked(settings: ServerSettings, file: str) -> FolderLock | None:
    """The lock of a database file, whose folder is made where it is the data folder.

    Errors: ConfigMistake naming the setting whose folder cannot be used; FolderInUse.
    """
    if file == ":memory:":
        return None
    if not file:
        raise ConfigMistake("[server] database: sqlite:/// needs the path of a file")
    is_ours, folder = settings.database == "sqlite", Path(file).parent
    setting = "data_dir" if is_ours else "database"
    try:
        if is_ours:
            folder.mkdir(parents=True, exist_ok=True)
        return FolderLock(Path(file))
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigMistake(f"[server] {setting}: {error.filename} is no folder") from error
    except FileNotFoundError as error:
        raise ConfigMistake(f"[server] {setting}: there is no folder {folder}") from error
    except OSError as error:
        raise ConfigMistake(f"[server] {setting}: {folder} cannot be used: {error.strerror}") from error
