"""A turn as GetTurn answers it and as notices carry it: now, or as it was when it last waited or paused.

    describe        as its journal has it            summary   the same without what was said
    when_asked      as it was when it returned control          when_paused   as it was when it paused

Made from the journal alone, and in wire shapes, so that it is the same whoever makes it, and whenever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from outcrop.clock import iso
from outcrop.events import Answered, ControlReturned, Event, Failed
from outcrop.ids import born, invocation_id
from outcrop.models.prices import Price
from outcrop.orchestration.definition import Definition, Identity
from outcrop.orchestration.encoding import OWED, opening_of
from outcrop.orchestration.retelling import Retold, reason_of
from outcrop.sessions.entries import Entry, OpenTurn, TurnState
from outcrop.sessions.outlines import Outline

JSON = dict[str, Any]

STATUSES: Mapping[TurnState, str] = {
    "queued": "QUEUED",
    "running": "RUNNING",
    "awaiting": "WAITING_FOR_INPUT",
    "paused": "PAUSED",
    "done": "COMPLETED",
    "failed": "FAILED",
    "abandoned": "CANCELLED",
}
"""A turn's state in the journal -> its status in answers."""

NO_EXCEPTION = "TurnFailed"
"""The code of a failure that InvokeAgent tells with a sentence instead of an exception."""
_STOPPING = "The turn is being stopped."


def describe(kept: OpenTurn, told: Retold, definition: Definition, price: Price | None = None) -> JSON:
    """A turn as it is now.

    Shapes: the output of GetTurn; price is that of the definition's model, without which nothing is said of costs.
    """
    return _described(kept, told.events, definition, price)


def failure(event: Failed) -> dict[str, str]:
    """Why a turn ended without an answer."""
    if event.fault is None:
        return {"code": NO_EXCEPTION, "message": event.reason}
    return {"code": event.fault.code, "message": event.fault.message}


def summary(kept: OpenTurn | Outline, who: Identity) -> JSON:
    """The same without what was said; no step of the turn is needed for it.

    Shapes: TurnSummary.
    """
    reason = reason_of(kept) or (_STOPPING if kept.stop and kept.state == "running" else "")
    members = {
        "turnId": kept.id,
        "agentId": who.agent_id,
        "agentAliasId": who.alias_id,
        "agentVersion": who.version or None,
        "sessionId": kept.session_key.split("/", 3)[3],
        "status": STATUSES[kept.state],
        "statusReason": reason or None,
        "createdAt": iso(born(kept.id)),
        "startedAt": iso(kept.started_at) if kept.lease else None,
        "endedAt": iso(kept.finished_at) if kept.finished_at is not None else None,
    }
    return {name: value for name, value in members.items() if value is not None}


def when_asked(kept: OpenTurn, told: Retold, index: int, definition: Definition, price: Price | None = None) -> JSON:
    """A turn as it was when it returned control by its event of that index, whatever became of it since."""
    event = told.events[index]
    assert isinstance(event, ControlReturned), "control was returned by this event"
    then = replace(kept, state="awaiting", finished_at=None, ending=None, entries=_until_asked(kept, event))
    return _described(then, told.events[: index + 1], definition, price)


def when_paused(
    kept: OpenTurn, told: Retold, pause: Mapping[str, Any], definition: Definition, price: Price | None = None
) -> JSON:
    """A turn as it was when it paused, whatever became of it since.

    Shapes: pause is what `pause_of` gave then.
    """
    entries = kept.entries[: pause["entries"]]
    then = replace(kept, state="paused", finished_at=None, ending=dict(pause), entries=entries)
    return _described(then, told.events, definition, price)


def pause_of(kept: OpenTurn) -> JSON:
    """What has to be known of a paused turn to describe it later as it is now.

    Shapes: {"reason", "detail", "entries": how many steps its journal has}.
    """
    ending = kept.ending or {}
    return {"reason": ending.get("reason", ""), "detail": ending.get("detail", ""), "entries": len(kept.entries)}


def _described(kept: OpenTurn, events: list[Event], definition: Definition, price: Price | None) -> JSON:
    described = summary(kept, definition.identity)
    described["inputText"] = opening_of(kept).input_text
    last = next((e for e in reversed(events) if isinstance(e, Answered | ControlReturned | Failed)), None)
    match kept.state, last:
        case "done", Answered():
            described["answer"] = last.text
        case "awaiting", ControlReturned():
            described["returnControl"] = {
                "invocationId": last.invocation_id,
                "invocationInputs": list(last.invocation_inputs),
            }
        case "failed", Failed(fault=None):
            described |= {"failure": failure(last), "answer": last.canned}
        case "failed", Failed():
            described["failure"] = failure(last)
        case _:
            pass
    described["usage"] = _usage(kept.entries, price)
    if lost := [_uncertain(entry, definition) for entry in kept.entries if _is_uncertain(entry)]:
        described["uncertainActions"] = lost
    return described


def _usage(entries: Iterable[Entry], price: Price | None) -> JSON:
    """What the finished steps of a journal used, counted as a turn counts it."""
    finished = [(entry.kind, entry.outcome) for entry in entries if entry.outcome is not None]
    replies = [outcome for kind, outcome in finished if kind == "CallModel"]
    used = [reply["usage"] for reply in replies if "usage" in reply]
    read, written = (sum(one[name] for one in used) for name in ("inputTokens", "outputTokens"))
    actions = [outcome for kind, outcome in finished if kind == "CallTools"]
    usage: JSON = {
        "inputTokens": read,
        "outputTokens": written,
        "modelCalls": len(replies),
        "toolCalls": sum(action["state"] not in ("rejected", "denied") for action in actions),
    }
    if price is not None:
        usage["costUsd"] = price.microusd(read, written) / 1_000_000
    return usage


def _is_uncertain(entry: Entry) -> bool:
    return entry.kind == "CallTools" and entry.state == "uncertain"


def _uncertain(entry: Entry, definition: Definition) -> JSON:
    tool = definition.toolbox.find(entry.intent["name"])
    action: JSON = {"actionGroup": "" if tool is None else tool.action_group, "at": iso(entry.started_at)}
    whole = {} if tool is None else {"function": tool.function, "apiPath": tool.api_path, "verb": tool.http_method}
    return action | {name: value for name, value in whole.items() if value}


def _until_asked(kept: OpenTurn, event: ControlReturned) -> tuple[Entry, ...]:
    """The steps as they were when control was returned: without what came of the actions that were handed out."""
    ordinals = (entry.ordinal for entry in kept.entries)
    asked = next((each for each in ordinals if invocation_id(kept.id, each) == event.invocation_id), None)
    if asked is None:  # an id of the first release, which told nobody
        return kept.entries
    return tuple(e for e in kept.entries if e.ordinal < asked or (e.ordinal == asked and not _was_owed(e)))


def _was_owed(entry: Entry) -> bool:
    return entry.intent.get("disposition") in OWED or bool(entry.intent.get("agreed"))
