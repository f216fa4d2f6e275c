"""Calls and executors that the tool tests share."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from outcrop.config import Binding
from outcrop.tools.base import Caller, Parameter, Tool, ToolCall
from outcrop.tools.executors.local_function import LocalFunction, executor

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:stock:PROD"
AGENT = {"name": "keeper", "id": "AGENT12345", "alias": "TSTALIASID", "version": "DRAFT"}


@pytest.fixture
def caller() -> Caller:
    return Caller(AGENT, "session-1", "What is on the shelf?", {"tenant": "blue"}, {"mood": "calm"})


@pytest.fixture
def function_call(caller) -> Callable[..., ToolCall]:
    """A call of `stock__count`; keywords change the tool."""

    def make(given: dict[str, Any] | None = None, **changes: Any) -> ToolCall:
        parameters = (
            Parameter("sku", "string", required=True),
            Parameter("amount", "number"),
            Parameter("fresh", "boolean"),
            Parameter("tags", "array"),
        )
        tool = Tool(
            **{
                "spec": {"name": "stock__count", "description": "", "inputSchema": {"json": {}}},
                "kind": "function",
                "action_group": "stock",
                "execution": "LAMBDA",
                "parameters": parameters,
                "function": "count",
                "lambda_arn": ARN,
                **changes,
            }
        )
        return ToolCall(tool, {"sku": "SKU-55"} if given is None else given, caller)

    return make


@pytest.fixture
def api_call(caller) -> Callable[..., ToolCall]:
    """A call of `PUT__stock__setCount`, with a path parameter and a JSON body."""

    def make(given: dict[str, Any] | None = None, **changes: Any) -> ToolCall:
        tool = Tool(
            **{
                "spec": {"name": "PUT__stock__setCount", "description": "", "inputSchema": {"json": {}}},
                "kind": "api",
                "action_group": "stock",
                "execution": "LAMBDA",
                "parameters": (
                    Parameter("sku", "string", "path", required=True),
                    Parameter("count", "integer", "application/json", required=True),
                    Parameter("notes", "object", "application/json"),
                ),
                "api_path": "/items/{sku}",
                "http_method": "PUT",
                "lambda_arn": ARN,
                **changes,
            }
        )
        return ToolCall(tool, {"sku": "SKU-55", "count": 3} if given is None else given, caller)

    return make


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Callable[..., LocalFunction]]:
    """An executor of a handler module written in the test; closed when the test is over."""
    made: list[LocalFunction] = []

    def make(source: str, **settings: Any) -> LocalFunction:
        (tmp_path / "app.py").write_text(REPLY + textwrap.dedent(source), encoding="utf-8")
        made.append(executor(Binding("stock", {"path": ".", **settings}), tmp_path))
        return made[-1]

    yield make
    for each in made:
        await each.close()


REPLY = """
def reply(event, body):
    told = {"responseBody": {"TEXT": {"body": body}}}
    return {"messageVersion": "1.0",
            "response": {"actionGroup": "stock", "function": "count", "functionResponse": told}}
"""
