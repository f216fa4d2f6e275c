"""A Converse request as the body of an OpenAI chat-completions call; pure, used by `providers/openai`.

    {"model": .., "stream": true, ..params, "messages": [system, ..kept.., ..new..], "tools": [..kept..]}

A conversation is sent again and again with a little more at its end. Messages are never changed
once sent, so the bytes of those already encoded are kept and recognised by identity.
"""

from __future__ import annotations

import base64
import hashlib
import operator
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from outcrop.messages import ContentBlock, Message, ToolResultBlock, ToolSpec
from outcrop.models.base import ConverseRequest, ModelRejected

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGES = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
_TEXT_OF = {"user": b'{"role":"user","content":', "assistant": b'{"role":"assistant","content":'}
_MOST_CONVERSATIONS = 64
_MOST_BYTES = 500_000
"""Encoded bytes kept. A conversation is worth keeping while its turn lasts and not longer, and the messages it holds
on to are many times larger than their bytes."""
_MOST_TOOL_SETS = 256


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How one server wants its requests.

    Shapes: extra_body is merged into every body; a request's own additional fields win over it.
    """

    max_tokens_field: str = "max_tokens"
    top_k: bool = False
    stream_usage: bool = True
    send_reasoning: bool = False
    extra_body: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class _Tools:
    specs: Sequence[ToolSpec]
    encoded: bytes
    names: Mapping[str, str]
    """Name on the wire -> name of the tool, for those that differ."""


@dataclass(frozen=True, slots=True)
class _Conversation:
    messages: tuple[Message, ...]
    parts: list[bytes]
    """One per message; empty where a message has nothing to send."""
    size: int


_NO_TOOLS = _Tools((), b"", {})


class ChatEncoder:
    """Encodes requests for one server, keeping the bytes of conversations and tool sets."""

    __slots__ = ("_bytes", "_conversations", "_options", "_tools")

    def __init__(self, options: ChatOptions | None = None) -> None:
        self._options = options or ChatOptions()
        self._conversations: OrderedDict[int, _Conversation] = OrderedDict()
        self._tools: OrderedDict[int, _Tools] = OrderedDict()
        self._bytes = 0

    def encode(self, request: ConverseRequest, model: str) -> tuple[bytes, Mapping[str, str]]:
        """The body, and the tool names to turn back (name on the wire -> name of the tool).

        Errors: ModelRejected when the request holds what this API cannot carry.
        """
        tools = self._tool_set(request.tools) if request.tools else _NO_TOOLS
        messages = self._history(request.messages)
        if request.system:
            system = b'{"role":"system","content":' + _json(request.system) + b"}"
            messages = system + b"," + messages if messages else system
        head = _json(self._parameters(request, model))[:-1]
        return b"".join((head, b',"messages":[', messages, b"]", tools.encoded, b"}")), tools.names

    def _parameters(self, request: ConverseRequest, model: str) -> dict[str, Any]:
        options, inference = self._options, request.inference
        body: dict[str, Any] = {"model": model, "stream": True}
        if options.stream_usage:
            body["stream_options"] = {"include_usage": True}
        if "maxTokens" in inference:
            body[options.max_tokens_field] = inference["maxTokens"]
        if "temperature" in inference:
            body["temperature"] = inference["temperature"]
        if "topP" in inference:
            body["top_p"] = inference["topP"]
        if "topK" in inference and options.top_k:
            body["top_k"] = inference["topK"]
        stops = inference.get("stopSequences")
        if stops:
            body["stop"] = stops
        body.update(options.extra_body)
        for key, value in request.additional.items():
            if key not in ("model", "messages", "tools", "stream"):
                body[key] = value
        return body

    def _history(self, messages: Sequence[Message]) -> bytes:
        """The messages' bytes, joined by commas; those sent before are taken as they were then."""
        if not messages:
            return b""
        key = id(messages[0])
        kept = self._conversations.get(key)
        # A kept conversation holds its messages, so no other message can have come to the same id.
        known = 0 if kept is None else _same(kept.messages, messages)
        if kept is not None and known == len(messages) == len(kept.messages):
            self._conversations.move_to_end(key)
            return _joined(kept.parts)
        parts = [] if kept is None else kept.parts[:known]
        for message in messages[known:]:
            parts.append(encode_message(message, self._options.send_reasoning))
        joined = _joined(parts)
        self._keep(key, _Conversation(tuple(messages), parts, len(joined)))
        return joined

    def _keep(self, key: int, conversation: _Conversation) -> None:
        conversations = self._conversations
        old = conversations.pop(key, None)
        self._bytes += conversation.size - (0 if old is None else old.size)
        conversations[key] = conversation
        while self._bytes > _MOST_BYTES or len(conversations) > _MOST_CONVERSATIONS:
            _, dropped = conversations.popitem(last=False)
            self._bytes -= dropped.size

    def _tool_set(self, specs: Sequence[ToolSpec]) -> _Tools:
        """The tools' bytes; kept only for tuples, since a list may have changed since."""
        kept = self._tools.get(id(specs))
        if kept is not None:
            self._tools.move_to_end(id(specs))
            return kept
        made = _encode_tools(specs)
        if isinstance(specs, tuple):
            self._tools[id(specs)] = made
            if len(self._tools) > _MOST_TOOL_SETS:
                self._tools.popitem(last=False)
        return made


def _encode_tools(specs: Sequence[ToolSpec]) -> _Tools:
    functions: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for spec in specs:
        name = wire_name(spec["name"])
        if name != spec["name"]:
            names[name] = spec["name"]
        schema: dict[str, Any] = spec["inputSchema"].get("json") or {"type": "object", "properties": {}}
        function: dict[str, Any] = {"name": name, "description": spec.get("description", ""), "parameters": schema}
        functions.append({"type": "function", "function": function})
    return _Tools(specs, b',"tools":' + _json(functions), names)


def wire_name(name: str) -> str:
    """A tool's name as this API allows it: as it is, or cut short with a hash that keeps it apart.

    Shapes: any text -> at most 64 letters, digits, underscores and hyphens; always the same for the same name.
    """
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_UNFIT.sub('_', name)[:55]}_{digest}"


def _same(kept: Sequence[Message], messages: Sequence[Message]) -> int:
    """How many messages at the start of both are the same objects."""
    if all(map(operator.is_, kept, messages)):
        return min(len(kept), len(messages))
    return next(i for i, (ours, theirs) in enumerate(zip(kept, messages, strict=False)) if ours is not theirs)


def _joined(parts: list[bytes]) -> bytes:
    return b",".join(parts) if all(parts) else b",".join(filter(None, parts))


def encode_message(message: Message, send_reasoning: bool = False) -> bytes:
    """One Converse message as chat messages, joined by commas: one per tool result, then one for the rest.

    Errors: ModelRejected when a block is of a kind that this API cannot carry.
    """
    blocks = message["content"]
    if len(blocks) == 1 and "text" in blocks[0]:
        return b"".join((_TEXT_OF[message["role"]], _json(blocks[0]["text"]), b"}"))
    if message["role"] == "assistant":
        return _json(_assistant(blocks, send_reasoning))
    found: list[bytes] = []
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if "toolResult" in block:
            found.append(_json(_tool_message(block["toolResult"])))
        else:
            parts.extend(_part(block))
    if parts:
        found.append(_json({"role": "user", "content": _plain(parts)}))
    return b",".join(found)


def _assistant(blocks: Sequence[ContentBlock], send_reasoning: bool) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        if "text" in block:
            texts.append(block["text"])
        elif "toolUse" in block:
            use = block["toolUse"]
            function = {"name": wire_name(use["name"]), "arguments": _json(use["input"]).decode()}
            calls.append({"id": use["toolUseId"], "type": "function", "function": function})
        elif "reasoningContent" in block:
            thoughts.append(str(block["reasoningContent"].get("reasoningText", {}).get("text", "")))
        else:
            _part(block)
    content = "".join(texts)
    said: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else "")}
    if calls:
        said["tool_calls"] = calls
    if send_reasoning and any(thoughts):
        said["reasoning_content"] = "".join(thoughts)
    return said


def _tool_message(result: ToolResultBlock) -> dict[str, Any]:
    texts: list[str] = []
    for item in result["content"]:
        if "text" in item:
            texts.append(str(item["text"]))
        elif "json" in item:
            texts.append(_json(item["json"]).decode())
        else:
            raise ModelRejected(f"a tool result of kind '{next(iter(item), 'nothing')}' cannot be sent to this model")
    text = "\n".join(texts)
    if result.get("status") == "error":
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": result["toolUseId"], "content": text}


def _part(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A block of a user message as a content part; cache points have no meaning here."""
    if "text" in block:
        return [{"type": "text", "text": block["text"]}]
    if "cachePoint" in block:
        return []
    image = block.get("image")
    if isinstance(image, Mapping):
        return [{"type": "image_url", "image_url": {"url": _data_url(cast("Mapping[str, Any]", image))}}]
    raise ModelRejected(f"a content block of kind '{next(iter(block), 'nothing')}' cannot be sent to this model")


def _data_url(image: Mapping[str, Any]) -> str:
    kind, data = _IMAGES.get(str(image.get("format"))), image.get("source", {}).get("bytes")
    if kind is None or not isinstance(data, bytes | str):
        raise ModelRejected("an image must be png, jpeg, gif or webp, given as bytes")
    # JSON-stored messages hold the bytes in base64 already
    encoded = data if isinstance(data, str) else base64.b64encode(data).decode()
    return f"data:{kind};base64,{encoded}"


def _plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text alone as one string, which every server understands."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ModelRejected(f"the request cannot be written as JSON: {error}") from error
