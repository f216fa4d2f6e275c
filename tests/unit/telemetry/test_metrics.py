"""Counters: tokens whether or not anybody asked for a trace, and the text that a scraper reads."""

from __future__ import annotations

from outcrop.events import Answered, Failed, ModelAnswered, ModelCalled, TextStreamed
from outcrop.telemetry.metrics import Metrics


def test_a_turn_is_counted_from_its_events() -> None:
    metrics = Metrics()
    message = {"role": "assistant", "content": []}
    usage = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}
    metrics.observe(ModelCalled(0, 0.0, "m", "", [], {}, shows_inference=False))
    metrics.observe(TextStreamed("x"))
    metrics.observe(ModelAnswered(0, 1.0, 1.25, "m", message, "end_turn", usage, ""))  # type: ignore[arg-type]
    metrics.observe(Answered(0, 0.0, 1.0, "FINISH", "x", streamed=False))
    metrics.observe(Failed(0, 0.0, 1.0, 400, "no", None))

    assert metrics.value("outcrop_model_invocations_total") == 1
    assert metrics.value("outcrop_input_tokens_total") == 7
    assert metrics.value("outcrop_output_tokens_total") == 3
    assert metrics.value("outcrop_model_latency_ms_total") == 250
    assert metrics.value("outcrop_turns_total") == 2


def test_the_text_form_names_every_counter_and_escapes_labels() -> None:
    metrics = Metrics()
    metrics.count("outcrop_requests_total", operation='a"b\\c\nd', status="200")

    text = metrics.text()

    assert 'outcrop_requests_total{operation="a\\"b\\\\c\\nd",status="200"} 1\n' in text
    assert "# TYPE outcrop_turns_total counter\n" in text


def test_a_gauge_shows_what_is_the_case_when_somebody_looks() -> None:
    metrics, inside = Metrics(), [1, 2]
    metrics.gauge("outcrop_requests_in_flight", lambda: len(inside))
    inside.append(3)

    text = metrics.text()

    assert "# TYPE outcrop_requests_in_flight gauge\noutcrop_requests_in_flight 3\n" in text
