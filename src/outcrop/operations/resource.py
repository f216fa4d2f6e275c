"""What every stored resource does alike: echo its input, be created once per clientToken, be listed in pages.

The operations of `bedrock_agent/` call it. It knows no resource and no rule of one; what does
not fit here is written plainly where it is needed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Sequence

from outcrop.clock import iso
from outcrop.errors import ValidationException
from outcrop.operations.context import Context
from outcrop.operations.registry import Result
from outcrop.storage.documents import DocumentTransaction, Record

PAGE_SIZE = 10
"""Items of a page where maxResults is absent."""

_TOKEN_LIFETIME_S = 24 * 3600
_SWEPT_AT_ONCE = 8
"""Expired tokens removed per write: more than are added, few enough not to be felt."""


def invalid(member: str, message: str) -> ValidationException:
    """The fault for one member that breaks a rule: its message, and the member in `fieldList`."""
    return ValidationException(message, fieldList=[{"name": member, "message": message}])


def stamp(context: Context) -> str:
    """Now, as records carry it."""
    return iso(context.now())


def echo(ask: Record, *without: str) -> Record:
    """The members of the input that the record keeps: all but those named and the empty ones."""
    return {member: value for member, value in ask.items() if value is not None and member not in without}


def only(record: Record, members: Collection[str]) -> Record:
    """Those members of a record that it has, for a summary."""
    return {member: record[member] for member in members if member in record}


async def answered(context: Context, ask: Record) -> Result | None:
    """The first answer to this clientToken, or None where the call is new or has no token.

    Source: docs/behaviour/control-plane.md 2 (stated that a repeat is ignored; inferred that it is answered alike).
    """
    if not ask.get("clientToken"):
        return None
    return await context.documents.read(lambda docs: _first_answer(docs, context, ask))


async def once(context: Context, ask: Record, work: Callable[[DocumentTransaction], Result]) -> Result:
    """What work answers, in one transaction; a repeated clientToken gets the first answer and does nothing.

    Units:  answers are kept for 24 hours.
    Errors: whatever work raises; nothing is kept then, so the token may be used again.
    Source: docs/behaviour/control-plane.md 2 (stated that a repeat is ignored; inferred that it is answered alike).
    """

    def work_once(docs: DocumentTransaction) -> Result:
        first = _first_answer(docs, context, ask)
        if first is not None:
            return first
        answer = work(docs)
        if ask.get("clientToken"):
            _sweep(docs, context.now())
            expires = context.now() + _TOKEN_LIFETIME_S
            docs.put("client-token", _token_id(context, ask), {"response": answer, "expires": expires})
        return answer

    return await context.documents.write(work_once)


def _token_id(context: Context, ask: Record) -> str:
    return f"{context.operation}/{ask['clientToken']}"


def _first_answer(docs: DocumentTransaction, context: Context, ask: Record) -> Result | None:
    if not ask.get("clientToken"):
        return None
    kept = docs.get("client-token", _token_id(context, ask))
    return None if kept is None or kept["expires"] <= context.now() else kept["response"]


def _sweep(docs: DocumentTransaction, now: float) -> None:
    for _ in range(_SWEPT_AT_ONCE):
        oldest = docs.oldest("client-token")
        if oldest is None or oldest[1]["expires"] > now:
            return
        docs.delete("client-token", oldest[0])


def page(scope: str, ask: Record, rows: Sequence[tuple[int, Record]], member: str) -> Result:
    """One page of a list: {member: [...]} and, where more follow, `nextToken`.

    Shapes: rows are (number, summary) with falling numbers, as `DocumentTransaction.numbered` gives them;
            scope names the list, so that a token of another list is refused.
    Errors: ValidationException where nextToken is none of this list's.
    Source: docs/behaviour/control-plane.md 3 (inferred)
    """
    below = position(scope, ask.get("nextToken"))
    rest = rows if below is None else [row for row in rows if row[0] < below]
    size: int = ask.get("maxResults") or PAGE_SIZE
    result: Result = {member: [summary for _, summary in rest[:size]]}
    if len(rest) > size:
        result["nextToken"] = next_token(scope, rest[size - 1][0])
    return result


def next_token(scope: str, number: int) -> str:
    """The nextToken that stands for a place in a list."""
    return base64.urlsafe_b64encode(f"{scope}\n{number}".encode()).decode()


def position(scope: str, token: str | None) -> int | None:
    """The place in a list that a nextToken stands for, None at its start.

    Errors: ValidationException where the token is none of this list's.
    """
    if token is None:
        return None
    try:
        told, _, number = base64.b64decode(token, altchars=b"-_", validate=True).decode().rpartition("\n")
        if told == scope and number.isdecimal():
            return int(number)
    except ValueError:
        pass  # refused below, as a token of another list is
    raise invalid("nextToken", "The nextToken is not one that this list returned. Start again without it.")
