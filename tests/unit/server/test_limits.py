"""Who is let in: so many requests at once, so many bytes of bodies at once, and when to come back."""

from __future__ import annotations

import pytest

from outcrop.config import ServerSettings
from outcrop.server.limits import Crowded, Gate
from outcrop.telemetry.metrics import Metrics


def _gate(requests: int = 1_000, body_bytes: int = 1_000) -> tuple[Gate, Metrics]:
    metrics = Metrics()
    return Gate(ServerSettings(most_requests=requests, most_body_bytes_at_once=body_bytes), metrics), metrics


def test_as_many_requests_as_the_setting_says_and_no_more() -> None:
    gate, metrics = _gate(requests=2)
    first, _ = gate.enter(0), gate.enter(0)
    with pytest.raises(Crowded, match="2 requests are being answered"):
        gate.enter(0)
    assert "outcrop_requests_in_flight 2\n" in metrics.text()

    first.leave()
    gate.enter(0)
    assert 'outcrop_requests_throttled_total{limit="requests"} 1\n' in metrics.text()


def test_the_longer_the_queue_outside_the_later_one_should_come_back() -> None:
    gate, _ = _gate(requests=10)
    places = [gate.enter(0) for _ in range(10)]

    def waits() -> float:
        with pytest.raises(Crowded) as crowded:
            gate.enter(0)
        return crowded.value.retry_after_s

    assert [waits() for _ in range(21)] == [1] * 10 + [2] * 10 + [3]
    assert max(waits() for _ in range(1_000)) == 30
    for _ in range(1_021):  # everybody who was turned away comes back and is let in
        places.pop().leave()
        places.append(gate.enter(0))
    assert waits() == 1


def test_a_body_that_says_it_would_be_too_much_is_refused_before_it_comes() -> None:
    gate, metrics = _gate(body_bytes=1_000)
    gate.enter(600).hold(600)

    with pytest.raises(Crowded, match="600 bytes of request bodies"):
        gate.enter(401)

    gate.enter(400)
    assert 'outcrop_requests_throttled_total{limit="body_bytes"} 1\n' in metrics.text()


def test_a_body_that_does_not_say_is_refused_once_it_is_too_much() -> None:
    gate, _ = _gate(body_bytes=1_000)
    first, second = gate.enter(0), gate.enter(0)
    first.hold(600)
    second.hold(400)
    with pytest.raises(Crowded):
        second.hold(1)

    first.leave()
    second.hold(1)
    second.leave()
    third = gate.enter(1_000)
    third.hold(1_000)


def test_a_body_that_is_alone_is_let_in_whatever_its_size() -> None:
    gate, _ = _gate(body_bytes=1_000)
    place = gate.enter(5_000)
    place.hold(3_000)
    place.hold(2_000)

    with pytest.raises(Crowded):
        gate.enter(1)
    gate.enter(0)
