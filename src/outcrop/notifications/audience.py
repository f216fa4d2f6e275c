"""The notification targets that are stored, kept in memory between turns.

Operations store targets and say `changed`; the announcer asks whom to tell. Where other processes
share the database, what they changed is seen within a few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from outcrop.notifications.base import Agent
from outcrop.notifications.records import concerns
from outcrop.storage.documents import Documents, DocumentTransaction, Record

KIND = "notification-target"
"""Of the documents; each is a target as GetNotificationTarget answers it, with `accountId` and its secrets."""

_FRESH_S = 3.0


def put(docs: DocumentTransaction, record: Record) -> None:
    """Write a target where it is found by its id, and by its name within its account."""
    docs.put(KIND, record["targetId"], record, name=f"{record['accountId']}/{record['name']}")


def named(docs: DocumentTransaction, account: str, name: str) -> Record | None:
    """The target of that name in an account, or None."""
    return docs.named(KIND, f"{account}/{name}")


class Audience:
    """The targets of one database; one instance per engine."""

    def __init__(self, documents: Documents, *, is_shared: bool) -> None:
        """Read them from these documents; `is_shared` says that other processes change them too."""
        self._documents = documents
        self._is_shared = is_shared
        self._records: Sequence[Record] = ()
        self._changes, self._seen = 1, 0
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether there was no target at the last look."""
        return not self._records

    def changed(self) -> None:
        """Look again before the next answer: a target was written here."""
        self._changes += 1

    async def wants(self, account: str, agent: Agent) -> bool:
        """Whether anybody wants to be told of an agent's turns.

        Errors: Unavailable.
        """
        return any(concerns(record, agent) for record in await self.of(account))

    async def of(self, account: str) -> Sequence[Record]:
        """The targets of an account.

        Errors: Unavailable.
        """
        if not self._is_fresh():
            async with self._reading:
                if not self._is_fresh():
                    seen, read_at = self._changes, time.monotonic()
                    self._records = await self._documents.read(lambda docs: docs.list(KIND))
                    self._seen, self._read_at = seen, read_at
        return [record for record in self._records if record["accountId"] == account]

    async def find(self, target_id: str) -> Record | None:
        """A target as it is stored now, or None.

        Errors: Unavailable.
        """
        return await self._documents.read(lambda docs: docs.get(KIND, target_id))

    async def disable(self, target: Mapping[str, Any], now: str) -> None:
        """Send a target nothing more, unless it was changed since it was read.

        Errors: Unavailable.
        """

        def work(docs: DocumentTransaction) -> None:
            if docs.get(KIND, target["targetId"]) == target:
                put(docs, {**target, "status": "DISABLED", "updatedAt": now})

        await self._documents.write(work)
        self.changed()

    def _is_fresh(self) -> bool:
        in_time = not self._is_shared or time.monotonic() - self._read_at <= _FRESH_S
        return self._seen == self._changes and in_time
