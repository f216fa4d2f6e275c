"""The door asked directly: what it sends for a stream, piece by piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from outcrop.config import Config
from outcrop.errors import ConflictException
from outcrop.jobs.base import JobsUnavailable
from outcrop.operations.registry import Batch, Stream
from outcrop.server.app import Door
from outcrop.server.limits import Gate
from outcrop.storage.database import Unavailable
from outcrop.telemetry.metrics import Metrics

SCOPE = {
    "type": "http",
    "method": "POST",
    "raw_path": b"/agents/a/agentAliases/TSTALIASID/sessions/s-1/text",
    "query_string": b"",
    "headers": [],
}


class Client:
    """Asks InvokeAgent, and keeps what it is sent; it may hang up on its way."""

    def __init__(self, events: AsyncIterator[Batch]) -> None:
        self.events, self.messages = events, list[Any]()
        self.hung_up = asyncio.Event()
        self.has_asked = self.was_delivered = False

    async def ask(self) -> None:
        engine: Any = SimpleNamespace(config=Config(), metrics=Metrics())
        gate = Gate(engine.config.server, engine.metrics)
        await Door(engine, {("bedrock-agent-runtime", "InvokeAgent"): self._invoke}, gate)(
            SCOPE, self._receive, self._send
        )

    async def _invoke(self, _context: Any, _ask: Any) -> Stream:
        return Stream({"contentType": "application/json", "sessionId": "s-1"}, self.events, self._delivered)

    def _delivered(self) -> None:
        self.was_delivered = True

    async def _receive(self) -> Any:
        if not self.has_asked:
            self.has_asked = True
            return {"type": "http.request", "body": b'{"inputText":"Hi"}', "more_body": False}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.messages.append(message)

    def kinds(self) -> list[list[str]]:
        """The events of each piece."""
        found = []
        for message in self.messages[1:]:
            buffer = EventStreamBuffer()
            buffer.add_data(message["body"])
            found.append([event.headers.get(":event-type") or event.headers[":exception-type"] for event in buffer])
        return found


def _chunk(data: bytes) -> tuple[str, dict[str, Any]]:
    return "chunk", {"bytes": data}


@pytest.mark.parametrize("away", [Unavailable("database oc on db cannot be reached"), JobsUnavailable("no jobs")])
@pytest.mark.parametrize("begins", [False, True])
async def test_a_database_that_is_away_is_one_line_of_the_log(away: Exception, begins: bool, caplog: Any) -> None:
    async def events() -> AsyncIterator[Batch]:
        yield [_chunk(b"one")]
        raise away

    async def invoke(_context: Any, _ask: Any) -> Stream:
        raise away

    client = Client(events())
    if not begins:
        client._invoke = invoke
    with caplog.at_level(logging.DEBUG, "outcrop"):
        await client.ask()

    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert record.getMessage().endswith(f"{'stream' if begins else 'server'} failed: {away}")
    if begins:
        assert client.kinds()[1:] == [["internalServerException"]]
    else:
        assert client.messages[0]["status"] == 500
        assert "Retry your request." in client.messages[1]["body"].decode()
    assert str(away) not in str(client.messages)


async def test_the_log_is_not_filled_while_a_database_is_away(caplog: Any) -> None:
    nobody: Any = None
    client = Client(nobody)
    engine: Any = SimpleNamespace(config=Config(), metrics=Metrics())

    async def invoke(_context: Any, _ask: Any) -> Stream:
        raise Unavailable("away")

    door = Door(engine, {("bedrock-agent-runtime", "InvokeAgent"): invoke}, Gate(engine.config.server, engine.metrics))
    for _ in range(3):
        client.has_asked = False
        await door(SCOPE, client._receive, client._send)

    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_each_batch_is_one_piece() -> None:
    async def events() -> AsyncIterator[Batch]:
        yield [_chunk(b"one"), _chunk(b"two")]
        yield [_chunk(b"three")]

    client = Client(events())
    await client.ask()

    assert client.kinds() == [["chunk", "chunk"], ["chunk"], []]
    assert [message["more_body"] for message in client.messages[1:]] == [True, True, False]
    assert client.was_delivered


async def test_a_fault_and_the_end_are_one_piece() -> None:
    """The JavaScript SDK stops reading at a fault; a connection whose end it has not read keeps its program alive."""

    async def events() -> AsyncIterator[Batch]:
        yield [_chunk(b"one")]
        raise ConflictException("No.")

    client = Client(events())
    await client.ask()

    assert client.kinds() == [["chunk"], ["conflictException"]]
    assert [message["more_body"] for message in client.messages[1:]] == [True, False]


async def test_nothing_is_framed_for_a_client_that_hung_up_and_the_turn_goes_on() -> None:
    told: list[int] = []

    async def events() -> AsyncIterator[Batch]:
        yield [_chunk(b"one")]
        client.hung_up.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(3):
            told.append(number)
            yield [_chunk(b"more")]

    client = Client(events())
    await client.ask()

    assert client.kinds() == [["chunk"], []]
    assert told == [0, 1, 2]
    assert not client.was_delivered
