"""One field of a record in a few words: "on_hand": 42 -> "42 on hand", "lead_time_days": 5 -> "lead time 5 days".

Called when the offline model renders results. It goes by the words of the field's name and the
type of its value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from outcrop.models.offline.words import enumerate_words, label, name_words, vocabulary

_LONG = 60
_DEEPEST = 4
_IDS = vocabulary("id sku code reference number no ref key serial isbn")
_TITLES = ("name", "title", "full_name", "fullName", "label", "product")
_PLACES = vocabulary("warehouse location city site room region country building office store")
_COUNTED = vocabulary("hand stock reserved available left remaining allocated incoming booked used sold pending taken")
_STATES = vocabulary("status state")
_WORDY = vocabulary("message note notes summary description text answer result detail details error")
_MEASURES: Mapping[str, str] = {
    "percent": "%", "percentage": "%", "eur": " EUR", "usd": " USD", "gbp": " GBP", "celsius": " °C",
    **{unit: f" {unit}" for unit in ("days", "hours", "minutes", "seconds", "weeks", "months", "years", "kg", "km")},
}  # fmt: skip
_NOISE = vocabulary("success ok statuscode httpstatuscode")


def last_word(key: str) -> str:
    """The last word of a field's name, which says what it is."""
    return (name_words(key) or [key.lower()])[-1]


def is_noise(key: str, value: Any) -> bool:
    """Whether the field only says that all went well."""
    return key.lower().replace("_", "") in _NOISE and (value is True or value == 200)


def is_wordy(key: str) -> bool:
    """Whether the field holds a text for people."""
    return key.lower() in _WORDY


def take_subject(rest: dict[str, Any], given: Iterable[str], is_new: bool) -> str:
    """What a record is about, taken out of its fields: "SKU-55 (Trail lamp)", empty where nothing tells.

    Shapes: given are the values of the call's input in lower case; is_new prefers an id that was not among them.
    """
    known = set(given)
    ids = [key for key, value in rest.items() if _is_short(value) and last_word(key) in _IDS]
    fresh = [key for key in ids if str(rest[key]).lower() not in known]
    old = [key for key in ids if str(rest[key]).lower() in known]
    key = next(iter([*fresh, *old] if is_new else [*old, *fresh]), "")
    title = next((name for name in _TITLES if _is_short(rest.get(name))), "")
    if not key and not title:
        key = next((name for name, value in rest.items() if _is_short(value) and str(value).lower() in known), "")
        return str(rest.pop(key)) if key else ""
    found = _identity(key, rest.pop(key)) if key else ""
    name = str(rest.pop(title)) if title else ""
    return f"{found} ({name})" if found and name else found or name


def _identity(key: str, value: Any) -> str:
    nouns = [word for word in name_words(key) if word not in _IDS]
    if nouns:
        return f"{' '.join(nouns)} {value}"
    return str(value) if re.search(r"[A-Za-z]", str(value)) else f"{label(key)} {value}"


def _is_short(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and 0 < len(str(value)) <= _LONG


def is_state(key: str) -> bool:
    """Whether the field tells a status."""
    return last_word(key) in _STATES


def place_of(key: str, value: Any) -> str:
    """Where something is, "in warehouse DUB-1"; empty where the field does not tell."""
    return f"in {label(key)} {value}" if last_word(key) in _PLACES and isinstance(value, str) and value else ""


def needs_sentence(key: str, value: Any) -> bool:
    """Whether the field reads better as a sentence of its own than in a list."""
    if isinstance(value, bool) or is_state(key):
        return True
    return isinstance(value, str) and (is_wordy(key) or len(value) > _LONG)


def own_sentence(key: str, value: Any) -> str:
    """The field as a sentence, without its full stop."""
    name = label(key)
    if isinstance(value, bool):
        return flag(name, value, "It is ", "It is not ")
    if is_state(key):
        return f"The {name} is {value_of(value)}"
    return value_of(value) if is_wordy(key) else f"{name.capitalize()}: {value_of(value)}"


def flag(name: str, value: bool, yes: str = "", no: str = "not ") -> str:
    """A boolean field: "It is in stock", "It is not available", "Gift wrap: yes"."""
    said = name.removeprefix("is ")
    first = said.split()[0] if said.split() else ""
    describes = first.endswith(("able", "ed", "ible", "ive")) or first in (
        "in",
        "on",
        "at",
        "out",
        "open",
        "ready",
        "paid",
    )
    return f"{yes if value else no}{said}" if describes else f"{said}: {'yes' if value else 'no'}".capitalize()


def phrase(key: str, value: Any, currency: str = "", depth: int = 0) -> str:
    """The field as a part of a list: "42 on hand", "lead time 5 days", "price 19.99 EUR", "supplier Acme"."""
    words, name = name_words(key) or [key], label(key)
    if isinstance(value, bool):
        return flag(name, value)
    if isinstance(value, (int, float)):
        unit = _MEASURES.get(words[-1])
        if unit is not None:
            return f"{' '.join(words[:-1])} {value_of(value)}{unit}".strip()
        if _COUNTED & set(words[-2:]) and len(words) <= 3:
            return f"{value_of(value)} {name}"
        if currency and isinstance(value, float):
            return f"{name} {value_of(value)} {currency}"
    return f"{name} {value_of(value, depth)}"


def value_of(value: Any, depth: int = 0) -> str:
    """Any JSON value as a few words; what lies too deep is left out."""
    if depth > _DEEPEST:
        return "..."
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _decimal(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10_000 or abs(value) > 10**15 else f"{value:,}"
    if isinstance(value, list):
        listed = [value_of(one, depth + 1) for one in cast("list[Any]", value)[:6]]
        return enumerate_words([*listed[:5], "more"] if len(listed) > 5 else listed) or "none"
    if isinstance(value, dict):
        inner = list(cast("dict[str, Any]", value).items())[:5]
        return ", ".join(phrase(str(key), one, depth=depth + 1) for key, one in inner) or "none"
    return cut(str(value), 500)


def _decimal(value: float) -> str:
    if value.is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    return f"{value:,.10g}" if 1000 <= abs(value) < 1e9 else f"{value:.10g}"


def cut(text: str, most: int) -> str:
    """The text, or its beginning and three dots."""
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."
