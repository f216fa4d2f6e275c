"""Who asks, where, and with which engine: what every operation receives beside its input."""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.engine import Engine
from outcrop.ids import arn
from outcrop.storage.documents import Documents


@dataclass(frozen=True, slots=True)
class Context:
    """The circumstances of one call."""

    engine: Engine
    operation: str
    request_id: str
    region: str
    account_id: str
    access_key: str = ""
    retry_key: str = ""
    """The SDK's own id of the call, the same in every attempt; "" where it sends none."""
    attempt: int = 1

    @property
    def documents(self) -> Documents:
        """The engine's documents."""
        return self.engine.documents

    def now(self) -> float:
        """Seconds since the epoch, by the engine's clock."""
        return self.engine.clock.now()

    def arn(self, resource: str) -> str:
        """The ARN of a resource in the caller's region and account; `resource` is like "agent/ABCDEFGHIJ"."""
        return arn(self.region, self.account_id, resource)
