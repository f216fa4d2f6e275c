"""Budgets: what turns, sessions and agents may spend, what a turn has spent, and the first limit that was reached.

    before every step:  exceeded(budget, turn_spent(turn, price, running_ms(...)), session, agent) -> sentence | None

A limit is reached when as much was used as it says, so a step that was begun is paid for and may go beyond it; the
next one is not begun. Pure: the totals of sessions and agents come from `sessions.spend`, and what is to be done
about a limit is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from outcrop.errors import RoomError
from outcrop.models.prices import KEYS, Price
from outcrop.orchestration.turn import Turn
from outcrop.sessions.entries import Entry
from outcrop.sessions.spend import Spent

Period = Literal["day", "month", "ever"]


class Unpriced(RoomError):
    """A budget counts money, and the model that is to answer has no price."""


class Prices(Protocol):
    """What is needed of the model catalogue."""

    def price(self, model_id: str) -> Price | None:
        """What the model costs, none where nobody says."""
        ...

    def bound_by(self, model_id: str) -> str:
        """The glob of the [models] binding that answers for the model, empty where none does."""
        ...


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one turn, one session or one agent may spend; None is no limit.

    Units: as in Spent.
    """

    tokens: int | None = None
    microusd: int | None = None
    steps: int | None = None
    milliseconds: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self != _ANYTHING


_ANYTHING = Allowance()


@dataclass(frozen=True, slots=True)
class Budget:
    """What turns of an agent may spend, and what becomes of one that reaches a limit."""

    turn: Allowance = _ANYTHING
    session: Allowance = _ANYTHING
    agent: Allowance = _ANYTHING
    period: Period = "day"
    """How long an agent's spending is added up."""
    at_limit: Literal["pause", "fail"] = "fail"

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.turn.is_limited or self.session.is_limited or self.agent.is_limited

    @property
    def counts_money(self) -> bool:
        """Whether a price is needed to hold it."""
        return any(allowed.microusd is not None for allowed in (self.turn, self.session, self.agent))


UNLIMITED = Budget()
"""The budget of an agent that has none."""


def budget_of(said: Mapping[str, Any]) -> Budget:
    """The budget of a `budget` table that was checked.

    Shapes: said has names of `outcrop.config.BudgetSettings`, their values of those types.
    """
    return Budget(
        _allowance(said, "turn"),
        _allowance(said, "session"),
        _allowance(said, "agent"),
        said.get("period", "day"),
        said.get("at_limit", "fail"),
    )


def _allowance(said: Mapping[str, Any], whose: str) -> Allowance:
    return Allowance(
        said.get(f"{whose}_tokens"),
        _whole(said.get(f"{whose}_usd"), 1_000_000),
        said.get(f"{whose}_steps"),
        _whole(said.get(f"{whose}_seconds"), 1000),
    )


def _whole(value: float | None, parts: int) -> int | None:
    # A limit too small to be counted is one that the first part reaches, not one that nothing reaches.
    return None if value is None else max(1, round(value * parts))


def period_of(period: Period, now: float) -> str:
    """The name of the period that an instant lies in, in UTC.

    Shapes: "day" -> "2026-11-21", "month" -> "2026-11", "ever" -> "ever".
    Units: now in seconds since the epoch.
    """
    if period == "ever":
        return "ever"
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d" if period == "day" else "%Y-%m")


def price_for(budget: Budget, prices: Prices, model_id: str) -> Price | None:
    """The price that a turn on a model is counted with, none where its budget counts no money and there is none.

    Errors: Unpriced when the budget counts money and nobody says what the model costs.
    """
    price = prices.price(model_id)
    if price is None and budget.counts_money:
        pattern = prices.bound_by(model_id)
        lacking = f"[models] '{pattern}' lacks" if pattern else "no binding of [models] matches it, to say"
        raise Unpriced(f"The budget counts US dollars, and '{model_id}' has no price: {lacking} {' and '.join(KEYS)}.")
    return price


def turn_spent(turn: Turn, price: Price | None, milliseconds: int) -> Spent:
    """What a turn has spent so far; its steps are its model calls and the actions that were carried out.

    Units: milliseconds it ran, as `running_ms` has them.
    """
    return Spent(
        tokens=turn.input_tokens + turn.output_tokens,
        microusd=0 if price is None else price.microusd(turn.input_tokens, turn.output_tokens),
        steps=turn.iteration + turn.tool_calls,
        milliseconds=milliseconds,
    )


def running_ms(entries: Iterable[Entry]) -> int:
    """The time that the finished steps of a journal took, without what their caller took to answer.

    What runs side by side counts once. For a turn that goes on after a pause or in another process; the one that
    runs it adds what its own clock says.

    Units: milliseconds.
    """
    spans = sorted(_span(entry) for entry in entries if entry.outcome is not None)
    total, until = 0.0, float("-inf")
    for began, ended in spans:
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return round(total * 1000)


def _span(entry: Entry) -> tuple[float, float]:
    """When a step was worked at: an action says so itself, for its row may have waited for the caller first."""
    assert entry.outcome is not None, "only of what is finished"
    began = entry.outcome.get("started_at", entry.started_at)
    ended = entry.outcome.get("at", entry.finished_at)
    return began, began if ended is None else ended


def exceeded(budget: Budget, turn: Spent, session: Spent, agent: Spent) -> str | None:
    """The first limit that is reached, as a sentence; asked before a step is begun.

    Shapes: session and agent are what turns before this one have spent, or other turns beside it; this turn's own
            is added to both. -> "The turn reached its budget of 5,000 tokens: 5,210 used."
    """
    every = {"day": " a day", "month": " a month", "ever": ""}[budget.period]
    for whose, allowed, used, per in (
        ("turn", budget.turn, turn, ""),
        ("session", budget.session, session + turn, ""),
        ("agent", budget.agent, agent + turn, every),
    ):
        found = _reached(allowed, used, per)
        if found is not None:
            return f"The {whose} reached its budget of {found} used."
    return None


def _reached(allowed: Allowance, used: Spent, per: str) -> str | None:
    """The first limit reached and what was used, "5,000 tokens a day: 5,210"."""
    if allowed.tokens is not None and used.tokens >= allowed.tokens:
        return f"{_counted(allowed.tokens, 'token')}{per}: {used.tokens:,}"
    if allowed.microusd is not None and used.microusd >= allowed.microusd:
        return f"{_usd(allowed.microusd)} USD{per}: {_usd(used.microusd)}"
    if allowed.steps is not None and used.steps >= allowed.steps:
        return f"{_counted(allowed.steps, 'step')}{per}: {used.steps:,}"
    if allowed.milliseconds is not None and used.milliseconds >= allowed.milliseconds:
        unit = "second" if allowed.milliseconds == 1000 else "seconds"
        return f"{_seconds(allowed.milliseconds)} {unit}{per}: {_seconds(used.milliseconds)}"
    return None


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _usd(microusd: int) -> str:
    """Dollars with at least two decimals and no zeros after those."""
    whole, parts = divmod(microusd, 1_000_000)
    return f"{whole:,}.{f'{parts:06}'.rstrip('0').ljust(2, '0')}"


def _seconds(milliseconds: int) -> str:
    whole, parts = divmod(milliseconds, 1000)
    return f"{whole:,}.{f'{parts:03}'.rstrip('0')}" if parts else f"{whole:,}"
