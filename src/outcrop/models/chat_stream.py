"""The event stream of an OpenAI chat-completions server as Converse events; pure, used by `providers/openai`.

    bytes, as they are read --feed()--> Delta, Delta, ...   --finish()--> the last ones

Servers differ in what they leave out: ids and indexes of tool calls, finish reasons, usage, the
final [DONE]. What can be understood is; a stream that ends before the model has is an error.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, cast

import orjson

from outcrop.models.base import Delta, ModelError, ModelUnavailable
from outcrop.models.failures import failure, told

_STOPS = {
    "stop": "end_turn",
    "eos": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
}
_STATUS_OF = {
    "BadRequestError": 400,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}


class ChatDecoder:
    """Reads one reply.

    Shapes: names maps the tool names on the wire to the tools' own, for those that differ. `done` says
            that the server has sent its [DONE].
    """

    __slots__ = (
        "_calls",
        "_index",
        "_kind",
        "_last",
        "_names",
        "_next",
        "_partial",
        "_rest",
        "_stop",
        "_usage",
        "done",
    )

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self._names = names or {}
        self._rest = b""
        self._partial: list[bytes] = []
        self._kind = ""
        self._index = 0
        self._next = -1
        """The index of the next block; below zero until the reply has begun."""
        self._calls: dict[int | str, tuple[int, str]] = {}
        """What tells a call from others in this stream -> its block's index and the id it was given."""
        self._last: int | str | None = None
        self._stop = ""
        self._usage: Mapping[str, Any] | None = None
        self.done = False

    def feed(self, data: bytes) -> list[Delta]:
        """The events that these bytes complete; the rest waits for more.

        Errors: ModelError's kinds, as the server reports a failure in mid-stream; ModelUnavailable when
                an event cannot be read.
        """
        found: list[Delta] = []
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line, found)
        return found

    def finish(self) -> list[Delta]:
        """The last events: the blocks' ends, the stop reason, and the usage where the server counts.

        Errors: ModelUnavailable when the stream ended before the model had.
        """
        found: list[Delta] = []
        if self._rest:
            rest, self._rest = self._rest, b""
            self._line(rest, found)
        if not self._stop and not self.done:
            raise ModelUnavailable("the model server broke off before the reply was complete")
        self._begin(found)
        self._end_block(found)
        found.extend({"contentBlockStop": {"contentBlockIndex": index}} for index, _ in self._calls.values())
        found.append({"messageStop": {"stopReason": self._stop_reason()}})
        if self._usage is not None:
            sent, made = _count(self._usage, "prompt_tokens"), _count(self._usage, "completion_tokens")
            usage = {"inputTokens": sent, "outputTokens": made, "totalTokens": sent + made}
            found.append({"metadata": {"usage": usage}})
        return found

    def whole(self, body: bytes) -> list[Delta]:
        """All events of a reply that a server sent in one piece, though it was asked to stream.

        Errors: as feed and finish.
        """
        found: list[Delta] = []
        self._data(body, found)
        self.done = self.done or self._next >= 0
        return found + self.finish()

    def _line(self, line: bytes, found: list[Delta]) -> None:
        if line[:5] == b"data:":
            self._data(line[5:], found)
        elif self._partial and not line.strip():
            raise ModelUnavailable(f"the model server sent an event that is not JSON: {_start(self._partial[0])}")

    def _data(self, data: bytes, found: list[Delta]) -> None:
        if self._partial:
            # an event may be spread over several data lines
            data = b"\n".join((*self._partial, data))
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            if data.strip() == b"[DONE]":
                self.done = True
            elif data.strip():
                self._partial = [data]
            return
        self._partial = []
        if isinstance(event, dict) and not self.done:
            try:
                self._event(cast("dict[str, Any]", event), found)
            except (AttributeError, IndexError, KeyError, TypeError) as error:
                raise ModelUnavailable(f"the model server sent an event of an unknown form: {_start(data)}") from error

    def _event(self, event: dict[str, Any], found: list[Delta]) -> None:
        choices = event.get("choices")
        usage = event.get("usage")
        if isinstance(usage, dict):
            self._usage = cast("dict[str, Any]", usage)
        if not choices:
            if event.get("error") or event.get("object") == "error":
                raise _reported(event)
            return
        if self._next < 0:
            self._begin(found)
        choice = choices[0]
        delta = choice.get("delta") or choice.get("message")
        if delta:
            more = len(delta) > 1 or "content" not in delta
            if more:
                self._think(delta, found)
            text = delta.get("content")
            if text:
                self._speak("text", text if isinstance(text, str) else _joined(text), found)
            if more:
                self._tool_calls(delta, found)
        reason = choice.get("finish_reason")
        if reason:
            self._stop = _STOPS.get(reason, "end_turn")

    def _begin(self, found: list[Delta]) -> None:
        if self._next < 0:
            self._next = 0
            found.append({"messageStart": {"role": "assistant"}})

    def _think(self, delta: dict[str, Any], found: list[Delta]) -> None:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and isinstance(thought, str):
            self._speak("reasoningContent", thought, found)
        if delta.get("refusal"):
            self._speak("text", str(delta["refusal"]), found)

    def _speak(self, kind: str, text: str, found: list[Delta]) -> None:
        if kind != self._kind:
            self._end_block(found)
            self._kind, self._index = kind, self._next
            self._next += 1
        part = {"text": text} if kind == "text" else {"reasoningContent": {"text": text}}
        found.append({"contentBlockDelta": {"contentBlockIndex": self._index, "delta": part}})

    def _end_block(self, found: list[Delta]) -> None:
        if self._kind:
            found.append({"contentBlockStop": {"contentBlockIndex": self._index}})
            self._kind = ""

    def _tool_calls(self, delta: dict[str, Any], found: list[Delta]) -> None:
        pieces: list[dict[str, Any]] = delta.get("tool_calls") or []
        if delta.get("function_call"):
            pieces = [{"index": 0, "function": delta["function_call"]}]
        for piece in pieces:
            function: dict[str, Any] = piece.get("function") or {}
            name: str = function.get("name") or ""
            key = self._key_of(piece, name)
            if key not in self._calls:
                self._open_call(key, str(piece.get("id") or ""), name, found)
            self._last = key
            arguments = function.get("arguments")
            if arguments:
                text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
                event = {"contentBlockIndex": self._calls[key][0], "delta": {"toolUse": {"input": text}}}
                found.append({"contentBlockDelta": event})

    def _key_of(self, piece: dict[str, Any], name: str) -> int | str:
        """What tells this piece's call from others: its index, its id, or that it is named at all."""
        given = str(piece.get("id") or "")
        index = piece.get("index")
        if isinstance(index, int):
            known = self._calls.get(index)
            # some servers send every call whole and number them all 0
            return given if known is not None and name and given and known[1] not in ("", given) else index
        if given:
            return given
        if name or self._last is None:
            return f"#{len(self._calls)}"
        return self._last

    def _open_call(self, key: int | str, given: str, name: str, found: list[Delta]) -> None:
        if not name:
            raise ModelUnavailable("the model server sent a tool call without a name")
        self._end_block(found)
        self._calls[key] = (self._next, given)
        use = {"toolUseId": given or f"call_{secrets.token_hex(12)}", "name": self._names.get(name, name)}
        found.append({"contentBlockStart": {"contentBlockIndex": self._next, "start": {"toolUse": use}}})
        self._next += 1

    def _stop_reason(self) -> str:
        """Converse's stop reason; a server may say `stop` though it asks for tools, or nothing at all."""
        stop = self._stop or "end_turn"
        if stop == "end_turn" and self._calls:
            return "tool_use"
        return "end_turn" if stop == "tool_use" and not self._calls else stop


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0


def _start(data: bytes) -> str:
    return told(data[:80].decode("utf-8", "replace"))


def _joined(parts: Any) -> str:
    """The text of content that came as a list of parts."""
    held = cast("list[Any]", parts if isinstance(parts, list) else [])
    return "".join(str(cast("dict[str, Any]", part).get("text") or "") for part in held if isinstance(part, dict))


def error_text(body: Any) -> str:
    """What an error body says, in the shapes that servers use: {error: {message}}, {error}, {message}, {detail}."""
    if isinstance(body, Mapping):
        held = cast("Mapping[str, Any]", body)
        for key in ("error", "message", "detail"):
            if held.get(key):
                return error_text(held[key])
        return ""
    return "" if body is None else str(body)


def _reported(event: dict[str, Any]) -> ModelError:
    """The error of an event that reports one; without a telling code it is the server's fault."""
    error = event.get("error")
    details = cast("dict[str, Any]", error) if isinstance(error, dict) else event
    status = 500
    for key in ("code", "status", "type"):
        value = details.get(key)
        if isinstance(value, int) and 400 <= value < 600:
            status = value
            break
        if str(value) in _STATUS_OF:
            status = _STATUS_OF[str(value)]
            break
    return failure(status, told(error_text(event)) or "the model server reported an error")
