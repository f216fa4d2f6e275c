"""The offline model's decision: which tools to call now, what to ask, or that it is time to answer.

    exchanges + tools -> Act(thinking, calls) | Say(text) | Ask(question)

Called by the provider. It keeps no state: what was done is read from the conversation, so the
same request always gets the same decision. Texts inside tool results are never read as requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outcrop.models.offline.answer import answer
from outcrop.models.offline.clauses import begins_act
from outcrop.models.offline.fields import cut
from outcrop.models.offline.intents import Intent, find_intents, knowledge_intent
from outcrop.models.offline.questions import question, read_question
from outcrop.models.offline.recall import recall_earlier, recall_here
from outcrop.models.offline.replies import fill_reply
from outcrop.models.offline.spans import clip
from outcrop.models.offline.talk import Call, Exchange
from outcrop.models.offline.tools import Param, Toolset, ToolView
from outcrop.models.offline.values import convert
from outcrop.models.offline.words import enumerate_words, words

ABOUT = "I am Outcrop's built-in offline model: I pick tools by rule and cannot chat."
BIND = "Bind a real model in outcrop.toml under [models] for free conversation."
_WHO = re.compile(
    r"\b(?:who|what) are you\b|\bare you (?:an? )?(?:ai|bot|robot|human|real|person|llm|chatgpt|gpt|claude|model)\b"
    r"|\b(?:what|which) (?:language |ai )?model\b|\bwhat(?:'s| is) your name\b|\bintroduce yourself\b",
    re.I,
)
_WHAT = re.compile(r"\bwhat can you (?:do|help)\b|\bhow can you help\b|^\W*help\W*$|\bwhat are you able to\b", re.I)
_NEVER_MIND = re.compile(
    r"^\W*(?:never ?mind|cancel|stop|forget (?:it|about it)|no thanks?(?: you)?|quit|abort|nothing)\W*$", re.I
)
_THANKS = re.compile(
    r"^\W*(?:ok(?:ay)?[ ,]*)?(?:many thanks|thanks?(?: you)?|thx|cheers)(?: (?:a lot|so much|very much))?\W*$", re.I
)
_HELLO = re.compile(r"^\W*(?:hi|hello|hey|good (?:morning|afternoon|evening)|greetings)\b[^.!?]{0,20}\W*$", re.I)
_MOST_REPLIES = 6
_MOST_LABELS = 8
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Act:
    """Call these tools; thinking says why."""

    thinking: str
    calls: Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Say:
    """Answer the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the user; lead is what there is to say before the question."""

    question: str
    lead: str = ""


def decide(past: Sequence[Exchange], offered: Toolset) -> Act | Say | Ask:
    """What to do next in a conversation whose last message is the user's, or a tool's results."""
    if not past or not past[-1].text.strip():
        return Say(f"{ABOUT} {BIND}")
    current = past[-1]
    if not current.calls and _WHO.search(current.text[:200]) and len(words(current.text[:200])) <= _SHORT:
        return Say(f"{ABOUT} {BIND}")
    first, intents = _task(past, offered)
    if not intents:
        return _without_intent(current, offered)
    done = [call for exchange in past[first:] for call in exchange.calls]
    open_intents = _unclaimed(intents, done)
    ready, lacking = _complete(open_intents, intents, done, past[:first], past[first].text, offered)
    fresh = _new_calls(ready, done)
    if fresh:
        return Act(_thinking(fresh), [(intent.tool.name, intent.ordered()) for intent in fresh])
    said = answer(current.calls, _clauses_of(current.calls, intents, done))
    left_out = [intent for intent in intents if intent.condition]
    if lacking and not any(call.result and call.result.failed for call in current.calls):
        return Ask(question(lacking[0].tool, lacking[0].missing()), said)
    return Say(_paragraphs(said, *map(_not_done, lacking), *map(_conditional, left_out)) or f"{ABOUT} {BIND}")


def _without_intent(current: Exchange, offered: Toolset) -> Act | Say:
    if current.calls:
        return Say(answer(current.calls, [""] * len(current.calls)))
    text = clip(current.text)
    if _WHAT.search(text) and offered.tools:
        return Say(f"I can {_abilities(offered)}. {ABOUT}")
    if _THANKS.match(text):
        return Say("You are welcome.")
    if _NEVER_MIND.match(text):
        return Say("All right, I have left it there.")
    knowing = [tool for tool in offered.tools if tool.knows]
    if knowing and len(words(text)) > 1:
        intent = knowledge_intent(knowing[0], current.text)
        if not intent.missing():
            return Act(_thinking([intent]), [(intent.tool.name, intent.inputs)])
    if not offered.tools:
        return Say(f"{ABOUT} {BIND}")
    lead = "Hello." if _HELLO.match(text) else "None of my tools fits that."
    return Say(f"{lead} I can {_abilities(offered)}. {ABOUT}")


def _abilities(offered: Toolset) -> str:
    labels = ["search a knowledge base" if tool.knows else tool.label for tool in offered.tools]
    return enumerate_words(list(dict.fromkeys(labels))[:_MOST_LABELS], "or")


# --- the task: a request, or a request and the replies to questions about it


def _task(past: Sequence[Exchange], offered: Toolset) -> tuple[int, list[Intent]]:
    """Where the request under way began, and its intents with what replies have added."""
    last = len(past) - 1
    replies: list[tuple[ToolView, list[Param], str]] = []
    first = last
    while first > 0 and last - first < _MOST_REPLIES:
        asked = read_question(past[first - 1].answer, offered)
        if asked is None or (first == last and _NEVER_MIND.match(past[first].text)):
            break
        if _is_new_request(past[first].text, asked, offered):
            break
        replies.insert(0, (*asked, past[first].text))
        first -= 1
    intents = find_intents(past[first].text, offered)
    for tool, params, text in replies:
        intent = next((one for one in intents if one.tool.name == tool.name and one.missing()), None)
        if intent is None:
            intent = Intent(tool, past[first].text, {})
            intents.append(intent)
        _apply(intent, params, text, offered)
    return first, intents


def _apply(intent: Intent, params: Sequence[Param], text: str, offered: Toolset) -> None:
    filled = fill_reply(params, text, offered)
    for name, value in filled.inputs.items():
        intent.inputs[name] = value
        intent.elsewhere[name] = "from the user's reply"


def _is_new_request(text: str, asked: tuple[ToolView, list[Param]], offered: Toolset) -> bool:
    tool, params = asked
    if len(words(text)) < 2 or not begins_act(text):
        return False
    intents = find_intents(text, offered)
    if not intents or intents[0].tool.knows:
        return False
    if intents[0].tool.name == tool.name:
        return not intents[0].missing() and len(words(text)) > 3
    filled = fill_reply(params, text, offered)
    return not filled.spans or not intents[0].missing()


# --- what is done, what can be done


def _unclaimed(intents: Sequence[Intent], done: Sequence[Call]) -> list[Intent]:
    left = list(done)
    found: list[Intent] = []
    for intent in intents:
        if intent.condition and intent.tool.action != "read":
            continue
        claimed = next((call for call in left if call.name == intent.tool.name), None)
        if claimed is None:
            found.append(intent)
        else:
            left.remove(claimed)
    return found


def _complete(
    open_intents: Sequence[Intent],
    intents: Sequence[Intent],
    done: Sequence[Call],
    earlier: Sequence[Exchange],
    request: str,
    offered: Toolset,
) -> tuple[list[Intent], list[Intent]]:
    ready: list[Intent] = []
    lacking: list[Intent] = []
    for intent in open_intents:
        others = [(other.tool.name, other.inputs) for other in intents if other is not intent]
        others += [(call.name, call.input) for call in done]
        for param in intent.missing():
            value = recall_here(param, intent.tool, offered, others, done, request)
            source = ""
            if value is None and not ready and not lacking:
                value, source = recall_earlier(param, intent.tool, offered, earlier), "from earlier in the conversation"
            if value is None and param.default is not None:
                value, source = convert(param, param.default), "by default"
            if value is not None:
                intent.inputs[param.name] = value
                intent.elsewhere[param.name] = source
        (lacking if intent.missing() else ready).append(intent)
    return ready, lacking


def _new_calls(ready: Sequence[Intent], done: Sequence[Call]) -> list[Intent]:
    seen: list[tuple[str, Any]] = [(call.name, dict(call.input)) for call in done]
    found: list[Intent] = []
    for intent in ready:
        key = (intent.tool.name, intent.inputs)
        if key not in seen:
            seen.append(key)
            found.append(intent)
    return found


def _clauses_of(calls: Sequence[Call], intents: Sequence[Intent], done: Sequence[Call]) -> list[str]:
    """The clause that each call answers, empty where it is not known."""
    left = list(intents)
    named: dict[int, str] = {}
    for call in done:
        intent = next((one for one in left if one.tool.name == call.name), None)
        if intent is not None:
            left.remove(intent)
            named[id(call)] = intent.clause
    return [named.get(id(call), "") for call in calls]


# --- words


def _thinking(intents: Sequence[Intent]) -> str:
    return " ".join(_reason(intent) for intent in intents)


def _reason(intent: Intent) -> str:
    asked = cut(" ".join(intent.clause.split()), 160)
    values = enumerate_words([f"{name} {_short(value)}" for name, value in intent.ordered().items()])
    if intent.tool.knows:
        return f'No action fits "{asked}" better than a search of the knowledge base.'
    given = f", with {values}" if values else ""
    sources = sorted({source for source in intent.elsewhere.values() if source})
    told = [
        f"{enumerate_words([n for n, s in intent.elsewhere.items() if s == source])} {source}" for source in sources
    ]
    known = f" ({'; '.join(told)})" if told else ""
    return f'For "{asked}" the tool to call is {intent.tool.label}{given}{known}.'


def _short(value: Any) -> str:
    return cut(str(value).lower() if isinstance(value, bool) else str(value), 60)


def _not_done(intent: Intent) -> str:
    labels = enumerate_words([f"the {param.label}" for param in intent.missing()], "or")
    return f"I did not {intent.tool.label}, because I do not have {labels}."


def _conditional(intent: Intent) -> str:
    if intent.tool.action == "read":
        return ""
    left = f'I left out "{intent.clause.rstrip(".!? ")}"'
    return f'{left}: I work by rule and cannot judge a condition such as "{intent.condition}".'


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
