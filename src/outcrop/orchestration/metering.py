"""A turn's spending while it is carried, and the strategy that stops it at its budget.

    Meters.meter -> Meter | None        Limited(strategy, meter).next -> the step, or Pause | Fail in its place

The totals of session and agent are read when the turn is taken up and written with its end:
turns that run side by side do not see each other's spending until then.
"""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.clock import Clock
from outcrop.errors import ServiceQuotaExceededException, ValidationException
from outcrop.ids import INLINE_AGENT, SessionKey
from outcrop.models.prices import Price
from outcrop.orchestration.limits import Budget, Prices, Unpriced, exceeded, period_of, price_for, turn_spent
from outcrop.orchestration.strategy import Strategy
from outcrop.orchestration.turn import CallModel, CallTools, Fail, Pause, Step, Turn
from outcrop.sessions.entries import Also
from outcrop.sessions.spend import Ledger, Spent, add, agent_scope, session_scope, together
from outcrop.storage.database import Database

NOTHING = Spent()
BUDGET_EXCEEDED = "BUDGET_EXCEEDED"


@dataclass(slots=True)
class Meter:
    """What one turn spends.

    Shapes: session and agent are what others have spent before; ran_ms is how long the turn ran before it was taken
            up; mistake says why its budget cannot be held.
    """

    turn: Turn
    budget: Budget
    clock: Clock
    scopes: tuple[str, str]
    period: str
    ran_ms: int
    began: float
    price: Price | None = None
    session: Spent = NOTHING
    agent: Spent = NOTHING
    mistake: str = ""

    def spent(self) -> Spent:
        """What the turn has spent so far."""
        milliseconds = self.ran_ms + round((self.clock.now() - self.began) * 1000)
        return turn_spent(self.turn, self.price, milliseconds)

    def reached(self) -> str | None:
        """The limit that keeps the turn from its next step, as a sentence, or None."""
        return exceeded(self.budget, self.spent(), self.session, self.agent)

    def spending(self) -> Also:
        """Write what the turn has spent to its session's and its agent's totals; once, with its end."""
        session, agent = self.scopes
        used = self.spent()
        to_session = [add(session, "", used)] if self.budget.session.is_limited else []
        to_agent = [add(agent, self.period, used)] if self.budget.agent.is_limited else []
        return together(*to_session, *to_agent)


class Limited:
    """A strategy whose steps are taken only within the budget."""

    def __init__(self, strategy: Strategy, meter: Meter) -> None:
        """Ask this strategy, as long as the meter allows."""
        self._strategy = strategy
        self._meter = meter

    async def next(self, turn: Turn) -> Step:
        """The strategy's next step; one that costs is not begun once a limit is reached."""
        step = await self._strategy.next(turn)
        if not isinstance(step, (CallModel, CallTools)):
            return step
        if self._meter.mistake:
            return Fail(400, self._meter.mistake, ValidationException(self._meter.mistake))
        reached = self._meter.reached()
        if reached is None:
            return step
        if self._meter.budget.at_limit == "pause":
            return Pause(BUDGET_EXCEEDED, reached)
        told = f"{BUDGET_EXCEEDED}: {reached}"
        return Fail(402, told, ServiceQuotaExceededException(told))


class Meters:
    """Makes meters; one instance per engine."""

    def __init__(self, database: Database, prices: Prices, clock: Clock) -> None:
        """Hold turns against the totals in this database."""
        self._ledger = Ledger(database)
        self._prices = prices
        self._clock = clock

    async def meter(self, turn: Turn, key: SessionKey, budget: Budget, ran_ms: int = 0) -> Meter | None:
        """The meter of a turn that is taken up now, or None where nothing limits it.

        Errors: Unavailable.
        """
        if not budget.is_limited:
            return None
        now = self._clock.now()
        scopes = (session_scope(key), _agent_scope(key))
        period = period_of(budget.period, now)
        meter = Meter(turn, budget, self._clock, scopes, period, ran_ms, now)
        try:
            meter.price = price_for(budget, self._prices, turn.definition.foundation_model)
        except Unpriced as error:
            meter.mistake = str(error)
        if budget.session.is_limited or budget.agent.is_limited:
            meter.session, meter.agent = await self._ledger.totals([(scopes[0], ""), (scopes[1], period)])
        return meter


def _agent_scope(key: SessionKey) -> str:
    account, agent, name, _ = key.split("/", 3)
    return agent_scope(account, f"{agent}/{name}" if agent == INLINE_AGENT else agent)
