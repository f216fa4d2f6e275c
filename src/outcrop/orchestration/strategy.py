"""The protocol of a strategy: given the turn so far, the next step."""

from __future__ import annotations

from typing import Protocol

from outcrop.orchestration.turn import Step, Turn


class Strategy(Protocol):
    """Decides; it never does. It may do I/O only where deciding is I/O."""

    async def next(self, turn: Turn) -> Step:
        """The next step of a turn. The same turn always gets the same step, so a turn can be resumed anywhere."""
        ...
