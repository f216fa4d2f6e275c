"""The tools of one definition, by the name the model sees.

    action groups --Toolbox.of--> specs (for the model), find(name) -> Tool (for its calls)

Built once per definition; the strategy asks it what the model may call, and the performer
what a call means. It carries nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outcrop.messages import ToolSpec
from outcrop.tools._groups import spec_of
from outcrop.tools.base import Parameter, SchemaMistake, Tool
from outcrop.tools.functions import function_tools
from outcrop.tools.openapi import api_tools

Group = Mapping[str, Any]
ASK_USER = "user__askuser"
_QUESTION = Parameter("question", "string", required=True, description="The question, as the user will read it.")
_ASK_USER_DESCRIPTION = (
    "Ask the user for something you need and cannot find out yourself, such as a missing parameter of an action. "
    "The question ends your turn; the user's next message answers it."
)


class NotSupportedYet(SchemaMistake):
    """The action group is of a kind that AWS has and this release lacks."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What one definition's model may call.

    Shapes: specs are in the order of the action groups, and within one in the schema's order.
    """

    tools: Mapping[str, Tool]
    specs: tuple[ToolSpec, ...]

    @staticmethod
    def of(action_groups: Sequence[Group], documents: Mapping[str, str] | None = None) -> Toolbox:
        """The tools of all enabled groups.

        Shapes: groups as GetAgentActionGroup returns them, or as an inline agent gives them; documents maps
                the name of a group whose apiSchema lies in a bucket to the text that was read there.
        Errors: SchemaMistake when a schema cannot be used or a tool name occurs twice; NotSupportedYet.
        Source: docs/behaviour/action-groups.md 1, 7 (stated).
        """
        tools: dict[str, Tool] = {}
        for group in action_groups:
            if group.get("actionGroupState", "ENABLED") == "DISABLED":
                continue
            for tool in _tools(group, documents or {}):
                if tool.name in tools:
                    raise SchemaMistake(
                        f"action group '{group['actionGroupName']}' defines tool '{tool.name}', which action group "
                        f"'{tools[tool.name].action_group}' defines too; names must be unique in an agent"
                    )
                tools[tool.name] = tool
        return Toolbox(tools, tuple(tool.spec for tool in tools.values()))

    def find(self, name: str) -> Tool | None:
        """The tool of this name, None where there is none."""
        return self.tools.get(name)

    @property
    def may_ask_user(self) -> bool:
        """Whether the model may end its turn with a question to the user."""
        return ASK_USER in self.tools


def problem_with(tool: Tool, given: Mapping[str, Any]) -> str | None:
    """What the model must mend before a call can be made; None where nothing.

    Source: docs/behaviour/action-groups.md 9 (inferred).
    """
    missing = list(dict.fromkeys(p.name for p in tool.parameters if p.required and given.get(p.name) is None))
    if not missing:
        return None
    what = "parameter" if len(missing) == 1 else "parameters"
    return f"Missing required {what} of {tool.name}: {', '.join(missing)}. Nothing was called."


def accept(tool: Tool, given: Mapping[str, Any]) -> dict[str, Any]:
    """The input with what the tool does not declare, and what is null, left out.

    Source: docs/behaviour/action-groups.md 9 (inferred).
    """
    declared = {parameter.name for parameter in tool.parameters}
    return {name: value for name, value in given.items() if name in declared and value is not None}


def _tools(group: Group, documents: Mapping[str, str]) -> list[Tool]:
    signature = group.get("parentActionSignature") or group.get("parentActionGroupSignature")
    if signature:
        built = _SIGNATURES.get(signature)
        if built is None:
            raise NotSupportedYet(
                f"action group '{group['actionGroupName']}': {signature} is not supported yet; disable the group"
            )
        return [built(group)]
    if group.get("functionSchema"):
        return function_tools(group)
    if group.get("apiSchema"):
        return api_tools(group, _document(group, documents))
    raise SchemaMistake(f"action group '{group['actionGroupName']}' has neither functionSchema nor apiSchema")


def _document(group: Group, documents: Mapping[str, str]) -> str:
    schema: Group = group["apiSchema"]
    if "payload" in schema:
        return str(schema["payload"])
    name = group["actionGroupName"]
    if name not in documents:
        place: Group = schema.get("s3", {})
        where = f"s3://{place.get('s3BucketName', '')}/{place.get('s3ObjectKey', '')}"
        raise SchemaMistake(f"the API schema of action group '{name}' at {where} was not read")
    return documents[name]


def _ask_user(group: Group) -> Tool:
    properties = {_QUESTION.name: {"type": "string", "description": _QUESTION.description}}
    return Tool(
        spec=spec_of(ASK_USER, _ASK_USER_DESCRIPTION, properties, [_QUESTION]),
        kind="ask_user",
        action_group=group["actionGroupName"],
        execution="NONE",
        parameters=(_QUESTION,),
    )


_SIGNATURES: Mapping[str, Callable[[Group], Tool]] = {"AMAZON.UserInput": _ask_user}
