"""The offline model's vocabulary: words, stems, synonyms, number words and token pieces.

Called by the other modules of this folder. It knows English a little and no product at all;
words of other languages pass through as they are.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PIECE = re.compile(r"\s*(?:\w{1,7}|[^\w\s])|\s+")
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W\d_]+)?")
_NAME_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_A-Za-z]+")


def vocabulary(listed: str) -> frozenset[str]:
    """The words of a list written with spaces between them."""
    return frozenset(listed.split())


STOPWORDS = vocabulary(
    """
    a about above after again all also am an and any are as at be because been before being between both
    but by can could did do does doing done down during each else few for from further get give had has have
    having he her here hers him his how i if in into is it its itself just let like ll make may me might more
    most much must my need no nor not now of on once one only or other our out over own please re same she
    should so some such tell than thank thanks that the their them then there these they this those through to
    too under until up us use ve very want was we were what when where which while who whom whose why will
    with would yes you your i'd i'm i've it's what's who's where's how's that's let's don't can't hi hello hey
    ok okay many able via per first second next currently right today tomorrow yesterday
    """
)

_SYNONYMS = """
    stock inventory availability available enough
    quantity amount number count
    buy order purchase restock reorder replenish
    reserve hold book allocate aside
    price cost rate fee charge spend spending
    cancel delete remove withdraw revoke
    create open raise file submit log new place register add
    update change modify edit set adjust
    transfer send move wire
    pay settle
    leave vacation holiday absence pto
    ticket issue incident problem case
    employee staff worker colleague
    supplier vendor supply provider
    flight fly plane
    hotel accommodation stay lodging
    balance funds money
    light lamp
    temperature thermostat degrees heating warm cool
    customer client
    track status progress
    weather forecast temperature rain snow sunny
    invoice bill
    find search lookup
    transaction payment spending
    product item article
    fewer less low lower below threshold
    left remaining stock
    schedule plan appointment meeting event
    phone telephone mobile
    mail email
    delivery shipment shipping
    doctor physician
    trip journey itinerary
    colour color
    brightness dim
    salary pay payslip
    return refund
"""

_IDIOMS = {
    re.compile(rf"\b(?:{idiom})\b", re.I): plain
    for idiom, plain in (
        (r"(?:running|runs?|ran) (?:out|low|short)|out of stock|sold out", "low stock"),
        (r"shut(?:ting)? down|switch(?:ing)? down|power(?:ing)? (?:off|down)", "stop"),
        (r"money back", "refund"),
        (r"(?:set|put|lay) aside", "reserve"),
        (r"get rid of|throw (?:out|away)|call off", "cancel"),
        (r"sign(?:ing)? up", "register"),
        (r"look(?:ing)? up", "find"),
        (r"(?:am i|are we) (?:free|busy)", "list events"),
        (r"(?:time|days?) off", "leave"),
    )
}
_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "couple": 2, "pair": 2,
}  # fmt: skip
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}
_ALTERNATIVES = "|".join(sorted([*_UNITS, *_SCALES], key=len, reverse=True))
NUMBER_WORDS = rf"(?:(?:an?|half a)\s+)?\b(?:{_ALTERNATIVES})\b(?:(?:[\s-]+|\s+and\s+)(?:{_ALTERNATIVES})\b){{0,6}}"
"""A regular expression (lower case) of a number in words: "two", "a dozen", "twenty-five"."""

_ENDINGS = (
    ("ability", "abl"), ("ilities", "il"), ("ations", ""), ("ation", ""), ("ments", ""), ("ment", ""),
    ("ions", ""), ("ion", ""), ("ings", ""), ("ing", ""), ("iers", "i"), ("ier", "i"), ("ies", "y"), ("ied", "y"),
    ("ers", ""), ("er", ""), ("ness", ""), ("ed", ""),
)  # fmt: skip


def pieces(text: str) -> list[str]:
    """The text cut into token-like pieces; joined they are the text again."""
    return _PIECE.findall(text)


@lru_cache(maxsize=4096)
def _counted(text: str) -> int:
    return len(_PIECE.findall(text))


def token_count(text: str) -> int:
    """How many pieces a text has; what this model calls tokens."""
    return _counted(text) if len(text) < 2_000 else len(_PIECE.findall(text))


def words(text: str) -> list[str]:
    """The words of a text in lower case, numbers and words of any script included."""
    return [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]


def name_words(name: str) -> list[str]:
    """The words of an identifier in lower case: "getOrderById", "order_id" and "order-id" alike."""
    return [part.lower() for part in _NAME_PART.findall(name)]


def label(name: str) -> str:
    """An identifier as people would say it: "orderId" -> "order id"."""
    return " ".join(name_words(name)) or name


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """The word without its usual English endings, so that "supplies" and "supplier" meet."""
    word = word.lower().removesuffix("'s")
    if len(word) <= 3 or not word.isalpha():
        return word
    if word.endswith("s") and not word.endswith(("ss", "us", "is", "ies", "ers", "ations", "ments", "ions", "ings")):
        word = word[:-2] if word.endswith(("sses", "xes", "ches", "shes", "zes")) else word[:-1]
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + instead
            break
    if len(word) > (5 if word[-1] == "l" else 3) and word[-1] == word[-2] and word[-1] not in "aeious":
        word = word[:-1]
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word


def plainly(text: str) -> str:
    """The text with common idioms in plain words: "running out" -> "low stock"."""
    for idiom, plain in _IDIOMS.items():
        text = idiom.sub(plain, text)
    return text


def stems(text: str) -> list[str]:
    """The stems of a text's words that carry meaning, in order, without repeats."""
    return list(dict.fromkeys(stem(word) for word in words(text) if word not in STOPWORDS and stem(word)))


def _groups() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for line in _SYNONYMS.strip().splitlines():
        group = {stem(word) for word in line.split()}
        for word in group:
            found.setdefault(word, set()).update(group)
    return {word: frozenset(group - {word}) for word, group in found.items()}


_SYNONYMS_OF = _groups()


def synonyms(word_stem: str) -> frozenset[str]:
    """The stems of words that mean about the same; the word's own stem is not among them."""
    return _SYNONYMS_OF.get(word_stem, frozenset())


def number_in_words(text: str) -> int | None:
    """The value of a number in words, None where the words make no number."""
    total, current, seen = 0, 0, False
    for word in words(text):
        if word in _UNITS:
            current, seen = current + _UNITS[word], True
        elif word in _SCALES:
            current, seen = (current or 1) * _SCALES[word], True
            if _SCALES[word] >= 1000:
                total, current = total + current, 0
    if not seen:
        return None
    return (total + current) // 2 if text.lower().startswith("half a") else total + current


def enumerate_words(items: list[str], last: str = "and") -> str:
    """The items as one phrase: "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
