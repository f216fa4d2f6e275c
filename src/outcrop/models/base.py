"""The protocol of a model provider, its request and events, and the errors it may raise.

    ConverseRequest --stream()--> Delta, Delta, ... --fold()--> Reply

A provider has one method and it streams; the whole reply is the stream folded up. Deltas
are the events of Bedrock's ConverseStream as plain dicts, so providers that already speak
it pass them through.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict, cast

import orjson

from outcrop.errors import RoomError
from outcrop.messages import ContentBlock, Message, ToolSpec, ToolUse, Usage


class InferenceConfig(TypedDict, total=False):
    """Sampling settings, absent where the provider's own default applies."""

    maxTokens: int
    temperature: float
    topP: float
    topK: int
    stopSequences: list[str]


@dataclass(frozen=True, slots=True)
class ConverseRequest:
    """One model call.

    Shapes: messages alternate user and assistant, oldest first; every toolUse is answered by a
            toolResult in the next message. Messages are never changed in place once sent, so a
            provider may keep what it derived from one (by identity) for the next call.
    """

    model_id: str
    messages: Sequence[Message]
    system: str = ""
    tools: Sequence[ToolSpec] = ()
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    additional: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Delta(TypedDict, total=False):
    """One ConverseStream event, a union: exactly one member is present.

    Shapes: messageStart {role}; contentBlockStart {contentBlockIndex, start {toolUse {toolUseId, name}}};
            contentBlockDelta {contentBlockIndex, delta {text | toolUse {input} | reasoningContent {text | signature}}};
            contentBlockStop {contentBlockIndex}; messageStop {stopReason};
            metadata {usage {inputTokens, outputTokens, totalTokens}}.
            Text blocks may start without contentBlockStart; contentBlockIndex may be absent.
    """

    messageStart: dict[str, Any]
    contentBlockStart: dict[str, Any]
    contentBlockDelta: dict[str, Any]
    contentBlockStop: dict[str, Any]
    messageStop: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished model reply.

    Shapes: stop_reason is Converse's: end_turn, tool_use, max_tokens, stop_sequence, content_filtered.
            usage is counted by the provider, or estimated where the provider sends none (`estimated`).
    """

    message: Message
    stop_reason: str
    usage: Usage
    estimated: bool = False


class ModelProvider(Protocol):
    """Answers Converse requests as a stream."""

    def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        """The reply as events, in order; ends after messageStop (and metadata, where the provider counts).

        Errors: ModelError and its kinds, before or between events.
        """
        ...

    async def close(self) -> None:
        """Give back connections; the provider is not used afterwards."""
        ...


class ModelError(RoomError):
    """The model call failed."""

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        """Keep the message and, where the provider said so, the seconds to wait before the next attempt."""
        super().__init__(message or (type(self).__doc__ or ""))
        self.retry_after_s = retry_after_s


class ModelThrottled(ModelError):
    """The provider refused the call because of its rate; retrying later may succeed."""


class ModelUnavailable(ModelError):
    """The provider could not be reached, answered with a server error, or broke off in mid-stream."""


class ModelTimedOut(ModelError):
    """The provider did not answer within the time limit."""


class ModelAccessDenied(ModelError):
    """The provider rejected the credentials, or the model is not open to them."""


class ModelRejected(ModelError):
    """The provider rejected the request itself; the message is the provider's own."""


class ModelNotReady(ModelError):
    """The model is still being loaded."""


class ToolInputMalformed(ModelError):
    """The model wrote a tool input that is no JSON object."""


class Folder:
    """Collects deltas into a reply, for those who also want to see each delta as it passes.

    Shapes: feed(delta) any number of times, then reply(). Blocks that carry an index may interleave;
            without one, a delta belongs to the block before it. Redacted reasoning is kept in base64.
    """

    __slots__ = ("_at", "_blocks", "_head", "_index", "_kind", "_pieces", "_stop", "_usage")

    def __init__(self) -> None:
        self._blocks: list[tuple[str, dict[str, Any], list[str]]] = []
        self._at: dict[int, tuple[str, dict[str, Any], list[str]]] = {}
        self._kind = ""
        self._index: int | None = None
        self._head: dict[str, Any] = {}
        self._pieces: list[str] = []
        self._stop = "end_turn"
        self._usage: Usage | None = None

    def feed(self, delta: Delta) -> None:
        """Take in one event; events that carry no content only close or open blocks."""
        if "contentBlockDelta" in delta:
            event = delta["contentBlockDelta"]
            part = event["delta"]
            if "text" in part:
                self._turn_to("text", event.get("contentBlockIndex"))
                self._pieces.append(part["text"])
            elif "toolUse" in part:
                self._turn_to("toolUse", event.get("contentBlockIndex"))
                self._pieces.append(part["toolUse"].get("input", ""))
            elif "reasoningContent" in part:
                self._reason(part["reasoningContent"], event.get("contentBlockIndex"))
        elif "contentBlockStart" in delta:
            event = delta["contentBlockStart"]
            start = event.get("start", {})
            if "toolUse" in start:
                self._open("toolUse", event.get("contentBlockIndex"), dict(start["toolUse"]))
        elif "contentBlockStop" in delta:
            self._kind = ""
        elif "messageStop" in delta:
            self._stop = delta["messageStop"].get("stopReason", "end_turn")
        elif "metadata" in delta and "usage" in delta["metadata"]:
            counted = delta["metadata"]["usage"]
            sent, made = int(counted.get("inputTokens", 0)), int(counted.get("outputTokens", 0))
            self._usage = {"inputTokens": sent, "outputTokens": made, "totalTokens": sent + made}

    def _reason(self, reasoning: dict[str, Any], index: int | None) -> None:
        self._turn_to("reasoningContent", index)
        self._pieces.append(reasoning.get("text", ""))
        # a message is stored as JSON, which has no bytes
        kept = {k: b64encode(v).decode() if isinstance(v, bytes) else v for k, v in reasoning.items() if k != "text"}
        self._head.update(kept)

    def _turn_to(self, kind: str, index: int | None) -> None:
        if kind == self._kind and index == self._index:
            return
        known = None if index is None else self._at.get(index)
        if known is not None and known[0] == kind:
            self._kind, self._index = kind, index
            _, self._head, self._pieces = known
        else:
            self._open(kind, index, {})

    def _open(self, kind: str, index: int | None, head: dict[str, Any]) -> None:
        block: tuple[str, dict[str, Any], list[str]] = (kind, head, [])
        self._blocks.append(block)
        if index is not None:
            self._at[index] = block
        self._kind, self._index = kind, index
        _, self._head, self._pieces = block

    def reply(self, request: ConverseRequest) -> Reply:
        """The whole reply; tokens are estimated from the request's length where none were counted.

        Errors: ToolInputMalformed when a tool input is no JSON object.
        """
        content: list[ContentBlock] = []
        for kind, head, pieces in self._blocks:
            text = "".join(pieces)
            if kind == "text":
                if text:
                    content.append({"text": text})
            elif kind == "toolUse":
                name = str(head["name"])
                # what a provider added to its call, such as a signature it wants back, stays with the message
                use = cast("ToolUse", {**head, "input": _input(name, text)})
                content.append({"toolUse": use})
            elif text:
                content.append({"reasoningContent": {"reasoningText": {"text": text, **head}}})
            elif head:
                content.append({"reasoningContent": head})
        message: Message = {"role": "assistant", "content": content}
        if self._usage is not None:
            return Reply(message, self._stop, self._usage)
        return Reply(message, self._stop, _estimate(request, message), estimated=True)


async def fold(deltas: AsyncIterator[Delta], request: ConverseRequest) -> Reply:
    """A whole stream as one reply.

    Errors: what the stream raises; ToolInputMalformed.
    """
    folder = Folder()
    async for delta in deltas:
        folder.feed(delta)
    return folder.reply(request)


def _input(name: str, text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ToolInputMalformed(f"the input of tool {name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ToolInputMalformed(f"the input of tool {name} is not a JSON object")
    return cast(dict[str, Any], value)


_CHARACTERS_PER_TOKEN = 4
"""A common rule of thumb for English text; used only where a provider counts nothing."""


def _estimate(request: ConverseRequest, message: Message) -> Usage:
    asked = [request.system, list(request.messages), list(request.tools)]
    sent = len(orjson.dumps(asked, default=str)) // _CHARACTERS_PER_TOKEN
    made = max(1, len(orjson.dumps(message["content"])) // _CHARACTERS_PER_TOKEN)
    return {"inputTokens": sent, "outputTokens": made, "totalTokens": sent + made}
