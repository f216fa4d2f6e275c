"""The tools of one definition."""

from __future__ import annotations

import pytest

from outcrop.tools.base import SchemaMistake
from outcrop.tools.toolbox import ASK_USER, NotSupportedYet, Toolbox, accept, problem_with

STOCK = {
    "actionGroupName": "stock",
    "actionGroupExecutor": {"lambda": "stock"},
    "functionSchema": {
        "functions": [
            {"name": "count", "parameters": {"sku": {"type": "string", "required": True}, "at": {"type": "string"}}},
            {"name": "list"},
        ]
    },
}
DOCUMENT = """
openapi: 3.0.0
paths:
  /orders:
    get: {description: All orders., operationId: listOrders, responses: {"200": {description: ok}}}
"""
ORDERS = {"actionGroupName": "orders", "apiSchema": {"payload": DOCUMENT}}
INPUT = {"actionGroupName": "ask", "parentActionSignature": "AMAZON.UserInput"}


def test_tools_are_found_by_name_and_told_in_order() -> None:
    box = Toolbox.of([STOCK, ORDERS, INPUT])
    names = ["stock__count", "stock__list", "GET__orders__listOrders", ASK_USER]
    assert [spec["name"] for spec in box.specs] == names
    assert [box.find(name).name for name in names] == names
    assert box.find("stock__lose") is None


def test_a_disabled_group_is_invisible() -> None:
    box = Toolbox.of([{**STOCK, "actionGroupState": "DISABLED"}, {**ORDERS, "actionGroupState": "ENABLED"}])
    assert [spec["name"] for spec in box.specs] == ["GET__orders__listOrders"]


def test_nothing_is_a_toolbox_too() -> None:
    assert Toolbox.of([]).specs == ()
    assert not Toolbox.of([]).may_ask_user


@pytest.mark.parametrize("member", ["parentActionSignature", "parentActionGroupSignature"])
def test_asking_the_user_is_a_tool(member) -> None:
    box = Toolbox.of([{"actionGroupName": "ask", member: "AMAZON.UserInput"}])
    tool = box.find("user__askuser")
    assert (tool.kind, tool.execution) == ("ask_user", "NONE")
    assert tool.spec["inputSchema"]["json"]["required"] == ["question"]
    assert box.may_ask_user


@pytest.mark.parametrize("signature", ["AMAZON.CodeInterpreter", "ANTHROPIC.Computer", "ANTHROPIC.Bash"])
def test_other_signatures_are_refused_unless_disabled(signature) -> None:
    group = {"actionGroupName": "built-in", "parentActionGroupSignature": signature}
    with pytest.raises(NotSupportedYet, match=f"'built-in': {signature} is not supported yet"):
        Toolbox.of([group])
    assert Toolbox.of([{**group, "actionGroupState": "DISABLED"}]).specs == ()


def test_a_schema_in_a_bucket_is_handed_in() -> None:
    group = {"actionGroupName": "orders", "apiSchema": {"s3": {"s3BucketName": "b", "s3ObjectKey": "k.yaml"}}}
    assert Toolbox.of([group], {"orders": DOCUMENT}).find("GET__orders__listOrders")
    with pytest.raises(SchemaMistake, match=r"'orders' at s3://b/k\.yaml was not read"):
        Toolbox.of([group])


def test_what_cannot_be_a_toolbox() -> None:
    with pytest.raises(SchemaMistake, match="'stock__count', which action group 'stock' defines too"):
        Toolbox.of([STOCK, STOCK])
    with pytest.raises(SchemaMistake, match="neither functionSchema nor apiSchema"):
        Toolbox.of([{"actionGroupName": "empty"}])


def test_what_the_model_wrote_is_checked_and_tidied() -> None:
    tool = Toolbox.of([STOCK]).find("stock__count")
    assert problem_with(tool, {"sku": "SKU-55"}) is None
    assert problem_with(tool, {"sku": ""}) is None
    assert problem_with(tool, {"at": "here"}) == "Missing required parameter of stock__count: sku. Nothing was called."
    assert problem_with(tool, {"sku": None}) is not None
    assert accept(tool, {"sku": 55, "at": None, "colour": "red"}) == {"sku": 55}
