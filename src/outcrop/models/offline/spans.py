"""The spans of a text that look like values: ids, numbers, amounts, dates, addresses, names, quoted words.

    "reserve 5 units of SKU-55" -> number "5", id "SKU-55"

Called by the offline model's slot filling. It says what a span looks like and what stands
around it, never which parameter it is for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from outcrop.models.offline.words import NUMBER_WORDS, STOPWORDS, number_in_words, vocabulary, words

Kind = Literal[
    "quoted", "email", "url", "uuid", "date", "time", "money", "percent", "id", "phone", "number", "name", "phrase"
]

LONGEST_ANALYSED = 8_000
"""Characters of one text that are looked at; of a longer one, the head and the tail."""
_MOST_SPANS = 60
"""Spans of one kind that are looked at; a text with more is no request."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text that looks like a value.

    Shapes: value is the text as a tool wants it ("$1,200" -> "1200"); number is set for numbers,
            amounts and percents; before and after are up to three words around it, nearest first;
            unit is the currency code of an amount.
    """

    kind: Kind
    start: int
    end: int
    text: str
    value: str
    number: float | None = None
    unit: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def meets(self, start: int, end: int) -> bool:
        """Whether it shares a character with a range."""
        return self.start < end and start < self.end


_COUNTED_IN_NAMES = frozenset({"digits", "digit", "letters", "characters", "figures"})
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_WEEKDAY = r"(?:mon|tues?|wednes|thurs?|fri|satur|sun)day"
_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "dollar": "USD", "euro": "EUR", "pound": "GBP"}
_AMOUNT = r"\d{1,3}(?:,\d{3}){1,6}(?:\.\d{1,12})?|\d{1,30}(?:\.\d{1,12})?"
_CURRENCY = r"(?:usd|eur|gbp|chf|jpy|cad|aud|sek|nok|dkk|pln|inr|dollars?|euros?|pounds?|[$€£¥])"
_DATE = "|".join(
    (
        r"\d{4}-\d{2}-\d{2}(?:[t ]\d{2}:\d{2}(?::\d{2})?(?:z|[+-]\d{2}:?\d{2})?)?",
        rf"\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b\.?(?:,?\s+\d{{4}}\b)?",
        rf"\b{_MONTH}\b\.?\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?!:)(?:,?\s+\d{{4}}\b)?",
        r"\d{4}-(?:0[1-9]|1[0-2])(?!-)",
        r"\d{1,2}[./]\d{1,2}[./]\d{2,4}\b",
        r"\b(?:the\s+)?day after tomorrow\b|\b(?:today|tonight|tomorrow|yesterday)\b",
        rf"\b(?:next|this|last|coming)\s+(?:{_WEEKDAY}|weekend|week|month|quarter|year)\b|\b{_WEEKDAY}\b",
        r"\bin\s+(?:\d{1,3}|an?|two|three|four|five|six)\s+(?:day|week|month)s?\b",
    )
)
_CODE = r"[A-Za-z0-9]{1,40}(?:[-_][A-Za-z0-9]{1,20}){0,5}"
_PHONE = r"(?:\+\d{1,3}[\s.-]?)?(?:\(\d{1,4}\)[\s.-]?)?\d{2,5}(?:[\s.-]\d{2,5}){1,4}"
_TYPED: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("quoted", re.compile(r"\"([^\"\n]{1,500})\"|“([^”\n]{1,500})”|(?<!\w)'([^'\n]{1,500})'(?!\w)|`([^`\n]{1,500})`")),
    ("email", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}")),
    ("url", re.compile(r"https?://[^\s<>\"']{1,500}", re.I)),
    ("uuid", re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I)),
    ("date", re.compile(rf"(?<![\w/.-])(?:{_DATE})(?![\w/])", re.I)),
    ("time", re.compile(r"(?<![\w:.])(?:[01]?\d|2[0-3]):[0-5]\d(?:\s?[ap]m\b)?|\b(?:1[0-2]|0?[1-9])\s?[ap]m\b", re.I)),
    ("money", re.compile(rf"[$€£¥]\s?(?:{_AMOUNT})(?:k\b)?|(?<![\w.,-])(?:{_AMOUNT})\s?{_CURRENCY}(?!\w)", re.I)),
    ("percent", re.compile(rf"(?<![\w.,])(?:{_AMOUNT})\s?(?:%|percent\b)", re.I)),
    ("id", re.compile(rf"(?<![\w#-])(?=[\w-]{{0,39}}\d)(?=[\w-]{{0,39}}[A-Za-z]){_CODE}(?![\w-])")),
    ("id", re.compile(r"(?<!\w)#[A-Za-z0-9](?:[\w-]{0,39}\w)?")),
    ("phone", re.compile(rf"(?<![\w.-]){_PHONE}(?![\w-])|\+\d{{7,15}}\b")),
    ("id", re.compile(r"(?<![\w.,#-])\d{2,20}(?:-\d{1,20}){1,5}(?![\w-])")),
    ("number", re.compile(rf"(?<![\w.,])-?(?:{_AMOUNT})(?![\w]|[.,]\d)")),
)  # fmt: skip
_IN_WORDS = re.compile(NUMBER_WORDS, re.I)
_NAME = re.compile(
    r"(?<![\w'\u2019@#-])[^\W\d_a-z][\w'\u2019&.-]{0,40}(?:\s(?:(?:de|da|del|di|du|of|the|la|le|van|von)\s)?[^\W\d_a-z][\w'\u2019&-]{0,40}){0,3}"
)
_PHRASE = re.compile(
    r"\b(?:(?:in|at|for|from|to|on|of|by|with|near|about|called|named|titled|as|into|via|under)\s+"
    r"(?:(?:the|a|an|my|our|your|his|her|their)\s+)?|(?:the|my|our|a|an)\s+)([^\W_][\w'\u2019-]{0,40}(?:\s[^\W_][\w'\u2019-]{0,40}){0,4})",
    re.I,
)
_BREAKS = vocabulary(
    "in at for from to on of by with near about called named titled as into via under and or then but because please "
    "since until before after between is are was were has have that which who if so when where now it"
)
_NOT_NAMES = vocabulary("i can could please what which who how when where why is are do does my the a an")
_WORDS_BEFORE = re.compile(r"[\w'\u2019#$-]+")


def clip(text: str) -> str:
    """The part of a text that is looked at: all of it, or head and tail of a very long one."""
    if len(text) <= LONGEST_ANALYSED:
        return text
    return f"{text[: LONGEST_ANALYSED * 3 // 4]}\n{text[-LONGEST_ANALYSED // 4 :]}"


def find_spans(text: str) -> list[Span]:
    """Every span that looks like a value, by position; typed ones do not overlap one another.

    Shapes: names and phrases may overlap each other and numbers, never other typed spans.
    """
    taken = bytearray(len(text))
    found: list[Span] = []
    for kind, pattern in _TYPED:
        for match in islice(pattern.finditer(text), _MOST_SPANS):
            if not any(taken[match.start() : match.end()]):
                span = _typed(kind, match, text)
                if span is not None:
                    taken[match.start() : match.end()] = b"\1" * (match.end() - match.start())
                    found.append(span)
    found += _numbers_in_words(text, taken)
    found += _names(text, taken)
    found += [span for span in _phrases(text) if not _splits(span, found)]
    return sorted(found, key=lambda span: (span.start, span.end))


def _splits(phrase: Span, typed: Sequence[Span]) -> bool:
    """Whether a phrase ends in the middle of a value."""
    return any(span.start < phrase.end < span.end for span in typed)


def make_span(
    kind: Kind, start: int, end: int, text: str, value: str, number: float | None = None, unit: str = ""
) -> Span:
    """A span of a text with the words around it."""
    before = tuple(word.lower() for word in reversed(_WORDS_BEFORE.findall(text[max(0, start - 60) : start])[-3:]))
    after = tuple(word.lower() for word in _WORDS_BEFORE.findall(text[end : end + 60])[:3])
    return Span(kind, start, end, text[start:end], value, number, unit, before, after)


def _typed(kind: Kind, match: re.Match[str], text: str) -> Span | None:
    start, end, raw = match.start(), match.end(), match.group()
    if kind == "quoted":
        return _quoted(start, end, next(group for group in match.groups() if group is not None), text)
    if kind == "date":
        return None if raw.lower() == "may" else make_span("date", start, end, text, _iso_date(raw))
    if kind in ("money", "percent", "number"):
        plain = _plain(raw)
        if kind == "money":
            # only the digits are the amount: the currency may be another parameter's value
            digits = re.search(_AMOUNT, raw)
            assert digits is not None
            start, end = start + digits.start(), start + digits.end()
        return make_span(kind, start, end, text, plain, float(plain), _currency(raw) if kind == "money" else "")
    if kind == "phone":
        return make_span(kind, start, end, text, raw.strip()) if sum(c.isdigit() for c in raw) >= 7 else None
    if kind == "url":
        raw = raw.rstrip(".,;:!?)")
        return make_span(kind, start, start + len(raw), text, raw)
    if kind == "id" and re.fullmatch(r"\d+(?:st|nd|rd|th|x|k|am|pm|kg|g|km|m|cm|mm|h|min|gb|mb|c|f)", raw, re.I):
        return _measure(start, end, raw, text)
    return make_span(kind, start, end, text, raw.lstrip("#") if kind == "id" else raw)


def _quoted(start: int, end: int, inner: str, text: str) -> Span:
    for kind in ("email", "uuid", "date", "id"):
        for name, pattern in _TYPED:
            if name == kind and pattern.fullmatch(inner):
                return make_span(kind, start, end, text, inner)
    return make_span("quoted", start, end, text, inner)


def _measure(start: int, end: int, raw: str, text: str) -> Span:
    digits = re.match(r"\d+", raw)
    assert digits is not None
    return make_span("number", start, start + digits.end(), text, digits.group(), float(digits.group()))


def _plain(raw: str) -> str:
    """The digits of a number as written, without thousands separators; "5k" as 5000."""
    digits = re.search(rf"-?(?:{_AMOUNT})", raw)
    assert digits is not None
    plain = digits.group().replace(",", "")
    return str(int(float(plain) * 1000)) if len(plain) < 12 and re.search(r"\dk\b", raw, re.I) else plain


def _currency(raw: str) -> str:
    word = re.sub(r"[\d.,\s]", "", raw).lower().removesuffix("k").removesuffix("s")
    return _CURRENCIES.get(word, word.upper())


def _iso_date(raw: str) -> str:
    """A full calendar date as ISO; anything else, relative words too, as written: the model has no clock."""
    low = raw.lower()
    if re.match(r"\d{4}-\d{2}", low):
        return raw
    month = re.search(_MONTH, low)
    numbers = [int(n) for n in re.findall(r"\d+", low)]
    if month and len(numbers) == 2 and numbers[1] > 31 and 1 <= numbers[0] <= 31:
        return f"{numbers[1]:04d}-{_MONTHS.index(month.group()[:3]) + 1:02d}-{numbers[0]:02d}"
    if len(numbers) == 3 and numbers[2] > 999:
        first, second, year = numbers
        if first > 12 >= second or (first == second and first <= 12) or ("." in raw and second <= 12):
            return f"{year:04d}-{second:02d}-{first:02d}"
        if second > 12 >= first:
            return f"{year:04d}-{first:02d}-{second:02d}"
    return raw


def _numbers_in_words(text: str, taken: bytearray) -> list[Span]:
    found: list[Span] = []
    for match in islice(_IN_WORDS.finditer(text), _MOST_SPANS):
        value = number_in_words(match.group())
        if value is None or any(taken[match.start() : match.end()]):
            continue
        span = make_span("number", match.start(), match.end(), text, str(value), float(value))
        if span.after[:1] and span.after[0] in _COUNTED_IN_NAMES:
            continue
        if match.group().lower() == "one" and span.before[:1] and span.before[0] in {"which", "that", "this", "the"}:
            continue
        taken[match.start() : match.end()] = b"\1" * (match.end() - match.start())
        found.append(span)
    return found


def _names(text: str, taken: bytearray) -> list[Span]:
    found: list[Span] = []
    for match in islice(_NAME.finditer(text), _MOST_SPANS):
        start, raw = match.start(), match.group()
        first = raw.split()[0].lower()
        at_start = not text[:start].strip() or text[:start].rstrip()[-1:] in ".?!:;\n"
        alone = not text[:start].strip() and not text[match.end() :].strip(" .!?\n")
        if not raw[0].isupper() and raw[0].islower():
            continue
        # a sentence's first word is capitalised whatever it is; only a text that is nothing else may be a name
        if first in _NOT_NAMES or (at_start and not alone):
            start += len(raw.split()[0])
            start += len(text[start:]) - len(text[start:].lstrip())
            raw = text[start : match.end()]
        raw = raw.rstrip(".-'\u2019&")
        if len(raw) > 1 and not any(taken[start : start + len(raw)]):
            found.append(make_span("name", start, start + len(raw), text, re.sub(r"['\u2019]s$", "", raw)))
    return found


def _phrases(text: str) -> list[Span]:
    found: list[Span] = []
    position = 0
    while len(found) < _MOST_SPANS and (match := _PHRASE.search(text, position)):
        position = match.start(1)
        kept: list[str] = []
        said = match.group(1).split()
        for at, word in enumerate(said):
            if word.lower() in _BREAKS or (at and word.isdigit() and at + 1 < len(said)):
                break
            kept.append(word)
        raw = " ".join(kept[:4])
        if (
            raw
            and not raw[0].isdigit()
            and words(raw)[0] not in STOPWORDS
            and text[position : position + len(raw)] == raw
        ):
            found.append(make_span("phrase", position, position + len(raw), text, raw))
    return found
