"""Now, in the two forms the house uses; replaced in tests.

Everything that stamps, expires or times asks a `Clock`, so a test can stand the time still.
Sleeping is asyncio's own: nothing in the house waits by polling.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the time is."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()


@dataclass(slots=True)
class StillClock:
    """A clock that moves only when told to."""

    at: float = 1_800_000_000.0

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Move the time forward."""
        self.at += seconds


def iso(seconds: float) -> str:
    """An instant as the ISO-8601 text that records and traces carry, in microseconds.

    Shapes: seconds since the epoch -> "2026-11-20T09:23:23.566864Z".
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_iso(text: str) -> float:
    """The inverse of `iso`: seconds since the epoch.

    Errors: ValueError when the text is no ISO-8601 instant.
    """
    return datetime.fromisoformat(text).timestamp()
