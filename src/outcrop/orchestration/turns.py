"""Where turns start, go on and are stopped: the one room that the operations ask.

    begin     a new turn on a free session           take      a queued one, once its session is free
    resume    what its caller brought                recover   one whose worker is gone
    follow    what is under way, or was              leave     one that its caller no longer wants
    let_go_on a paused one                           stop      one that runs, here or elsewhere

Who may go on with a turn is decided in the database alone, by compare-and-set: any process
answers any session, and whoever comes second is told `Moved` and looks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol
from weakref import WeakValueDictionary

from outcrop.clock import Clock
from outcrop.errors import RoomError
from outcrop.events import Event, ModelCalled
from outcrop.ids import SessionKey, TurnId, turn_id
from outcrop.orchestration.carrier import Carried, Carrier, Observer, too_late, usage
from outcrop.orchestration.channel import Channel
from outcrop.orchestration.definition import Definition, Definitions, Identity, define
from outcrop.orchestration.encoding import conclusion, encode_ending, intents, interrupted, opening_of, uncertain
from outcrop.orchestration.following import Followed, Watch
from outcrop.orchestration.history import conversation, left
from outcrop.orchestration.limits import running_ms
from outcrop.orchestration.metering import Limited, Meter, Meters
from outcrop.orchestration.performer import Performer
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.retelling import Retold, final_word, retell, why_left
from outcrop.orchestration.return_control import ResultsMistaken, brought
from outcrop.orchestration.runner import Pending
from outcrop.orchestration.strategy import Strategy
from outcrop.orchestration.telling import supplied
from outcrop.orchestration.turn import CallModel, CallResult, CallTools, Opening, ToolsReturned, Turn
from outcrop.plugins import load
from outcrop.sessions.entries import FORMAT, OPEN_STATES, Moved, NewTurn, OpenTurn
from outcrop.sessions.journal import Journal
from outcrop.sessions.pages import Pages
from outcrop.sessions.spend import together
from outcrop.sessions.state import Session, Sessions, saving, starting

LOG = logging.getLogger("outcrop.turns")

_CANCELLED = "This action was cancelled: the user went on without it. It did not take place."
_UNREADABLE = "The turn was begun by another release and cannot be carried on."
_TOO_OFTEN = "The turn was interrupted too often and is not carried on."
_MOST_TAKEN_UP = 25
"""How often a turn is taken up again: one that ends its process each time shall not end all of them."""
_MOST_HEARD = 4096
"""Turns remembered as heard: far more than can end while one call reads its session, which is all it takes."""


class TooManyTurns(RoomError):
    """This process carries as many turns as it may."""


class JournalTooNew(RoomError):
    """The turn was written by a newer release, which this one cannot read; it goes on at a server of that release."""


Announces = Callable[[SessionKey, Identity], Awaitable[bool]]
"""Whether anybody wants to be told of the turns of a session's agent."""


class Listener(Protocol):
    """One call's events. `is_over` once the turn has ended, and not only stopped or waits."""

    turn_id: TurnId
    is_over: bool

    def batches(self) -> AsyncIterator[list[Event]]:
        """The events from the first on, as they come."""
        ...


class Turns:
    """Begins turns and goes on with them; one instance per engine."""

    def __init__(
        self,
        journal: Journal,
        sessions: Sessions,
        performer: Performer,
        meters: Meters,
        clock: Clock,
        policy_of: Callable[[Identity], Policy],
        observers: Sequence[Observer],
        most_at_once: int,
    ) -> None:
        """Take the parts that turns need; observers see every event of every turn."""
        self._journal = journal
        self._sessions = sessions
        self._performer = performer
        self._meters = meters
        self._clock = clock
        self._policy_of = policy_of
        self._most_at_once = most_at_once
        self._definitions = Definitions()
        self._heard: dict[TurnId, None] = {}
        self._lines: WeakValueDictionary[SessionKey, asyncio.Lock] = WeakValueDictionary()
        self.announces: Announces | None = None
        """Set where notification targets are told of turns."""
        self.watch = Watch(journal)
        self.carrier = Carrier(performer, clock, observers, self._as_left, self.watch.tell)

    # starting points ----------------------------------------------------------------------------

    async def begin(
        self,
        session: Session,
        definition: Definition,
        opening: Opening,
        *,
        retry_key: str = "",
        queued: TurnId | None = None,
    ) -> Channel:
        """A new turn on a session without one; `queued` is one that was kept before.

        Errors: Moved when the session has another turn by now; TooManyTurns; Unavailable.
        """
        policy = self._policy_of(definition.identity)
        if len(self.carrier) >= self._most_at_once:
            raise TooManyTurns
        now = self._clock.now()
        id = queued or turn_id(now)
        with self.carrier.taking(id):
            turn = self._turn(id, session, definition, opening, now, policy)
            return await self._begin(session, turn, policy, retry_key, is_queued=queued is not None)

    async def _begin(self, session: Session, turn: Turn, policy: Policy, retry_key: str, *, is_queued: bool) -> Channel:
        now, definition = turn.started_at, turn.definition
        meter = await self._meters.meter(turn, session.key, policy.budget)
        strategy = _strategy(turn, policy, meter)
        step = await strategy.next(turn)
        acts = isinstance(step, (CallModel, CallTools))
        new = NewTurn(
            id=turn.id,
            session_key=session.key,
            definition=definition.kept,
            opening=turn.opening,
            started_at=now,
            session_began=session.started_at,
            base=len(session.history),
            retry_key=retry_key,
            announced=await self.announced_from(session.key, definition.identity),
        )
        first = intents(step, 0) if acts else []
        pages = await self._journal.begin(new, first, starting(session, turn.id, now), queued=is_queued)
        one = Carried(turn, replace(session, is_new=False), pages, policy, strategy, Channel(turn.id), meter)
        return self.carrier.carry(one, Pending(step, {}) if acts else None)

    async def announced_from(self, key: SessionKey, who: Identity) -> int:
        """How far a turn that is accepted now was announced: not at all yet, or -1 where nobody wants to be told.

        Errors: Unavailable.
        """
        return 0 if self.announces is not None and await self.announces(key, who) else -1

    async def begin_queued(self, session: Session, kept: OpenTurn, opening: Opening) -> Channel:
        """A turn that was kept before its session was free.

        Errors: Moved; TooManyTurns; JournalTooNew; Unavailable.
        """
        _check_format(kept)
        return await self.begin(session, await self.definition(kept), opening, queued=kept.id)

    async def resume(
        self,
        session: Session,
        open_turn: OpenTurn,
        members: Sequence[Mapping[str, Any]],
        session_attributes: Mapping[str, str] | None,
        *,
        stream_answer: bool,
        retry_key: str = "",
    ) -> Channel:
        """An awaiting turn with the results that its caller brought.

        Errors: ResultsMistaken; Moved; JournalTooNew; Unavailable. The turn goes on waiting then.
        """
        with self.carrier.taking(open_turn.id):
            return await self._resume(
                session, open_turn, members, session_attributes, stream_answer=stream_answer, retry_key=retry_key
            )

    async def _resume(
        self,
        session: Session,
        open_turn: OpenTurn,
        members: Sequence[Mapping[str, Any]],
        session_attributes: Mapping[str, str] | None,
        *,
        stream_answer: bool,
        retry_key: str,
    ) -> Channel:
        now = self._clock.now()
        turn, told = await self._retold(session, open_turn, stream_answer=stream_answer)
        unfinished = told.unfinished
        if unfinished is None or not isinstance(unfinished.step, CallTools):
            raise ResultsMistaken("sessionState.returnControlInvocationResults: nothing is awaited")
        got = brought(turn, unfinished.step, unfinished.known, members, now)
        results = _with_attributes(got.results, session_attributes)
        ordinal = turn.ordinal
        confirmed = [intent for intent in intents(got.step, ordinal) if intent.branch in got.confirmed]
        concluded = [conclusion(ordinal, branch, result) for branch, result in results.items()]
        also = starting(session, turn.id, now)
        pages = await self._journal.resume(open_turn, concluded, confirmed, retry_key, now, also)
        if session_attributes is not None and not results:
            turn.session_attributes = session_attributes
        channel = Channel(turn.id)
        for branch in sorted(results):
            channel.emit(supplied(got.step, branch, results[branch]))
        known = {**unfinished.known, **results}
        return await self._carry(turn, session, open_turn, pages, channel, Pending(got.step, known), len(told.calls))

    async def recover(self, turn_id: TurnId) -> Channel | None:
        """Go on with a turn that nobody carries, from its journal; None where that is somebody else's by now.

        A model call that was under way is made again. An action that was under way is repeated where its function
        honours idempotency keys; elsewhere the agent's policy says what becomes of it.

        Errors: JournalTooNew; Unavailable.
        """
        found = await self._sessions.of_turn(turn_id)
        if found is None or found[1].state != "running":
            return None
        _check_format(found[1])
        carried = self.carrier.find(turn_id)
        if carried is not None and carried.pages.lease < found[1].lease:
            carried.lose()  # another worker has had it since; it is taken up once its old task is gone
        return await self._go_on(*found)

    async def let_go_on(self, turn_id: TurnId) -> Channel | None:
        """Go on with a paused turn; None where it is not paused any more.

        Errors: JournalTooNew; Unavailable.
        """
        found = await self._sessions.of_turn(turn_id)
        if found is None or found[1].state != "paused":
            return None
        _check_format(found[1])
        return await self._go_on(*found)

    async def _go_on(self, session: Session, kept: OpenTurn) -> Channel | None:
        try:
            with self.carrier.taking(kept.id):
                return await self._take_up(session, kept)
        except Moved:
            return None

    async def _take_up(self, session: Session, kept: OpenTurn) -> Channel | None:
        pages = await self._journal.take_over(kept)
        # Whoever carried it may have written up to the moment of the take-over, and cannot any more.
        current = await pages.written()
        if current is None or current.lease != pages.lease:
            return None
        streams = bool(current.opening.get("stream_answer"))
        try:
            turn, told = await self._retold(session, current, stream_answer=streams)
        except Exception:
            LOG.exception("turn=<%s> | its journal cannot be read; the turn fails", kept.id)
            return await self._refuse(session, current, pages, _UNREADABLE)
        if current.lease - len(told.calls) > _MOST_TAKEN_UP:
            LOG.error("turn=<%s> | interrupted %d times; the turn fails", kept.id, _MOST_TAKEN_UP)
            return await self._refuse(session, current, pages, _TOO_OFTEN)
        events = told.calls[-1]
        pending: Pending | None = None
        if told.unfinished is not None:
            step, known = told.unfinished.step, told.unfinished.known
            pending = Pending(step, known)
            if isinstance(step, CallTools):
                pending = Pending(step, known, self._unknown(turn, step, known), told.heard)
            elif events and isinstance(events[-1], ModelCalled):
                events.pop()  # the model is called again, and says so again
        LOG.warning("turn=<%s> | taken up at step %d", turn.id, turn.ordinal)
        channel = Channel(turn.id, events)
        return await self._carry(turn, session, current, pages, channel, pending, len(told.calls) - 1)

    def _unknown(self, turn: Turn, step: CallTools, known: Mapping[int, CallResult]) -> Mapping[int, CallResult]:
        """The results of actions that were under way and may not be done again."""
        policy = self._policy_of(turn.definition.identity)
        if policy.uncertain == "not_done":
            return {}
        may_repeat = self._performer.may_repeat
        lost = [branch for branch in interrupted(step, known) if not may_repeat(step.calls[branch], turn)]
        return uncertain(lost, self._clock.now(), fails=policy.uncertain == "fail")

    async def _refuse(self, session: Session, kept: OpenTurn, pages: Pages, reason: str) -> None:
        """End a turn that cannot be carried on, so that its session is free; nothing is guessed."""
        ending = {"code": 500, "reason": reason, "canned": "", "fault": "InternalServerException"}
        ending |= {"message": reason, "members": {}, "modelCalls": 0}
        now = self._clock.now()
        also = saving(session, session.attributes, (), now, unheard=kept.id)
        await pages.end("failed", (), ending, now, also)

    async def _carry(
        self,
        turn: Turn,
        session: Session,
        open_turn: OpenTurn,
        pages: Pages,
        channel: Channel,
        pending: Pending | None,
        call: int,
    ) -> Channel:
        policy = self._policy_of(turn.definition.identity)
        ran_ms = running_ms(open_turn.entries)
        meter = await self._meters.meter(turn, open_turn.session_key, policy.budget, ran_ms)
        strategy = _strategy(turn, policy, meter)
        one = Carried(turn, session, pages, policy, strategy, channel, meter, call, open_turn.stop)
        return self.carrier.carry(one, pending)

    # listening ----------------------------------------------------------------------------------

    def follow(self, turn_id: TurnId, call: int) -> Listener:
        """The events of one call of a turn, from its start: as they come where it runs here, else from its journal."""
        carried = self.carrier.find(turn_id)
        if carried is not None and carried.call == call:
            return carried.channel
        return Followed(turn_id, call, self.retold, self.watch, self._clock)

    async def retold(self, turn_id: TurnId) -> tuple[OpenTurn, Retold] | None:
        """A turn and its events so far, from its journal; None where there is no such turn.

        Errors: JournalTooNew; Unavailable.
        """
        found = await self._sessions.of_turn(turn_id)
        if found is None:
            return None
        session, kept = found
        try:
            _, told = await self._retold(session, kept, stream_answer=False)
        except JournalTooNew:
            raise
        except Exception:
            if not kept.is_over:
                raise
            LOG.warning("turn=<%s> | its steps cannot be read; only its end is told", turn_id)
            told = Retold([[final_word(kept)]], rests=True)
        return kept, told

    async def retried(self, key: SessionKey, retry_key: str) -> TurnId | None:
        """The turn of a session that answers the call to which the SDK gave this id, or None.

        Errors: Unavailable.
        """
        return await self._journal.retried(key, retry_key)

    def line(self, key: SessionKey) -> asyncio.Lock:
        """Where calls of one session wait for each other, first come, first served."""
        found = self._lines.get(key)
        if found is None:
            found = self._lines[key] = asyncio.Lock()
        return found

    async def settled(self, turn_id: TurnId) -> None:
        """Return once nobody carries the turn: it has ended, waits, or is paused.

        Errors: Unavailable.
        """
        while True:
            place = await self.watch.place(turn_id)
            if place is None or place[0] not in ("running", "queued"):
                return
            await self.watch.moved(turn_id, place)

    async def ended(self, turn_id: TurnId, patience_s: float | None = None) -> bool:
        """Whether a turn is over, or is within that many seconds; None waits for as long as it takes.

        Errors: Unavailable.
        """
        try:
            async with asyncio.timeout(patience_s):
                while (place := await self.watch.place(turn_id)) is not None and place[0] in OPEN_STATES:
                    await self.watch.moved(turn_id, place)
        except TimeoutError:
            return False
        return True

    def was_heard(self, open_turn: OpenTurn) -> bool:
        """Whether the end of a turn is known to have reached its caller, and is only being written down."""
        return open_turn.id in self._heard

    def heard(self, key: SessionKey, turn_id: TurnId) -> None:
        """Note that the last word of a turn was handed to its caller; the database learns of it in its own time."""
        self._heard[turn_id] = None
        if len(self._heard) > _MOST_HEARD:
            self._heard.pop(next(iter(self._heard)))
        self.carrier.spawn(self._sessions.heard(key, turn_id))

    # ending -------------------------------------------------------------------------------------

    async def stop(self, turn_id: TurnId, how: str, why: str = "") -> bool:
        """End a turn early: at once where it runs here or does not run, at its worker's next beat elsewhere.

        Shapes: how is cancel, interrupt or deadline; why is told instead of the sentence for it. False where the turn
                has ended already, or is unknown.
        Errors: Unavailable.
        """
        if not await self._journal.ask_to_stop(turn_id, how, {"why": why} if why else None):
            return False
        carried = self.carrier.find(turn_id)
        if carried is not None:
            carried.stop(how)
            return True
        found = await self._sessions.of_turn(turn_id)
        if found is not None and found[1].state in ("awaiting", "paused", "queued"):
            try:
                await self.leave(*found)
            except Moved:
                return await self.stop(turn_id, how, why)
        return True

    def stop_here(self, turn_id: TurnId, how: str) -> None:
        """End a turn that runs here, where it was asked for elsewhere."""
        carried = self.carrier.find(turn_id)
        if carried is not None and not carried.stopped:
            carried.stop(how)

    async def leave(self, session: Session, open_turn: OpenTurn) -> Session:
        """End a turn that does not run and that its caller no longer wants; what was done stays in the history.

        Shapes: the session with the left turn's messages appended.
        Errors: Moved when it runs again; JournalTooNew; Unavailable.
        Source: docs/behaviour/invoke-agent.md 3.1 (inferred)
        """
        _check_format(open_turn)
        now = self._clock.now()
        pages = self._journal.pages(open_turn)
        said = {"why": why} if (why := why_left(open_turn)) else {}
        if open_turn.state == "queued":
            await pages.end("abandoned", (), {"reason": open_turn.stop, **said}, now, lambda _connection: None)
            self.watch.tell(open_turn.id)
            return session
        turn = await self._as_left(session, open_turn)
        messages = left(turn)
        ending = {"reason": open_turn.stop or "left for a new input", **said, **usage(turn)}
        also = saving(session, turn.session_attributes, messages, now)
        budget, ran_ms = self._policy_of(turn.definition.identity).budget, running_ms(open_turn.entries)
        if (meter := await self._meters.meter(turn, open_turn.session_key, budget, ran_ms)) is not None:
            also = together(also, meter.spending())
        await pages.end("abandoned", (), ending, now, also)
        self.watch.tell(open_turn.id)
        history = [*session.history, messages]
        return replace(session, history=history, attributes=turn.session_attributes, open_turn="", used_at=now)

    async def miss(self, queued: OpenTurn) -> None:
        """Fail a turn whose time is over before its session was free.

        Errors: Moved when it has begun or was cancelled; Unavailable.
        """
        ending = encode_ending(too_late(opening_of(queued)))
        pages = self._journal.pages(queued)
        await pages.end("failed", (), ending, self._clock.now(), lambda _connection: None)
        self.watch.tell(queued.id)

    async def close(self, grace_s: float) -> None:
        """Let the turns under way end, for at most that long; what is left then goes on elsewhere, or later."""
        await self.carrier.close(grace_s)
        await self.watch.close()

    async def _as_left(self, session: Session, open_turn: OpenTurn) -> Turn:
        """A turn as its journal has it, with a result for every call: uncertain where it was under way."""
        now = self._clock.now()
        turn, told = await self._retold(session, open_turn, stream_answer=bool(open_turn.opening.get("stream_answer")))
        unfinished = told.unfinished
        if unfinished is not None and isinstance(unfinished.step, CallTools):
            step, known = unfinished.step, dict(unfinished.known)
            known |= uncertain(interrupted(step, known), now)
            cancelled = CallResult("denied", _CANCELLED, now, now)
            turn.apply(step, ToolsReturned(tuple(known.get(branch, cancelled) for branch in range(len(step.calls)))))
        return turn

    # rebuilding ---------------------------------------------------------------------------------

    async def _retold(self, session: Session, kept: OpenTurn, *, stream_answer: bool) -> tuple[Turn, Retold]:
        """A turn brought to where its journal ends, and its events.

        Errors: JournalTooNew.
        """
        _check_format(kept)
        opening = replace(opening_of(kept), stream_answer=stream_answer)
        definition = await self.definition(kept)
        policy = self._policy_of(definition.identity)
        turn = self._turn(kept.id, session, definition, opening, kept.started_at, policy)
        return turn, retell(turn, kept)

    async def definition(self, kept: OpenTurn) -> Definition:
        """What a turn runs on, as it was when the turn was accepted."""
        found = self._definitions.get(kept.digest)
        if found is None:
            # In a thread, because a large schema takes a while to read.
            found = self._definitions.keep(kept.digest, await asyncio.to_thread(define, kept.definition))
        return found

    def _turn(
        self, id: TurnId, session: Session, definition: Definition, opening: Opening, now: float, policy: Policy
    ) -> Turn:
        seconds = policy.max_step_seconds or None
        return Turn(id, definition, opening, conversation(session, opening), now, step_seconds=seconds)


def _strategy(turn: Turn, policy: Policy, meter: Meter | None) -> Strategy:
    made: Strategy = load("outcrop.orchestration.strategies", turn.definition.strategy, "strategy")(
        policy.max_iterations
    )
    return made if meter is None else Limited(made, meter)


def _check_format(kept: OpenTurn) -> None:
    if kept.format > FORMAT:
        raise JournalTooNew(f"turn {kept.id} has journal format {kept.format}, this release reads up to {FORMAT}")


def _with_attributes(
    results: Mapping[int, CallResult], session_attributes: Mapping[str, str] | None
) -> dict[int, CallResult]:
    """Results with the caller's new session attributes on the last of them, so that they are journalled with it."""
    changed = dict(results)
    if session_attributes is not None and changed:
        last = max(changed)
        changed[last] = replace(changed[last], session_attributes=session_attributes)
    return changed
