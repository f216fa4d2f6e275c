from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outcrop.storage.database import METADATA, Database
from outcrop.storage.documents import Documents


@pytest.fixture(params=["memory", "file"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = "sqlite:///:memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'outcrop.db'}"
    opened = Database(url)
    METADATA.create_all(opened.engine)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def documents(database: Database) -> Documents:
    return Documents(database)
