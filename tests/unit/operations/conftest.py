"""A control plane without a door: operations called through the registry, every answer held against the model."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import botocore.session
import pytest
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape

from outcrop.clock import StillClock
from outcrop.ids import request_id
from outcrop.operations.context import Context
from outcrop.operations.registry import load
from outcrop.storage.database import METADATA, Database
from outcrop.storage.documents import Documents, DocumentTransaction
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.tools.base import ToolUnreachable

Call = Callable[..., Awaitable[dict[str, Any]]]

INSTRUCTION = "You look after the stock of a small shop and answer questions about it."
MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
ROLE = "arn:aws:iam::123456789012:role/agents"
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:inventory"
FUNCTIONS = {
    "functions": [
        {
            "name": "check",
            "description": "Looks up the stock of an article.",
            "parameters": {"sku": {"type": "string", "description": "the article", "required": True}},
        }
    ]
}
OPENAPI = """
openapi: "3.0.0"
info: {title: stock, version: "1"}
paths:
  /stock/{sku}:
    get:
      description: Looks up the stock of an article.
      operationId: checkStock
      parameters:
        - {name: sku, in: path, description: the article, required: true, schema: {type: string}}
      responses:
        "200": {description: the stock}
"""


class InterruptedDocuments(Documents):
    """Documents that somebody else changes right after they were read, once for each interruption."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.interruptions: list[Callable[[], Awaitable[object]]] = []

    async def read(self, work: Callable[[DocumentTransaction], Any]) -> Any:
        value = await super().read(work)
        if self.interruptions:
            await self.interruptions.pop(0)()
        return value


@dataclass
class FakeEngine:
    """What the control plane needs of an engine."""

    database: Database
    documents: InterruptedDocuments
    clock: StillClock = field(default_factory=StillClock)
    buckets: dict[tuple[str, str], bytes] = field(default_factory=dict)

    async def bucket_object(self, bucket: str, key: str) -> bytes:
        if (bucket, key) not in self.buckets:
            raise ToolUnreachable(f"no bucket is bound to '{bucket}'")
        return self.buckets[bucket, key]


@functools.cache
def service_model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("bedrock-agent")


def wrong_with(shape: Shape | None, value: Any, path: str = "") -> list[str]:
    """What a strict client would miss or not know in an answer."""
    if isinstance(shape, StructureShape):
        found = [f"{path}.{name} is unknown" for name in value if name not in shape.members]
        found += [f"{path}.{name} is missing" for name in shape.required_members if name not in value]
        for name, inner in value.items():
            if name in shape.members:
                found += wrong_with(shape.members[name], inner, f"{path}.{name}")
        return found
    if isinstance(shape, ListShape):
        return [wrong for item in value for wrong in wrong_with(shape.member, item, f"{path}[]")]
    if isinstance(shape, MapShape):
        return [wrong for item in value.values() for wrong in wrong_with(shape.value, item, f"{path}{{}}")]
    enum = getattr(shape, "enum", None)
    return [f"{path} is {value!r}"] if value is None or (enum and value not in enum) else []


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    database = SqliteDatabase("sqlite:///:memory:")
    METADATA.create_all(database.engine)
    database.open()
    yield FakeEngine(database, InterruptedDocuments(database))
    database.stop()


@pytest.fixture
def clock(engine: FakeEngine) -> StillClock:
    return engine.clock


@pytest.fixture
def call(engine: FakeEngine) -> Call:
    """`await call("GetAgent", agentId=...)`, checked against the service model."""
    handlers = load()

    async def calling(operation: str, **ask: Any) -> dict[str, Any]:
        context = Context(engine, operation, request_id(), "us-east-1", "123456789012")
        model = service_model().operation_model(operation)
        assert model.input_shape is not None
        assert wrong_with(model.input_shape, ask, operation) == []
        answer = await handlers["bedrock-agent", operation](context, ask)
        assert isinstance(answer, dict)
        assert wrong_with(model.output_shape, answer, operation) == []
        return answer

    return calling


@pytest.fixture
def content() -> dict[str, Any]:
    """What makes an agent complete enough to be prepared."""
    return {"instruction": INSTRUCTION, "foundationModel": MODEL, "agentResourceRoleArn": ROLE}


@pytest.fixture
def openapi() -> str:
    """A small document that every rule allows."""
    return OPENAPI


@pytest.fixture
def create_agent(call: Call, content: dict[str, Any]) -> Call:
    """A new agent's record."""

    async def creating(name: str = "AX123", **more: Any) -> dict[str, Any]:
        ask = {member: value for member, value in {**content, **more}.items() if value is not None}
        return (await call("CreateAgent", agentName=name, **ask))["agent"]

    return creating


@pytest.fixture
async def agent_id(create_agent: Call) -> str:
    """An agent that was never prepared."""
    return (await create_agent())["agentId"]


@pytest.fixture
async def prepared(call: Call, agent_id: str) -> str:
    """An agent that was prepared."""
    await call("PrepareAgent", agentId=agent_id)
    return agent_id


@pytest.fixture
def add_group(call: Call) -> Call:
    """A new action group's record."""

    async def adding(agent_id: str, name: str = "stock", **more: Any) -> dict[str, Any]:
        ask = {"actionGroupExecutor": {"lambda": LAMBDA}, "functionSchema": FUNCTIONS, **more}
        kept = {member: value for member, value in ask.items() if value is not None}
        answer = await call(
            "CreateAgentActionGroup", agentId=agent_id, agentVersion="DRAFT", actionGroupName=name, **kept
        )
        return answer["agentActionGroup"]

    return adding
