"""InvokeAgent: alias to version to definition, then one turn on the session."""

from __future__ import annotations

from typing import Any

from outcrop.operations.context import Context
from outcrop.operations.conversations import converse
from outcrop.operations.registry import Stream, operation
from outcrop.operations.serving import invocation


@operation("InvokeAgent")
async def invoke_agent(context: Context, ask: dict[str, Any]) -> Stream:
    """The stream of one turn of a stored agent.

    Errors: ResourceNotFoundException; ValidationException when the agent or alias cannot serve; ConflictException
            when the session is busy; NotImplementedException.
    Source: docs/behaviour/invoke-agent.md 2, 4 (stated, observed, inferred: the page says which)
    """
    return await converse(await invocation(context, ask))
