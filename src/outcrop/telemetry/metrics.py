"""Events into counters, in Prometheus' text form, under the names that CloudWatch uses for agents.

Tokens are counted for every model call, whether or not anybody asked for a trace. Labels are
few on purpose: operation and model.
"""

from __future__ import annotations

from collections import Counter
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
}


class Metrics:
    """Counters of one engine."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts: Counter[tuple[Any, ...]] = Counter()

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
        """All counters in Prometheus' text exposition form."""
        lines: list[str] = []
        for name, meaning in _MEANINGS.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} counter"]
            found = sorted(
                (_labels(given), count) for (counter, *given), count in self._counts.items() if counter == name
            )
            lines += [f"{name}{{{labels}}} {count}" for labels, count in found]
        return "\n".join(lines) + "\n"


def _labels(given: list[tuple[str, str]]) -> str:
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in given)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
