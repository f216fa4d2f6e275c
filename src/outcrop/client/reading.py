"""What is read of an answer while it comes: text, citations, files, steps, and what the caller owes.

    begin -> take* -> end          a request that came through
             take* -> again -> take* -> end     one that was made again: what comes again is told once

One `Reading` serves one `ask`, over all its requests and attempts.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from outcrop.client.failures import AgentInterrupted
from outcrop.client.return_control import ReturnControl, asked_of
from outcrop.client.steps import Step, StepReader

JSON = dict[str, Any]
OnChunk = Callable[[str], object]
OnStep = Callable[[Step], object]
_VOID = Step("retry", "AnswerVoid", "the answer has changed since it was begun; it is told from its start")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call.

    Shapes: citations and files are AWS's own dicts. return_control is set, and the text empty, where the agent
            asked for an action and there was no callback: its session_state brings the answers.
    Units:  seconds since the call; first_chunk_s is None where no text came. Tokens are what the traces told, those
            of attempts that failed among them.
    """

    text: str
    citations: Sequence[JSON]
    files: Sequence[JSON]
    steps: Sequence[Step]
    input_tokens: int
    output_tokens: int
    first_chunk_s: float | None
    total_s: float
    session_id: str
    request_id: str
    return_control: ReturnControl | None


class Reading:
    """Takes the events of a stream, tells the callbacks, and is the answer in the end."""

    def __init__(self, on_chunk: OnChunk | None = None, on_step: OnStep | None = None) -> None:
        """Start the clock."""
        self._on_chunk, self._on_step = on_chunk, on_step
        self._started = time.monotonic()
        self._first_chunk_s: float | None = None
        self._steps: list[Step] = []
        self._reader = StepReader()
        self.request_id = ""
        self.has_acted = False
        self.begin()

    def begin(self) -> None:
        """A new request is made."""
        self.text = ""
        self._again: str | None = None
        self._told: list[Step] = []
        self._at_start = self._reader.copy()
        self._listen()

    def again(self, *, joins: bool) -> None:
        """The request is made again: its events come from the first one on, and those that were told are passed over.

        Shapes: `joins` is False where the turn has ended and another one is begun, whose steps are its own.
        """
        self._again = ""
        if joins:
            self._reader = self._at_start.copy()
        else:
            self._told, self._at_start = [], self._reader.copy()
        self._listen()

    def _listen(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._citations: list[JSON] = []
        self._files: list[JSON] = []
        self._is_answered = False
        self._heard = 0
        self.control: ReturnControl | None = None

    def take(self, name: str, member: Any) -> None:
        """One event of the stream; kinds that are unknown here are passed over."""
        match name:
            case "chunk":
                self._is_answered = True
                self._citations += member.get("attribution", {}).get("citations", ())
                self._write(self._decoder.decode(member.get("bytes", b"")))
            case "trace":
                step = self._reader.feed(member)
                if step is not None:
                    self.has_acted = self.has_acted or step.is_action
                    self._is_answered = self._is_answered or (step.kind == "answer" and not step.agent)
                    self._tell_once(step)
            case "returnControl":
                self._is_answered = True
                self.control = asked_of(member)
            case "files":
                self._files += member.get("files", ())
            case _:
                return

    def end(self) -> None:
        """The stream is over.

        Errors: AgentInterrupted when there was no answer in it.
        """
        self._write(self._decoder.decode(b"", final=True))
        if not self._is_answered:
            raise AgentInterrupted("Interrupted", "the stream ended without an answer", has_begun=True)
        # Told whole, an answer ends without the white space that its pieces may have ended with.
        if self._again is not None and self._again.rstrip() != self.text.rstrip():
            whole = self._take_back()
            self._write(whole)

    def tell(self, step: Step) -> None:
        """Keep a step and hand it on."""
        self._steps.append(step)
        if self._on_step is not None:
            self._on_step(step)

    def answer(self, session_id: str) -> Answer:
        """Everything, once it is over."""
        return Answer(
            text=self.text,
            citations=self._citations,
            files=self._files,
            steps=self._steps,
            input_tokens=sum(step.input_tokens for step in self._steps),
            output_tokens=sum(step.output_tokens for step in self._steps),
            first_chunk_s=self._first_chunk_s,
            total_s=time.monotonic() - self._started,
            session_id=session_id,
            request_id=self.request_id,
            return_control=self.control,
        )

    def _tell_once(self, step: Step) -> None:
        """Tell a step unless an earlier attempt did. From the first that differs on, all are new."""
        if step.kind != "failure":  # of an attempt, and no part of a turn that goes on
            at, self._heard = self._heard, self._heard + 1
            if at < len(self._told) and step.is_like(self._told[at]):
                return
            self._told[at:] = [step]
        self.tell(step)

    def _write(self, text: str) -> None:
        if text and self._again is not None:
            text = self._rest(text)
        if not text:
            return
        if self._first_chunk_s is None:
            self._first_chunk_s = time.monotonic() - self._started
        self.text += text
        if self._on_chunk is not None:
            self._on_chunk(text)

    def _rest(self, text: str) -> str:
        """What has not been told of an answer that comes again, perhaps in other pieces."""
        again = self._again = f"{self._again}{text}"
        if self.text.startswith(again):
            return ""
        if not again.startswith(self.text):
            return self._take_back()
        self._again = None
        return again[len(self.text) :]

    def _take_back(self) -> str:
        """Say that what was told of the answer is void; the answer as it is now, so far as it has come."""
        again, self._again = self._again or "", None
        self.text = ""
        self.tell(_VOID)
        return again
