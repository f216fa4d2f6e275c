"""What every kind of action group has in common when it becomes tools: name, executor, specs.

`functions` and `openapi` call this; `toolbox` only its name rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from outcrop.messages import ToolSpec
from outcrop.tools.base import Execution, Parameter, SchemaMistake

Group = Mapping[str, Any]

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def executor_of(group: Group) -> tuple[Execution, str]:
    """Who carries out the calls of a group, and the ARN where it is a Lambda function.

    Shapes: {"actionGroupExecutor": {"lambda": ARN} | {"customControl": "RETURN_CONTROL"}} -> execution, ARN.
            A group without an executor counts as a Lambda group whose function is missing, so a call of it
            fails and says so.
    Source: docs/behaviour/action-groups.md 1 (stated; the missing executor inferred).
    """
    executor: Group = group.get("actionGroupExecutor") or {}
    if executor.get("customControl") == "RETURN_CONTROL":
        return "RETURN_CONTROL", ""
    return "LAMBDA", str(executor.get("lambda", ""))


def tool_name(*parts: str, pointer: str = "") -> str:
    """The name that the model sees: the parts with two underscores between them.

    Errors: SchemaMistake when a part holds two underscores itself, or the whole is over 64 characters
            or has others than letters, digits, _ and -.
    Source: docs/behaviour/action-groups.md 3, 3.1 (stated).
    """
    name = "__".join(parts)
    for part in parts:
        if "__" in part:
            raise SchemaMistake(
                f"'{part}' contains '__', which separates the parts of tool name '{name}'; use a single '_'", pointer
            )
    if not _TOOL_NAME.fullmatch(name):
        raise SchemaMistake(
            f"the tool name '{name}' must match ^[a-zA-Z0-9_-]{{1,64}}$ and has {len(name)} characters; "
            "shorten the action group's name or the operation's",
            pointer,
        )
    return name


def spec_of(name: str, description: str, properties: Mapping[str, Any], parameters: Sequence[Parameter]) -> ToolSpec:
    """A tool as the model sees it.

    Shapes: properties maps each parameter's name to its JSON schema.
    """
    schema: dict[str, Any] = {"type": "object", "properties": dict(properties)}
    if required := list(dict.fromkeys(parameter.name for parameter in parameters if parameter.required)):
        schema["required"] = required
    return {"name": name, "description": description, "inputSchema": {"json": schema}}
