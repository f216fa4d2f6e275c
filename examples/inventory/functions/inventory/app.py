"""The inventory function: an action-group Lambda with a function schema, as it would run at AWS."""

import json
import os
import sqlite3


def check_inventory(stock, sku):
    """What is on the shelves of one product."""
    row = stock.execute(
        "select sku, name, warehouse, on_hand, on_hand - reserved as available, unit_price from products where sku = ?",
        (sku.upper(),),
    ).fetchone()
    return dict(row) if row else {"error": f"There is no product {sku}."}


def list_low_stock(stock):
    """The products that have fallen below their reorder level."""
    rows = stock.execute(
        "select sku, name, on_hand, reorder_level from products where on_hand < reorder_level order by sku"
    )
    return {"low_stock": [dict(row) for row in rows]}


FUNCTIONS = {"check_inventory": check_inventory, "list_low_stock": list_low_stock}


def handler(event, context):
    """Answer one action of the agent."""
    given = {parameter["name"]: parameter["value"] for parameter in event.get("parameters", [])}
    stock = sqlite3.connect(os.environ["STOCK_DB"])
    stock.row_factory = sqlite3.Row
    try:
        body = FUNCTIONS[event["function"]](stock, **given)
    finally:
        stock.close()
    return {
        "messageVersion": "1.0",
        "response": {
            "actionGroup": event["actionGroup"],
            "function": event["function"],
            "functionResponse": {"responseBody": {"TEXT": {"body": json.dumps(body)}}},
        },
    }
