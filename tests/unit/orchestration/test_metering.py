"""Turns within a budget: the step that would go beyond is not begun; what was spent is written once, at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from turning import KEY, Held, HeldModel, Stage, answer_of, hear, memory

from outcrop.events import Answered, ControlReturned, Event, Failed
from outcrop.ids import SessionKey
from outcrop.models.prices import Price
from outcrop.orchestration.limits import budget_of
from outcrop.orchestration.policy import Policy
from outcrop.sessions.spend import SPEND, Spent, add, agent_scope, session_scope, spent
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import ScriptedModel, call

CHECK = call("shop__check", {"sku": "A"})
ASK = call("desk__check", {"sku": "B"})
AGENT = agent_scope("123456789012", "ABCDEFGHIJ")
DAY = "2027-01-15"
"""Of the clock of these tests."""
CHEAP = Price(Decimal("1"), Decimal("1"))


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    opened = memory()
    yield opened
    await opened.close()


def stage(database: SqliteDatabase, *script: Any, price: Price | None = None, **budget: Any) -> Stage:
    made = Stage(list(script), Policy(budget=budget_of(budget)), database, price=price)
    made.functions.add("shop", "42")
    return made


async def total(database: SqliteDatabase, scope: str, period: str = "") -> Spent:
    return await database.read(lambda connection: spent(connection, scope, period))


def code(events: list[Event]) -> int:
    assert isinstance(events[-1], Failed), events[-1]
    return events[-1].code


@pytest.mark.parametrize(
    ("budget", "calls", "told"),
    [
        ({"turn_steps": 1}, 0, "The turn reached its budget of 1 step: 1 used."),
        ({"turn_steps": 2}, 1, "The turn reached its budget of 2 steps: 2 used."),
        ({"turn_tokens": 1}, 0, "The turn reached its budget of 1 token: "),
        ({"turn_usd": 0.000001}, 0, "The turn reached its budget of 0.000001 USD: "),
        ({"session_steps": 2}, 1, "The session reached its budget of 2 steps: 2 used."),
        ({"agent_steps": 2}, 1, "The agent reached its budget of 2 steps a day: 2 used."),
        ({"turn_seconds": 0.001}, -1, "The turn reached its budget of 0.001 seconds: "),
    ],
)
@pytest.mark.parametrize("at_limit", ["fail", "pause"])
async def test_the_step_that_would_go_beyond_is_not_begun(
    database: SqliteDatabase, budget: dict[str, Any], calls: int, told: str, at_limit: str
) -> None:
    one = stage(database, [CHECK], "42", price=CHEAP, at_limit=at_limit, **budget)

    heard = await hear(await one.begin())

    assert code(heard) == 402
    assert told in heard[-1].reason
    assert f"BUDGET_EXCEEDED{':' if at_limit == 'fail' else '.'}" in heard[-1].reason
    if calls >= 0:
        assert (len(one.model.requests), len(one.functions.events)) == (1, calls)
    kept = await one.kept()
    assert kept.state == ("failed" if at_limit == "fail" else "paused")
    if at_limit == "pause":
        assert kept.ending == {
            "reason": "BUDGET_EXCEEDED",
            "detail": heard[-1].reason.split(". ", 1)[1].split(" Turn")[0],
        }


async def test_a_model_without_a_price_cannot_be_held_to_money(database: SqliteDatabase) -> None:
    one = stage(database, turn_usd=1.0)

    heard = await hear(await one.begin())

    assert code(heard) == 400
    assert heard[-1].reason.startswith("The budget counts US dollars, and 'm' has no price: [models] '*' lacks ")
    assert one.model.requests == []


async def test_what_a_turn_has_spent_is_added_to_its_session_and_its_agent_with_its_end(
    database: SqliteDatabase,
) -> None:
    one = stage(database, [CHECK, ASK], "Done.", session_steps=100, agent_steps=100)
    asked = await hear(await one.begin())
    before = (await total(database, AGENT, DAY), await total(database, session_scope(KEY)))
    heard = await hear(await one.resume(answer_of(asked[-1])))

    assert isinstance(asked[-1], ControlReturned)
    assert isinstance(heard[-1], Answered)
    assert before == (Spent(), Spent()), "nothing until it ends"
    session, agent = await total(database, session_scope(KEY)), await total(database, AGENT, DAY)
    assert session.steps == agent.steps == 4, "two model calls and two actions"
    kept = (await one.kept()).ending
    assert kept is not None
    assert session.tokens == kept["inputTokens"] + kept["outputTokens"]
    assert session.milliseconds > 0


async def test_only_what_is_limited_is_added_up(database: SqliteDatabase) -> None:
    await hear(await stage(database, "Hello.", turn_steps=100).begin())
    await hear(await stage(database, "Hello.", agent_steps=100, period="month").begin())

    rows = await database.read(lambda connection: connection.execute(SPEND.select()).all())
    assert [(row.scope, row.period, row.steps) for row in rows] == [(AGENT, "2027-01", 1)]


async def test_what_others_have_spent_counts(database: SqliteDatabase) -> None:
    await database.write(add(AGENT, DAY, Spent(steps=99)))

    assert code(await hear(await stage(database, agent_steps=99).begin())) == 402
    assert isinstance((await hear(await stage(database, "Hello.", agent_steps=100).begin("Hi")))[-1], Answered)


async def test_a_failed_and_a_stopped_turn_have_spent_what_they_did(database: SqliteDatabase) -> None:
    await hear(await stage(database, [CHECK], agent_steps=2).begin())
    assert (await total(database, AGENT, DAY)).steps == 2

    held = HeldModel(ScriptedModel([[CHECK]]), Held(1))
    two = Stage(policy=Policy(budget=budget_of({"agent_steps": 100})), database=database, model=held)
    two.functions.add("shop", "42")
    live = await two.begin("Again")
    await held.held.reached.wait()
    await two.turns.stop(two.turn_id, "cancel")
    await hear(live)
    assert (await total(database, AGENT, DAY)).steps == 4


async def test_time_spent_before_a_turn_was_taken_up_counts(database: SqliteDatabase) -> None:
    one = stage(database, [CHECK], turn_steps=2, at_limit="pause")
    await hear(await one.begin())
    one.policy = Policy(budget=budget_of({"turn_seconds": 0.001}))
    again = await one.turns.let_go_on(one.turn_id)
    assert again is not None

    assert "0.001 seconds" in (await hear(again))[-1].reason


async def test_inline_agents_are_told_apart_by_their_names(database: SqliteDatabase) -> None:
    from outcrop.orchestration.metering import _agent_scope

    assert _agent_scope(SessionKey("1/INLINE_AGENT/shop/s/1")) == agent_scope("1", "INLINE_AGENT/shop")
    assert _agent_scope(SessionKey("1/ABCDEFGHIJ/TSTALIASID/s/1")) == agent_scope("1", "ABCDEFGHIJ")


@pytest.mark.parametrize(("says", "turn_steps", "state"), [(CHECK, 1, "paused"), (ASK, 5, "awaiting")])
async def test_a_turn_that_its_caller_leaves_has_spent_what_it_used(
    database: SqliteDatabase, says: Any, turn_steps: int, state: str
) -> None:
    """Given turns that stop midway and are left for new words, then no budget is got round with them."""
    limits = {"session_tokens": 100_000, "agent_tokens": 100_000, "at_limit": "pause"}
    one = stage(database, [says], [says], turn_steps=turn_steps, **limits)
    used: list[int] = []
    for _ in range(2):
        await hear(await one.begin())
        session, rests = await one.open()
        assert rests is not None
        assert rests.state == state
        await one.turns.leave(session, rests)
        left = (await one.kept()).ending
        assert left is not None
        used.append(left["inputTokens"] + left["outputTokens"])

    assert min(used) > 0
    for scope, period in ((session_scope(KEY), ""), (AGENT, DAY)):
        found = await total(database, scope, period)
        assert (found.tokens, found.steps) == (sum(used), 2)
    await one.turns.close(5.0)
