"""One call of an agent, stored or inline, and what it asks of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outcrop.ids import SessionKey
from outcrop.operations.context import Context
from outcrop.orchestration.definition import Definition
from outcrop.orchestration.policy import Policy
from outcrop.orchestration.turn import Opening


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of an agent, stored or inline.

    Shapes: ask is the operation's input; state its sessionState or inlineSessionState, {} where absent.
    """

    context: Context
    ask: Mapping[str, Any]
    state: Mapping[str, Any]
    definition: Definition
    key: SessionKey
    idle_ttl_s: int

    @property
    def policy(self) -> Policy:
        """What the agent's owner wants of calls like this one."""
        return self.context.engine.policy_of(self.definition.identity)

    @property
    def streams(self) -> bool:
        """Whether the caller wants the answer as the model writes it."""
        return bool(self.ask.get("streamingConfigurations", {}).get("streamFinalResponse"))


def opening_of(call: Invocation, session_attributes: Mapping[str, str]) -> Opening:
    """What a call asks of its turn."""
    prompt = call.ask.get("promptCreationConfigurations", {})
    return Opening(
        input_text=call.ask["inputText"],
        session_id=call.ask["sessionId"],
        session_attributes=session_attributes,
        prompt_session_attributes=call.state.get("promptSessionAttributes", {}),
        previous_turns=prompt.get("previousConversationTurnsToInclude"),
        exclude_thinking=bool(prompt.get("excludePreviousThinkingSteps")),
        stream_answer=call.streams,
        deadline_s=call.ask.get("deadlineSeconds"),
    )


def seed_of(state: Mapping[str, Any]) -> list[Any]:
    """The messages that a caller wants a session to begin with, none where the session's own hold."""
    return list(state.get("conversationHistory", {}).get("messages", ()))
