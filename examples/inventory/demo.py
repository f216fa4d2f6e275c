"""The main job, from nothing: start a server, create an agent with boto3, ask it three questions, see every step.

python examples/inventory/demo.py
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import agent
import boto3
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outcrop.client import ActionCall, AgentCallFailed, AgentClient, Answer, Step

HERE = Path(__file__).parent
READY = "outcrop listening on "
QUESTIONS = (
    "Check inventory for SKU-55",
    "Which products are low on stock, and who supplies SKU-21?",
    "Reserve 5 units of SKU-55",
)
SIGNS = {"thought": "…", "model": "·", "action": "→", "result": "←", "reprompt": "↺", "failure": "✗"}


class Warehouse:
    """The stock database: made anew for the demo, and used by it to carry out reservations itself."""

    def __init__(self, path: Path) -> None:
        """Make the database."""
        self.path = path
        with sqlite3.connect(path) as stock:
            stock.executescript((HERE / "stock.sql").read_text(encoding="utf-8"))

    def perform(self, call: ActionCall) -> dict[str, Any]:
        """What the agent hands back to its caller: reserve units of a product."""
        sku, quantity = str(call.parameters["sku"]).upper(), int(call.parameters["quantity"])
        with sqlite3.connect(self.path) as stock:
            changed = stock.execute(
                "update products set reserved = reserved + ? where sku = ? and on_hand - reserved >= ?",
                (quantity, sku, quantity),
            )
            if changed.rowcount == 0:
                return {"error": f"There are not {quantity} free units of {sku}."}
            made = stock.execute("insert into reservations (sku, quantity) values (?, ?)", (sku, quantity))
        return {"reservation": f"R-{made.lastrowid}", "sku": sku, "reserved": quantity}


@contextmanager
def server(stock: Path, data: Path) -> Iterator[str]:
    """`outcrop serve` as a process of its own on a free port; its address."""
    command = [sys.executable, "-m", "outcrop.cli.main", "serve", "--port", "0"]
    command += ["--config", str(HERE / "outcrop.toml"), "--data-dir", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "STOCK_DB": str(stock)})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(READY):
            raise SystemExit("the server did not start; it says above why")
        yield line.removeprefix(READY).strip()
    finally:
        process.terminate()
        process.communicate(timeout=30)


class Screen:
    """Shows a conversation: the question, every step, the answer as it is written."""

    def __init__(self) -> None:
        """Write to the terminal, or wherever the output goes."""
        wide = {} if sys.stdout.isatty() else {"width": 100}
        self.console = Console(highlight=False, **wide)
        self._writing = False

    def question(self, text: str) -> None:
        """Show what the user asks."""
        self.console.print(f"\n[bold cyan]You[/]    {escape(text)}")

    def step(self, step: Step) -> None:
        """Show one step of the trace; the answer itself comes as chunks."""
        if step.kind == "answer":
            return
        self._end_line()
        spent = f" [dim]{step.millis} ms[/]" if step.millis else ""
        tokens = f" [dim]{step.input_tokens} + {step.output_tokens} tokens[/]" if step.input_tokens else ""
        text = escape(" ".join(filter(None, (step.name, step.text))))
        line = f"       [dim]{SIGNS.get(step.kind, '·')} {step.kind:<8}[/]{spent}{tokens} {text}"
        self.console.print(line, no_wrap=True, overflow="ellipsis")

    def chunk(self, text: str) -> None:
        """Show a piece of the answer."""
        if not self._writing:
            self.console.print("[bold green]Agent[/]  ", end="")
            self._writing = True
        self.console.print(escape(text), end="", soft_wrap=True)

    def answered(self) -> None:
        """End the answer."""
        self._end_line()

    def _end_line(self) -> None:
        if self._writing:
            self.console.print()
            self._writing = False


def summary(answers: list[Answer]) -> Table:
    """Timings and tokens of every question."""
    table = Table(title="Timings and tokens", title_justify="left")
    for heading in ("question", "steps", "first text ms", "total ms", "tokens in", "tokens out"):
        table.add_column(heading, justify="left" if heading == "question" else "right")
    for question, answer in zip(QUESTIONS, answers, strict=True):
        first = "-" if answer.first_chunk_s is None else f"{answer.first_chunk_s * 1000:.0f}"
        row = (len(answer.steps), first, f"{answer.total_s * 1000:.0f}", answer.input_tokens, answer.output_tokens)
        table.add_row(question, *(str(value) for value in row))
    return table


def main() -> int:
    """Run the demo; what it returns is the process's exit status."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "demo")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "demo")
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="outcrop-demo-") as folder:
        warehouse = Warehouse(Path(folder) / "stock.db")
        with server(warehouse.path, Path(folder) / "data") as url:
            screen.console.print(f"[bold]Outcrop[/] serves Bedrock Agents at {url}; boto3 creates the agent there.")
            screen.console.print(
                "The model is Outcrop's built-in offline one: no network, no key, tools picked by rule."
            )
            control = boto3.client("bedrock-agent", endpoint_url=url, region_name="us-east-1")
            agent_id, alias_id = agent.create(control)
            client = AgentClient(endpoint_url=url, region="us-east-1")
            answers: list[Answer] = []
            for question in QUESTIONS:
                screen.question(question)
                answer = client.ask(
                    agent_id,
                    alias_id,
                    "demo-session",
                    question,
                    on_chunk=screen.chunk,
                    on_step=screen.step,
                    on_return_control=warehouse.perform,
                )
                screen.answered()
                answers.append(answer)
            client.close()
    screen.console.print()
    screen.console.print(summary(answers))
    screen.console.print(
        "Bind a real model in outcrop.toml: see docs/how-to/bind-a-model.md. `make serve` keeps one running."
    )
    return 0 if all(answer.text for answer in answers) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AgentCallFailed as error:
        sys.exit(f"demo: the agent did not answer: {error}")
