"""Messages, tool specs, tool calls and tool results, in the shapes of Bedrock's Converse API.

A message is a plain dict from the moment a model or a user speaks until it is stored, so
nothing on the path rebuilds it. Type checking sees TypedDicts; nothing here validates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict


class ToolUse(TypedDict):
    """A call that the model asks for."""

    toolUseId: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(TypedDict):
    """What came of one call, as the model is told."""

    toolUseId: str
    content: list[dict[str, Any]]
    status: NotRequired[Literal["success", "error"]]


class ContentBlock(TypedDict, total=False):
    """A union: exactly one member is present."""

    text: str
    toolUse: ToolUse
    toolResult: ToolResultBlock
    reasoningContent: dict[str, Any]


class Message(TypedDict):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: list[ContentBlock]


class ToolSpec(TypedDict):
    """A tool as the model sees it; `inputSchema` is {"json": <JSON schema of an object>}."""

    name: str
    description: str
    inputSchema: dict[str, Any]


class Usage(TypedDict):
    """Tokens of one model call."""

    inputTokens: int
    outputTokens: int
    totalTokens: int


def user(text: str) -> Message:
    """A user message of one text block."""
    return {"role": "user", "content": [{"text": text}]}


def assistant(text: str) -> Message:
    """An assistant message of one text block."""
    return {"role": "assistant", "content": [{"text": text}]}


def tool_results(results: Iterable[ToolResultBlock]) -> Message:
    """The user message that answers every tool call of the assistant message before it."""
    return {"role": "user", "content": [{"toolResult": result} for result in results]}


def tool_result(tool_use_id: str, text: str, *, error: bool = False) -> ToolResultBlock:
    """One tool result of one text block."""
    return {"toolUseId": tool_use_id, "content": [{"text": text}], "status": "error" if error else "success"}


def text_of(message: Message) -> str:
    """All text blocks of a message, joined with nothing between them."""
    return "".join(block["text"] for block in message["content"] if "text" in block)


def tool_uses(message: Message) -> list[ToolUse]:
    """The tool calls of a message, in the model's order."""
    return [block["toolUse"] for block in message["content"] if "toolUse" in block]


def reasoning_of(message: Message) -> str:
    """All reasoning text of a message, joined; empty where there is none."""
    parts: list[str] = []
    for block in message["content"]:
        if "reasoningContent" in block:
            parts.append(str(block["reasoningContent"].get("reasoningText", {}).get("text", "")))
    return "".join(parts)
