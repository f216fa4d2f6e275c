"""The attempts at one request: after which failures it is made again, how soon, and how the server knows it again.

    AgentClient: made() -> events ... AgentCallFailed -> after() -> Again(wait, joins) | raise

SDKs send an id with each call, the same in every attempt. It is sent here too, because boto3 is told to make one
attempt only: by it Outcrop finds the turn that answers the request, also one that has just ended.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from outcrop.client.failures import (
    AgentCallFailed,
    AgentConflict,
    AgentInterrupted,
    AgentNotReady,
    AgentServerFailed,
    AgentStillRunning,
    AgentThrottled,
    AgentUnreachable,
)

_MAX_BACKOFF_S = 20.0
_MAY_PASS = (AgentUnreachable, AgentThrottled, AgentNotReady, AgentConflict, AgentServerFailed)
_MADE: ContextVar[tuple[str, int] | None] = ContextVar("outcrop_attempt", default=None)
"""Id and number of the attempt that this thread makes."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How often and for how long a request is made again.

    Shapes: resumes says that the server goes on with interrupted turns; shows_actions that its traces are asked for.
    Units:  backoff_s is the longest first wait; patience_s counts from the first attempt.
    """

    attempts: int
    backoff_s: float
    patience_s: float
    resumes: bool
    shows_actions: bool


@dataclass(frozen=True, slots=True)
class Again:
    """The request is made once more, after a wait. `joins` unless another turn is begun by it."""

    wait_s: float
    joins: bool


class Attempts:
    """What was tried for one request."""

    def __init__(self, rules: Rules) -> None:
        """Start the clock of its patience."""
        self._rules = rules
        self._until = time.monotonic() + rules.patience_s
        self._failed = 0
        self._interruption: AgentCallFailed | None = None
        self._name()

    @contextmanager
    def made(self) -> Generator[None]:
        """Make an attempt inside."""
        self._number += 1
        before = _MADE.set((self._key, self._number))
        try:
            yield
        finally:
            _MADE.reset(before)

    def after(self, error: AgentCallFailed, *, has_acted: bool) -> Again:
        """What to do after an attempt that failed.

        Errors: the error, or the interruption before it, where it is not safe or of no use to make the request again.
        """
        if self._is_still_running(error):
            # It is no failure, so it uses no attempt up; and who joins at once misses nothing.
            self._interruption = self._interruption or error
            return Again(0.0, joins=True)
        self._failed += 1
        if self._failed >= self._rules.attempts or not self._is_safe(error, has_acted=has_acted):
            if self._interruption is not None and not error.has_begun:
                raise self._interruption from error  # what is to be known is that a turn may live on
            raise error
        if error.has_begun and not _is_interruption(error):
            self._name()  # under the old id the server would tell again how the turn failed
            return Again(self._wait_s(), joins=False)
        is_first = self._interruption is None and isinstance(error, AgentInterrupted)
        if _is_interruption(error):
            self._interruption = self._interruption or error
        return Again(0.0 if is_first else self._wait_s(), joins=True)

    def _is_still_running(self, error: AgentCallFailed) -> bool:
        is_so = isinstance(error, AgentStillRunning) and self._rules.resumes
        return is_so and time.monotonic() < self._until

    def _is_safe(self, error: AgentCallFailed, *, has_acted: bool) -> bool:
        if not error.has_begun:
            # A server that knows its turns again joins an interrupted one. Where it is busy, that is with another.
            is_busy_with_another = self._interruption is not None and isinstance(error, AgentConflict)
            return isinstance(error, _MAY_PASS) and not is_busy_with_another
        if _is_interruption(error):
            return self._rules.resumes
        return isinstance(error, AgentThrottled | AgentNotReady) and self._rules.shows_actions and not has_acted

    def _wait_s(self) -> float:
        most = min(self._rules.backoff_s * 2 ** (self._failed - 1), _MAX_BACKOFF_S)
        return random.SystemRandom().uniform(0.5, 1.0) * most

    def _name(self) -> None:
        self._key, self._number = str(uuid.uuid4()), 0


def name_attempts(client: Any) -> None:
    """Let a boto3 client send the id and number of each attempt."""
    client.meta.events.register_last("request-created", _head)


def _head(request: Any, **_: Any) -> None:
    made = _MADE.get()
    if made is None:
        return
    key, number = made
    for name, value in (("amz-sdk-invocation-id", key), ("amz-sdk-request", f"attempt={number}")):
        del request.headers[name]
        request.headers[name] = value


def _is_interruption(error: AgentCallFailed) -> bool:
    """Whether a turn had begun and may not have ended."""
    return error.has_begun and isinstance(error, AgentInterrupted | AgentServerFailed)
