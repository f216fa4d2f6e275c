"""What [server] says about the database, and what is said to mistakes in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from outcrop.config import ConfigMistake, ServerSettings
from outcrop.storage.lock import FolderInUse
from outcrop.storage.opening import database_url, open_database

FORM = "postgresql://USER:PASSWORD@HOST:PORT/NAME"


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("sqlite", "sqlite:////data/outcrop.db"),
        ("sqlite:memory", "sqlite:///:memory:"),
        ("sqlite:///elsewhere.db", "sqlite:///elsewhere.db"),
        ("postgresql://ann:p%40ss@db:5433/orders", "postgresql://ann:p%40ss@db:5433/orders"),
        ("postgresql+asyncpg://ann@db/orders", "postgresql://ann@db/orders"),
        ("postgres://db/orders?sslmode=require", "postgresql://db/orders?sslmode=require"),
        ("postgresql:///orders?host=/run/postgresql", "postgresql:///orders?host=/run/postgresql"),
        ("postgresql://[::1]:5433/orders", "postgresql://[::1]:5433/orders"),
        ("postgresql://one:1,two/orders?target_session_attrs=primary",) * 2,
    ],
)
def test_the_setting_names_the_database(setting: str, url: str) -> None:
    assert database_url(setting, Path("/data")) == url


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("oracle", "'oracle' is none of sqlite, sqlite:memory, sqlite:///PATH, postgresql://USER@HOST/NAME"),
        ("mysql://ann:s3cret@db/orders", "'mysql' is none of"),
        ("postgresql://ann:s3cret@db", FORM),
        ("postgresql://ann:s3cret@db:x/orders", FORM),
        ("postgresql://ann:s3cret/@db/orders", FORM),
        ("postgresql://ann:s3cret[@db/orders", FORM),
        ("postgresql://ann:s3cret#@db/orders", FORM),
    ],
)
def test_a_database_that_cannot_be_is_refused_without_repeating_what_may_be_a_password(setting: str, told: str) -> None:
    with pytest.raises(ConfigMistake) as raised:
        database_url(setting, Path("/data"))
    assert str(raised.value).startswith("[server] database: ")
    assert told in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_without_its_drivers_postgresql_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigMistake, match=r"PostgreSQL needs asyncpg: install outcrop\[postgresql\]$"):
        database_url("postgresql://ann:s3cret@db/orders", Path("/data"))


def test_a_durability_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigMistake, match="synchronous: 'maybe' is none of auto, normal, full"):
        open_database(ServerSettings(database="sqlite:memory", synchronous="maybe"))


async def test_one_process_has_a_file_for_itself_until_it_closes_it(tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=str(tmp_path / "data"))
    first = open_database(settings)
    with pytest.raises(FolderInUse):
        open_database(settings)
    await first.close()
    await open_database(settings).close()


def test_a_file_that_cannot_be_used_is_let_go_of(tmp_path: Path) -> None:
    file = tmp_path / "outcrop.db"
    file.write_bytes(b"no database at all " * 500)
    for _ in range(2):
        with pytest.raises(Exception, match="file is not a database"):
            open_database(ServerSettings(data_dir=str(tmp_path)))


@pytest.mark.parametrize("linked", ["data", "data/outcrop.db"])
async def test_a_file_that_is_reached_by_a_link_is_the_same_file(tmp_path: Path, linked: str) -> None:
    first = open_database(ServerSettings(data_dir=str(tmp_path / "data")))
    other = tmp_path / "link"
    other.symlink_to(tmp_path / linked)
    setting = f"sqlite:///{other / 'outcrop.db' if linked == 'data' else other}"

    with pytest.raises(FolderInUse, match=f"is in use by process {os.getpid()}$"):
        open_database(ServerSettings(database=setting))
    await first.close()
    await open_database(ServerSettings(database=setting)).close()


def test_a_folder_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    told = {
        ServerSettings(data_dir=f"{tmp_path}/file"): f"[server] data_dir: {tmp_path}/file is no folder",
        ServerSettings(data_dir=f"{tmp_path}/file/data"): f"[server] data_dir: {tmp_path}/file/data is no folder",
        ServerSettings(data_dir="/proc/outcrop"): "[server] data_dir: ",
        ServerSettings(
            database=f"sqlite:///{tmp_path}/no/x.db"
        ): f"[server] database: there is no folder {tmp_path}/no",
        ServerSettings(database=f"sqlite:///{tmp_path}/file/x.db"): f"[server] database: {tmp_path}/file/x.db",
        ServerSettings(database=f"sqlite:///{tmp_path}/circle/x.db"): f"[server] database: {tmp_path}/circle",
        ServerSettings(database="sqlite:///"): "[server] database: sqlite:/// needs the path of a file",
    }
    for settings, words in told.items():
        with pytest.raises(ConfigMistake) as raised:
            open_database(settings)
        assert str(raised.value).startswith(words)
        assert "\n" not in str(raised.value)
