"""The engine's local functions without the engine: what one hop into a warm process costs.

    {"parameter": "argument"} -> event -> frame -> process -> handler -> frame -> result

A floor uses it, so that the cost of the hop can be told from that of the rest of the engine.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from pathlib import Path

import stock
from outcrop.config import load
from outcrop.tools.base import Caller, IdempotencyKey, ToolCall
from outcrop.tools.bindings import Functions
from outcrop.tools.functions import function_tools
from processes import Tree, percentile

ACTION_GROUP = "stock"
LAMBDA_ARN = "arn:aws:lambda:us-east-1:123456789012:function:bench-stock"
FUNCTION_SCHEMA = {
    "functions": [
        {
            "name": name,
            "description": name.replace("_", " "),
            "parameters": {parameter: {"type": "string", "description": parameter, "required": True}},
        }
        for name, parameter in stock.ARGUMENTS.items()
    ]
}


class PooledTools:
    """The tools, carried out by the engine's local-function executor."""

    def __init__(self, config: Path) -> None:
        """Take the bindings of a configuration file; processes start with the first call."""
        settings = load(config)
        self._executor = Functions(settings.functions, settings.root).executor_for(LAMBDA_ARN)
        group = {
            "actionGroupName": ACTION_GROUP,
            "actionGroupExecutor": {"lambda": LAMBDA_ARN},
            "functionSchema": FUNCTION_SCHEMA,
        }
        self._tools = {tool.function: tool for tool in function_tools(group)}
        agent = {"name": "bench", "id": "AGENTID123", "alias": "ALIASID123", "version": "1"}
        self._caller = Caller(agent, "bench-session", "Check inventory for SKU-55")
        self._numbers = itertools.count()

    async def call(self, name: str, argument: str) -> str:
        """What one tool answers."""
        tool = self._tools[name]
        call = ToolCall(tool, {tool.parameters[0].name: argument}, self._caller)
        return (await self._executor.execute(call, IdempotencyKey(f"bench/{next(self._numbers)}/0"))).text

    async def close(self) -> None:
        """Stop the processes."""
        await self._executor.close()


async def hop(config: Path, count: int) -> dict[str, float]:
    """One warm call after the other.

    Units: wall_p50_ms, wall_p99_ms; server_cpu_ms of this process, tree_cpu_ms with the function's, per call.
    """
    tools = PooledTools(config)
    try:
        for _ in range(20):
            await tools.call("get_inventory", "SKU-55")
        tree, walls = Tree(os.getpid()), []
        whole, server = tree.cpu(), tree.server_cpu()  # looking for children costs; not between the two readings
        for _ in range(count):
            began = time.perf_counter()
            await tools.call("get_inventory", "SKU-55")
            walls.append(time.perf_counter() - began)
        server = tree.server_cpu() - server
        return {
            "wall_p50_ms": statistics.median(walls) * 1e3,
            "wall_p99_ms": percentile(walls, 0.99) * 1e3,
            "server_cpu_ms": server / count * 1e3,
            "tree_cpu_ms": (tree.cpu() - whole) / count * 1e3,
        }
    finally:
        await tools.close()
