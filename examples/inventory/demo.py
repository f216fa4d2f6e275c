"""A real agent answers three questions about a stock database, streamed with every step it takes.

    python demo.py           server up, agent made, three questions, server down; exits 0 when all went well
    python demo.py --keep    the same, then the server stays up for your own code, until Ctrl-C

Everything between the server and this program is plain boto3, or `outcrop.client` around it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agent
import boto3
from botocore.exceptions import BotoCoreError, ClientError
from screen import Screen

import stock
from outcrop.client import ActionCall, AgentCallFailed, AgentClient, Answer
from server import NotStarted, serving

HERE = Path(__file__).resolve().parent
SESSION = "demo-session"


@dataclass(frozen=True)
class Question:
    """What is asked, and the actions without which the answer would be made up."""

    text: str
    actions: frozenset[str]


QUESTIONS = (
    Question("Check inventory for SKU-55", frozenset({"inventory.check_inventory"})),
    Question(
        "Which products are low on stock, and who supplies SKU-21?",
        frozenset({"inventory.list_low_stock", "suppliers GET /products/{sku}/supplier"}),
    ),
    Question("Reserve 5 units of SKU-55", frozenset({"reservations.reserve_stock"})),
)


class DemoFailed(Exception):
    """Something was not as it should be; the message says what."""


def main() -> int:
    """Run the demonstration; 0 when everything was as it should be."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--keep", action="store_true", help="keep the server running until Ctrl-C")
    options.add_argument("--port", type=int, default=0, help="port of the server; the default is any free one")
    asked = options.parse_args()
    screen = Screen()
    try:
        with _folder() as folder:
            _run(screen, folder, asked.port, keep=asked.keep)
    except (DemoFailed, NotStarted, AgentCallFailed, BotoCoreError, ClientError, OSError, RuntimeError) as error:
        screen.say(f"The demo failed: {error}", "bold red")
        return 1
    except KeyboardInterrupt:
        screen.say("Stopped.")
        return 0 if asked.keep else 130
    return 0


def _run(screen: Screen, folder: Path, port: int, *, keep: bool) -> None:
    database = folder / "stock.db"
    stock.make(database)
    with serving(HERE / "outcrop.toml", folder / "data", port, {"STOCK_DB": str(database)}) as url:
        screen.say(f"Outcrop is up on {url}.")
        keys = boto3.Session("demo", "demo", region_name="us-east-1")  # any will do: nothing here belongs to AWS
        ids = agent.create(keys.client("bedrock-agent", endpoint_url=url))
        screen.say(f"boto3 made the agent {agent.NAME} ({ids[0]}) with alias {agent.ALIAS} ({ids[1]}).")
        answers = _ask_all(screen, AgentClient(url, session=keys), ids, database)
        screen.summary([(question.text, answer) for question, answer in zip(QUESTIONS, answers, strict=True)])
        if stock.reserved(database, "SKU-55") != 5:
            raise DemoFailed("5 units of SKU-55 should be reserved in the database, and are not")
        _explain(screen, answers)
        if keep:
            screen.say(f"\nThe server stays up: endpoint_url='{url}', agentId='{agent.NAME}', agentAliasId='PROD'.")
            screen.say("Ctrl-C stops it.")
            threading.Event().wait()


def _ask_all(screen: Screen, agents: AgentClient, ids: tuple[str, str], database: Path) -> list[Answer]:
    """The answers, in one session, checked.

    Errors: DemoFailed; AgentCallFailed.
    """

    def reserve(call: ActionCall) -> Any:
        screen.returned(call)
        return stock.reserve(database, call)

    answers: list[Answer] = []
    for number, question in enumerate(QUESTIONS, 1):
        screen.question(number, question.text)
        answer = agents.ask(
            *ids, SESSION, question.text, on_chunk=screen.chunk, on_step=screen.step, on_return_control=reserve
        )
        missing = question.actions - {step.name for step in answer.steps if step.kind == "result"}
        if missing:
            raise DemoFailed(f"'{question.text}' was answered without {', '.join(sorted(missing))}")
        if not answer.text:
            raise DemoFailed(f"'{question.text}' was not answered")
        answers.append(answer)
    return answers


def _explain(screen: Screen, answers: list[Answer]) -> None:
    model = next((step.name for answer in answers for step in answer.steps if step.kind == "model"), "a model")
    screen.say(f"\nThe agent asked for {model}.")
    screen.say(
        "What answered is what examples/inventory/outcrop.toml binds that to: as delivered, the built-in offline "
        "model, a set of rules without network or weights. docs/how-to/bind-a-model.md shows how to bind a real one."
    )


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the length of the demonstration, and an environment that lets boto3 reach this machine."""
    here = "127.0.0.1,localhost"
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), here]))
    os.environ.pop("AWS_PROFILE", None)  # it may name a profile that this machine does not have
    with tempfile.TemporaryDirectory(prefix="outcrop-demo-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
