"""Turns without a server: a scripted model, recorded functions, a journal in memory and pictures of how it grew."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import Connection, func, select

from outcrop.events import Answered, ControlReturned, Event, Failed, TextStreamed
from outcrop.ids import SessionKey, TurnId
from outcrop.models.base import ConverseRequest, Delta, ModelProvider
from outcrop.models.prices import Price
from outcrop.orchestration.channel import Channel
from outcrop.orchestration.definition import Definition, define
from outcrop.orchestration.metering import Meters
from outcrop.orchestration.performer import Performer
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.turn import Opening
from outcrop.orchestration.turns import Listener, Turns
from outcrop.sessions.entries import OpenTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.state import Session, Sessions
from outcrop.sessions.tables import TURNS
from outcrop.storage.database import METADATA, Database
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import RecordedFunctions, ScriptedModel
from outcrop.tools.base import Executor, IdempotencyKey, ToolCall, ToolResult

KEY = SessionKey("123456789012/ABCDEFGHIJ/TSTALIASID/session-1")
ARN = "arn:aws:lambda:us-east-1:123456789012:function:shop"
IDENTITY = {"agent_id": "ABCDEFGHIJ", "alias_id": "TSTALIASID", "version": "1", "name": "stock", "alias_arn": "arn:1"}
_CHECK = {"name": "check", "description": "d", "parameters": {"sku": {"type": "string", "required": True}}}
_BUY = {**_CHECK, "name": "buy", "requireConfirmation": "ENABLED"}
GROUPS = [
    {
        "actionGroupName": "shop",
        "actionGroupExecutor": {"lambda": ARN},
        "functionSchema": {"functions": [_CHECK, _BUY]},
    },
    {
        "actionGroupName": "desk",
        "actionGroupExecutor": {"customControl": "RETURN_CONTROL"},
        "functionSchema": {"functions": [_CHECK, _BUY]},
    },
    {"actionGroupName": "user", "parentActionSignature": "AMAZON.UserInput"},
]
"""shop__check is done, shop__buy after the user agrees; desk__check by the caller, desk__buy too if it agrees."""


def agent(**members: Any) -> Definition:
    """A definition with those groups."""
    body = {"foundationModel": "m", "instruction": "You answer questions about stock.", **members}
    return define({"identity": IDENTITY, "agent": body, "actionGroups": GROUPS})


@dataclass
class Ticking:
    """A clock that moves a little whenever somebody looks."""

    at: float = 1_800_000_000.0

    def now(self) -> float:
        self.at += 0.001
        return self.at


@dataclass
class OneModel:
    """One provider for every model id."""

    provider: ModelProvider
    costs: Price | None = None

    def resolve(self, model_id: str) -> ModelProvider:
        return self.provider

    def price(self, model_id: str) -> Price | None:
        return self.costs

    def bound_by(self, model_id: str) -> str:
        return "*"

    async def close(self) -> None:
        await self.provider.close()


class Photographed:
    """A database of which a picture is taken after every write."""

    is_shared = False

    def __init__(self, database: Database, take: Callable[[], Any]) -> None:
        self._database, self._take = database, take
        self.url, self.read, self.once = database.url, database.read, database.once
        self.settle, self.close = database.settle, database.close

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        value = await self._database.write(work)
        await self._take()
        return value


def memory() -> SqliteDatabase:
    """A database with all tables that is gone with the test."""
    database = SqliteDatabase("sqlite:///:memory:")
    database.once(METADATA.create_all)
    database.open()
    return database


@dataclass
class Stage:
    """One worker: give it a script, begin turns, see what they tell. Others may share its database."""

    script: Sequence[Any] = ()
    policy: Policy = field(default_factory=Policy)
    database: Database = field(default_factory=memory)
    name: str = "one"
    model: ModelProvider | None = None
    price: Price | None = None
    clock: Ticking = field(default_factory=Ticking)
    functions: RecordedFunctions = field(default_factory=RecordedFunctions)
    observers: Sequence[Callable[[Event], None]] = ()
    most_at_once: int = 100
    patience_s: float = 0.0

    def __post_init__(self) -> None:
        self.model = self.model or ScriptedModel(self.script)
        models = OneModel(self.model, self.price)
        self.pictures: list[OpenTurn] = []
        self._written = asyncio.Condition()
        self._numbers = itertools.count(1)
        watched = Photographed(self.database, self._picture)
        self._plain = Journal(self.database, self.name, self.patience_s)
        self.journal = Journal(watched, self.name, self.patience_s)
        self.sessions = Sessions(watched)
        self.turns = Turns(
            self.journal,
            self.sessions,
            Performer(models, self.functions, self.clock, preamble_hold=0),
            Meters(self.database, models, self.clock),
            self.clock,
            lambda _: self.policy,
            self.observers,
            self.most_at_once,
        )
        self.turn_id = TurnId("")

    async def begin(self, text: str = "Check", *, definition: Definition | None = None, **members: Any) -> Channel:
        """A turn on the session; `pictures` show it from its first write on."""
        session, _ = await self.sessions.open(KEY, 600, self.clock.now())
        opening = Opening(text, "session-1", dict(session.attributes), {}, **members)
        channel = await self.turns.begin(session, definition or agent(), opening)
        self.turn_id = channel.turn_id
        return channel

    async def resume(
        self, results: Sequence[Mapping[str, Any]], attributes: Mapping[str, str] | None = None
    ) -> Channel:
        session, open_turn = await self.open()
        assert open_turn is not None
        return await self.turns.resume(session, open_turn, results, attributes, stream_answer=False)

    async def open(self) -> tuple[Session, OpenTurn | None]:
        return await self.sessions.open(KEY, 600, self.clock.now())

    async def kept(self, turn_id: str = "") -> OpenTurn:
        found = await self._plain.find(TurnId(turn_id or self.turn_id))
        assert found is not None
        return found

    async def concluded(self, steps: int) -> None:
        """Return once so many steps of the turn have an outcome in its journal."""

        def count(kept: OpenTurn) -> int:
            return sum(entry.outcome is not None for entry in kept.entries)

        async with asyncio.timeout(30), self._written:
            await self._written.wait_for(lambda: bool(self.pictures) and count(self.pictures[-1]) >= steps)

    async def told(self, turn_id: str = "") -> list[list[Event]]:
        """The turn's events, retold from its journal."""
        found = await self.turns.retold(TurnId(turn_id or self.turn_id))
        assert found is not None
        return found[1].calls

    async def close(self) -> None:
        await self.turns.close(5.0)
        await self.database.close()

    async def _picture(self) -> None:
        """Of the newest turn."""

        def newest(connection: Connection) -> str | None:
            return connection.execute(select(func.max(TURNS.c.id))).scalar_one()

        turn_id = await self.database.read(newest)
        if turn_id is not None:
            self.pictures.append(await self.kept(turn_id))
            async with self._written:
                self._written.notify_all()


async def hear(listener: Listener) -> list[Event]:
    """All events of one call."""
    return [event for batch in [batch async for batch in listener.batches()] for event in batch]


def answer_of(asked: Event, *states: str, body: str = "42") -> list[dict[str, Any]]:
    """What a caller brings for what it was asked: for each CONFIRM, DENY, or a result."""
    assert isinstance(asked, ControlReturned)
    brought: list[dict[str, Any]] = []
    for index, owed in enumerate(asked.invocation_inputs):
        state = states[index % len(states)] if states else ""
        [(_, given)] = owed.items()
        member = {"actionGroup": given["actionGroup"], "function": given["function"]}
        if state:
            member["confirmationState"] = state
        if given["function"] == "check" or (given["actionGroup"] == "desk" and state != "DENY"):
            member["responseBody"] = {"TEXT": {"body": body}}
        brought.append({"functionResult": member})
    return brought


def plain(events: Sequence[Event], *, timeless: bool = False) -> list[Event]:
    """The events as a journal can know them: without pieces of text, nor whether the answer went out in such.

    Shapes: faults become sentences, for exceptions are never equal; `timeless` events have no instants.
    """
    return [_plain(event, timeless) for event in events if not isinstance(event, TextStreamed)]


def _plain(event: Event, timeless: bool) -> Event:
    names = {one.name for one in fields(event)}
    changed: dict[str, Any] = {name: 0.0 for name in ("at", "started_at") if timeless and name in names}
    if isinstance(event, Answered):
        changed["streamed"] = False
    if isinstance(event, Failed) and event.fault is not None:
        told = event.fault
        changed |= {"fault": None, "canned": f"{type(told).__name__}: {told.message} {told.members}"}
    return replace(event, **changed)


@dataclass
class Held:
    """A model, or a function, that lets its first calls through and holds the one after them until it is let go."""

    after: int = 0
    calls: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0

    async def come(self) -> None:
        """Wait where it is this call's turn to wait."""
        self.calls += 1
        if self.calls == self.after + 1:
            self.reached.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise


@dataclass
class HeldModel:
    """A model that is held; what it says comes from another one."""

    says: ModelProvider
    held: Held = field(default_factory=Held)

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        await self.held.come()
        async for delta in self.says.stream(request):
            yield delta

    async def close(self) -> None:
        await self.says.close()


@dataclass
class HeldFunctions(RecordedFunctions):
    """Functions that are held, in the event loop."""

    held: Held = field(default_factory=Held)

    def executor_for(self, lambda_arn: str) -> Any:
        return _HeldExecutor(super().executor_for(lambda_arn), self.held)


@dataclass
class _HeldExecutor:
    does: Executor
    held: Held

    async def execute(self, call: ToolCall, key: IdempotencyKey) -> ToolResult:
        await self.held.come()
        return await self.does.execute(call, key)

    async def close(self) -> None:
        await self.does.close()
