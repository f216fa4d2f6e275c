"""One attempt at telling one target, with targets kept from one notice to the next.

The jobs call `deliver` and repeat it: an `Undeliverable` waits and is tried again, a `Refused` is not.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outcrop.clock import Clock, SystemClock
from outcrop.config import ConfigMistake
from outcrop.notifications.base import Notice, Refused, Target, Undeliverable
from outcrop.notifications.posting import Means, Post
from outcrop.notifications.records import settings_of, target_of

MOST_TARGETS = 1000
"""Targets kept at most; the one that was needed least recently goes first."""


@dataclass(slots=True)
class _Held:
    """A target with the settings it was made from; closed when it is out of date and nobody uses it."""

    kind: str
    settings: Mapping[str, Any]
    target: Target
    users: int = 0
    retired: bool = False


class Deliverer:
    """Tells targets of notices; one per engine."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        region: str = "us-east-1",
        post: Post | None = None,
        most_targets: int = MOST_TARGETS,
    ) -> None:
        """Keep the means; nothing connects before the first notice.

        Shapes: region is what requests to AWS are signed for where a target names none.
        """
        self._post = post or Post()
        self._means = Means(self._post, clock or SystemClock(), region)
        self._most_targets = most_targets
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._is_closed = False

    async def deliver(self, record: Mapping[str, Any], notice: Notice) -> None:
        """Tell the target of a record, once. A record that was changed makes a new target.

        Errors: Undeliverable; Refused, also when the target is disabled or its settings cannot be used.
        """
        if self._is_closed:
            raise Undeliverable("the server is stopping")
        if record.get("status", "ACTIVE") != "ACTIVE":
            raise Refused("the target is disabled")
        held, dropped = self._hold(record)
        held.users += 1
        try:
            for each in dropped:
                each.retired = True
                await _release(each)
            await held.target.deliver(notice)
        finally:
            held.users -= 1
            await _release(held)

    async def close(self) -> None:
        """Close every target and all connections; what is under way fails as undeliverable."""
        self._is_closed = True
        held, self._held = self._held, OrderedDict()
        for each in held.values():
            await each.target.close()
        await self._post.close()

    def _hold(self, record: Mapping[str, Any]) -> tuple[_Held, list[_Held]]:
        """The target of a record, made where there is none of just these settings; and those it takes the place of.

        Errors: Refused naming what cannot be used.
        """
        key, kind = str(record["targetId"]), str(record.get("kind", ""))
        held = self._held.get(key)
        try:
            settings = settings_of(record)
            if held and (held.kind, held.settings) == (kind, settings):
                self._held.move_to_end(key)
                return held, []
            fresh = _Held(kind, copy.deepcopy(dict(settings)), target_of(record, self._means))
        except ConfigMistake as error:
            raise Refused(f"the target cannot be used: {error}") from error
        self._held[key] = fresh
        self._held.move_to_end(key)
        dropped = [held] if held else []
        if len(self._held) > self._most_targets:
            dropped.append(self._held.popitem(last=False)[1])
        return fresh, dropped


async def _release(held: _Held) -> None:
    if held.retired and not held.users:
        await held.target.close()
