"""A small deployment to be broken: a database, one or two nodes, a model, functions that count, agents, a caller.

    once, plain                  pay invoices; `once` with a function that honours keys, `plain` with one that does not
    once-desk, plain-desk        let those pay; their own function honours keys, or does not

On SQLite there is one node, which is started again when it dies; on PostgreSQL there are two, and the other goes on.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EventStreamError, HTTPClientError
from urllib3.exceptions import HTTPError

from look import Look, PostgresqlLook, SqliteLook
from processes import HERE, Program, SweepFailed, free_port

if TYPE_CHECKING:
    from postgresql import PostgreSQL

KINDS = ("one", "two", "nested")
VARIANTS = ("once", "plain")
LIMIT_S = 90.0
"""A session without an answer for that long is lost, counted from when nothing is killed any more."""
_CREDENTIALS = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
_ROLE = "arn:aws:iam::123456789012:role/agent"
_INSTRUCTION = "You pay invoices with the functions that you have, and say what they said."
_QUICK = {"beat_s": 0.1, "lease_s": 0.6}
_FUNCTIONS = {
    "once-pay": ("pay_once", True, ""),
    "plain-pay": ("pay_plainly", False, ""),
    "once-delegate": ("delegate", True, "once"),
    "plain-delegate": ("delegate", False, "plain"),
}
_BROKEN = (BotoCoreError, HTTPClientError, ClientError, EventStreamError, HTTPError, OSError)


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller heard in the end, and what went wrong before. Units: seconds."""

    text: str
    traces: str
    failures: tuple[str, ...]
    took_s: float


class NotAnswered(Exception):
    """The session is lost: no answer within the limit; the message has the last failures."""


class Node:
    """One server process, on the same address whenever it runs."""

    def __init__(self, folder: Path, number: int) -> None:
        """Choose its place; `World` writes its settings."""
        self.name = f"node-{number}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.folder / "outcrop.toml"
        self._plan = self.folder / "plan"
        self._writes = self.folder / "writes"
        self.program = Program(
            "server.py",
            self.folder / "log",
            *("serve", "--config", str(self.config), "--data-dir", str(self.folder), "--port", str(self.port)),
            environment={"CRASH_PLAN": str(self._plan), "CRASH_WRITES": str(self._writes)},
        )
        self._clients: dict[int, Any] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start it, to die only when told anew."""
        self.disarm()
        self.program.start()

    def arm(self, write: int, moment: str) -> None:
        """Let it die at that write from now on."""
        written = self._plan.with_suffix(".new")
        written.write_text(f"{write} {moment}", encoding="ascii")
        written.rename(self._plan)

    def disarm(self) -> None:
        """Let it live."""
        self._plan.unlink(missing_ok=True)

    def writes(self) -> list[str]:
        """The names of the writes so far."""
        lines = self._writes.read_text(encoding="ascii").splitlines() if self._writes.exists() else []
        return [line.split()[1] for line in lines]

    def forget_writes(self) -> None:
        """Begin a new list of them."""
        self._writes.unlink(missing_ok=True)

    def client(self, attempts: int = 1) -> Any:
        """A boto3 client of its own agents' runtime, with that many attempts; 0 for boto3's own default."""
        return self.made(self._clients, self.url, attempts)

    def made(self, kept: dict[int, Any], url: str, attempts: int) -> Any:
        """A client, made once."""
        with self._lock:
            if attempts not in kept:
                kept[attempts] = client("bedrock-agent-runtime", url, attempts)
            return kept[attempts]


def client(service: str, url: str, attempts: int = 1) -> Any:
    """A plain boto3 client."""
    retries = {"retries": {"total_max_attempts": attempts}} if attempts else {}
    config = Config(read_timeout=60, connect_timeout=10, max_pool_connections=128, **retries)
    return boto3.Session(**_CREDENTIALS).client(service, endpoint_url=url, config=config)


@dataclass(slots=True)
class Settings:
    """What a sweep wants of its deployment.

    Shapes: server is [server]'s settings; connect gives the database URL of one node.
    Units: slow_s is what an action takes at most before its effect, and after it.
    """

    database: str
    server: dict[str, Any] = field(default_factory=lambda: dict(_QUICK))
    connect: Callable[[int, str], str] = lambda _number, url: url
    slow_s: float = 0.0


class World:
    """The deployment; `with` starts and removes it."""

    def __init__(self, settings: Settings, postgresql: PostgreSQL | None = None) -> None:
        """Describe it.

        Errors: SweepFailed for PostgreSQL without a server.
        """
        self.settings = settings
        self.is_shared = settings.database == "postgresql"
        if self.is_shared and postgresql is None:
            raise SweepFailed("PostgreSQL needs a server")
        self._keeping = tempfile.TemporaryDirectory(prefix="crash-")
        self.folder = Path(self._keeping.name)
        self.effects = self.folder / "effects"
        for name in ("applied", "holds"):
            (self.effects / name).mkdir(parents=True)
        self.nodes = [Node(self.folder, number) for number in range(2 if self.is_shared else 1)]
        self._model = Program("model.py", self.folder / "model.log")
        self._url = ""
        self._postgresql = postgresql
        self.look: Look
        self.calm_at = 0.0
        """When the last thing was killed that will be; nobody gives up a session before."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        model = self._model.start()
        if self.is_shared:
            assert self._postgresql is not None
            self._url = self._postgresql.database()
            self.look = PostgresqlLook(self._url)
        else:
            self.look = SqliteLook(self.nodes[0].folder / "outcrop.db")
        for number, node in enumerate(self.nodes):
            node.config.write_text(self._config(model, number), encoding="utf-8")
            node.program.launch()
        for node in self.nodes:
            node.program.listens()
        for variant in VARIANTS:
            self._agent(variant, variant, "pay")
            self._agent(f"{variant}-desk", variant, "delegate")

    def close(self) -> None:
        """End every process, remove every file."""
        for node in self.nodes:
            node.program.close()
        self._model.close()
        if self._postgresql is not None and self._url:
            self._postgresql.drop(self._url)
        self._keeping.cleanup()

    def _config(self, model: str, number: int) -> str:
        server: dict[str, Any] = {"stop_grace_s": 10.0, **self.settings.server}
        if self.is_shared:
            server["database"] = self.settings.connect(number, self._url)
        lines = ["[server]", *(f"{name} = {json.dumps(value)}" for name, value in server.items())]
        lines += ["[models]", f'"*" = {{ provider = "openai", base_url = "{model}/v1", model = "m" }}', "[functions]"]
        # Its own node first: the same server answers the nested call, where it lives.
        nodes = ",".join(node.url for node in (*self.nodes[number:], *self.nodes[:number]))
        for name, (handler, idempotent, other) in _FUNCTIONS.items():
            environment = {"EFFECTS": str(self.effects), "NODES": nodes, "OTHER_AGENT": other}
            environment["SLOW_S"] = str(self.settings.slow_s)
            shown = ", ".join(f'{key} = "{value}"' for key, value in environment.items())
            lines.append(
                f'"{name}" = {{ path = "{HERE / "functions"}", handler = "app.{handler}", timeout_s = 120,'
                f" concurrency = 16, idempotent = {json.dumps(idempotent)}, environment = {{ {shown} }} }}"
            )
        return "\n".join(lines) + "\n"

    def _agent(self, name: str, variant: str, function: str) -> None:
        control = client("bedrock-agent", self.nodes[0].url)
        control.create_agent(
            agentName=name, foundationModel="some.model", instruction=_INSTRUCTION, agentResourceRoleArn=_ROLE
        )
        parameters = {"invoice": {"type": "string", "required": True}}
        control.create_agent_action_group(
            agentId=name,
            agentVersion="DRAFT",
            actionGroupName="billing",
            actionGroupExecutor={"lambda": f"arn:aws:lambda:us-east-1:123456789012:function:{variant}-{function}"},
            functionSchema={
                "functions": [{"name": function, "description": "Pay an invoice.", "parameters": parameters}]
            },
        )
        control.prepare_agent(agentId=name)

    # callers ------------------------------------------------------------------------------------

    def ask(self, agent: str, session: str, text: str, first: int = 0) -> Told:
        """What an agent answers; whatever goes wrong, the same is asked again, at the next node.

        Errors: NotAnswered, where nothing was killed for a long while.
        """
        began, failures, number = time.monotonic(), list[str](), first
        while True:
            node = self.nodes[number % len(self.nodes)]
            try:
                heard, traces = collect(node.client(), agent, session, text)
                return Told(heard, traces, tuple(failures), time.monotonic() - began)
            except _BROKEN as error:
                failures.append(f"{node.name}: {type(error).__name__}: {error}")
            if time.monotonic() - max(began, self.calm_at) > LIMIT_S:
                raise NotAnswered(f"session {session}, {text!r}: {failures[-3:]}")
            number += 1
            time.sleep(min(0.4, 0.05 * len(failures)))


def collect(client: Any, agent: str, session: str, text: str) -> tuple[str, str]:
    """One call's answer and its trace as JSON.

    Errors: what boto3 raises, in the middle of the stream too.
    """
    asked = client.invoke_agent(
        agentId=agent, agentAliasId="TSTALIASID", sessionId=session, inputText=text, enableTrace=True
    )
    stream = asked["completion"]
    heard, traces = b"", list[Any]()
    try:
        for event in stream:
            heard += event["chunk"]["bytes"] if "chunk" in event else b""
            traces += [event["trace"]["trace"]] if "trace" in event else []
    finally:
        stream.close()
    if not heard:
        raise EventStreamError({"Error": {"Code": "cut", "Message": "the stream ended without an answer"}}, "Invoke")
    return heard.decode(), json.dumps(traces, default=str)


def agent_for(kind: str, variant: str) -> str:
    """The agent that is asked for turns of a kind."""
    return f"{variant}-desk" if kind == "nested" else variant


def invoices(kind: str, invoice: str) -> Sequence[str]:
    """What a turn pays."""
    return (f"{invoice}-a", f"{invoice}-b") if kind == "two" else (invoice,)
