"""The stock, as a Lambda function of an action group with a function schema."""

import json
import os
import sqlite3


def check_inventory(stock, sku):
    """Units of one product, in all and by warehouse."""
    product = stock.execute("SELECT * FROM available WHERE sku = ?", [sku.upper()]).fetchone()
    if product is None:
        raise LookupError(f"There is no product {sku}.")
    shelves = stock.execute("SELECT warehouse, quantity FROM stock WHERE sku = ? ORDER BY warehouse", [product["sku"]])
    return {**product, "warehouses": [dict(shelf) for shelf in shelves]}


def list_low_stock(stock, threshold=None):
    """Products below their reorder level, or below a given number of units."""
    query = (
        "SELECT sku, name, in_stock, reorder_level FROM available JOIN products USING (sku, name) "
        "WHERE in_stock < COALESCE(?, reorder_level) ORDER BY in_stock"
    )
    found = stock.execute(query, [threshold if threshold is None else int(threshold)])
    return {"products": [dict(product) for product in found]}


ACTIONS = {"check_inventory": check_inventory, "list_low_stock": list_low_stock}


def handler(event, context):
    """Carry out the function that the agent chose, and answer as the action-group contract wants it."""
    parameters = {parameter["name"]: parameter["value"] for parameter in event.get("parameters", [])}
    stock = sqlite3.connect(os.environ["STOCK_DB"])
    stock.row_factory = sqlite3.Row
    response = {}
    try:
        body = json.dumps(ACTIONS[event["function"]](stock, **parameters))
    except LookupError as error:
        body, response = str(error), {"responseState": "REPROMPT"}
    finally:
        stock.close()
    return {
        "messageVersion": "1.0",
        "response": {
            "actionGroup": event["actionGroup"],
            "function": event["function"],
            "functionResponse": {**response, "responseBody": {"TEXT": {"body": body}}},
        },
    }
