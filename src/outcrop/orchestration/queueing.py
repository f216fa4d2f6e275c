"""Turns that begin without their caller: kept first, begun by whichever worker gets the job, in the order they came.

    StartTurn -> queue: a `queued` row -> job -> take: the session is free? -> Turns.begin -> until it rests

A job that is run again finds the turn where it is: queued, carried by somebody, or at rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from outcrop.clock import Clock
from outcrop.ids import SessionKey, TurnId, born, turn_id
from outcrop.jobs.base import Again, Job, Jobs, Kind
from outcrop.messages import Message
from outcrop.orchestration.definition import Definition
from outcrop.orchestration.encoding import opening_of
from outcrop.orchestration.turn import Opening
from outcrop.orchestration.turns import Turns
from outcrop.sessions.entries import Moved, NewTurn, OpenTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.state import Sessions

TURN = "turn"
_STARTED = "token:"
_SWEEP_S = 30.0
_PATIENCE_S = 5.0
"""How long a job waits for its session before it makes room for others."""
_ATTEMPTS = 1_000_000
"""A turn ends by itself, or is cancelled: its job is not given up before that."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a queued turn shall be begun with.

    Shapes: session_attributes is None where the session's own hold; seed is the caller's conversationHistory, empty
            where the session's own holds.
    Units: idle_ttl_s in seconds.
    """

    opening: Opening
    session_attributes: Mapping[str, str] | None
    seed: Sequence[Message]
    idle_ttl_s: int


def token_key(token: str) -> str:
    """A client token as a turn keeps it: in a form that has room, and that no id of the SDK has."""
    return _STARTED + hashlib.sha256(token.encode()).hexdigest()


def is_token(retry_key: str) -> bool:
    """Whether a turn was started in the background: then its client token is what it keeps."""
    return retry_key.startswith(_STARTED)


class Queue:
    """The queued turns of one database."""

    def __init__(self, journal: Journal, sessions: Sessions, turns: Turns, clock: Clock) -> None:
        """Begin them with these turns."""
        self._journal = journal
        self._sessions = sessions
        self._turns = turns
        self._clock = clock
        self._jobs: Jobs
        self._last_put = 0.0

    def registered_with(self, jobs: Jobs, *, at_once: int, per_tenant: int | None) -> None:
        """Have jobs begin them, and what was queued and not submitted found; before the jobs start."""
        self._jobs = jobs
        jobs.handle(
            Kind(
                TURN,
                self._perform,
                at_once=at_once,
                per_tenant=per_tenant,
                attempts=_ATTEMPTS,
                first_wait_s=0.2,
                most_wait_s=5.0,
            )
        )
        jobs.every("turns.queued", _SWEEP_S, self._submit_left)

    async def submit(self, turn_id: TurnId, tenant: str) -> None:
        """Have a queued turn begun by some worker.

        Errors: JobsUnavailable; the sweep submits it later then.
        """
        await self._jobs.submit(TURN, turn_id, {"turnId": turn_id}, tenant=tenant)

    async def cancel(self, turn_id: TurnId) -> None:
        """Let the job of a turn that was stopped go.

        Errors: JobsUnavailable.
        """
        await self._jobs.cancel(TURN, turn_id)

    async def _perform(self, job: Job) -> None:
        if not await self.take(TurnId(job.body["turnId"]), _PATIENCE_S):
            raise Again("the session is busy with another turn")

    async def _submit_left(self) -> None:
        """Submit turns that were queued by a process that died before it could; a job that is there is left alone."""
        before = self._clock.now() - _SWEEP_S
        for left in await self._journal.queued_before(before):
            await self.submit(left, "")

    async def put(
        self, key: SessionKey, definition: Definition, asked: Asked, *, token: str = ""
    ) -> tuple[TurnId, bool]:
        """Keep a turn for later; with a token, the one that was kept with it before.

        Shapes: the turn's id, and whether it is new.
        Errors: Unavailable.
        """
        # Over a millisecond apart, which is how finely ids sort: what this process accepts begins in the order it came
        # in. A whole one would not do: instants are rounded.
        now = self._last_put = max(self._clock.now(), self._last_put + 0.0011)
        new = NewTurn(
            id=turn_id(now),
            session_key=key,
            definition=definition.kept,
            opening=asdict(asked),
            started_at=now,
            retry_key=token,
            announced=await self._turns.announced_from(key, definition.identity),
        )
        kept = await self._journal.queue(new)
        return kept, kept == new.id

    async def is_busy(self, key: SessionKey) -> bool:
        """Whether a turn of the session runs, or others are queued before the next.

        Errors: Unavailable.
        """
        session, open_turn = await self._sessions.open(key, 0, self._clock.now())
        return (open_turn is not None and not open_turn.is_over) or bool(session.queued)

    async def take(self, turn_id: TurnId, patience_s: float) -> bool:
        """Begin a queued turn and see it through, until it rests; False where its session is still busy.

        Units: patience_s is how long to wait for the session.
        Errors: TooManyTurns; JournalTooNew; Unavailable.
        """
        while True:
            kept = await self._journal.find(turn_id)
            if kept is None or kept.state not in ("queued", "running"):
                return True
            if kept.state == "running":
                await self._turns.settled(turn_id)
                return True
            before = await self._before(kept)
            if _is_late(kept, self._clock.now()):
                with suppress(Moved):
                    await self._turns.miss(kept)
                continue
            if before is not None:
                if not await self._turns.ended(before, patience_s):
                    return False
                continue
            try:
                await self._begin(kept)
            except Moved:
                continue

    async def _before(self, kept: OpenTurn) -> TurnId | None:
        """The turn that this one waits for, or None."""
        session, open_turn = await self._sessions.open(kept.session_key, 0, self._clock.now())
        if session.queued and session.queued != kept.id:
            return TurnId(session.queued)
        return open_turn.id if open_turn is not None and not open_turn.is_over else None

    async def _begin(self, kept: OpenTurn) -> None:
        asked = _asked(kept.opening)
        session, _ = await self._sessions.open(kept.session_key, asked.idle_ttl_s, self._clock.now())
        session = replace(session, idle_ttl_s=asked.idle_ttl_s, seed=asked.seed or session.seed)
        attributes = session.attributes if asked.session_attributes is None else asked.session_attributes
        opening = replace(asked.opening, session_attributes=attributes)
        await self._turns.begin_queued(session, kept, opening)


def _asked(kept: Mapping[str, Any]) -> Asked:
    rest: dict[str, Any] = {name: value for name, value in kept.items() if name != "opening"}
    return Asked(Opening(**kept["opening"]), **rest)


def _is_late(kept: OpenTurn, now: float) -> bool:
    deadline_s = opening_of(kept).deadline_s
    return deadline_s is not None and now >= born(kept.id) + deadline_s
