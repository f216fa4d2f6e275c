"""What the words around a value say: "from Cork", "5 units", "quantity: 3", "fewer than 10".

Called by the offline model's slot filling, for one parameter and one span at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

from outcrop.models.offline.spans import Span
from outcrop.models.offline.tools import Param
from outcrop.models.offline.words import STOPWORDS, stem, vocabulary

_FROM = vocabulary("from source origin departure departing sender start starting begin beginning since")
_TO = vocabulary("to destination target recipient arrival receiver end ending until payee due")
_FROM_SAID = vocabulary("from starting since beginning leaving between")
_TO_SAID = vocabulary("to into until till through towards toward ending")
_UNITS = vocabulary("unit piece item pcs pc copy box pack set of")
_QUANTITIES = vocabulary("quantity qty count amount units number")
_COMPARED = vocabulary("below under fewer less lower than above over exceeding least most within")
_LIMITS = vocabulary("threshold max min maximum minimum limit below above days level")
_RANKED = vocabulary("top first last latest")
_TOPS = vocabulary("limit top size count n results max")
_GLUE = vocabulary("the a an of is are to as for no number = my our id")
_NEAR: Mapping[str, frozenset[str]] = {
    "place": vocabulary("in at for near to of around within into"),
    "person": vocabulary("for to with by of from"),
    "date": vocabulary("on for by"),
    "plain": vocabulary("in for with at on to"),
}


def around(param: Param, span: Span) -> float:
    """What the words around a span say for the parameter.

    Units: points, about 1 for a clear word; negative where they speak against it.
    """
    before = [word for word in span.before if word not in _GLUE or word in _FROM_SAID | _TO_SAID]
    nearest = next((word for word in span.before if word not in ("the", "a", "an", "my", "our")), "")
    score = 0.0
    for distance, word in enumerate(before[:2]):
        if stem(word) in param.stems and word not in STOPWORDS:
            score += 1.0 - 0.4 * distance
            break
    score += _next_word(param, span)
    score += _direction(param, nearest)
    if nearest in _NEAR.get(param.purpose, ()):
        score += 0.4
    if param.purpose in ("count", "amount"):
        said, own = set(span.before[:3]), set(param.words)
        if said & _COMPARED and own & _LIMITS:
            score += 0.8
        if span.before[:1] and span.before[0] in _RANKED and own & _TOPS:
            score += 1.0
    return score


def _next_word(param: Param, span: Span) -> float:
    if not span.after or span.kind not in ("number", "percent", "money", "name", "phrase"):
        return 0.0
    following = stem(span.after[0])
    if following in param.stems and span.after[0] not in STOPWORDS:
        return 0.9
    if param.purpose == "count" and following in _UNITS:
        return 0.9 if set(param.words) & _QUANTITIES else 0.1
    if span.kind != "number" or not span.after[0].isalpha() or span.after[0] in STOPWORDS or param.purpose != "count":
        return 0.0
    return 0.4 if following in param.hints else 0.0 if set(param.words) & _QUANTITIES else -0.3


def _direction(param: Param, nearest: str) -> float:
    own, joined = set(param.words), "".join(param.words)
    wants_from = bool(own & _FROM) or "checkin" in joined
    wants_to = bool(own & _TO) or "checkout" in joined
    says_from, says_to = nearest in _FROM_SAID, nearest in _TO_SAID
    if wants_from == wants_to or not (says_from or says_to):
        return 0.0
    return 0.9 if wants_from == says_from else -0.9
