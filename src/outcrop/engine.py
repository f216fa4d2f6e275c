"""Every part of one engine, built once from a configuration: the only place that constructs parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from outcrop.clock import Clock, SystemClock
from outcrop.config import Config
from outcrop.ids import worker_id
from outcrop.jobs.base import Jobs
from outcrop.jobs.durable import DurableJobs
from outcrop.models.catalogue import Catalogue
from outcrop.notifications.audience import Audience
from outcrop.notifications.delivery import Deliverer
from outcrop.orchestration.announcing import Announcer
from outcrop.orchestration.definition import Definitions, Identity
from outcrop.orchestration.metering import Meters
from outcrop.orchestration.performer import Functions, Models, Performer
from outcrop.orchestration.policy import Policy, policy_for
from outcrop.orchestration.queueing import Queue
from outcrop.orchestration.recovery import Recovery
from outcrop.orchestration.turns import Turns
from outcrop.sessions.announced import Announced
from outcrop.sessions.cleaning import Cleaning
from outcrop.sessions.journal import Journal
from outcrop.sessions.leases import Leases
from outcrop.sessions.outlines import Outlines
from outcrop.sessions.state import Sessions
from outcrop.storage.database import Database
from outcrop.storage.documents import Documents
from outcrop.storage.opening import open_database
from outcrop.telemetry.metrics import Metrics
from outcrop.tools.bindings import Functions as BoundFunctions
from outcrop.tools.bindings import bucket_object, check_buckets

B = TypeVar("B", Catalogue, BoundFunctions)


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts that operations work with."""

    config: Config
    clock: Clock
    database: Database
    documents: Documents
    sessions: Sessions
    journal: Journal
    turns: Turns
    queue: Queue
    recovery: Recovery
    outlines: Outlines
    jobs: Jobs
    audience: Audience
    announcer: Announcer
    deliverer: Deliverer
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
                DatabaseTooNew; DatabaseUnusable; Unavailable.
        """
        clock = clock or SystemClock()
        # Before the database: a mistake in the settings leaves nothing behind.
        models = models or _checked(Catalogue(config))
        functions = functions or _checked(BoundFunctions(config.functions, config.root))
        check_buckets(config.buckets, config.root)
        database = open_database(config.server)
        metrics, sessions = Metrics(), Sessions(database)
        journal = Journal(database, worker_id(), config.server.database_patience_s)
        turns = Turns(
            journal,
            sessions,
            Performer(models, functions, clock, preamble_hold=config.turns.preamble_hold_chars),
            Meters(database, models, clock),
            clock,
            lambda who: _policy(config, who),
            [metrics.observe],
            config.turns.most_at_once,
        )
        leases = Leases(database, journal.holder, config.server.lease_s)
        queue = Queue(journal, sessions, turns, clock)
        jobs = DurableJobs(
            config.server.database, Path(config.server.data_dir), config.jobs, synchronous=config.server.synchronous
        )
        queue.registered_with(jobs, at_once=config.jobs.turns_at_once, per_tenant=config.jobs.turns_per_tenant or None)
        documents = Documents(database)
        audience = Audience(documents, is_shared=database.is_shared)
        deliverer = Deliverer(clock, region=config.server.region)
        announcer = Announcer(Announced(database), audience, turns, deliverer, models, clock, config.server)
        announcer.registered_with(jobs, config.jobs)
        cleaning = Cleaning(database, clock, config.turns.keep_days * 86_400)
        jobs.every("sessions.clean", 3600.0, cleaning.once)
        return cls(
            config=config,
            clock=clock,
            database=database,
            documents=documents,
            sessions=sessions,
            journal=journal,
            turns=turns,
            queue=queue,
            outlines=Outlines(database),
            jobs=jobs,
            audience=audience,
            announcer=announcer,
            deliverer=deliverer,
            recovery=Recovery(leases, turns, config.server.beat_s),
            models=models,
            functions=functions,
            metrics=metrics,
        )

    async def bucket_object(self, bucket: str, key: str) -> bytes:
        """An object of a bound bucket.

        Errors: ObjectUnreadable naming the bucket and the key.
        """
        return await bucket_object(self.config.buckets, self.config.root, bucket, key)

    def policy_of(self, who: Identity) -> Policy:
        """What [turns] and [agents] say of an agent."""
        return _policy(self.config, who)

    async def start(self, *, takes_jobs: bool = False) -> None:
        """Take up what was interrupted, and go on doing so; called once, where the engine's event loop runs.

        Shapes: `takes_jobs` is for a process that is there for jobs; another one begins with its first.
        Errors: Unavailable; JobsUnavailable; JobsForbidden; JobsInUse.
        """
        await self.announcer.start()
        await self.recovery.start()
        await self.jobs.start(eager=takes_jobs)

    async def stop_turns(self) -> None:
        """Take up nothing more, and let the turns under way end within the grace period; the others are released."""
        self.recovery.drain()
        grace_s = self.config.server.stop_grace_s
        await asyncio.gather(self.jobs.close(grace_s), self.turns.close(grace_s))

    async def close(self) -> None:
        """Let turns end, then stop functions, connections and the database."""
        await self.stop_turns()
        await self.recovery.stop()
        await self.deliverer.close()
        await self.functions.close()
        await self.models.close()
        await self.database.close()


def _policy(config: Config, who: Identity) -> Policy:
    return policy_for(config.agents, config.turns, who.name, who.agent_id, who.alias_arn)


def _checked(bindings: B) -> B:
    bindings.check()
    return bindings
