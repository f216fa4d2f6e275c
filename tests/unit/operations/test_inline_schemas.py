"""Where the schema of an inline agent is read: a large one in a thread, so that no other turn waits for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from outcrop.errors import ValidationException
from outcrop.ids import request_id
from outcrop.operations.context import Context
from outcrop.operations.registry import load


class HeardSchema(str):
    """A schema that notes in which threads it is read."""

    readers: set[threading.Thread]

    def __str__(self) -> str:
        self.readers.add(threading.current_thread())
        return str.__str__(self)


@pytest.mark.parametrize(("characters", "beside_the_loop"), [(1_000, False), (20_000, False), (20_001, True)])
async def test_a_large_schema_is_read_beside_the_loop(engine: Any, characters: int, beside_the_loop: bool) -> None:
    schema = HeardSchema("openapi: 2.0 #".ljust(characters, "x"))
    schema.readers = set()
    group = {"actionGroupName": "stock", "apiSchema": {"payload": schema}}
    ask = {"sessionId": "s-1", "foundationModel": "m", "instruction": "Look after it.", "actionGroups": [group]}
    context = Context(engine, "InvokeInlineAgent", request_id(), "us-east-1", "123456789012")

    with pytest.raises(ValidationException, match="'openapi' is"):
        await load()["bedrock-agent-runtime", "InvokeInlineAgent"](context, ask)

    [reader] = schema.readers
    assert (reader is not threading.main_thread()) is beside_the_loop
