"""The stock database: made of the two SQL files, and the one action that this program carries out itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from outcrop.client import ActionCall, ActionFailed

HERE = Path(__file__).resolve().parent


def make(path: Path) -> None:
    """A new database with the sample data, in place of an older one."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as stock:
        for script in ("schema.sql", "seed.sql"):
            stock.executescript((HERE / script).read_text(encoding="utf-8"))
        stock.commit()


def reserve(path: Path, call: ActionCall) -> dict[str, Any]:
    """What came of a reservation that the agent asked for.

    Errors: ActionFailed when there is no such product, or not enough of it.
    """
    sku, quantity = str(call.parameters["sku"]).upper(), int(call.parameters["quantity"])
    with closing(sqlite3.connect(path)) as stock, stock:
        left = stock.execute("SELECT in_stock - reserved FROM available WHERE sku = ?", [sku]).fetchone()
        if left is None:
            raise ActionFailed(f"There is no product {sku}.")
        if quantity < 1 or left[0] < quantity:
            raise ActionFailed(f"{quantity} units of {sku} cannot be reserved: {left[0]} are available.")
        number = stock.execute("INSERT INTO reservations (sku, quantity) VALUES (?, ?)", [sku, quantity]).lastrowid
    return {"reservation": f"R-{number}", "sku": sku, "quantity": quantity, "left": left[0] - quantity}


def reserved(path: Path, sku: str) -> int:
    """How many units of a product are reserved."""
    with closing(sqlite3.connect(path)) as stock:
        return stock.execute("SELECT reserved FROM available WHERE sku = ?", [sku]).fetchone()[0]
