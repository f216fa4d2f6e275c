"""Who is measured: the floors, and the real `outcrop serve` with an agent made through boto3."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from load import Target
from processes import LOAD_CORE, SERVER_CORE, Server, free_port
from workloads import INSTRUCTION

HERE = Path(__file__).resolve().parent
ENGINE = "outcrop"
FLOORS = {"floor": "none", "floor-wal": "wal", "floor-pool": "pool"}
"""Each floor's name and its kind; floor.py says what they are."""

_ROLE_ARN = "arn:aws:iam::123456789012:role/service-role/AmazonBedrockExecutionRoleForAgents_BENCH"


@dataclass(slots=True)
class Contestant:
    """A server under test with a folder of its own."""

    name: str
    folder: Path
    server: Server
    target: Target

    def traced(self) -> Target:
        """The same agent, with traces asked for."""
        return replace(self.target, trace=True)

    def disk_bytes(self) -> int:
        """What it stores, in bytes."""
        return sum(path.stat().st_size for path in self.folder.rglob("*.db*") if path.is_file())

    def close(self) -> None:
        """Stop it and drop its data."""
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_model(folder: Path) -> tuple[Server, str]:
    """The model server, and the address to give to whoever asks it."""
    port = free_port()
    command = [sys.executable, str(HERE / "model_server.py"), "--port", str(port)]
    server = Server(command, port, folder / "model.log", LOAD_CORE)
    return server, f"http://127.0.0.1:{port}/v1"


def start(name: str, model_url: str, place: Path | None, launcher: list[str] | None = None) -> Contestant:
    """A contestant on a fresh folder, ready to be invoked.

    Shapes: launcher is the command in place of `outcrop`, for runs under a profiler.
    Errors: BenchmarkFailed.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir=place))
    try:
        config = write_config(folder, model_url)
        if name == ENGINE:
            server = start_engine(config, folder, launcher)
            return Contestant(name, folder, server, Target(server.port, make_agent(server.port)))
        port = free_port()
        options = ["--kind", FLOORS[name], "--port", str(port), "--model-url", model_url, "--data", str(folder)]
        server = Server([sys.executable, str(HERE / "floor.py"), *options], port, folder / "floor.log", SERVER_CORE)
        return Contestant(name, folder, server, Target(port))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_config(folder: Path, model_url: str, more: str = "") -> Path:
    """The settings of an engine that asks our model and runs our tools. Shapes: more is further TOML."""
    path = folder / "outcrop.toml"
    path.write_text(
        f'[models]\n"*" = {{ provider = "openai", base_url = "{model_url}", model = "bench" }}\n'
        f'[functions]\n"bench-stock" = {{ path = "{HERE}", handler = "stock.handler" }}\n{more}',
        encoding="utf-8",
    )
    return path


def start_engine(config: Path, folder: Path, launcher: list[str] | None = None) -> Server:
    """`outcrop serve` on these settings."""
    port = free_port()
    command = launcher or [str(Path(sys.executable).with_name("outcrop"))]
    options = ["serve", "--config", str(config), "--port", str(port), "--data-dir", str(folder / "data")]
    return Server([*command, *options], port, folder / "outcrop.log", SERVER_CORE)


def make_agent(port: int, name: str = "bench", *, control: bool = False) -> str:
    """An agent with our tools, made as any AWS user would; the path up to its alias.

    Shapes: with `control` its caller carries the tools out.
    """
    import boto3  # half a second that the floors need not wait for

    from engine_tools import ACTION_GROUP, FUNCTION_SCHEMA, LAMBDA_ARN

    session = boto3.Session("AKIDBENCH", "bench-secret", region_name="us-east-1")
    client: Any = session.client("bedrock-agent", endpoint_url=f"http://127.0.0.1:{port}")
    agent = client.create_agent(
        agentName=name,
        foundationModel="anthropic.claude-3-5-haiku-20241022-v1:0",
        instruction=INSTRUCTION,
        agentResourceRoleArn=_ROLE_ARN,
    )["agent"]["agentId"]
    client.create_agent_action_group(
        agentId=agent,
        agentVersion="DRAFT",
        actionGroupName=ACTION_GROUP,
        actionGroupExecutor={"customControl": "RETURN_CONTROL"} if control else {"lambda": LAMBDA_ARN},
        functionSchema=FUNCTION_SCHEMA,
    )
    client.prepare_agent(agentId=agent)
    alias = client.create_agent_alias(agentId=agent, agentAliasName="bench")["agentAlias"]["agentAliasId"]
    client.close()
    return f"/agents/{agent}/agentAliases/{alias}"
