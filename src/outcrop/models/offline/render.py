"""Any JSON value or text in readable sentences.

    {"sku": "SKU-55", "on_hand": 42, "warehouse": "DUB-1"} -> "SKU-55 has 42 on hand in warehouse DUB-1."

Called for the offline model's answers. The rules know shapes and common field words, no product; what
they do not know they write as "name value".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from outcrop.models.offline.fields import (
    cut,
    is_noise,
    is_state,
    is_wordy,
    needs_sentence,
    own_sentence,
    phrase,
    place_of,
    take_subject,
    value_of,
)
from outcrop.models.offline.purposes import ACTION_OF
from outcrop.models.offline.talk import Call
from outcrop.models.offline.words import enumerate_words, label, name_words, stem, vocabulary

_MOST_ITEMS = 10
_MOST_FIELDS = 14
_MOST_CHARACTERS = 4_000
_DEEPEST = 4
_ENVELOPES = vocabulary("result results data items body response output value payload")
_COUNTS = vocabulary("count total size total_count totalcount")
_TAG = re.compile(r"<([A-Za-z_][\w.-]{0,60})(?:\s[^<>]{0,300})?>([^<>]{0,2000})</\1>")
_ANY_TAG = re.compile(r"<[^<>]{1,300}>")


def render(data: Any, call: Call | None = None) -> str:
    """Any JSON value or text as sentences; call is the call that it answers."""
    return _render(data, call, 0)


def _render(data: Any, call: Call | None, depth: int) -> str:
    if isinstance(data, str):
        return _text(data)
    if isinstance(data, dict):
        return _record(cast("dict[str, Any]", data), call, depth)
    if isinstance(data, list):
        return _list(cast("list[Any]", data), _noun(call), call, depth)
    return sentence(f"The answer is {value_of(data)}")


def _noun(call: Call | None) -> str:
    words = name_words(call.name.split("__")[-1]) if call else []
    return words[-1] if words and words[-1].endswith("s") and not words[-1].endswith("ss") else "results"


def _text(text: str) -> str:
    text = text.strip()
    if not text.startswith("<"):
        return sentence(cut(text, _MOST_CHARACTERS))
    tagged = {match.group(1): match.group(2).strip() for match in _TAG.finditer(text[:_MOST_CHARACTERS])}
    if tagged:
        return _render(dict(list(tagged.items())[:_MOST_FIELDS]), None, _DEEPEST)
    return sentence(cut(_ANY_TAG.sub(" ", text).strip(), _MOST_CHARACTERS))


def _record(record: Mapping[str, Any], call: Call | None, depth: int) -> str:
    fields = {str(key): value for key, value in record.items() if not is_noise(str(key), value)}
    if not fields:
        return "Done." if record else "The result is empty."
    if len(fields) == 1 and depth < _DEEPEST:
        (key, value), *_ = fields.items()
        if isinstance(value, str) and (is_wordy(key) or key.lower() in _ENVELOPES):
            return _text(value)
        if isinstance(value, dict) or (isinstance(value, list) and key.lower() in _ENVELOPES):
            return _render(value, call, depth + 1)
    nested = {key: cast("dict[str, Any]", value) for key, value in fields.items() if isinstance(value, dict)}
    lists = {key: cast("list[Any]", value) for key, value in fields.items() if isinstance(value, list)}
    scalars = {key: value for key, value in fields.items() if not isinstance(value, (dict, list))}
    if lists and _only_counts(scalars, lists):
        scalars = {}
    first = [_sentences(scalars, call)] if scalars else []
    told = [f"the {label(key)} is {_brief(inner)}" for key, inner in nested.items() if inner]
    if told and len(scalars) == 1 and (about := take_subject(dict(scalars), (), is_new=False)):
        first = [sentence(f"For {about}, {told.pop(0)}")]
    first += [sentence(f"{part[:1].upper()}{part[1:]}") for part in told]
    parts = [" ".join(first), *(_list(items, label(key), None, depth + 1) for key, items in lists.items())]
    return "\n".join(part for part in parts if part)


def _only_counts(scalars: Mapping[str, Any], lists: Mapping[str, list[Any]]) -> bool:
    sizes = {len(items) for items in lists.values()}
    return all(key.lower() in _COUNTS and value in sizes for key, value in scalars.items())


def _sentences(scalars: Mapping[str, Any], call: Call | None) -> str:
    rest = dict(list(scalars.items())[: _MOST_FIELDS + 2])
    given = [str(value).lower() for value in call.input.values()] if call else []
    subject = take_subject(rest, given, call is not None and _is_writing(call))
    extra = {key: rest.pop(key) for key in list(rest) if needs_sentence(key, rest[key])}
    having, places = _phrases(rest)
    told: list[str] = []
    if subject and not having and not places and extra:
        state = next((key for key in extra if is_state(key)), "")
        if state:
            told.append(f"The {label(state)} of {subject} is {value_of(extra.pop(state))}")
            subject = ""
    told = [*told, *(own_sentence(key, value) for key, value in extra.items())]
    return " ".join(sentence(part) for part in (_main(subject, having, places, bool(told)), *told) if part)


def _is_writing(call: Call) -> bool:
    words = name_words(call.name.split("__")[-1])
    return bool(words) and ACTION_OF.get(stem(words[0]), "read") != "read"


def _main(subject: str, having: Sequence[str], places: Sequence[str], more: bool) -> str:
    where = f" {' '.join(places)}" if places else ""
    top = f"{subject[:1].upper()}{subject[1:]}"
    if having:
        listed = enumerate_words(list(having))
        return f"{top} has {listed}{where}" if subject else f"{listed[:1].upper()}{listed[1:]}{where}"
    if places:
        return f"{top or 'It'} is{where}"
    return f"The result is {subject}" if subject and not more else top


def _phrases(rest: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    currency = next((str(rest[key]) for key in rest if key.lower() == "currency" and rest[key]), "")
    floats = any(isinstance(value, float) for value in rest.values())
    places = [place for key, value in rest.items() if (place := place_of(key, value))]
    having = [
        phrase(key, value, currency)
        for key, value in rest.items()
        if not place_of(key, value) and not (floats and key.lower() == "currency")
    ]
    return having, places


def _list(items: Sequence[Any], noun: str, call: Call | None, depth: int) -> str:
    if not items:
        return f"There are no {noun}."
    if len(items) == 1 and isinstance(items[0], (dict, list)) and depth < _DEEPEST:
        return _render(items[0], call, depth + 1)
    shown, more = items[:_MOST_ITEMS], max(0, len(items) - _MOST_ITEMS)
    if not any(isinstance(item, (dict, list)) for item in items):
        named = [value_of(item) for item in shown]
        listed = enumerate_words([*named, f"{more} more"] if more else named)
        return sentence(f"{noun[:1].upper()}{noun[1:]}: {listed}")
    lines = [f"- {_line(item)}" for item in shown] + ([f"- and {more} more"] if more else [])
    return "\n".join([f"There are {len(items)} {noun}:", *lines])


def _line(item: Any) -> str:
    if not isinstance(item, dict):
        return value_of(item)
    subject, told = _parts(cast("dict[str, Any]", item))
    return f"{subject}: {told}" if subject and told else subject or told or "nothing"


def _brief(record: Mapping[str, Any]) -> str:
    subject, told = _parts(record)
    return f"{subject} ({told})" if subject and told else subject or told


def _parts(record: Mapping[str, Any]) -> tuple[str, str]:
    rest = {str(key): value for key, value in list(record.items())[:_MOST_FIELDS] if value is not None}
    subject = take_subject(rest, (), is_new=False)
    having, places = _phrases(rest)
    return subject, ", ".join([*having, *places])


def sentence(text: str) -> str:
    """The text with a full stop, where it has no end of its own."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?", ":")) else f"{text}."
