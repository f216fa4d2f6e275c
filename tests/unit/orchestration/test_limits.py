"""Budgets are told apart by whose they are and what they count; policies come from the first binding that matches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.clock import from_iso
from outcrop.config import Binding, Config, TurnSettings
from outcrop.ids import TurnId
from outcrop.models.catalogue import Catalogue
from outcrop.models.prices import Price
from outcrop.orchestration.definition import define
from outcrop.orchestration.limits import (
    UNLIMITED,
    Allowance,
    Budget,
    Unpriced,
    budget_of,
    exceeded,
    period_of,
    price_for,
    running_ms,
    turn_spent,
)
from outcrop.orchestration.policy import Policy, policy_for
from outcrop.orchestration.turn import (
    CallModel,
    CallResult,
    CallTools,
    ModelFailed,
    ModelReplied,
    Opening,
    PlannedCall,
    ToolsReturned,
    Turn,
)
from outcrop.sessions.entries import Entry
from outcrop.sessions.spend import Spent

NOTHING = Spent()
SONNET = Price(Decimal("3"), Decimal("15"))

amounts = st.builds(Spent, *[st.integers(0, 10**9)] * 4)
allowances = st.builds(Allowance, *[st.none() | st.integers(1, 10**9)] * 4)
budgets = st.builds(Budget, allowances, allowances, allowances, st.sampled_from(["day", "month", "ever"]))


# what is reached ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "turn", "told"),
    [
        ({"turn_tokens": 5000}, Spent(tokens=5210), "The turn reached its budget of 5,000 tokens: 5,210 used."),
        ({"turn_tokens": 1}, Spent(tokens=1), "The turn reached its budget of 1 token: 1 used."),
        ({"turn_usd": 0.5}, Spent(microusd=512_340), "The turn reached its budget of 0.50 USD: 0.51234 used."),
        ({"turn_usd": 1200}, Spent(microusd=1_200_000_000), "of 1,200.00 USD: 1,200.00 used."),
        ({"turn_steps": 12}, Spent(steps=12), "The turn reached its budget of 12 steps: 12 used."),
        ({"turn_seconds": 60}, Spent(milliseconds=60_250), "The turn reached its budget of 60 seconds: 60.25 used."),
        ({"turn_seconds": 0.5}, Spent(milliseconds=500), "The turn reached its budget of 0.5 seconds: 0.5 used."),
        ({"turn_seconds": 1}, Spent(milliseconds=1000), "The turn reached its budget of 1 second: 1 used."),
        ({"session_tokens": 9}, Spent(tokens=10), "The session reached its budget of 9 tokens: 10 used."),
        ({"agent_tokens": 9}, Spent(tokens=10), "The agent reached its budget of 9 tokens a day: 10 used."),
        ({"agent_usd": 9, "period": "month"}, Spent(microusd=9_000_000), "of 9.00 USD a month: 9.00 used."),
        ({"agent_steps": 9, "period": "ever"}, Spent(steps=9), "The agent reached its budget of 9 steps: 9 used."),
        ({"agent_seconds": 9}, Spent(milliseconds=9000), "The agent reached its budget of 9 seconds a day: 9 used."),
    ],
)
def test_the_limit_that_is_reached_is_told_with_its_figures(said: dict[str, Any], turn: Spent, told: str) -> None:
    sentence = exceeded(budget_of(said), turn, NOTHING, NOTHING)

    assert sentence is not None
    assert sentence.endswith(told)
    assert sentence.startswith("The ")


def test_a_limit_is_reached_at_its_figure_and_not_before() -> None:
    budget = budget_of({"turn_tokens": 5000, "turn_usd": 0.01, "turn_steps": 3, "turn_seconds": 2})
    almost = Spent(4999, 9_999, 2, 1999)

    assert exceeded(budget, almost, NOTHING, NOTHING) is None
    for one in (Spent(tokens=1), Spent(microusd=1), Spent(steps=1), Spent(milliseconds=1)):
        assert exceeded(budget, almost + one, NOTHING, NOTHING) is not None


def test_a_turn_adds_to_what_its_session_and_its_agent_have_spent() -> None:
    budget = budget_of({"session_tokens": 100, "agent_steps": 10})

    assert exceeded(budget, Spent(tokens=40), Spent(tokens=59), NOTHING) is None
    assert exceeded(budget, Spent(tokens=40), Spent(tokens=60), NOTHING) == (
        "The session reached its budget of 100 tokens: 100 used."
    )
    assert exceeded(budget, Spent(steps=1), NOTHING, Spent(steps=8)) is None
    assert exceeded(budget, Spent(steps=2), NOTHING, Spent(steps=8)) == (
        "The agent reached its budget of 10 steps a day: 10 used."
    )


def test_the_turns_own_limit_is_told_before_the_sessions_and_the_agents() -> None:
    budget = budget_of({"agent_tokens": 1, "session_tokens": 1, "turn_steps": 1, "turn_tokens": 1})
    used = Spent(tokens=5, steps=5)

    assert exceeded(budget, used, NOTHING, NOTHING) == "The turn reached its budget of 1 token: 5 used."
    assert exceeded(replace(budget, turn=Allowance()), used, NOTHING, NOTHING) == (
        "The session reached its budget of 1 token: 5 used."
    )


def test_a_limit_too_small_to_count_is_not_none() -> None:
    budget = budget_of({"turn_usd": 1e-9, "turn_seconds": 1e-6})

    assert budget.turn == Allowance(microusd=1, milliseconds=1)
    assert exceeded(budget, NOTHING, NOTHING, NOTHING) is None


@given(amounts, amounts, amounts)
def test_without_a_budget_nothing_is_too_much(turn: Spent, session: Spent, agent: Spent) -> None:
    assert exceeded(UNLIMITED, turn, session, agent) is None
    assert not UNLIMITED.is_limited


@given(budgets, amounts, amounts, amounts, amounts)
def test_who_spends_more_does_not_get_back_within_the_budget(
    budget: Budget, turn: Spent, session: Spent, agent: Spent, more: Spent
) -> None:
    if exceeded(budget, turn, session, agent) is not None:
        assert exceeded(budget, turn + more, session, agent) is not None
        assert exceeded(budget, turn, session + more, agent + more) is not None


@given(budgets, amounts, amounts, amounts)
def test_it_is_told_exactly_where_some_limit_is_reached(
    budget: Budget, turn: Spent, session: Spent, agent: Spent
) -> None:
    used = ((budget.turn, turn), (budget.session, turn + session), (budget.agent, turn + agent))
    reached = any(
        limit is not None and getattr(spent, name) >= limit
        for allowed, spent in used
        for name in ("tokens", "microusd", "steps", "milliseconds")
        if (limit := getattr(allowed, name)) is not None
    )

    assert (exceeded(budget, turn, session, agent) is not None) == reached


@given(st.integers(1, 10**12), st.integers(0, 10**12))
def test_money_is_told_to_the_last_micro_dollar(limit: int, more: int) -> None:
    sentence = exceeded(Budget(turn=Allowance(microusd=limit)), Spent(microusd=limit + more), NOTHING, NOTHING)

    figures = re.findall(r"\d[\d,]*\.\d{2,}", sentence or "")
    assert [Decimal(figure.replace(",", "")) * 1_000_000 for figure in figures] == [limit, limit + more]


def test_a_budget_knows_whether_it_limits_anything_and_whether_that_is_money() -> None:
    assert not budget_of({}).is_limited
    assert not budget_of({"period": "month", "at_limit": "pause"}).is_limited
    for whose in ("turn", "session", "agent"):
        assert budget_of({f"{whose}_steps": 1}).is_limited
        assert not budget_of({f"{whose}_steps": 1}).counts_money
        assert budget_of({f"{whose}_usd": 1.0}).counts_money
    assert budget_of({"at_limit": "pause"}).at_limit == "pause"
    assert budget_of({}).at_limit == "fail"


@pytest.mark.parametrize(
    ("period", "at", "name"),
    [
        ("day", "2026-11-21T23:59:59.999Z", "2026-11-21"),
        ("day", "2026-11-22T00:00:00Z", "2026-11-22"),
        ("month", "2026-11-30T23:59:59Z", "2026-11"),
        ("month", "2026-12-01T00:00:00Z", "2026-12"),
        ("ever", "2026-12-01T00:00:00Z", "ever"),
    ],
)
def test_a_period_is_named_in_utc(period: Any, at: str, name: str) -> None:
    assert period_of(period, from_iso(at)) == name


# what a turn has spent ------------------------------------------------------------------------------


def turn() -> Turn:
    identity = {"agent_id": "A", "alias_id": "B", "version": "1", "name": "a", "alias_arn": "arn"}
    record = {"identity": identity, "agent": {"foundationModel": "m", "instruction": "i"}, "actionGroups": []}
    return Turn(TurnId("t"), define(record), Opening("hello", "s", {}, {}), (), 0.0)


def replied(read: int, written: int) -> ModelReplied:
    usage = {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}
    return ModelReplied({"role": "assistant", "content": [{"text": "x"}]}, "end_turn", usage, "m")  # type: ignore[arg-type]


def test_a_turn_spends_by_its_model_calls_and_its_actions() -> None:
    told = turn()
    assert turn_spent(told, SONNET, 0) == NOTHING

    told.apply(CallModel(0), replied(1000, 20))
    told.apply(
        CallTools(0, (PlannedCall("u0", "f", {}, "execute"), PlannedCall("u1", "g", {}, "reject", "no such tool"))),
        ToolsReturned((CallResult("failure", "no", 1.0, 2.0), CallResult("rejected", "no such tool", 1.0, 1.0))),
    )
    told.apply(CallModel(1), ModelFailed("", 500, "half a call"))
    told.apply(CallModel(2), replied(1100, 30))

    assert turn_spent(told, SONNET, 2500) == Spent(
        tokens=2150, microusd=2100 * 3 + 50 * 15, steps=3 + 1, milliseconds=2500
    )
    assert turn_spent(told, None, 0).microusd == 0


@pytest.mark.parametrize(
    ("price", "read", "written", "microusd"),
    [
        (SONNET, 1_000_000, 0, 3_000_000),
        (SONNET, 0, 1_000_000, 15_000_000),
        (Price(Decimal("0.1"), Decimal("0.3")), 30, 10, 6),
        (Price(Decimal("0.05"), Decimal("0")), 1, 0, 1),
        (Price(Decimal("0.05"), Decimal("0")), 21, 0, 2),
        (Price(Decimal("0"), Decimal("0")), 10**9, 10**9, 0),
    ],
)
def test_a_price_is_counted_exactly_and_a_part_of_a_micro_dollar_whole(
    price: Price, read: int, written: int, microusd: int
) -> None:
    assert price.microusd(read, written) == microusd


prices = st.builds(Price, *[st.decimals(0, 1000, places=4)] * 2)
tokens = st.integers(0, 10**8)


@given(prices, tokens, tokens, tokens, tokens)
def test_counting_calls_one_by_one_is_never_cheaper_and_never_a_micro_dollar_dearer(
    price: Price, read: int, written: int, more_read: int, more_written: int
) -> None:
    together = price.microusd(read + more_read, written + more_written)
    apart = price.microusd(read, written) + price.microusd(more_read, more_written)

    assert 0 <= apart - together <= 1


def row(ordinal: int, branch: int, began: float, ended: float | None, outcome: Mapping[str, Any] | None) -> Entry:
    kind = "CallModel" if outcome is None or "message" in outcome else "CallTools"
    kept = None if outcome is None else dict(outcome)
    return Entry(ordinal, branch, kind, "intended" if outcome is None else "done", {}, kept, began, ended)


REPLY = {"message": {}}


def action(began: float, ended: float) -> dict[str, Any]:
    return {"state": "success", "text": "", "started_at": began, "at": ended}


def test_time_is_what_the_steps_took() -> None:
    assert running_ms([]) == 0
    assert running_ms([row(0, 0, 100.0, 101.5, REPLY), row(1, 0, 101.5, 102.0, action(101.6, 102.0))]) == 1900


def test_actions_side_by_side_take_the_time_once() -> None:
    entries = [
        row(0, 0, 10.0, 13.0, action(10.0, 13.0)),
        row(0, 1, 10.0, 12.0, action(10.0, 12.0)),
        row(0, 2, 10.0, 14.0, action(11.0, 14.0)),
    ]
    assert running_ms(entries) == 4000


def test_the_caller_may_take_its_time() -> None:
    """Given an action that the caller carried out an hour later, and one that the user agreed to then."""
    entries = [
        row(0, 0, 0.0, 1.0, REPLY),
        row(1, 0, 1.0, 3601.0, action(3601.0, 3601.0)),
        row(1, 1, 1.0, 3603.0, action(3601.0, 3603.0)),
        row(2, 0, 3603.0, None, None),
    ]
    assert running_ms(entries) == 3000


def test_a_clock_that_was_set_back_takes_no_time_away() -> None:
    assert running_ms([row(0, 0, 50.0, 40.0, REPLY), row(1, 0, 40.0, 41.0, REPLY)]) == 1000


spans = st.tuples(st.integers(0, 1000), st.integers(0, 100)).map(lambda span: (span[0], span[0] + span[1]))


@given(st.lists(spans, max_size=12), st.randoms(use_true_random=False))
def test_time_is_the_time_in_which_anything_ran(found: list[tuple[int, int]], shuffle: Any) -> None:
    seconds = {second for began, ended in found for second in range(began, ended)}
    entries = [row(0, n, 0.0, None, action(began, ended)) for n, (began, ended) in enumerate(found)]
    shuffle.shuffle(entries)

    assert running_ms(entries) == 1000 * len(seconds)


# money needs a price --------------------------------------------------------------------------------

MONEY = budget_of({"session_usd": 1})


def catalogue(**settings: Any) -> Catalogue:
    return Catalogue(Config(models=(Binding("*haiku*", {"provider": "offline", **settings}),)))


def test_a_budget_in_dollars_counts_with_the_price_of_the_binding() -> None:
    models = catalogue(usd_per_million_input_tokens=3, usd_per_million_output_tokens=15.0)

    assert price_for(MONEY, models, "us.anthropic.claude-3-haiku") == SONNET
    assert price_for(UNLIMITED, models, "us.anthropic.claude-3-haiku") == SONNET


def test_a_budget_in_dollars_is_not_held_by_a_model_without_a_price() -> None:
    with pytest.raises(Unpriced) as caught:
        price_for(MONEY, catalogue(), "anthropic.claude-3-haiku")
    assert str(caught.value) == (
        "The budget counts US dollars, and 'anthropic.claude-3-haiku' has no price: [models] '*haiku*' lacks"
        " usd_per_million_input_tokens and usd_per_million_output_tokens."
    )
    with pytest.raises(Unpriced, match=r"'other' has no price: no binding of \[models\] matches it, to say usd_per_"):
        price_for(MONEY, catalogue(), "other")


def test_other_budgets_need_no_price() -> None:
    assert price_for(budget_of({"turn_tokens": 1}), catalogue(), "anthropic.claude-3-haiku") is None


def test_a_model_may_be_said_to_cost_nothing() -> None:
    models = catalogue(usd_per_million_input_tokens=0, usd_per_million_output_tokens=0)
    assert price_for(MONEY, models, "haiku") == Price(Decimal(0), Decimal(0))


# policies -------------------------------------------------------------------------------------------

AGENTS = (
    Binding("support-*", {"busy_session": "enqueue", "max_seconds": 60.0, "budget": {"turn_tokens": 5000}}),
    Binding("arn:aws:bedrock:*:agent/ABCDEFGHIJ", {"uncertain": "fail"}),
    Binding("*", {"max_iterations": 3, "budget": {"agent_usd": 10.0, "period": "month", "at_limit": "pause"}}),
)


def test_an_agent_has_the_policy_of_the_first_binding_that_matches_any_of_its_names() -> None:
    turns = TurnSettings(max_iterations=9)

    support = policy_for(AGENTS, turns, "support-berlin", "KLMNOPQRST", "arn:aws:bedrock:eu:1:agent/KLMNOPQRST")
    assert support == Policy(
        max_iterations=9, max_seconds=60.0, busy_session="enqueue", budget=Budget(turn=Allowance(tokens=5000))
    )
    by_arn = policy_for(AGENTS, turns, "billing", "ABCDEFGHIJ", "arn:aws:bedrock:eu:1:agent/ABCDEFGHIJ")
    assert by_arn == Policy(max_iterations=9, uncertain="fail"), "the binding as a whole, and nothing of the last one"
    assert policy_for(AGENTS, turns, "other") == Policy(
        max_iterations=3, budget=Budget(agent=Allowance(microusd=10_000_000), period="month", at_limit="pause")
    )


def test_an_agent_that_no_binding_names_goes_by_the_turns_section() -> None:
    turns = TurnSettings(busy_session="interrupt", call_deadline_s=0.0, preamble_hold_chars=7)

    assert policy_for(AGENTS[:1], turns, "other") == Policy(
        busy_session="interrupt", call_deadline_s=0.0, preamble_hold_chars=7, budget=UNLIMITED
    )
