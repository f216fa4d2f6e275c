"""Every part of one engine, built once from a configuration: the only place that constructs parts."""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.clock import Clock
from outcrop.config import Config
from outcrop.storage.database import Database
from outcrop.storage.documents import Documents


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that operations work with."""

    config: Config
    clock: Clock
    database: Database
    documents: Documents
