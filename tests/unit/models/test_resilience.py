"""A call is repeated while nothing of its reply was passed on, and ends when its time is over."""

from __future__ import annotations

import asyncio
import heapq

import pytest

from outcrop.config import Binding, ConfigMistake
from outcrop.models.base import (
    ConverseRequest,
    ModelAccessDenied,
    ModelNotReady,
    ModelRejected,
    ModelThrottled,
    ModelTimedOut,
    ModelUnavailable,
)
from outcrop.models.resilience import Policy, policy_of, resilient

REQUEST = ConverseRequest("m", [])
START, STOP = {"messageStart": {"role": "assistant"}}, {"messageStop": {"stopReason": "end_turn"}}
POLICY = Policy(
    max_attempts=4,
    backoff_s=1,
    max_backoff_s=3,
    max_retry_after_s=30,
    first_token_timeout_s=10,
    between_timeout_s=5,
    total_timeout_s=100,
)


def text(words):
    return {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": words}}}


class FakeTime:
    """A clock and its timers, moved by hand; sleeping moves it at once."""

    def __init__(self):
        self.now = 1000.0
        self.timers = []
        self.slept = []

    def time(self):
        return self.now

    def call_later(self, delay, callback):
        timer = FakeTimer()
        heapq.heappush(self.timers, (self.now + delay, len(self.timers) + self.now, timer, callback))
        return timer

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds):
        until = self.now + seconds
        while self.timers and self.timers[0][0] <= until:
            self.now, _, timer, callback = heapq.heappop(self.timers)
            if not timer.cancelled:
                callback()
        self.now = until

    def armed(self):
        return sum(not timer.cancelled for _, _, timer, _ in self.timers)


class FakeTimer:
    cancelled = False

    def cancel(self):
        self.cancelled = True


class Model:
    """Gives the attempts it was told, one list per attempt: deltas, errors, or functions to await."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.ended = 0
        self.closed = False

    async def stream(self, request):
        try:
            for item in self.attempts.pop(0):
                if isinstance(item, Exception):
                    raise item
                if callable(item):
                    await item()
                else:
                    yield item
        finally:
            self.ended += 1

    async def close(self):
        self.closed = True


@pytest.fixture
def clock():
    return FakeTime()


def wrapped(model, clock, policy=POLICY, draw=lambda: 1.0):
    return resilient(model, policy, sleep=clock.sleep, draw=draw, timers=lambda: clock)


async def collect(provider, into=None):
    seen = [] if into is None else into
    async for delta in provider.stream(REQUEST):
        seen.append(delta)
    return seen


@pytest.mark.parametrize("error", [ModelThrottled("busy"), ModelUnavailable("down"), ModelNotReady("loading")])
async def test_a_failure_before_the_reply_is_mended_by_another_attempt(clock, error):
    model = Model([error], [START, error], [START, text("Hi"), STOP])
    assert await collect(wrapped(model, clock)) == [START, text("Hi"), STOP]
    assert clock.slept == [1, 2]
    assert model.ended == 3


async def test_waits_grow_up_to_their_bound_and_the_last_error_is_told(clock):
    errors = [ModelThrottled(str(n)) for n in range(5)]
    with pytest.raises(ModelThrottled, match="3"):
        await collect(wrapped(Model(*([error] for error in errors)), clock))
    assert clock.slept == [1, 2, 3]


async def test_waits_are_drawn_from_nothing_up_to_the_bound(clock):
    draws = iter([0.25, 0.5])
    model = Model([ModelThrottled("busy")], [ModelThrottled("busy")], [START, STOP])
    await collect(wrapped(model, clock, draw=lambda: next(draws)))
    assert clock.slept == [0.25, 1.0]


async def test_a_provider_that_asks_for_time_gets_it(clock):
    model = Model([ModelThrottled("busy", retry_after_s=7)], [START, STOP])
    await collect(wrapped(model, clock))
    assert clock.slept == [7]


async def test_a_provider_that_asks_for_too_much_time_is_not_asked_again(clock):
    model = Model([ModelThrottled("busy", retry_after_s=31)], [START, STOP])
    with pytest.raises(ModelThrottled):
        await collect(wrapped(model, clock))
    assert clock.slept == []


async def test_no_attempt_is_waited_for_beyond_the_time_of_the_call(clock):
    model = Model([ModelThrottled("busy", retry_after_s=25)], [ModelThrottled("busy", retry_after_s=25)])
    with pytest.raises(ModelThrottled):
        await collect(wrapped(model, clock, Policy(**{**_fields(POLICY), "total_timeout_s": 40})))
    assert clock.slept == [25]


def _fields(policy):
    return {name: getattr(policy, name) for name in policy.__slots__}


@pytest.mark.parametrize("error", [ModelRejected("no"), ModelAccessDenied("no"), ModelTimedOut("late"), KeyError("x")])
async def test_what_another_attempt_cannot_mend_is_told_at_once(clock, error):
    with pytest.raises(type(error)):
        await collect(wrapped(Model([error], [START, STOP]), clock))
    assert clock.slept == []


async def test_a_reply_that_breaks_off_is_not_begun_again(clock):
    seen = []
    model = Model([START, text("Hi"), ModelUnavailable("cut")], [START])
    with pytest.raises(ModelUnavailable):
        await collect(wrapped(model, clock), seen)
    assert seen == [START, text("Hi")]
    assert clock.slept == []


async def test_an_empty_reply_passes(clock):
    assert await collect(wrapped(Model([START]), clock)) == [START]
    assert await collect(wrapped(Model([]), clock)) == []


async def test_a_model_that_never_begins_is_given_up(clock):
    async def silence():
        asyncio.get_running_loop().call_soon(clock.advance, 10.0)
        await asyncio.Event().wait()

    model = Model([START, silence])
    with pytest.raises(ModelTimedOut, match=r"did not begin to answer within 10 s"):
        await collect(wrapped(model, clock))
    assert model.ended == 1
    assert asyncio.current_task().cancelling() == 0


async def test_a_model_that_falls_silent_is_given_up(clock):
    async def pause():
        clock.advance(4.9)

    async def silence():
        asyncio.get_running_loop().call_soon(clock.advance, 5.1)
        await asyncio.Event().wait()

    seen = []
    model = Model([text("a"), pause, text("b"), pause, text("c"), silence])
    with pytest.raises(ModelTimedOut, match=r"fell silent for 5 s"):
        await collect(wrapped(model, clock), seen)
    assert seen == [text("a"), text("b"), text("c")]
    assert clock.armed() == 0


async def test_a_call_that_takes_too_long_in_all_is_given_up(clock):
    async def pause():
        asyncio.get_running_loop().call_soon(clock.advance, 4.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    attempt = [item for n in range(40) for item in (text(str(n)), pause)]
    with pytest.raises(ModelTimedOut, match=r"longer than 100 s"):
        await collect(wrapped(Model(attempt), clock))
    assert clock.now >= 1100


async def test_a_slow_reader_is_not_a_slow_model(clock):
    seen = []
    async for delta in wrapped(Model([START, text("a"), text("b"), STOP]), clock).stream(REQUEST):
        seen.append(delta)
        clock.advance(300)
    assert seen == [START, text("a"), text("b"), STOP]


async def test_a_reader_that_leaves_ends_the_attempt_and_the_timer(clock):
    model = Model([START, text("a"), text("b")])
    stream = wrapped(model, clock).stream(REQUEST)
    assert await anext(stream) == START
    await stream.aclose()
    assert model.ended == 1
    assert clock.armed() == 0


async def test_a_caller_that_is_cancelled_stays_cancelled(clock):
    waiting = asyncio.Event()

    async def silence():
        waiting.set()
        await asyncio.Event().wait()

    model = Model([START, silence])
    task = asyncio.create_task(collect(wrapped(model, clock)))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.ended == 1
    assert clock.armed() == 0


async def test_a_call_has_one_timer_however_many_deltas(clock):
    armed = []
    plain = clock.call_later
    clock.call_later = lambda delay, callback: (armed.append(delay), plain(delay, callback))[1]
    await collect(wrapped(Model([START, *(text(str(n)) for n in range(200)), STOP]), clock))
    assert len(armed) == 1


async def test_closing_closes_the_provider_within(clock):
    model = Model()
    await wrapped(model, clock).close()
    assert model.closed


def test_the_policy_of_a_binding():
    assert policy_of(Binding("*", {})) == Policy()
    assert policy_of(Binding("*", {"max_attempts": 1, "total_timeout_s": 2.5})) == Policy(1, total_timeout_s=2.5)
    with pytest.raises(ConfigMistake, match="backoff_s = 'soon'"):
        policy_of(Binding("*", {"backoff_s": "soon"}))
