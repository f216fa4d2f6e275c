"""What parameters and tools are for, by the words of their names: the offline model's small dictionary.

    ("integer", ["quantity"]) -> "count";  "reserve" -> "create"

Called when a tool specification is read. General English only: no product, no tool of anyone's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from outcrop.models.offline.words import stem

Purpose = Literal[
    "enum", "boolean", "count", "amount", "email", "phone", "url", "date", "time", "id", "currency", "place", "person",
    "free", "plain", "object",
]  # fmt: skip
Action = Literal["read", "create", "update", "delete", "unknown"]

_VERBS: Mapping[str, str] = {
    "read": "get list show find search check look lookup view read fetch query describe display tell see track count "
    "retrieve recommend compare estimate calculate convert translate analyze summarize forecast monitor browse what "
    "which who how when where is are does do any whose why am has have did was were",
    "create": "create add open raise file make place submit log book buy order purchase reserve request apply schedule "
    "register start post send transfer pay issue rent hire invite assign report upload upgrade wire move generate "
    "restock reorder block unlock lock want need hold call email mail notify message remind run play share settle "
    "borrow lend deposit subscribe sign install print grant ship deliver deploy restart reboot stop pause resume copy "
    "merge import export sync connect disconnect execute trigger invest donate enroll join leave accept decline vote",
    "update": "update change modify edit set adjust reschedule turn switch dim increase decrease raise lower put "
    "rename approve reject mark extend enable disable escalate reset reopen renew activate deactivate patch warm "
    "cool close",
    "delete": "cancel delete remove withdraw void drop revoke return refund archive dismiss",
}
ACTION_OF: Mapping[str, Action] = {
    stem(verb): cast("Action", kind) for kind, verbs in reversed(_VERBS.items()) for verb in verbs.split()
}
"""The kind of action that a verb (or question word) asks for, by stem."""
HTTP_ACTIONS: Mapping[str, Action] = {
    "get": "read", "post": "unknown", "put": "update", "patch": "update", "delete": "delete", "head": "read",
    "options": "read",
}  # fmt: skip
"""The kind of action of an HTTP method, in lower case."""

_BY_NAME: tuple[tuple[Purpose, str], ...] = (
    ("email", "email mail"),
    ("phone", "phone telephone mobile cell msisdn fax"),
    ("url", "url uri link website webhook"),
    ("currency", "currency"),
    ("free", "query question text message description reason comment note notes body content subject title summary "
     "details search instructions prompt keyword keywords topic issue problem feedback memo symptoms"),
    ("date", "date day deadline birthday dob month week checkin checkout since until expiry start end when"),
    ("time", "time hour_of_day"),
    ("amount", "amount price cost budget salary fee payment sum total spend value limit_amount balance fare"),
    ("id", "id ids sku code ref reference serial iban account ticket uuid key vin isbn barcode asin number no "
     "reservation tracking invoice pnr confirmation"),
    ("count", "quantity qty count units limit threshold size days nights guests passengers percent percentage level "
     "top minutes hours seconds degrees temperature brightness age year pages volume seats people max min duration "
     "weeks adults children rooms"),
    ("place", "city location country destination origin airport region place town address state province site office "
     "source target area"),
    ("person", "employee customer recipient contact user assignee owner manager name payee person guest passenger "
     "firstname lastname sender author"),
)  # fmt: skip
_NAMED: Mapping[str, Purpose] = {word: purpose for purpose, names in reversed(_BY_NAME) for word in names.split()}
_DATE_HINT = re.compile(r"yyyy-mm-dd|iso[ -]?8601|\bdate\b", re.I)


def purpose_of(kind: str, own: Sequence[str], description: str, schema: Mapping[str, Any], chosen: bool) -> Purpose:
    """What a parameter of a type, name words and description is for; chosen where it has an enum."""
    if chosen:
        return "enum"
    if kind in ("boolean", "object"):
        return cast("Purpose", kind)
    named = _named([*own, "".join(own)])
    if kind in ("integer", "number"):
        return "amount" if named == "amount" else "id" if named == "id" else "count"
    form = str(schema.get("format", "")).lower()
    if form in ("email", "uri", "url", "uuid", "date", "date-time", "time"):
        return cast("Purpose", {"uri": "url", "uuid": "id", "date-time": "date"}.get(form, form))
    coded = re.search(r"\b[A-Za-z]+-?\d|\b(?:id|identifier|iata)\b", description, re.I)
    if named in (None, "person") and re.search(r"\be-?mail (?:address )?of\b|^e-?mail\b", description, re.I):
        return "email"
    if named is not None:
        return "id" if named in ("person", "place") and coded else named
    if _DATE_HINT.search(description):
        return "date"
    if coded:
        return "id"
    return "place" if re.search(r"\b(?:city|country|location|airport)\b", description, re.I) else "plain"


def _named(own: Sequence[str]) -> Purpose | None:
    # the last word of an English compound says what it is: "order date" is a date, "date order" is not
    for word in reversed(own):
        found = _NAMED.get(word) or _NAMED.get(word.removesuffix("s"))
        if found:
            return found
    return None
