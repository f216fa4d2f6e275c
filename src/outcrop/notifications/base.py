"""What is told of a turn, who is told, and the two ways in which telling fails.

A `Notice` is made from the journal of a turn and is the same however often it is made. A `Target` is
told of it once per call: `Undeliverable` asks for another attempt, `Refused` forbids one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from outcrop.errors import RoomError

Kind = Literal["turn.completed", "turn.failed", "turn.cancelled", "turn.waiting_for_input", "turn.paused"]
"""What can be told, as receivers read it."""

KINDS: tuple[Kind, ...] = get_args(Kind)


Agent = tuple[str, ...]
"""The names that an agent goes by: its name, its id and its ARNs."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell.

    Shapes: id is that of `notice_id`; body is what GetTurn answers of the turn, as JSON; agent decides who is told,
            and is not sent.
    Units: at in seconds since the epoch.
    """

    id: str
    kind: Kind
    at: float
    body: Mapping[str, Any]
    agent: Agent = ()


class Target(Protocol):
    """A place that is told."""

    async def deliver(self, notice: Notice) -> None:
        """Tell it, once; it has taken the notice when this returns.

        Errors: Undeliverable; Refused.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds; the target is not used afterwards."""
        ...


class Undeliverable(RoomError):
    """The notice did not arrive and should be tried again."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        """Keep the sentence and, where the receiver named one, the least wait in seconds."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Refused(RoomError):
    """The notice will never be taken; trying again is of no use."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        """Keep the sentence; gone says that the receiver wants no notice at all any more."""
        super().__init__(message)
        self.gone = gone


def notice_id(turn_id: str, event_index: int) -> str:
    """The id of what a turn's event tells: the same in every attempt, so that a receiver can drop a repetition.

    Shapes: "<turn id>:<event index>". Standard Webhooks forbids a full stop in an id, and a path segment a slash.
    """
    return f"{turn_id}:{event_index}"


def event_name(kind: Kind) -> str:
    """A kind as our own API writes it.

    Shapes: "turn.waiting_for_input" -> "TURN_WAITING_FOR_INPUT".
    """
    return kind.replace(".", "_").upper()
