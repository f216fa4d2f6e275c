"""The Deliverer: targets are kept from notice to notice, made anew when their record changes, and closed in time."""

from __future__ import annotations

import asyncio

import pytest

from outcrop import plugins
from outcrop.notifications.base import Refused, Undeliverable
from outcrop.notifications.delivery import Deliverer
from outcrop.notifications.posting import Post
from outcrop.notifications.signing import new_secret, verify


@pytest.fixture
async def deliverer(clock):
    made = Deliverer(clock, post=Post(total_s=5), most_targets=2)
    yield made
    await made.close()


@pytest.fixture
def record(receiver):
    def make(target_id: str = "T1", status: str = "ACTIVE", **settings):
        webhook = {"url": receiver.url, "secret": new_secret(), "allowPrivate": True} | settings
        return {"targetId": target_id, "name": "ops", "kind": "WEBHOOK", "webhook": webhook, "status": status}

    return make


class Slow:
    """A target that takes its notices when the test says, and must not be closed while it does."""

    def __init__(self, settings) -> None:
        self.settings = settings
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.closed = 0

    async def deliver(self, notice) -> None:
        self.begun.set()
        await self.go_on.wait()
        assert not self.closed

    async def close(self) -> None:
        self.closed += 1


class EntryPoint:
    """A kind of target that somebody else's package brings."""

    def __init__(self, name: str, made: list[Slow]) -> None:
        self.name = name
        self.made = made

    def load(self):
        def target(settings, means) -> Slow:
            self.made.append(Slow(settings))
            return self.made[-1]

        return target


@pytest.fixture
def slow(monkeypatch) -> list[Slow]:
    """Targets of the kind SLOW, as they are made."""
    made: list[Slow] = []
    installed = [EntryPoint("slow", made)]

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [point for point in installed if name in (None, point.name)]

    monkeypatch.setitem(vars(plugins), "entry_points", entry_points)
    return made


def a_slow_record(**settings) -> dict:
    return {"targetId": "S1", "kind": "SLOW", "slow": settings}


async def test_a_record_is_told(deliverer, record, receiver, notice, clock) -> None:
    ours = record()
    await deliverer.deliver(ours, notice)
    [(headers, body)] = receiver.taken
    assert verify(headers, body, ours["webhook"]["secret"], now=clock.now())["id"] == "turn-1:7"


async def test_a_changed_record_is_told_in_the_new_way(deliverer, record, receiver, notice, clock) -> None:
    await deliverer.deliver(record(), notice)
    changed = record()
    await deliverer.deliver(changed, notice)
    verify(*receiver.taken[1], changed["webhook"]["secret"], now=clock.now())


async def test_a_record_that_is_changed_in_place_is_noticed(deliverer, record, receiver, notice, clock) -> None:
    ours = record()
    await deliverer.deliver(ours, notice)
    ours["webhook"]["secret"] = new_secret()
    await deliverer.deliver(ours, notice)
    verify(*receiver.taken[1], ours["webhook"]["secret"], now=clock.now())


async def test_a_disabled_target_is_not_told(deliverer, record, receiver, notice) -> None:
    with pytest.raises(Refused, match="the target is disabled"):
        await deliverer.deliver(record(status="DISABLED"), notice)
    assert receiver.taken == []


async def test_a_record_that_cannot_be_used_is_refused_by_what_is_wrong(deliverer, record, notice) -> None:
    with pytest.raises(Refused, match="the target cannot be used: webhook: url is no http or https address"):
        await deliverer.deliver(record(url="gopher://x"), notice)


async def test_one_target_serves_until_its_settings_change(deliverer, slow, notice) -> None:
    for name in ("new name", "newer name"):
        telling = asyncio.create_task(deliverer.deliver(a_slow_record(x=1) | {"name": name}, notice))
        await asyncio.sleep(0)
        slow[-1].go_on.set()
        await telling
    assert len(slow) == 1
    assert slow[0].closed == 0


async def test_an_outdated_target_is_closed_when_its_last_notice_is_told(deliverer, slow, notice) -> None:
    tellings = [asyncio.create_task(deliverer.deliver(a_slow_record(x=1), notice)) for _ in range(2)]
    await asyncio.sleep(0)
    tellings.append(asyncio.create_task(deliverer.deliver(a_slow_record(x=2), notice)))
    await asyncio.wait_for(slow[0].begun.wait(), 5)
    await asyncio.sleep(0)
    old, new = slow
    assert old.closed == 0
    old.go_on.set()
    await asyncio.gather(*tellings[:2])
    assert old.closed == 1
    assert new.closed == 0
    new.go_on.set()
    await tellings[2]


async def test_no_more_targets_are_kept_than_may_be(deliverer, slow, record, notice) -> None:
    telling = asyncio.create_task(deliverer.deliver(a_slow_record(), notice))
    await asyncio.sleep(0)
    slow[0].go_on.set()
    await telling
    for target_id in ("T1", "T2", "T1"):
        await deliverer.deliver(record(target_id), notice)
    assert slow[0].closed == 1


async def test_closing_closes_every_target_and_ends_deliveries(deliverer, slow, record, receiver, notice) -> None:
    telling = asyncio.create_task(deliverer.deliver(a_slow_record(), notice))
    await asyncio.sleep(0)
    slow[0].go_on.set()
    await telling
    await deliverer.deliver(record(), notice)
    await deliverer.close()
    assert slow[0].closed == 1
    with pytest.raises(Undeliverable, match="the server is stopping"):
        await deliverer.deliver(record(), notice)


async def test_a_delivery_under_way_when_all_closes_is_undeliverable(
    deliverer, record, receiver, notice, forever
) -> None:
    asked = asyncio.Event()

    async def hang(request):
        asked.set()
        return await forever(request)

    receiver.answers.append(hang)
    telling = asyncio.create_task(deliverer.deliver(record(), notice))
    await asyncio.wait_for(asked.wait(), 5)
    await deliverer.close()
    with pytest.raises(Undeliverable):
        await telling


async def test_many_notices_at_once_all_arrive(deliverer, record, receiver, notice) -> None:
    ours = [record("T1"), record("T2"), record("T3")]
    await asyncio.gather(*(deliverer.deliver(ours[number % 3], notice) for number in range(60)))
    assert len(receiver.taken) == 60
