"""Every part of one engine, built once from a configuration: the only place that constructs parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from outcrop.clock import Clock, SystemClock
from outcrop.config import Config
from outcrop.models.catalogue import Catalogue
from outcrop.orchestration.definition import Definitions
from outcrop.orchestration.performer import Functions, Models, Performer
from outcrop.orchestration.turns import Turns
from outcrop.sessions.journal import Journal
from outcrop.sessions.state import Sessions
from outcrop.storage.database import Database
from outcrop.storage.documents import Documents
from outcrop.storage.opening import open_database
from outcrop.telemetry.metrics import Metrics
from outcrop.tools.bindings import Functions as BoundFunctions
from outcrop.tools.bindings import bucket_object

B = TypeVar("B", Catalogue, BoundFunctions)


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that operations work with."""

    config: Config
    clock: Clock
    database: Database
    documents: Documents
    sessions: Sessions
    turns: Turns
    models: Models
    functions: Functions
    metrics: Metrics
    definitions: Definitions = field(default_factory=Definitions)

    @classmethod
    def build(
        cls,
        config: Config,
        clock: Clock | None = None,
        *,
        models: Models | None = None,
        functions: Functions | None = None,
    ) -> Engine:
        """An engine on its database, brought to this release's tables; `close` gives everything back.

        Shapes: models and functions take the place of the configuration's bindings where they are given.
        Errors: RoomError (ConfigMistake, ToolUnreachable) naming a binding that cannot be used; FolderInUse;
                DatabaseTooNew; DatabaseUnusable; Unavailable; OSError when the data folder cannot be made.
        """
        clock = clock or SystemClock()
        # Before the database: a mistake in the settings leaves nothing behind.
        models = models or _checked(Catalogue(config))
        functions = functions or _checked(BoundFunctions(config.functions, config.root))
        database = open_database(config.server)
        metrics, sessions = Metrics(), Sessions(database)
        performer = Performer(models, functions, clock, preamble_hold=config.turns.preamble_hold_chars)
        return cls(
            config=config,
            clock=clock,
            database=database,
            documents=Documents(database),
            sessions=sessions,
            turns=Turns(Journal(database), sessions, performer, clock, config.turns, [metrics.observe]),
            models=models,
            functions=functions,
            metrics=metrics,
        )

    async def bucket_object(self, bucket: str, key: str) -> bytes:
        """An object of a bound bucket.

        Errors: ObjectUnreadable naming the bucket and the key.
        """
        return await bucket_object(self.config.buckets, self.config.root, bucket, key)

    async def close(self) -> None:
        """Let turns end, then stop functions, connections and the database."""
        await self.turns.close(self.config.server.stop_grace_s)
        await self.functions.close()
        await self.models.close()
        await self.database.close()


def _checked(bindings: B) -> B:
    bindings.check()
    return bindings
