"""Tools from the function schema of an action group.

    {"functionSchema": {"functions": [{"name", "description", "parameters": {...}}]}}  ->  [Tool, ...]

The toolbox calls this for every group that has a function schema. Constraints of the service
model (patterns, lengths, types) were checked at the front door and are not repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outcrop.tools._groups import executor_of, spec_of, tool_name
from outcrop.tools.base import Parameter, SchemaMistake, Tool


def function_tools(group: Mapping[str, Any]) -> list[Tool]:
    """The tools of one action group, one per function, in the schema's order.

    Shapes: group is an agentActionGroup record, or an action group of an inline agent.
    Errors: SchemaMistake when a tool name is too long or not unique.
    Source: docs/behaviour/action-groups.md 2, 3.1 (stated, names observed; arrays of strings inferred).
    """
    tools: list[Tool] = []
    seen: set[str] = set()
    for index, function in enumerate(group["functionSchema"]["functions"]):
        pointer = f"/functionSchema/functions/{index}/name"
        if function["name"] in seen:
            raise SchemaMistake(
                f"action group '{group['actionGroupName']}' has two functions named '{function['name']}'; rename one",
                pointer,
            )
        seen.add(function["name"])
        tools.append(_tool(group, function, pointer))
    return tools


def _tool(group: Mapping[str, Any], function: Mapping[str, Any], pointer: str) -> Tool:
    name = tool_name(group["actionGroupName"], function["name"], pointer=pointer)
    execution, arn = executor_of(group)
    given: Mapping[str, Mapping[str, Any]] = function.get("parameters") or {}
    parameters = tuple(
        Parameter(
            name=key,
            type=detail["type"],
            required=bool(detail.get("required", False)),
            description=detail.get("description", ""),
        )
        for key, detail in given.items()
    )
    properties = {parameter.name: _schema(parameter) for parameter in parameters}
    return Tool(
        spec=spec_of(name, function.get("description") or group.get("description") or "", properties, parameters),
        kind="function",
        action_group=group["actionGroupName"],
        execution=execution,
        parameters=parameters,
        function=function["name"],
        lambda_arn=arn,
        requires_confirmation=function.get("requireConfirmation") == "ENABLED",
    )


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": parameter.type}
    if parameter.description:
        schema["description"] = parameter.description
    if parameter.type == "array":
        schema["items"] = {"type": "string"}  # the schema language has no item types
    return schema
