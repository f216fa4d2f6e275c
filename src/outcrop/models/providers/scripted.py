"""A model that says what was written for it in advance: the double for tests and demonstrations.

    ScriptedModel(["Hello.", [thinking("Stock first."), call("get_inventory", {"sku": "SKU-55"})], "42 in stock."])

One reply per model call, in order. A call beyond the script, a reply that cannot be one, and replies
left over are mistakes of the script and raise ScriptMistake. `outcrop.testing` hands it to users.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import orjson

from outcrop.config import Binding, ConfigMistake, check_keys
from outcrop.models import resilience
from outcrop.models.base import (
    ConverseRequest,
    Delta,
    ModelAccessDenied,
    ModelError,
    ModelNotReady,
    ModelProvider,
    ModelRejected,
    ModelThrottled,
    ModelTimedOut,
    ModelUnavailable,
)
from outcrop.models.settings import switch, word

_PIECE = re.compile(r"\s*\S+|\s+$")
_WORD = re.compile(r"\S+")


class ScriptMistake(AssertionError):
    """The script does not fit the conversation: used up, left over, or not a reply at all."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that the scripted model makes."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning that the scripted model shows before its reply."""

    text: str


_Ready: TypeAlias = str | Call | Thought | BaseException
Part: TypeAlias = _Ready | type[BaseException]
Reply: TypeAlias = Part | Sequence[Part] | Callable[[ConverseRequest], "Part | Sequence[Part]"]
"""A text, a call, an error to raise, several of them in order, or a function that gives one of these."""


def call(name: str, tool_input: Mapping[str, Any] | None = None) -> Call:
    """A tool call with its input."""
    return Call(name, dict(tool_input or {}))


def thinking(text: str) -> Thought:
    """Reasoning that precedes a reply."""
    return Thought(text)


class ScriptedModel:
    """Answers each request with the next reply of a script, and keeps the requests it saw.

    Shapes: texts come in pieces of one word; tool calls have the ids tooluse_1, tooluse_2, ... in the
            order of the script; usage counts words: of the system text and the messages for input,
            pieces sent for output.
    """

    def __init__(self, replies: Sequence[Reply] = (), *, repeat: bool = False) -> None:
        """Keep the replies; with `repeat` the script starts over when it is used up.

        Errors: ScriptMistake naming the first reply that cannot be one.
        """
        if isinstance(replies, str):
            raise ScriptMistake("a script is a list of replies, not one text")
        self._replies: list[Reply] = list(replies)
        for number, reply in enumerate(self._replies, 1):
            if _is_written_by_hand(reply):
                _parts(reply, number)
        self._repeat = repeat
        self._next = 0
        self._uses = 0
        self.requests: list[ConverseRequest] = []
        """Every request so far, oldest first."""

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        """The next reply of the script.

        Errors: ScriptMistake when none is left, or the reply's function gives none; what the script says to raise.
        """
        self.requests.append(request)
        written, sent = self._take(request), 0
        if written and isinstance(written[0], BaseException):
            raise written[0]
        yield {"messageStart": {"role": "assistant"}}
        for index, part in enumerate(written):
            if isinstance(part, BaseException):
                raise part
            for delta in self._deltas(part, index):
                sent += "contentBlockDelta" in delta
                yield delta
        called = any(isinstance(part, Call) for part in written)
        yield {"messageStop": {"stopReason": "tool_use" if called else "end_turn"}}
        read = _words(request)
        yield {"metadata": {"usage": {"inputTokens": read, "outputTokens": sent, "totalTokens": read + sent}}}

    async def close(self) -> None:
        """Nothing is held."""

    def then(self, *replies: Reply) -> None:
        """Write more replies to the end of the script.

        Errors: ScriptMistake naming the first that cannot be one.
        """
        for number, reply in enumerate(replies, len(self._replies) + 1):
            if _is_written_by_hand(reply):
                _parts(reply, number)
        self._replies.extend(replies)

    def assert_finished(self) -> None:
        """Complain about replies that nobody asked for.

        Errors: ScriptMistake with the first of them.
        """
        left = len(self._replies) - self._next
        if left > 0 and not self._repeat:
            first = _shown(self._replies[self._next])
            raise ScriptMistake(f"{left} of {len(self._replies)} replies were never asked for; the next is {first}")

    def _take(self, request: ConverseRequest) -> list[_Ready]:
        if self._repeat and self._replies:
            self._next %= len(self._replies)
        if self._next >= len(self._replies):
            raise ScriptMistake(
                f"call {len(self.requests)} of the model is not in the script of {len(self._replies)} replies; "
                f"its last message is {_shown(request.messages[-1] if request.messages else None)}"
            )
        reply = self._replies[self._next]
        self._next += 1
        if isinstance(reply, type) or not callable(reply):
            return _parts(reply, self._next)
        return _parts(reply(request), self._next)

    def _deltas(self, part: str | Call | Thought, index: int) -> list[Delta]:
        found: list[Delta] = []
        if isinstance(part, Call):
            self._uses += 1
            start = {"toolUse": {"toolUseId": f"tooluse_{self._uses}", "name": part.name}}
            found.append({"contentBlockStart": {"contentBlockIndex": index, "start": start}})
            text = orjson.dumps(dict(part.input)).decode()
            middle = len(text) // 2
            pieces: list[dict[str, Any]] = [{"toolUse": {"input": half}} for half in (text[:middle], text[middle:])]
        elif isinstance(part, Thought):
            pieces = [{"reasoningContent": {"text": piece}} for piece in _PIECE.findall(part.text)]
        else:
            pieces = [{"text": piece} for piece in _PIECE.findall(part)]
        found.extend({"contentBlockDelta": {"contentBlockIndex": index, "delta": piece}} for piece in pieces)
        found.append({"contentBlockStop": {"contentBlockIndex": index}})
        return found


def _is_written_by_hand(reply: Any) -> bool:
    """Whether a reply is known now; a function's is known only when the model is asked."""
    return isinstance(reply, type) or not callable(reply)


def _parts(reply: Any, number: int) -> list[_Ready]:
    """A reply as the list of its parts.

    Errors: ScriptMistake when it is none.
    """
    items: list[Any] = list(cast("Sequence[Any]", reply)) if isinstance(reply, list | tuple) else [reply]
    parts: list[_Ready] = []
    for item in items:
        if isinstance(item, type) and issubclass(item, BaseException):
            parts.append(item())
        elif isinstance(item, str | Call | Thought | BaseException):
            parts.append(item)
        else:
            raise ScriptMistake(
                f"reply {number} of the script is {_shown(item)}; "
                "a reply is a text, call(...), thinking(...), an error, a list of these, or a function giving one"
            )
    if not parts:
        raise ScriptMistake(f"reply {number} of the script is empty")
    return parts


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _words(request: ConverseRequest) -> int:
    return sum(len(_WORD.findall(text)) for text in (request.system, *_texts(list(request.messages))))


def _texts(value: Any) -> list[str]:
    """Every text within a message's content, tool inputs and results included, but not ids and kinds."""
    if isinstance(value, Mapping):
        held = cast("Mapping[str, Any]", value)
        skipped = ("role", "toolUseId", "status", "signature")
        return [text for key, item in held.items() if key not in skipped for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in cast("list[Any]", value) for text in _texts(item)]
    return [value] if isinstance(value, str) else []


_ERRORS: Mapping[str, type[ModelError]] = {
    "access_denied": ModelAccessDenied,
    "not_ready": ModelNotReady,
    "rejected": ModelRejected,
    "throttled": ModelThrottled,
    "timed_out": ModelTimedOut,
    "unavailable": ModelUnavailable,
}


def provider(binding: Binding) -> ModelProvider:
    """The scripted model of a JSON file: `path` names it, `repeat` starts it over when it is used up.

    Shapes: a list of replies; each is a text or {thinking, text, calls: [{name, input}], error, message},
            all optional; error is access_denied, not_ready, rejected, throttled, timed_out or unavailable.
    Errors: ConfigMistake when the file cannot be read or holds something else.
    """
    place = f"[models] '{binding.pattern}'"
    check_keys(place, binding.settings, ("provider", "model", "path", "repeat", *resilience.KEYS))
    path = word(binding, "path")
    if not path:
        raise ConfigMistake(f"{place}: a scripted model needs the path of its script")
    try:
        replies = orjson.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigMistake(f"{place}: {path}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise ConfigMistake(f"{place}: {path} is not JSON: {error}") from error
    if not isinstance(replies, list):
        raise ConfigMistake(f"{place}: {path} is not a list of replies")
    written = [_read(f"{place}: {path}, reply {n}", reply) for n, reply in enumerate(cast("list[Any]", replies), 1)]
    return ScriptedModel(written, repeat=switch(binding, "repeat", False))


def _read(place: str, reply: Any) -> Sequence[Part]:
    """A reply as the JSON file writes it."""
    if isinstance(reply, str):
        return [reply]
    if not isinstance(reply, dict) or not reply:
        raise ConfigMistake(f"{place}: {_shown(reply)} is neither a text nor an object with text or calls")
    given = cast("dict[str, Any]", reply)
    check_keys(place, given, ("thinking", "text", "calls", "error", "message"))
    parts: list[Part] = []
    if given.get("thinking"):
        parts.append(Thought(str(given["thinking"])))
    if given.get("text"):
        parts.append(str(given["text"]))
    calls: list[Any] = given.get("calls", [])
    for item in calls:
        asked = cast("dict[str, Any]", item if isinstance(item, dict) else {})
        if not isinstance(asked.get("name"), str) or not isinstance(asked.get("input", {}), dict):
            raise ConfigMistake(f"{place}: {_shown(item)} is no call with a name and an input")
        parts.append(call(asked["name"], asked.get("input")))
    if "error" in given:
        if given["error"] not in _ERRORS:
            raise ConfigMistake(f"{place}: error {given['error']!r} is not one of {', '.join(_ERRORS)}")
        parts.append(_ERRORS[given["error"]](str(given.get("message", "the script says so"))))
    return parts
