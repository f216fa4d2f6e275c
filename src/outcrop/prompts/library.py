"""The prompt of the orchestration stage: the default one, or an agent's overridden template.

By default the agent's instruction is the system prompt; what follows it are guidelines in our
own words that native tool calling needs: where thoughts go, and whether the user may be asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import orjson

from outcrop.errors import RoomError


class TemplateMistake(RoomError):
    """An overridden template is no JSON object once its placeholders are filled."""


_THOUGHTS = (
    "Before you use a tool, say in one or two sentences inside <thinking></thinking> tags why. "
    "Write nothing else outside those tags unless it is your answer to the user."
)
_MAY_NOT_ASK = (
    "Never assume a value for a required tool parameter. "
    "If one is missing and no tool can provide it, say in your answer what you need."
)
_MAY_ASK = (
    "Never assume a value for a required tool parameter. If one is missing and no other tool can provide it, "
    "ask the user with the user__askuser tool."
)


def orchestration_system(instruction: str, *, has_tools: bool, may_ask: bool) -> str:
    """The system prompt of the default orchestration.

    Source: docs/behaviour/invoke-agent.md 10 (inferred)
    """
    if not has_tools:
        return instruction
    return f"{instruction}\n\n{_THOUGHTS}\n{_MAY_ASK if may_ask else _MAY_NOT_ASK}"


_PLACEHOLDER = re.compile(r"\$([a-z_]+)\$")


def overridden_system(template: str, values: Mapping[str, str]) -> str:
    """The system prompt of an overridden orchestration template.

    Shapes: template is a JSON object with "system" once `$name$` is replaced by each value, JSON-escaped.
            Placeholders without a value that stand for guidelines become empty; unknown ones stay.
            The template's own messages are not used: conversation and tool calls travel natively.
    Errors: TemplateMistake.
    Source: docs/behaviour/invoke-agent.md 10 (stated; which parts are used is inferred)
    """

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in values:
            return orjson.dumps(values[name]).decode()[1:-1]
        return "" if name in _EMPTY else match.group(0)

    try:
        body: Any = orjson.loads(_PLACEHOLDER.sub(fill, template))
    except orjson.JSONDecodeError as error:
        raise TemplateMistake(str(error)) from error
    return _system_of(body)


def _system_of(body: Any) -> str:
    match body:
        case {"system": str(system)}:
            return system
        case {"system": _}:
            return "".join(_text_of(block) for block in cast(dict[str, Any], body)["system"] or ())
        case dict():
            return ""
        case _:
            raise TemplateMistake("the template is no JSON object")


def _text_of(block: Any) -> str:
    match block:
        case {"text": str(text)}:
            return text
        case _:
            return ""


_EMPTY = frozenset(
    (
        "agent_scratchpad",
        "any_function_name",
        "action_kb_guideline",
        "ask_user_confirm_parameters",
        "ask_user_function",
        "ask_user_function_format",
        "ask_user_input_examples",
        "ask_user_missing_information",
        "ask_user_missing_parameters",
        "code_interpreter_files",
        "code_interpreter_guideline",
        "conversation_history",
        "functions",
        "knowledge_base_additional_guideline",
        "knowledge_base_guideline",
        "memory_action_guideline",
        "memory_content",
        "memory_guideline",
        "model_instruction",
        "thought",
        "tools",
    )
)
