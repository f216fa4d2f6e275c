"""Events into counters, and gauges beside them, in Prometheus' text form, under CloudWatch's names for agents.

Tokens are counted for every model call, whether or not anybody asked for a trace. Labels are
few on purpose: operation and model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from outcrop.events import (
    ActionReturned,
    Answered,
    ControlReturned,
    Event,
    Failed,
    ModelAnswered,
    ModelCalled,
    TextStreamed,
)

_MEANINGS = {
    "outcrop_turns_total": "Turns that ended or handed control back, by outcome.",
    "outcrop_model_invocations_total": "Model calls begun, by model.",
    "outcrop_input_tokens_total": "Tokens sent to models, by model.",
    "outcrop_output_tokens_total": "Tokens written by models, by model.",
    "outcrop_model_latency_ms_total": "Milliseconds spent in model calls that answered, by model.",
    "outcrop_actions_total": "Actions carried out, by outcome.",
    "outcrop_requests_total": "Requests answered, by operation and HTTP status.",
    "outcrop_requests_throttled_total": "Requests that the front door turned away, by the limit that was reached.",
    "outcrop_slow_clients_cut_total": "Clients cut off because they took none of their answer, by protocol.",
}
_GAUGES = {
    "outcrop_requests_in_flight": "Requests being answered.",
}


class Metrics:
    """Counters of one engine."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts: Counter[tuple[Any, ...]] = Counter()
        self._gauges: dict[str, Callable[[], float]] = {}

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Show what a function gives whenever somebody looks.

        Shapes: name is one of this module's gauges; a later function takes the place of an earlier one.
        """
        self._gauges[name] = read

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter.

        Shapes: name is one of this module's; labels become `{key="value"}` in the order given.
        """
        self._counts[name, *labels.items()] += amount

    def observe(self, event: Event) -> None:
        """Count what a turn's event says."""
        match event:
            case TextStreamed():
                return  # first, because there is one for every token
            case ModelCalled():
                self.count("outcrop_model_invocations_total", model=event.model_id)
            case ModelAnswered():
                self.count("outcrop_input_tokens_total", event.usage["inputTokens"], model=event.model_id)
                self.count("outcrop_output_tokens_total", event.usage["outputTokens"], model=event.model_id)
                spent = int((event.at - event.started_at) * 1000)
                self.count("outcrop_model_latency_ms_total", spent, model=event.model_id)
            case ActionReturned():
                self.count("outcrop_actions_total", outcome=event.kind)
            case Answered():
                self.count("outcrop_turns_total", outcome=event.kind.lower())
            case ControlReturned():
                self.count("outcrop_turns_total", outcome="return_control")
            case Failed():
                self.count("outcrop_turns_total", outcome="failed")

    def value(self, name: str) -> int:
        """A counter's sum over all labels."""
        return sum(count for (counter, *_), count in self._counts.items() if counter == name)

    def text(self) -> str:
        """All counters and gauges in Prometheus' text exposition form."""
        lines: list[str] = []
        for name, meaning in _MEANINGS.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} counter"]
            found = sorted(
                (_labels(given), count) for (counter, *given), count in self._counts.items() if counter == name
            )
            lines += [f"{name}{{{labels}}} {count}" for labels, count in found]
        for name, read in self._gauges.items():
            lines += [f"# HELP {name} {_GAUGES[name]}", f"# TYPE {name} gauge", f"{name} {read():g}"]
        return "\n".join(lines) + "\n"


def _labels(given: list[tuple[str, str]]) -> str:
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in given)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
