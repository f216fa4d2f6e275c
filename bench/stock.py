"""The tools of every contestant: called in place by the floors, as a Lambda handler by the engine.

    get_inventory(sku)  get_price(sku)  check_region(region)  check_region_blocking(region)

Standard library only, because the engine runs it in a process of its own.
"""

from __future__ import annotations

import json
import time
from typing import Any

WAIT_S = 0.05
"""How long checking a region takes."""

ARGUMENTS = {
    "get_inventory": "sku",
    "get_price": "sku",
    "check_region": "region",
    "check_region_blocking": "region",
}
"""Each tool's name and its one parameter, a string."""

WAITING = ("check_region", "check_region_blocking")
"""The tools that take WAIT_S; the second kind holds its thread while it waits."""


def result(name: str, argument: str) -> str:
    """What a tool answers, as JSON text; the waiting is left to the caller."""
    if name == "get_inventory":
        return json.dumps({"sku": argument, "on_hand": 42, "warehouse": "DUB-1"})
    if name == "get_price":
        return json.dumps({"sku": argument, "price": 19.99, "currency": "EUR"})
    return json.dumps({"region": argument, "status": "stock-" + argument})


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """The action-group Lambda: one function for all four tools."""
    name = event["function"]
    if name in WAITING:
        time.sleep(WAIT_S)
    body = result(name, event["parameters"][0]["value"])
    return {
        "messageVersion": "1.0",
        "response": {
            "actionGroup": event["actionGroup"],
            "function": name,
            "functionResponse": {"responseBody": {"TEXT": {"body": body}}},
        },
    }
