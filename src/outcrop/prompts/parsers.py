"""Model text into thinking and answer, whole or while it streams.

    "<thinking>why</thinking> The answer."   ->  thinking "why", answer "The answer."
    "<answer>The answer.</answer>"           ->  answer "The answer."

Called by the performer (streaming) and the strategies (whole replies). It knows nothing of
tools: whether text stands before a tool call is for the caller to see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_THINKING = re.compile(r"<thinking>(.*?)(?:</thinking>|\Z)", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_OPENERS = ("<thinking>", "<answer>")
_LONGEST = max(len("</thinking>"), len("</answer>"))


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply's text, taken apart."""

    thinking: str
    answer: str


def split(text: str) -> Spoken:
    """Thinking and answer of a whole reply; without tags all of it is the answer.

    Shapes: an end tag may be missing, since a stop sequence cuts it off.
    Source: docs/behaviour/invoke-agent.md 10 (stated)
    """
    if "<" not in text:
        return Spoken("", text.strip())
    thinking = "\n".join(part.strip() for part in _THINKING.findall(text) if part.strip())
    rest = _THINKING.sub("", text)
    tagged = _ANSWER.search(rest)
    return Spoken(thinking, (tagged.group(1) if tagged else rest).strip())


class AnswerStream:
    """Lets the answer through while the model writes, and keeps thinking and tags back.

    Shapes: feed(piece) -> the text that may go out now; end() -> what was still held. `hold` is how
            many characters of untagged text wait for the reply to turn out to be an answer: text that
            stands before a tool call is no answer, and short preambles must not leak.
    """

    __slots__ = ("_before", "_hold", "_mode", "_pending", "_released")

    def __init__(self, hold: int) -> None:
        self._before = ""
        self._hold = hold
        self._mode = "text"
        self._pending = ""
        self._released = False

    @property
    def released(self) -> bool:
        """Whether any text went out."""
        return self._released

    def feed(self, piece: str) -> str:
        """Take in a piece of the reply; what of it, and of what was held, is surely answer."""
        if self._released and self._mode == "text" and not self._pending and "<" not in piece:
            return piece
        self._pending += piece
        out = ""
        while (step := self._advance()) is not None:
            out += step
        return self._let_out(out)

    def end(self) -> str:
        """What was held back, once the reply is known to be the answer."""
        rest = self._before if self._mode == "thinking" else "" if self._mode == "done" else self._pending
        self._pending = ""
        if self._mode == "answer":
            rest = re.sub(r"<(/(a(n(s(w(er?)?)?)?)?)?)?\Z", "", rest)
        if not self._released:
            rest = rest.lstrip()
        self._released = self._released or bool(rest)
        return rest

    def _let_out(self, out: str) -> str:
        if out and not self._released:
            out = out.lstrip()
        self._released = self._released or bool(out)
        return out

    def _advance(self) -> str | None:
        """One move over the pending text: what it lets out, or None when it must wait for more."""
        if self._mode == "done":
            self._pending = ""
            return None
        if self._mode == "thinking":
            return self._skip_thinking()
        if self._mode == "answer":
            return self._pass_answer()
        return self._pass_text()

    def _skip_thinking(self) -> str | None:
        end = self._pending.find("</thinking>")
        if end < 0:
            self._pending = self._pending[-_LONGEST:]
            return None
        self._pending = self._before + self._pending[end + len("</thinking>") :]
        self._before = ""
        self._mode = "text"
        return ""

    def _pass_answer(self) -> str | None:
        end = self._pending.find("</answer>")
        if end >= 0:
            out = self._pending[:end].rstrip()
            self._mode, self._pending = "done", ""
            return out
        return self._cut(self._safe_length(("</answer>",)))

    def _pass_text(self) -> str | None:
        found = [(at, tag) for tag in _OPENERS if (at := self._pending.find(tag)) >= 0]
        if found:
            at, tag = min(found)
            before, self._pending = self._pending[:at], self._pending[at + len(tag) :]
            self._mode = tag[1:-1]
            if self._released:
                return before
            # Before an answer tag it is preamble; before a thought it may still be the answer.
            self._before = before if self._mode == "thinking" else ""
            return ""
        if not self._released and len(self._pending.lstrip()) <= self._hold:
            return None
        return self._cut(self._safe_length(_OPENERS))

    def _safe_length(self, tags: tuple[str, ...]) -> int:
        """How much of the pending text cannot be the beginning of a tag."""
        at = self._pending.rfind("<")
        if at >= 0 and any(tag.startswith(self._pending[at:]) for tag in tags):
            return at
        return len(self._pending)

    def _cut(self, length: int) -> str | None:
        if length == 0:
            return None
        out, self._pending = self._pending[:length], self._pending[length:]
        return out
