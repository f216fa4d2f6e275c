"""Function schemas become tools."""

from __future__ import annotations

import pytest

from outcrop.tools.base import Parameter, SchemaMistake
from outcrop.tools.functions import function_tools

ARN = "arn:aws:lambda:us-east-1:123456789012:function:weather"


def group(*functions, **members):
    return {
        "actionGroupName": "weather",
        "actionGroupExecutor": {"lambda": ARN},
        "functionSchema": {"functions": list(functions)},
        **members,
    }


FORECAST = {
    "name": "forecast",
    "description": "The weather of a day.",
    "requireConfirmation": "ENABLED",
    "parameters": {
        "city": {"type": "string", "description": "Where.", "required": True},
        "days": {"type": "array"},
    },
}


def test_a_function_is_a_tool() -> None:
    [tool] = function_tools(group(FORECAST))
    assert tool.spec == {
        "name": "weather__forecast",
        "description": "The weather of a day.",
        "inputSchema": {
            "json": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "days": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["city"],
            }
        },
    }
    assert tool.parameters == (
        Parameter("city", "string", required=True, description="Where."),
        Parameter("days", "array"),
    )
    assert (tool.kind, tool.action_group, tool.function) == ("function", "weather", "forecast")
    assert (tool.execution, tool.lambda_arn, tool.requires_confirmation) == ("LAMBDA", ARN, True)


def test_the_least_a_function_needs() -> None:
    [tool] = function_tools(group({"name": "now"}, description="About the weather."))
    assert tool.spec["description"] == "About the weather."
    assert tool.spec["inputSchema"] == {"json": {"type": "object", "properties": {}}}
    assert not tool.requires_confirmation


def test_control_is_returned_where_the_group_says_so() -> None:
    [tool] = function_tools(group(FORECAST, actionGroupExecutor={"customControl": "RETURN_CONTROL"}))
    assert (tool.execution, tool.lambda_arn) == ("RETURN_CONTROL", "")


def test_a_group_without_an_executor_has_no_function_to_call() -> None:
    [tool] = function_tools(group(FORECAST, actionGroupExecutor=None))
    assert (tool.execution, tool.lambda_arn) == ("LAMBDA", "")


@pytest.mark.parametrize(
    ("functions", "told"),
    [
        ([FORECAST, FORECAST], "two functions named 'forecast'"),
        ([{"name": "f" * 60}], "has 69 characters"),
        ([{"name": "a__b"}], "'a__b' contains '__'"),
    ],
)
def test_names_the_model_cannot_be_given(functions, told) -> None:
    with pytest.raises(SchemaMistake, match=told) as mistake:
        function_tools(group(*functions))
    assert mistake.value.pointer.startswith("/functionSchema/functions/")
