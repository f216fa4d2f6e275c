"""The inventory agent, made with plain boto3, as it would be made at AWS."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME, ALIAS = "inventory-assistant", "PROD"
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
INSTRUCTION = (
    "You help the staff of a hardware wholesaler. Answer questions about stock, suppliers and orders with the tools "
    "that you have, and reserve stock when you are asked to. Say what you found in a sentence or two."
)
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:"
SKU = {"type": "string", "description": "The product's SKU, such as SKU-55", "required": True}
INVENTORY = [
    {
        "name": "check_inventory",
        "description": "Current stock of one product, in all and by warehouse",
        "parameters": {"sku": SKU},
    },
    {
        "name": "list_low_stock",
        "description": "Products that are low on stock",
        "parameters": {
            "threshold": {
                "type": "integer",
                "description": "Number of units below which a product counts as low; default is its reorder level",
                "required": False,
            }
        },
    },
]
RESERVATIONS = [
    {
        "name": "reserve_stock",
        "description": "Reserve units of a product",
        "parameters": {
            "sku": SKU,
            "quantity": {"type": "integer", "description": "How many units to reserve", "required": True},
        },
    }
]


def create(control: Any) -> tuple[str, str]:
    """The ids of a new agent and its alias, prepared and ready to be invoked."""
    agent_id = control.create_agent(
        agentName=NAME,
        foundationModel=MODEL,
        instruction=INSTRUCTION,
        agentResourceRoleArn="arn:aws:iam::123456789012:role/AmazonBedrockExecutionRoleForAgents",
    )["agent"]["agentId"]
    schema = (Path(__file__).resolve().parent / "openapi.yaml").read_text(encoding="utf-8")
    groups = [
        {
            "actionGroupName": "inventory",
            "actionGroupExecutor": {"lambda": f"{LAMBDA}inventory"},
            "functionSchema": {"functions": INVENTORY},
        },
        {
            "actionGroupName": "suppliers",
            "actionGroupExecutor": {"lambda": f"{LAMBDA}suppliers"},
            "apiSchema": {"payload": schema},
        },
        {
            "actionGroupName": "reservations",
            "actionGroupExecutor": {"customControl": "RETURN_CONTROL"},
            "functionSchema": {"functions": RESERVATIONS},
        },
    ]
    for group in groups:
        control.create_agent_action_group(agentId=agent_id, agentVersion="DRAFT", **group)
    control.prepare_agent(agentId=agent_id)
    _wait(lambda: control.get_agent(agentId=agent_id)["agent"]["agentStatus"])
    alias = control.create_agent_alias(agentId=agent_id, agentAliasName=ALIAS)["agentAlias"]
    alias_id = alias["agentAliasId"]
    _wait(lambda: control.get_agent_alias(agentId=agent_id, agentAliasId=alias_id)["agentAlias"]["agentAliasStatus"])
    return agent_id, alias_id


def _wait(status: Callable[[], str], most_s: float = 60.0) -> None:
    """Return once a status is PREPARED: at once here, after some seconds at AWS.

    Errors: RuntimeError when it fails, or takes too long.
    """
    deadline = time.monotonic() + most_s
    while (now := status()) != "PREPARED":
        if now == "FAILED" or time.monotonic() > deadline:
            raise RuntimeError(f"the agent is {now}, not PREPARED")
        time.sleep(1)
