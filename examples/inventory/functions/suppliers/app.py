"""The suppliers function: an action-group Lambda with an OpenAPI schema, as it would run at AWS."""

import json
import os
import sqlite3


def get_supplier(stock, sku):
    """Who supplies a product."""
    row = stock.execute(
        "select p.sku, s.name as supplier, s.email, s.lead_time_days"
        " from products p join suppliers s on s.id = p.supplier where p.sku = ?",
        (sku.upper(),),
    ).fetchone()
    return (200, dict(row)) if row else (404, {"error": f"There is no product {sku}."})


def order(stock, sku, quantity):
    """Order more of a product."""
    with stock:
        made = stock.execute(
            "insert into orders (sku, quantity, status) values (?, ?, 'ordered')", (sku.upper(), int(quantity))
        )
    return 200, {"order": f"PO-{made.lastrowid}", "sku": sku.upper(), "quantity": int(quantity), "status": "ordered"}


OPERATIONS = {("GET", "/suppliers/{sku}"): get_supplier, ("POST", "/orders"): order}


def handler(event, context):
    """Answer one API operation of the agent."""
    body = event.get("requestBody", {}).get("content", {}).get("application/json", {}).get("properties", [])
    given = {parameter["name"]: parameter["value"] for parameter in [*event.get("parameters", []), *body]}
    stock = sqlite3.connect(os.environ["STOCK_DB"])
    stock.row_factory = sqlite3.Row
    try:
        status, answer = OPERATIONS[event["httpMethod"], event["apiPath"]](stock, **given)
    finally:
        stock.close()
    return {
        "messageVersion": "1.0",
        "response": {
            "actionGroup": event["actionGroup"],
            "apiPath": event["apiPath"],
            "httpMethod": event["httpMethod"],
            "httpStatusCode": status,
            "responseBody": {"application/json": {"body": json.dumps(answer)}},
        },
    }
