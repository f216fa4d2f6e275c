"""A conversation in Converse's shapes, read as exchanges: what the user said, what was called, what was answered.

    messages -> [Exchange(text, calls, answer), ...]

Called by the offline model's planner. A reply given through the ask-user tool counts as the
user speaking. Nothing here judges or acts on a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from outcrop.messages import Message
from outcrop.models.offline.tools import ASK_USER

_THINKING = re.compile(r"<thinking>.*?(?:</thinking>|\Z)", re.S)
_FAILED = re.compile(r"^\W*(?:error|exception|failed|failure|traceback)\b", re.I)
_FAULT_KEYS = ("error", "errorMessage", "error_message", "errors", "exception", "fault")


@dataclass(slots=True)
class Result:
    """What a tool answered.

    Shapes: data is the parsed JSON where the text is JSON, else None.
    """

    text: str
    failed: bool
    data: Any = None


@dataclass(slots=True)
class Call:
    """A tool call with its result, None while it has none."""

    name: str
    input: Mapping[str, Any]
    result: Result | None = None


@dataclass(slots=True)
class Exchange:
    """One utterance of the user and all that followed before the next."""

    text: str
    calls: list[Call] = field(default_factory=list[Call])
    answer: str = ""


def exchanges(messages: Sequence[Message]) -> list[Exchange]:
    """The conversation, oldest first; what an assistant says before any user does is left out."""
    reader = _Reader()
    for message in messages:
        reader.read(message)
    return reader.found


class _Reader:
    def __init__(self) -> None:
        self.found: list[Exchange] = []
        self._open: dict[str, Call] = {}

    def read(self, message: Message) -> None:
        said: list[str] = []
        for block in message.get("content") or ():
            if "text" in block:
                said.append(_sound(block["text"]))
            elif "toolUse" in block and self.found:
                use = block["toolUse"]
                self._call(str(use.get("toolUseId", "")), use["name"], use.get("input") or {})
            elif "toolResult" in block:
                result = cast("Mapping[str, Any]", block["toolResult"])
                self._result(str(result.get("toolUseId", "")), result)
        text = "".join(said)
        if message["role"] == "user" and (text.strip() or not self.found):
            self.found.append(Exchange(text))
        elif message["role"] == "assistant" and self.found:
            self.found[-1].answer += _THINKING.sub("", text).strip()

    def _call(self, key: str, name: str, given: Mapping[str, Any]) -> None:
        call = Call(name, given)
        self._open[key] = call
        if name == ASK_USER:
            self.found[-1].answer += f"\n{given.get('question', '')}"
        else:
            self.found[-1].calls.append(call)

    def _result(self, key: str, result: Mapping[str, Any]) -> None:
        call = self._open.get(key)
        if call is None:
            return
        call.result = _read_result(result)
        if call.name == ASK_USER:
            self.found.append(Exchange(call.result.text))


def _read_result(result: Mapping[str, Any]) -> Result:
    texts: list[str] = []
    data: Any = None
    for block in cast("Sequence[Mapping[str, Any]]", result.get("content") or ()):
        if "json" in block:
            data = block["json"]
            texts.append(_written(data))
        elif "text" in block:
            texts.append(_sound(str(block["text"])))
    text = "\n".join(texts).strip()
    if data is None and text[:1] in ("{", "[", '"'):
        data = _parsed(text)
    return Result(text, result.get("status") == "error" or _says_failed(text, data), data)


def _written(data: Any) -> str:
    try:
        return orjson.dumps(data, default=str).decode()
    except TypeError:  # nested too deep
        return "..."


def _sound(text: str) -> str:
    """The text without halves of characters, which no tool input can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _says_failed(text: str, data: Any) -> bool:
    if isinstance(data, dict):
        return any(cast("dict[str, Any]", data).get(key) for key in _FAULT_KEYS)
    return data is None and bool(_FAILED.match(text[:200]))
