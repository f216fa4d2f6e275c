"""What is read of an answer while it comes: text, citations, files, steps, and what the caller owes.

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
        """A request is made: what an earlier one had streamed of the answer is forgotten."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._citations: list[JSON] = []
        self._files: list[JSON] = []
        self._is_answered = False
        self.text = ""
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
                    self.tell(step)
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

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._first_chunk_s is None:
            self._first_chunk_s = time.monotonic() - self._started
        self.text += text
        if self._on_chunk is not None:
            self._on_chunk(text)
