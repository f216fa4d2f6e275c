"""What a turn is told of the ones before it, and what it leaves to the ones after.

A finished turn leaves all its messages. A failed one leaves them only where an action was
carried out, so that a payment made is never forgotten because the model broke off after it.
Whatever is left alternates between user and assistant and answers every tool call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from outcrop.messages import ContentBlock, Message, assistant, text_of, tool_uses, user
from outcrop.orchestration.turn import Fail, Finish, Opening, Turn
from outcrop.sessions.state import Session

_THINKING = re.compile(r"<thinking>.*?(</thinking>|\Z)\s*", re.DOTALL)


def conversation(session: Session, opening: Opening) -> list[Message]:
    """The messages before a turn: the caller's seed, then as many earlier turns as the caller wants.

    Source: docs/behaviour/invoke-agent.md 5 (stated; 0 turns is inferred)
    """
    turns = session.history
    if opening.previous_turns is not None:
        turns = turns[-opening.previous_turns :] if opening.previous_turns else ()
    earlier = [message for turn in turns for message in turn]
    if opening.exclude_thinking:
        earlier = [_without_thinking(message) for message in earlier]
    return [*_alternating(session.seed), *earlier]


def kept(turn: Turn, step: Finish | Fail) -> Sequence[Message]:
    """What an ended turn leaves to its session."""
    if isinstance(step, Finish):
        if step.kind == "ASK_USER":
            # The question was a tool call; the user's reply will not come as its result.
            return [*turn.messages[:-1], assistant(step.text)]
        return turn.messages
    if turn.tool_calls == 0:
        return ()
    return _closed(turn.messages, f"(This request was not completed: {step.reason})")


def left(turn: Turn) -> Sequence[Message]:
    """What a turn leaves that its caller no longer wanted."""
    return _closed(turn.messages, "(The request before this was left unfinished.)")


def _closed(messages: Sequence[Message], note: str) -> Sequence[Message]:
    whole = list(messages)
    if whole[-1]["role"] == "assistant" and (tool_uses(whole[-1]) or not text_of(whole[-1]).strip()):
        whole.pop()  # calls without results, or nothing at all: no model takes either
    return whole if whole[-1]["role"] == "assistant" else [*whole, assistant(note)]


def _without_thinking(message: Message) -> Message:
    if message["role"] != "assistant":
        return message
    content: list[ContentBlock] = []
    for block in message["content"]:
        if "reasoningContent" in block:
            continue
        if "text" in block:
            text = _THINKING.sub("", block["text"])
            if text.strip():
                content.append({"text": text})
        else:
            content.append(block)
    return {"role": "assistant", "content": content or [{"text": "..."}]}


def _alternating(seed: Sequence[Message]) -> list[Message]:
    """A caller's own history as models want it: neighbours of one role joined, from a user's words to an answer."""
    joined: list[Message] = []
    for message in seed:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1]["content"].extend(message["content"])
        else:
            joined.append({"role": message["role"], "content": list(message["content"])})
    if joined and joined[0]["role"] == "assistant":
        joined.insert(0, user("..."))
    if joined and joined[-1]["role"] == "user":
        joined.append(assistant("..."))
    return joined
