"""What the demonstration shows: steps and words as they come, and a table at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outcrop.client import ActionCall, Answer, Step

WIDTH = 100
STYLES = {"thought": "dim italic", "action": "cyan", "result": "green", "reprompt": "yellow", "failure": "red"}


class Screen:
    """A terminal, or a file, 100 characters wide at most."""

    def __init__(self) -> None:
        """Look where the output goes."""
        console = Console(highlight=False)
        console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
        self.console = console
        self._is_mid_line = False

    def say(self, text: str, style: str = "") -> None:
        """A line of our own."""
        self._finish_line()
        self.console.print(escape(text), style=style)

    def question(self, number: int, text: str) -> None:
        """The heading of one question."""
        self._finish_line()
        self.console.print()
        self.console.rule(f"[bold]{number}. {escape(text)}", align="left")

    def chunk(self, text: str) -> None:
        """Words of the answer, as they come."""
        if not self._is_mid_line:
            self.console.print()
        self.console.print(text, end="", markup=False, style="bold", soft_wrap=True)
        self._is_mid_line = True

    def step(self, step: Step) -> None:
        """A line for a step; the answer itself has been streamed already."""
        if step.kind == "answer":
            return
        self._finish_line()
        told = step.text
        if step.kind == "model":
            told = f"{step.input_tokens} tokens in, {step.output_tokens} out"
        elif step.kind == "action":
            told = f"{step.name}({step.text})"
        elif step.kind in ("result", "reprompt"):
            told = _compact(step.text)
        self._line(step.kind, f"{step.millis} ms" if step.millis else "", told, STYLES.get(step.kind, "dim"))

    def returned(self, call: ActionCall) -> None:
        """A line for an action that this program is asked to carry out."""
        given = ", ".join(f"{name}={value}" for name, value in call.parameters.items())
        self._line("returned", "", f"to this program, which carries out {call.name}({given})", "magenta")

    def summary(self, asked: Sequence[tuple[str, Answer]]) -> None:
        """Times and tokens of every question."""
        self._finish_line()
        table = Table(title="\nWhat it took", title_justify="left", width=WIDTH)
        table.add_column("question", ratio=1)
        for heading in ("first words", "all", "model calls", "actions", "tokens in", "out"):
            table.add_column(heading, justify="right")
        for question, answer in asked:
            kinds = [step.kind for step in answer.steps]
            table.add_row(
                escape(question),
                f"{(answer.first_chunk_s or 0) * 1000:.0f} ms",
                f"{answer.total_s * 1000:.0f} ms",
                str(kinds.count("model")),
                str(kinds.count("action")),
                str(answer.input_tokens),
                str(answer.output_tokens),
            )
        self.console.print(table)

    def _line(self, kind: str, time: str, told: str, style: str) -> None:
        line = f"  {kind:<8} {time:>7}  {told}"
        self.console.print(escape(line), style=style, overflow="ellipsis", no_wrap=True)

    def _finish_line(self) -> None:
        if self._is_mid_line:
            self.console.print("\n")
            self._is_mid_line = False


def _compact(text: str) -> str:
    """JSON without its noise, other text as it is, on one line."""
    with suppress(ValueError):
        text = json.dumps(json.loads(text), ensure_ascii=False)
    return " ".join(text.split())
