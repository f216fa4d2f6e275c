"""Suppliers and purchase orders, as a Lambda function of an action group with an OpenAPI schema."""

import json
import os
import sqlite3


def get_supplier(stock, given):
    """The supplier of a product."""
    query = "SELECT s.* FROM suppliers s JOIN products p ON p.supplier = s.name WHERE p.sku = ?"
    supplier = stock.execute(query, [given["sku"].upper()]).fetchone()
    return (200, dict(supplier)) if supplier else (404, {"message": f"There is no product {given['sku']}."})


def create_order(stock, given):
    """A new purchase order."""
    if not stock.execute("SELECT 1 FROM products WHERE sku = ?", [given["sku"].upper()]).fetchone():
        return 404, {"message": f"There is no product {given['sku']}."}
    order = [given["sku"].upper(), int(given["quantity"])]
    with stock:
        number = stock.execute("INSERT INTO purchase_orders (sku, quantity) VALUES (?, ?)", order).lastrowid
    return 201, {"orderId": f"PO-{number}", "sku": order[0], "quantity": order[1], "status": "placed"}


def get_order(stock, given):
    """The status of a purchase order."""
    number = given["orderId"].upper().removeprefix("PO-")
    order = stock.execute("SELECT sku, quantity, status FROM purchase_orders WHERE id = ?", [number]).fetchone()
    return (200, dict(order)) if order else (404, {"message": f"There is no order {given['orderId']}."})


OPERATIONS = {
    ("GET", "/products/{sku}/supplier"): get_supplier,
    ("POST", "/orders"): create_order,
    ("GET", "/orders/{orderId}"): get_order,
}


def handler(event, context):
    """Carry out the operation that the agent chose, and answer as the action-group contract wants it."""
    given = {parameter["name"]: parameter["value"] for parameter in event.get("parameters", [])}
    for content in event.get("requestBody", {}).get("content", {}).values():
        given |= {entry["name"]: entry["value"] for entry in content["properties"]}
    stock = sqlite3.connect(os.environ["STOCK_DB"])
    stock.row_factory = sqlite3.Row
    try:
        status, body = OPERATIONS[event["httpMethod"], event["apiPath"]](stock, given)
    finally:
        stock.close()
    return {
        "messageVersion": "1.0",
        "response": {
            "actionGroup": event["actionGroup"],
            "apiPath": event["apiPath"],
            "httpMethod": event["httpMethod"],
            "httpStatusCode": status,
            "responseBody": {"application/json": {"body": json.dumps(body)}},
        },
    }
