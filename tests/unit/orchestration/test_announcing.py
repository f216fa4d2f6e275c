"""Who is told of what, once, from whatever place an announcer died at; and a turn described as it was then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from turning import KEY, OneModel, Stage, agent, answer_of, hear

from outcrop.config import JobSettings
from outcrop.events import ControlReturned
from outcrop.ids import TurnId
from outcrop.jobs.base import Again, GiveUp, Job, JobsUnavailable, Kind
from outcrop.models.prices import Price
from outcrop.notifications import audience
from outcrop.notifications.audience import Audience
from outcrop.notifications.base import Notice, Refused, Undeliverable
from outcrop.orchestration.announcing import Announcer, names_of, news_of
from outcrop.orchestration.definition import Identity
from outcrop.orchestration.describing import describe, pause_of, when_asked, when_paused
from outcrop.orchestration.encoding import opening_of
from outcrop.orchestration.limits import Allowance, Budget
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.retelling import Retold, retell
from outcrop.orchestration.turn import Turn
from outcrop.sessions.announced import Announced
from outcrop.sessions.journal import OpenTurn
from outcrop.storage.documents import Documents
from outcrop.testing import ScriptedModel, call

ACCOUNT = KEY.partition("/")[0]
ASK = [call("desk__check", {"sku": "A"})]
CHECK = [call("shop__check", {"sku": "A"})]
PRICE = Price(Decimal(3), Decimal(15))
PAUSES = Policy(budget=Budget(turn=Allowance(steps=1), at_limit="pause"))
HOOK = {"url": "https://hooks.example.com/"}


@dataclass
class KeptJobs:
    """Jobs that are kept, once per key, and done when a test says so."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    sweeps: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    submitted: list[str] = field(default_factory=list)
    away: bool = False
    tenants: set[str] = field(default_factory=set)

    def handle(self, kind: Kind) -> None:
        self.kinds[kind.name] = kind

    def every(self, name: str, _seconds: float, handler: Any) -> None:
        self.sweeps[name] = handler

    async def submit(self, kind: str, key: str, body: dict[str, Any], *, tenant: str = "") -> None:
        if self.away:
            raise JobsUnavailable("away")
        assert kind in self.kinds
        self.submitted.append(key)
        self.tenants.add(tenant)
        self.kept.setdefault(key, body)

    async def perform(self, key: str, attempt: int = 1) -> None:
        kind = self.kinds["notification"]
        await kind.handler(Job(kind.name, key, self.kept[key], attempt=attempt))


@dataclass
class KeptNotices:
    """A deliverer that keeps what it is given, or fails as a test says."""

    taken: list[Notice] = field(default_factory=list)
    error: Exception | None = None

    async def deliver(self, _record: Any, notice: Notice) -> None:
        if self.error is not None:
            raise self.error
        self.taken.append(notice)


@dataclass
class Rights:
    allow_private_notifications: bool = True


class Announcing:
    """A stage whose turns are announced to targets."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.documents = Documents(stage.database)
        self.audience = Audience(self.documents, is_shared=False)
        self.announced = Announced(stage.database)
        self.jobs, self.notices, self.rights = KeptJobs(), KeptNotices(), Rights()
        self.announcer = self.worker()

    def worker(self) -> Announcer:
        """An announcer as another process has it: it remembers nothing."""
        turns, notices = self.stage.turns, self.notices
        made = Announcer(
            self.announced,
            self.audience,
            turns,
            notices,
            OneModel(ScriptedModel([]), PRICE),
            self.stage.clock,
            self.rights,
        )
        self.stage.turns.watch.listeners.clear()
        made.registered_with(self.jobs, JobSettings(notification_first_wait_s=100, notification_most_wait_s=100))
        return made

    async def target(self, target_id: str = "TARGET0001", **members: Any) -> dict[str, Any]:
        record = {"targetId": target_id, "accountId": ACCOUNT, "name": target_id, "kind": "WEBHOOK", "webhook": HOOK}
        record |= {"agents": ["*"], "status": "ACTIVE", **members}
        await self.documents.write(lambda docs: audience.put(docs, record))
        self.audience.changed()
        return record

    async def settled(self) -> None:
        """Return once what was spawned beside the turns is done."""
        tasks = self.stage.turns.carrier._tasks
        while tasks:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # what is done is struck off at the loop's next turn

    async def kept(self) -> OpenTurn:
        return await self.stage.kept()


@pytest.fixture
async def stages() -> AsyncIterator[Any]:
    made: list[Stage] = []

    def make(*script: Any, **members: Any) -> Announcing:
        made.append(Stage(list(script), price=PRICE, **members))
        made[-1].functions.add("shop", "42")
        return Announcing(made[-1])

    yield make
    for stage in made:
        await stage.close()


def told_of(kept: OpenTurn) -> Retold:
    return retell(Turn(kept.id, agent(), opening_of(kept), (), kept.started_at), kept)


# announcing --------------------------------------------------------------------------------------


async def test_what_is_announced_at_each_rest_is_what_a_late_announcer_would_announce_at_once(stages: Any) -> None:
    here: Announcing = stages(ASK, ASK, "42.")
    await here.target()
    events = await hear(await here.stage.begin())
    for _ in range(2):
        await here.settled()
        events = await hear(await here.stage.resume(answer_of(events[-1])))
    await here.settled()

    kept = await here.kept()
    assert kept.announced == -1
    at_once = [news.id for news in news_of(replace(kept, announced=0), told_of(kept))]
    assert here.jobs.submitted == [f"TARGET0001/{one}" for one in at_once]
    assert [body["kind"] for body in here.jobs.kept.values()] == ["turn.waiting_for_input"] * 2 + ["turn.completed"]
    assert "42." not in str(here.jobs.kept)
    assert here.jobs.tenants == {"TARGET0001"}


async def test_a_turn_that_nobody_wants_to_be_told_of_is_never_looked_at(stages: Any) -> None:
    here: Announcing = stages("Hello.")
    await here.target(agents=["other-*"])
    await here.target("TARGET0002", status="DISABLED")
    await here.target("TARGET0003", accountId="999999999999")
    await hear(await here.stage.begin())
    await here.target("TARGET0004")
    await here.announcer.sweep()

    assert (await here.kept()).announced == -1
    assert here.jobs.submitted == []
    assert await here.announced.resting() == []


async def test_every_target_gets_what_it_asked_for(stages: Any) -> None:
    here: Announcing = stages(ASK, "42.")
    await here.target("TARGET0001", events=["TURN_COMPLETED"], agents=["st?ck"])
    await here.target("TARGET0002", events=["TURN_WAITING_FOR_INPUT", "TURN_FAILED"], agents=["ABCDEFGHIJ"])
    await here.target("TARGET0003", events=["TURN_COMPLETED"], agents=["nobody"])
    asked = await hear(await here.stage.begin())
    await hear(await here.stage.resume(answer_of(asked[-1])))
    await here.settled()

    kinds = {key.partition("/")[0]: body["kind"] for key, body in here.jobs.kept.items()}
    assert kinds == {"TARGET0001": "turn.completed", "TARGET0002": "turn.waiting_for_input"}
    assert len(here.jobs.kept) == 2


async def test_an_announcer_that_died_before_it_said_so_submits_the_same_jobs_again(stages: Any) -> None:
    here: Announcing = stages("Hello.")
    await here.target()
    await hear(await here.stage.begin())
    await here.settled()
    first = dict(here.jobs.kept)
    await here.announced.move(here.stage.turn_id, -1, 0)

    await here.worker().sweep()

    assert len(here.jobs.submitted) == 2
    assert here.jobs.kept == first
    assert (await here.kept()).announced == -1


async def test_what_could_not_be_submitted_is_found_by_the_sweep(stages: Any) -> None:
    here: Announcing = stages("Hello.")
    await here.target()
    here.jobs.away = True
    await hear(await here.stage.begin())
    await here.settled()
    assert (await here.kept()).announced == 0
    with pytest.raises(JobsUnavailable):
        await here.announcer.sweep()

    here.jobs.away = False
    await here.jobs.sweeps["turns.announce"]()

    assert len(here.jobs.kept) == 1
    assert (await here.kept()).announced == -1


async def test_a_turn_that_waits_is_read_by_one_sweep_and_not_by_the_next_before_it_has_come_further(
    stages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: Announcing = stages(ASK, ASK, "42.")
    await here.target()
    read: list[TurnId] = []
    retold = here.stage.turns.retold

    async def counted(turn_id: TurnId) -> Any:
        read.append(turn_id)
        return await retold(turn_id)

    asked = await hear(await here.stage.begin())
    await here.settled()
    monkeypatch.setattr(here.stage.turns, "retold", counted)
    for _ in range(3):
        await here.announcer.sweep()
    assert len(read) == 1

    await hear(await here.stage.resume(answer_of(asked[-1])))
    await here.settled()
    read.clear()
    for _ in range(3):
        await here.announcer.sweep()
    assert len(read) == 1
    assert len(here.jobs.kept) == 2


async def test_a_turn_whose_journal_cannot_be_read_keeps_nobody_else_waiting(
    stages: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here: Announcing = stages("Hello.", "Hello again.")
    await here.target()
    here.jobs.away = True
    for _ in range(2):
        await hear(await here.stage.begin())
    await here.settled()
    here.jobs.away = False
    first = min(place.turn_id for place in await here.announced.resting())
    retold = here.stage.turns.retold

    async def broken(turn_id: TurnId) -> Any:
        if turn_id == first:
            raise LookupError(turn_id)
        return await retold(turn_id)

    monkeypatch.setattr(here.stage.turns, "retold", broken)
    await here.announcer.sweep()

    assert [key.startswith(f"TARGET0001/{first}") for key in here.jobs.kept] == [False]
    assert "cannot be announced" in caplog.text


async def test_a_turn_that_was_left_or_paused_is_announced_too(stages: Any) -> None:
    here: Announcing = stages(CHECK, "42.", policy=PAUSES)
    await here.target()
    await hear(await here.stage.begin())
    await here.settled()
    turn_id = here.stage.turn_id
    assert list(here.jobs.kept) == [f"TARGET0001/{turn_id}:p1"]

    assert await here.stage.turns.stop(turn_id, "cancel", "Enough.")
    await here.settled()
    cancelled = list(here.jobs.kept)[-1]
    assert here.jobs.kept[cancelled]["kind"] == "turn.cancelled"
    await here.jobs.perform(cancelled)
    [notice] = here.notices.taken
    assert (notice.body["status"], notice.body["statusReason"]) == ("CANCELLED", "Enough.")


def test_an_agent_goes_by_its_name_its_id_and_its_arns() -> None:
    alias = "arn:aws:bedrock:us-east-1:123456789012:agent-alias/ABCDEFGHIJ/TSTALIASID"
    assert names_of(Identity("ABCDEFGHIJ", "TSTALIASID", "1", "stock", alias)) == (
        "stock",
        "ABCDEFGHIJ",
        alias,
        "arn:aws:bedrock:us-east-1:123456789012:agent/ABCDEFGHIJ",
    )


# delivering --------------------------------------------------------------------------------------


async def _announced_turn(here: Announcing, **members: Any) -> tuple[dict[str, Any], str]:
    target = await here.target(**members)
    await hear(await here.stage.begin())
    await here.settled()
    [key] = here.jobs.kept
    return target, key


async def test_a_job_makes_the_notice_from_the_journal(stages: Any) -> None:
    here: Announcing = stages("Hello.")
    _, key = await _announced_turn(here)
    await here.jobs.perform(key)

    [notice] = here.notices.taken
    kept = await here.kept()
    assert (notice.id, notice.kind) == (f"{kept.id}:2", "turn.completed")
    assert notice.at == kept.finished_at
    assert notice.body == describe(kept, told_of(kept), agent(), PRICE)
    assert notice.agent[:2] == ("stock", "ABCDEFGHIJ")


async def test_a_failed_delivery_is_tried_again_no_sooner_than_its_receiver_wants(stages: Any) -> None:
    here: Announcing = stages("Hello.")
    _, key = await _announced_turn(here)
    for asked, least, most in ((None, 50, 100), (3.0, 50, 100), (700.0, 700, 700)):
        here.notices.error = Undeliverable("busy", retry_after_s=asked)
        with pytest.raises(Again, match="busy") as caught:
            await here.jobs.perform(key)
        assert least <= caught.value.after_s <= most


@pytest.mark.parametrize(("gone", "status"), [(True, "DISABLED"), (False, "ACTIVE")])
async def test_a_refused_delivery_is_given_up_and_one_that_is_gone_for_good(
    stages: Any, gone: bool, status: str
) -> None:
    here: Announcing = stages("Hello.")
    target, key = await _announced_turn(here)
    here.notices.error = Refused("no", gone=gone)
    with pytest.raises(GiveUp, match="no"):
        await here.jobs.perform(key)

    [stored] = await here.audience.of(ACCOUNT)
    assert (stored["status"], stored["targetId"]) == (status, target["targetId"])


async def test_a_target_that_was_changed_meanwhile_is_not_disabled(stages: Any) -> None:
    here: Announcing = stages()
    before = await here.target()
    changed = await here.target(webhook={"url": "https://other.example.com/"})
    await here.audience.disable(before, "now")

    assert await here.audience.of(ACCOUNT) == [changed]


async def test_a_deleted_target_needs_nothing_and_a_forgotten_turn_gets_nothing(stages: Any) -> None:
    here: Announcing = stages("Hello.")
    target, key = await _announced_turn(here)
    session, _ = await here.stage.open()
    await here.stage.sessions.delete(session)
    with pytest.raises(GiveUp, match="not kept any more"):
        await here.jobs.perform(key)

    await here.documents.write(lambda docs: docs.delete(audience.KIND, target["targetId"]))
    await here.jobs.perform(key)
    assert here.notices.taken == []


async def test_a_private_receiver_is_not_told_once_the_servers_owner_forbids_it(stages: Any) -> None:
    here: Announcing = stages("Hello.")
    _, key = await _announced_turn(here, webhook={**HOOK, "allowPrivate": True})
    here.rights.allow_private_notifications = False
    with pytest.raises(GiveUp, match="allow_private_notifications"):
        await here.jobs.perform(key)
    here.rights.allow_private_notifications = True
    await here.jobs.perform(key)
    assert len(here.notices.taken) == 1


# the audience ------------------------------------------------------------------------------------


async def test_targets_are_read_again_when_they_changed_here_or_may_have_elsewhere(
    stages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: Announcing = stages()
    now = 0.0
    monkeypatch.setattr("outcrop.notifications.audience.time.monotonic", lambda: now)
    alone, shared = (Audience(here.documents, is_shared=is_shared) for is_shared in (False, True))
    for one in (alone, shared):
        assert not await one.wants(ACCOUNT, ("stock",))
        assert one.is_empty
    await here.target()

    now = 2.0
    assert [await one.wants(ACCOUNT, ("stock",)) for one in (alone, shared)] == [False, False]
    now = 4.0
    assert [await one.wants(ACCOUNT, ("stock",)) for one in (alone, shared)] == [False, True]
    alone.changed()
    assert await alone.wants(ACCOUNT, ("stock",))
    assert not alone.is_empty


# describing --------------------------------------------------------------------------------------


async def _pictures(here: Announcing, resumes: int) -> Sequence[OpenTurn]:
    """A turn as it was whenever it rested."""
    events = await hear(await here.stage.begin())
    for _ in range(resumes):
        if isinstance(events[-1], ControlReturned):
            events = await hear(await here.stage.resume(answer_of(events[-1], "CONFIRM")))
        else:
            channel = await here.stage.turns.let_go_on(here.stage.turn_id)
            assert channel is not None
            events = await hear(channel)
    return [picture for picture in here.stage.pictures if picture.state in ("awaiting", "paused", "done", "failed")]


async def test_a_turn_is_described_later_as_it_was_when_it_returned_control(stages: Any) -> None:
    both = [*CHECK, call("desk__check", {"sku": "A"}), call("shop__buy", {"sku": "A"})]
    here: Announcing = stages(both, ASK, "42.")
    pictures = await _pictures(here, 2)
    ended = pictures[-1]
    waits = [picture for picture in pictures if picture.state == "awaiting"]
    events = told_of(ended).events
    asked = [index for index, event in enumerate(events) if isinstance(event, ControlReturned)]

    assert len(waits) >= len(asked) == 2
    for index in asked:
        then = next(one for one in waits if one.invocation_id == events[index].invocation_id)
        told = when_asked(ended, told_of(ended), index, agent(), PRICE)
        assert told == describe(then, told_of(then), agent(), PRICE)
        assert told["status"] == "WAITING_FOR_INPUT"
    assert [when_asked(ended, told_of(ended), index, agent())["usage"]["toolCalls"] for index in asked] == [1, 3]


async def test_a_turn_is_described_later_as_it_was_when_it_paused(stages: Any) -> None:
    here: Announcing = stages(CHECK, "42.", policy=PAUSES)
    await _pictures(here, 0)
    paused = await here.kept()
    here.stage.policy = Policy()
    channel = await here.stage.turns.let_go_on(paused.id)
    assert channel is not None
    await hear(channel)
    ended = await here.kept()

    assert (paused.state, ended.state) == ("paused", "done")
    told = when_paused(ended, told_of(ended), pause_of(paused), agent(), PRICE)
    assert told == describe(paused, told_of(paused), agent(), PRICE)
    assert told["statusReason"].startswith("BUDGET_EXCEEDED: ")
    used = told["usage"]
    assert (used["modelCalls"], used["toolCalls"]) == (1, 0)
    assert used["costUsd"] == (3 * used["inputTokens"] + 15 * used["outputTokens"]) / 1_000_000
