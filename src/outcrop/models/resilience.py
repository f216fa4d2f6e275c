"""A provider that tries again and gives up in time, wrapped around any other provider.

    resilient(provider, policy).stream(request)
        attempt 1 --ModelThrottled--> wait --attempt 2--> Delta, Delta, ...

An attempt is repeated only while nothing of the reply was passed on, so nobody sees a reply twice.
While a call goes well the wrapper reads the clock once per delta and sets a timer about once per
time limit; it makes no task and no timeout per delta.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from outcrop.config import Binding
from outcrop.models.base import (
    ConverseRequest,
    Delta,
    ModelError,
    ModelNotReady,
    ModelProvider,
    ModelThrottled,
    ModelTimedOut,
    ModelUnavailable,
)
from outcrop.models.settings import number

_SLOW_READER_S = 1.0
"""How often to look again when the time is over but it is the reader who has not come back."""
_REPEATABLE = (ModelThrottled, ModelUnavailable, ModelNotReady)


@dataclass(frozen=True, slots=True)
class Policy:
    """How often to try and how long to wait.

    Units: seconds, but for max_attempts.
    """

    max_attempts: int = 4
    backoff_s: float = 0.5
    """Upper bound of the first wait; it doubles with every attempt, and the wait is drawn from 0 up to it."""
    max_backoff_s: float = 20.0
    max_retry_after_s: float = 60.0
    """A provider that asks to be left alone for longer is not asked again."""
    first_token_timeout_s: float = 120.0
    between_timeout_s: float = 60.0
    """Longest silence within a reply."""
    total_timeout_s: float = 600.0
    """One call with all its attempts and waits."""


KEYS = (
    "max_attempts",
    "backoff_s",
    "max_backoff_s",
    "max_retry_after_s",
    "first_token_timeout_s",
    "between_timeout_s",
    "total_timeout_s",
)
"""The settings of a binding that this module reads."""


def policy_of(binding: Binding) -> Policy:
    """The policy that a binding's settings ask for, defaults where they are silent.

    Errors: ConfigMistake when one is no number of at least 0.
    """
    defaults = Policy()
    given: dict[str, Any] = {key: number(binding, key, getattr(defaults, key)) for key in KEYS}
    return Policy(**{**given, "max_attempts": max(1, int(given["max_attempts"]))})


class Timers(Protocol):
    """What is needed of an event loop: its clock and its timer."""

    def time(self) -> float:
        """Seconds of a clock that only goes forward."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Any:
        """Call back after some seconds; the answer can be cancelled."""
        ...


def resilient(
    provider: ModelProvider,
    policy: Policy | None = None,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    draw: Callable[[], float] = random.random,
    timers: Callable[[], Timers] = asyncio.get_running_loop,
) -> ModelProvider:
    """The provider with retries and time limits around it.

    Shapes: draw gives a number from 0 to 1; sleep, draw and timers are replaced in tests.
    """
    return Resilient(provider, policy or Policy(), sleep, draw, timers)


@dataclass(frozen=True, slots=True)
class Resilient:
    """A provider with a policy around it; made by `resilient`."""

    provider: ModelProvider
    policy: Policy
    sleep: Callable[[float], Awaitable[None]]
    draw: Callable[[], float]
    timers: Callable[[], Timers]

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        """The reply of the first attempt that gets one.

        Errors: ModelTimedOut when a time limit passes; what the last attempt raised; at once what
                another attempt cannot mend, and whatever fails after a part of the reply was passed on.
        """
        watch = _Watch(self.timers(), self.policy)
        try:
            deltas, head = await self._begin(request, watch)
            try:
                for delta in head:
                    yield delta
                watch.expect(self.policy.between_timeout_s, "the model fell silent for")
                async for delta in deltas:
                    watch.since = None
                    yield delta
                    watch.wait()
            finally:
                await _close(deltas)
        except asyncio.CancelledError:
            watch.translate()
            raise
        finally:
            watch.stop()

    async def _begin(self, request: ConverseRequest, watch: _Watch) -> tuple[AsyncIterator[Delta], list[Delta]]:
        """The stream of the first attempt in which the model begins to speak, and the deltas read from it so far."""
        attempt = 0
        while True:
            attempt += 1
            deltas = self.provider.stream(request)
            watch.expect(self.policy.first_token_timeout_s, "the model did not begin to answer within")
            try:
                head = await _head(deltas)
            except _REPEATABLE as error:
                await _close(deltas)
                wait_s = self._wait_s(error, attempt)
                if wait_s is None or watch.ends_within(wait_s):
                    raise
            except BaseException:
                await _close(deltas)
                raise
            else:
                watch.since = None
                return deltas, head
            watch.since = None
            await self.sleep(wait_s)

    def _wait_s(self, error: ModelError, attempt: int) -> float | None:
        """The seconds until the next attempt, none where there is to be no other."""
        asked_s = error.retry_after_s or 0.0
        if attempt >= self.policy.max_attempts or asked_s > self.policy.max_retry_after_s:
            return None
        bound_s = min(self.policy.max_backoff_s, self.policy.backoff_s * 2 ** (attempt - 1))
        return max(bound_s * self.draw(), asked_s)

    async def close(self) -> None:
        """Close the provider within."""
        await self.provider.close()


async def _head(deltas: AsyncIterator[Delta]) -> list[Delta]:
    """What comes before and with the first sign of content: a bare messageStart commits to nothing yet."""
    head: list[Delta] = []
    async for delta in deltas:
        head.append(delta)
        if "messageStart" not in delta:
            break
    return head


async def _close(deltas: AsyncIterator[Delta]) -> None:
    close = getattr(deltas, "aclose", None)
    if close is not None:
        await close()


class _Watch:
    """Cancels the task that waits for a delta when a limit passes, and turns that into ModelTimedOut."""

    __slots__ = ("_cancelling", "_clock", "_deadline", "_handle", "_limit_s", "_policy", "_reason", "_task", "since")

    def __init__(self, clock: Timers, policy: Policy) -> None:
        self._clock = clock
        self._policy = policy
        self._deadline = clock.time() + policy.total_timeout_s
        self._limit_s = policy.total_timeout_s
        self._reason = ""
        self._task: asyncio.Task[Any] | None = None
        self._handle: Any = None
        self._cancelling: int | None = None
        self.since: float | None = None
        """Since when a delta has been waited for; none while it is the reader's turn."""

    def expect(self, limit_s: float, reason: str) -> None:
        """Begin to wait under a new limit."""
        self._limit_s, self._reason = limit_s, reason
        self.wait()
        if self._handle is None:
            # one timer serves both limits of a call: it comes early rather than being set anew
            self._arm(min(self._policy.first_token_timeout_s, self._policy.between_timeout_s))

    def wait(self) -> None:
        """Begin to wait under the same limit."""
        self._task = asyncio.current_task()
        self.since = self._clock.time()

    def ends_within(self, seconds: float) -> bool:
        """Whether the time of the whole call is over by then."""
        return self._clock.time() + seconds >= self._deadline

    def _arm(self, limit_s: float) -> None:
        now = self._clock.time()
        left_s = min((now if self.since is None else self.since) + limit_s, self._deadline) - now
        self._handle = self._clock.call_later(left_s if left_s > 0 else _SLOW_READER_S, self._look)

    def _look(self) -> None:
        now = self._clock.time()
        over = now >= self._deadline
        if self._task is None or self.since is None or not (over or now >= self.since + self._limit_s):
            self._arm(self._limit_s)
            return
        limit_s = self._limit_s
        if over:
            self._reason, limit_s = "the model call took longer than", self._policy.total_timeout_s
        self._reason = f"{self._reason} {limit_s:g} s"
        self._cancelling = self._task.cancelling()
        self._task.cancel()

    def translate(self) -> None:
        """Called with a cancellation under way: says that it was ours.

        Errors: ModelTimedOut when a limit passed and nobody else cancelled the task too.
        """
        cancelling, task = self._cancelling, self._task
        if cancelling is not None and task is not None:
            self._cancelling = None
            if task.uncancel() <= cancelling:
                raise ModelTimedOut(self._reason)

    def stop(self) -> None:
        """Put the timer away."""
        if self._handle is not None:
            self._handle.cancel()
