"""Any JSON value or text in readable sentences.

    {"sku": "SKU-55", "on_hand": 42, "warehouse": "DUB-1"} -> "SKU-55 has 42 on hand in warehouse DUB-1."

Called for the offline model's answers. The rules know shapes and common field words (an id, a count, a
place, a status), no product; what they do not know they write as "name value".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from outcrop.models.providers._offline_talk import Call
from outcrop.models.providers._offline_words import enumerate_words, label, name_words, vocabulary

_MOST_ITEMS = 10
_MOST_FIELDS = 14
_MOST_CHARACTERS = 4_000
_LONG = 60
_SUBJECTS = ("id", "sku", "code", "reference", "number", "no", "ref", "key", "serial")
_TITLES = ("name", "title", "label", "product")
_PLACES = vocabulary("warehouse location city site room region country building office store")
_COUNTED = vocabulary("hand stock reserved available left remaining allocated incoming booked used sold pending")
_STATES = vocabulary("status state")
_WORDY = vocabulary("message note notes summary description text answer result detail details error")
_ENVELOPES = vocabulary("result results data items body response output value")
_TAG = re.compile(r"<([A-Za-z_][\w.-]{0,60})(?:\s[^<>]{0,300})?>([^<>]{0,2000})</\1>")
_ANY_TAG = re.compile(r"<[^<>]{1,300}>")


def render(data: Any, call: Call | None = None) -> str:
    """Any JSON value or text as sentences."""
    if isinstance(data, str):
        return _text(data)
    if isinstance(data, dict):
        return _record(cast("dict[str, Any]", data), call)
    if isinstance(data, list):
        return _list(cast("list[Any]", data), _noun(call))
    return sentence(f"The answer is {value_of(data)}")


def _noun(call: Call | None) -> str:
    words = name_words(call.name.split("__")[-1]) if call else []
    return words[-1] if words and words[-1].endswith("s") and not words[-1].endswith("ss") else "results"


def _text(text: str) -> str:
    tagged = {
        match.group(1): match.group(2).strip() for match in list(_TAG.finditer(text[:_MOST_CHARACTERS]))[:_MOST_FIELDS]
    }
    if tagged and text.lstrip().startswith("<"):
        return render(tagged)
    return sentence(
        cut(_ANY_TAG.sub("", text).strip() if text.lstrip().startswith("<") else text.strip(), _MOST_CHARACTERS)
    )


def _record(record: Mapping[str, Any], call: Call | None) -> str:
    if not record:
        return "The result is empty."
    if len(record) == 1:
        (key, value), *_ = record.items()
        if isinstance(value, str) and key.lower() in _WORDY | _ENVELOPES:
            return _text(value)
        if key.lower() in _ENVELOPES and isinstance(value, (dict, list)):
            return render(value, call)
    flat = _flatten(record)
    scalars = {key: value for key, value in flat.items() if not isinstance(value, list)}
    lists = {key: cast("list[Any]", value) for key, value in flat.items() if isinstance(value, list)}
    if lists and _only_counts(scalars, lists):
        scalars = {}
    parts = [_scalars(scalars, call)] if scalars else []
    parts += [_list(items, label(key)) for key, items in lists.items()]
    return "\n".join(part for part in parts if part)


def _only_counts(scalars: Mapping[str, Any], lists: Mapping[str, list[Any]]) -> bool:
    sizes = {len(items) for items in lists.values()}
    return all(
        key.lower() in ("count", "total", "size", "total_count") and value in sizes for key, value in scalars.items()
    )


def _flatten(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and depth < 4:
            inner = cast("dict[str, Any]", value)
            flat.update(
                _flatten(inner, "" if key.lower() in _ENVELOPES else f"{name} ", depth + 1) if inner else {name: None}
            )
        else:
            flat[name] = value
    return flat


def _scalars(scalars: Mapping[str, Any], call: Call | None) -> str:
    rest = dict(scalars)
    subject = _subject(rest, call)
    extra: list[str] = []
    for key in [key for key, value in rest.items() if _tells(key, value)]:
        extra.append(_told(key, rest.pop(key)))
    having, places = _phrases(rest)
    return " ".join(part for part in (_stem(subject, having, places), *extra) if part)


def _stem(subject: str, having: Sequence[str], places: Sequence[str]) -> str:
    if not having and not places:
        return sentence(subject) if subject else ""
    where = f" {' '.join(places)}" if places else ""
    if not subject:
        return sentence(f"The result is {enumerate_words(list(having))}{where}" if having else f"It is{where}")
    return sentence(f"{subject} has {enumerate_words(list(having))}{where}" if having else f"{subject} is{where}")


def _subject(rest: dict[str, Any], call: Call | None) -> str:
    given = [str(value).lower() for value in call.input.values()] if call else []
    ids = [key for key, value in rest.items() if _is_short(value) and (name_words(key) or [key])[-1] in _SUBJECTS]
    key = next((key for key in ids if str(rest[key]).lower() in given), ids[0] if ids else "")
    found = str(rest.pop(key)) if key else ""
    title = next((k for k, value in rest.items() if k.lower() in _TITLES and _is_short(value)), "")
    name = str(rest.pop(title)) if title else ""
    if found and key and not re.search(r"[A-Za-z]", found):
        found = f"{label(key)} {found}"
    return f"{found} ({name})" if found and name else found or name


def _is_short(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and 0 < len(str(value)) <= _LONG


def _tells(key: str, value: Any) -> bool:
    last = (name_words(key) or [key])[-1]
    return (
        last in _STATES
        or isinstance(value, bool)
        or (isinstance(value, str) and (last in _WORDY or len(value) > _LONG))
    )


def _told(key: str, value: Any) -> str:
    name = label(key)
    if isinstance(value, bool):
        said = name.removeprefix("is ").removeprefix("has ")
        has = name.startswith("has ")
        verb = ("It has " if value else "It does not have ") if has else ("It is " if value else "It is not ")
        return (
            sentence(f"{verb}{said}")
            if _describes(said) or has
            else sentence(f"{said.capitalize()}: {'yes' if value else 'no'}")
        )
    if (name_words(key) or [key])[-1] in _STATES:
        return sentence(f"The {name} is {value_of(value)}")
    if (name_words(key) or [key])[-1] in _WORDY and len(name.split()) == 1:
        return _text(str(value))
    return sentence(f"{name.capitalize()}: {value_of(value)}")


def _describes(said: str) -> bool:
    first = said.split()[0] if said.split() else ""
    return (
        first in ("in", "on", "at", "out")
        or first.endswith(("able", "ed", "ible", "ive"))
        or first in ("open", "ready", "paid")
    )


def _phrases(rest: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    having: list[str] = []
    places: list[str] = []
    currency = str(next((value for key, value in rest.items() if key.lower() == "currency" and value), ""))
    for key, value in list(rest.items())[:_MOST_FIELDS]:
        own = name_words(key) or [key]
        if currency and key.lower() == "currency" and len(rest) > 1:
            continue
        money = f" {currency}" if currency and isinstance(value, float) else ""
        if own[-1] in _PLACES and isinstance(value, str) and value:
            places.append(f"in {label(key)} {value}")
        elif isinstance(value, (int, float)) and _COUNTED & set(own[-2:]) and len(own) <= 3:
            having.append(f"{value_of(value)} {label(key)}")
        else:
            having.append(f"{label(key)} {value_of(value)}{money}")
    return having, places


def _list(items: Sequence[Any], noun: str) -> str:
    if not items:
        return f"There are no {noun}."
    if not any(isinstance(item, (dict, list)) for item in items):
        shown = [value_of(item) for item in items[:_MOST_ITEMS]]
        more = len(items) - len(shown)
        return sentence(
            f"{noun.capitalize()}: {', '.join(shown)} and {more} more"
            if more
            else f"{noun.capitalize()}: {enumerate_words(shown)}"
        )
    if len(items) == 1:
        return render(items[0])
    lines = [f"- {_item(item)}" for item in items[:_MOST_ITEMS]]
    if len(items) > _MOST_ITEMS:
        lines.append(f"- and {len(items) - _MOST_ITEMS} more")
    return "\n".join([f"There are {len(items)} {noun}:", *lines])


def _item(item: Any) -> str:
    if not isinstance(item, dict):
        return value_of(item)
    flat = _flatten(cast("dict[str, Any]", item))
    rest = {key: value for key, value in flat.items() if value is not None}
    subject = _subject(rest, None)
    having, places = _phrases(rest)
    told = ", ".join([*having, *places])
    return f"{subject}: {told}" if subject and told else subject or told or "nothing"


def value_of(value: Any) -> str:
    """Any JSON value as a few words."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return (
            str(int(value))
            if value.is_integer() and abs(value) < 1e15
            else f"{value:,.10g}"
            if abs(value) >= 1000
            else str(value)
        )
    if isinstance(value, int):
        return str(value) if abs(value) < 10_000 else f"{value:,}"
    if isinstance(value, list):
        listed = cast("list[Any]", value)
        return (
            f"{enumerate_words([value_of(one) for one in listed[:5]])}{' and more' if len(listed) > 5 else ''}"
            if listed
            else "none"
        )
    if isinstance(value, dict):
        return (
            ", ".join(f"{label(str(k))} {value_of(v)}" for k, v in list(cast("dict[str, Any]", value).items())[:5])
            or "none"
        )
    return cut(str(value), 500)


def cut(text: str, most: int) -> str:
    """The text, or its beginning and three dots."""
    return text if len(text) <= most else f"{text[: most - 3].rstrip()}..."


def sentence(text: str) -> str:
    """The text with a full stop, where it has no end of its own."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?", ":", ")", "…")) else f"{text}."
