"""Telling notification targets what became of turns, read from their journals; nothing else is written down.

    a turn rests -.-> announce: its events from `announced` on -> a job per notice and target -> `announced` moves on
    sweep --------'                                               job -> the notice, made again -> Deliverer

A process that dies between the jobs and the column submits the same jobs again, under the same
keys. What a turn began without being announced stays so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from outcrop.clock import Clock, iso
from outcrop.config import JobSettings
from outcrop.errors import RoomError
from outcrop.events import Answered, ControlReturned, Event, Failed
from outcrop.ids import SessionKey, TurnId
from outcrop.jobs.base import Again, GiveUp, Job, Jobs, JobsUnavailable, Kind
from outcrop.notifications import base
from outcrop.notifications.audience import Audience
from outcrop.notifications.base import Agent, Notice, Refused, Undeliverable, notice_id
from outcrop.notifications.delivery import Deliverer
from outcrop.notifications.records import matching, settings_of
from outcrop.orchestration.definition import Definition, Identity
from outcrop.orchestration.describing import describe, pause_of, when_asked, when_paused
from outcrop.orchestration.limits import Prices
from outcrop.orchestration.retelling import Retold
from outcrop.orchestration.turns import JournalTooNew, Turns
from outcrop.sessions.announced import Announced, Place
from outcrop.sessions.entries import OpenTurn
from outcrop.storage.database import Unavailable

LOG = logging.getLogger("outcrop.notifications")
NOTIFICATION = "notification"
PRIVATE_SETTING = "[server] allow_private_notifications"

_SWEEP_S = 5.0
_BACKOFF = 4.0
_AT_ONCE_PER_TARGET = 8
"""A slow receiver keeps that many places, and leaves the others to the others."""


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell of a turn.

    Shapes: of is what makes the notice from the journal again: {"index"} of an event, or {"pause"}.
    """

    id: str
    kind: base.Kind
    of: Mapping[str, Any]


class Rights(Protocol):
    """What the server's owner allows."""

    @property
    def allow_private_notifications(self) -> bool:
        """Whether targets may lie on private networks and on this machine."""
        ...


class Announcer:
    """Announces the turns of one engine."""

    def __init__(
        self,
        announced: Announced,
        audience: Audience,
        turns: Turns,
        deliverer: Deliverer,
        prices: Prices,
        clock: Clock,
        rights: Rights,
    ) -> None:
        """Tell this audience of these turns."""
        self._announced = announced
        self._audience = audience
        self._turns = turns
        self._deliverer = deliverer
        self._prices = prices
        self._clock = clock
        self._rights = rights
        self._swept: set[Place] = set()
        self._jobs: Jobs
        self._kind: Kind

    def registered_with(self, jobs: Jobs, settings: JobSettings) -> None:
        """Have jobs deliver, and what was not announced found; and hear of turns from now on. Before the jobs start."""
        self._jobs = jobs
        self._kind = Kind(
            NOTIFICATION,
            self._perform,
            at_once=settings.notifications_at_once,
            per_tenant=min(_AT_ONCE_PER_TARGET, settings.notifications_at_once),
            attempts=settings.notification_attempts,
            first_wait_s=settings.notification_first_wait_s,
            backoff=_BACKOFF,
            most_wait_s=settings.notification_most_wait_s,
        )
        jobs.handle(self._kind)
        jobs.every("turns.announce", _SWEEP_S, self.sweep)
        self._turns.announces = self.announces
        self._turns.watch.listeners.append(self._heard)

    async def start(self) -> None:
        """Learn whether there is anybody to tell.

        Errors: Unavailable.
        """
        await self._audience.of("")

    async def announces(self, key: SessionKey, who: Identity) -> bool:
        """Whether anybody wants to be told of a turn that begins now.

        Errors: Unavailable.
        """
        return await self._audience.wants(account_of(key), names_of(who))

    # announcing ---------------------------------------------------------------------------------

    def _heard(self, turn_id: TurnId) -> None:
        if not self._audience.is_empty:
            self._turns.carrier.spawn(self._announce_soon(turn_id))

    async def _announce_soon(self, turn_id: TurnId) -> None:
        try:
            if await self._announced.is_due(turn_id):
                await self.announce(turn_id)
        except (Unavailable, JobsUnavailable):
            LOG.warning("turn=<%s> | announced later: the database is away, or the server stops", turn_id)
        except Exception:
            LOG.exception("turn=<%s> | not announced yet", turn_id)

    async def sweep(self) -> None:
        """Announce what nobody has: turns of a process that died, and turns that ended without running.

        Errors: Unavailable; JobsUnavailable.
        """
        places = await self._announced.resting()
        self._swept &= set(places)
        for place in places:
            if place in self._swept:
                continue
            try:
                await self.announce(place.turn_id)
            except (Unavailable, JobsUnavailable):
                raise
            except Exception:
                LOG.exception("turn=<%s> | cannot be announced", place.turn_id)
            # One that waits is not looked at again before it has come further; one that cannot be read, neither.
            self._swept.add(place)

    async def announce(self, turn_id: TurnId) -> None:
        """Submit what is to be told of a turn, to everybody who wants it, then note how far it was told.

        Errors: JournalTooNew; Unavailable; JobsUnavailable.
        """
        found = await self._turns.retold(turn_id)
        if found is None or found[0].announced < 0:
            return
        kept, told = found
        account = account_of(kept.session_key)
        targets = await self._audience.of(account)
        agent = names_of((await self._turns.definition(kept)).identity) if targets else ()
        for news in news_of(kept, told):
            for target in matching(targets, Notice(news.id, news.kind, 0.0, {}, agent)):
                target_id = target["targetId"]
                body = {"targetId": target_id, "turnId": kept.id, "noticeId": news.id, "kind": news.kind, **news.of}
                await self._jobs.submit(NOTIFICATION, job_key(target_id, news.id), body, tenant=target_id)
        so_far = -1 if kept.is_over else len(told.events)
        if so_far != kept.announced:
            await self._announced.move(turn_id, kept.announced, so_far)

    # delivering ---------------------------------------------------------------------------------

    async def _perform(self, job: Job) -> None:
        target = await self._audience.find(job.body["targetId"])
        if target is None:
            return
        if settings_of(target).get("allowPrivate") and not self._rights.allow_private_notifications:
            raise GiveUp(f"the target has allowPrivate, which {PRIVATE_SETTING} does not allow")
        try:
            await self._deliverer.deliver(target, await self._notice(job.body))
        except Undeliverable as error:
            # What the receiver asks for is the least: it does not shorten the wait.
            wait_s = max(error.retry_after_s or 0.0, self._kind.wait_s(job.attempt))
            raise Again(str(error), after_s=wait_s) from error
        except JournalTooNew as error:
            raise Again(str(error)) from error
        except Refused as error:
            if error.gone:
                await self._audience.disable(target, iso(self._clock.now()))
            raise GiveUp(str(error)) from error

    async def _notice(self, said: Mapping[str, Any]) -> Notice:
        """The notice of a job, as it would have been made when there was something to tell.

        Errors: GiveUp; JournalTooNew; Unavailable.
        """
        found = await self._turns.retold(TurnId(said["turnId"]))
        if found is None:
            raise GiveUp("the turn is not kept any more")
        kept, told = found
        definition = await self._turns.definition(kept)
        at, body = _told(kept, told, said, definition, self._prices)
        return Notice(said["noticeId"], said["kind"], at, body, names_of(definition.identity))


class NoSuchEvent(RoomError):
    """A journal does not hold what was announced of it."""


def news_of(kept: OpenTurn, told: Retold) -> Iterator[News]:
    """What is to be told of a turn from where it was announced on, in order."""
    for index, event in enumerate(told.events):
        kind = _kind(event, kept)
        if kind is not None and index >= kept.announced:
            yield News(notice_id(kept.id, index), kind, {"index": index})
    if kept.state == "paused":
        # A pause is no event: the turn goes on from where it was.
        yield News(f"{kept.id}:p{kept.lease}", "turn.paused", {"pause": pause_of(kept)})


def _kind(event: Event, kept: OpenTurn) -> base.Kind | None:
    match event:
        case ControlReturned():
            return "turn.waiting_for_input"
        case Answered():
            return "turn.completed"
        case Failed():
            return "turn.cancelled" if kept.state == "abandoned" else "turn.failed"
        case _:
            return None


def _told(
    kept: OpenTurn, told: Retold, said: Mapping[str, Any], definition: Definition, prices: Prices
) -> tuple[float, Mapping[str, Any]]:
    """When there was something to tell, and the turn as it was then."""
    price = prices.price(definition.foundation_model)
    if "pause" in said:
        steps = kept.entries[: said["pause"]["entries"]]
        at = max((step.finished_at or step.started_at for step in steps), default=kept.started_at)
        return at, when_paused(kept, told, said["pause"], definition, price)
    index: int = said["index"]
    event = told.events[index] if index < len(told.events) else None
    if isinstance(event, ControlReturned):
        return event.at, when_asked(kept, told, index, definition, price)
    if isinstance(event, Answered | Failed):
        return event.at, describe(kept, told, definition, price)
    raise NoSuchEvent(f"turn {kept.id} has no event {index} to tell of")


def job_key(target_id: str, notice: str) -> str:
    """The key of the job that takes a notice to a target."""
    return f"{target_id}/{notice}"


def account_of(key: SessionKey) -> str:
    """The account that a session belongs to."""
    return key.partition("/")[0]


def names_of(who: Identity) -> Agent:
    """The names that an agent goes by."""
    arn, _, alias = who.alias_arn.rpartition("/")
    agent_arn = arn.replace(":agent-alias/", ":agent/") if alias else ""
    return tuple(name for name in (who.name, who.agent_id, who.alias_arn, agent_arn) if name)
