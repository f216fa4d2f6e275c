"""ListTurnEvents: what InvokeAgent would have streamed, told from the journal, as often as anybody asks.

1 trace, 2 trace, 3 trace, 4 returnControl | 5 trace ... 9 chunk        the same numbers for every reader
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

from outcrop.events import Failed
from outcrop.ids import uuid_of
from outcrop.operations.background import hear, owned, retold, within
from outcrop.operations.context import Context
from outcrop.operations.conversations import envelope, shown
from outcrop.operations.registry import Result, operation
from outcrop.operations.resource import invalid, next_token, position
from outcrop.orchestration.definition import Identity
from outcrop.orchestration.describing import STATUSES, failure
from outcrop.orchestration.retelling import Retold
from outcrop.sessions.entries import OpenTurn
from outcrop.telemetry.aws_trace import TraceReader

_MOST_EVENTS = 100


@operation("ListTurnEvents")
async def list_turn_events(context: Context, ask: dict[str, Any]) -> Result:
    """The events after those that were told before, once there are any or the time to wait is over.

    Errors: ResourceNotFoundException; ValidationException for a wrong nextToken; InternalServerException where a
            newer release wrote the turn.
    Source: docs/behaviour/background-turns.md 6 (inferred)
    """
    turn = await owned(context, ask["turnId"])
    scope = f"ListTurnEvents/{turn.id}"
    heard = position(scope, ask.get("nextToken")) or 0
    most: int = ask.get("maxResults") or _MOST_EVENTS
    watch, loop = context.engine.turns.watch, asyncio.get_running_loop()
    until = loop.time() + ask.get("waitSeconds", 0)
    rested: bool | None = None
    while True:
        place = await watch.place(turn.id)
        kept, told = await retold(context, turn.id)
        events = list(numbered(kept, told))
        if heard > len(events):
            raise invalid("nextToken", "The nextToken is not one that this turn's events returned.")
        news = [event for event in events[heard:] if "trace" not in event or ask.get("includeTrace")]
        rested = told.rests if rested is None else rested
        left_s = until - loop.time()
        # One that comes to rest without a word, such as a paused one, is news by its status.
        if news or kept.is_over or told.rests != rested or left_s <= 0:
            break
        await within(left_s, lambda place=place: watch.moved(turn.id, place))
    result: Result = {"events": news[:most], "status": STATUSES[kept.state]}
    if kept.is_over and len(news) <= most:
        hear(context, kept)
    else:
        result["nextToken"] = next_token(scope, news[:most][-1]["sequence"] if news else heard)
    return result


def numbered(kept: OpenTurn, told: Retold) -> Iterator[dict[str, Any]]:
    """The events of a turn as its readers see them.

    Shapes: what is told of a turn that has gone on begins with what was told before.
    """
    identity = Identity(**kept.definition["identity"])
    calls, number = count(), count(1)
    reader = TraceReader(
        envelope(identity, kept.session_key.rpartition("/")[2]),
        kept.id,
        lambda: uuid_of(f"{kept.id}/trace/{next(calls)}"),
    )
    for event in told.events:
        for part in reader.feed(event):
            yield {"sequence": next(number), "trace": part}
        for name, member in shown(event):
            yield {"sequence": next(number), name: member}
        if isinstance(event, Failed):
            yield {"sequence": next(number), "failure": failure(event)}
