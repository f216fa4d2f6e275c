"""`make demo`, as whoever cloned the repository runs it, and the example agent beyond its three questions."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from outcrop.client import AgentClient, Answer
from outcrop.config import ServerSettings, load
from outcrop.testing import LocalServer

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "inventory"


def demo(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The demonstration, run in an empty home folder without credentials."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, EXAMPLE / "demo.py", *options],
        cwd=folder,
        env={**bare, "HOME": str(folder), "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_answers_three_questions_and_tidies_up(tmp_path: Path) -> None:
    ran = demo(tmp_path, TMPDIR=str(tmp_path))

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    for line in (
        "1. Check inventory for SKU-55",
        "inventory.check_inventory(sku=SKU-55)",
        "SKU-55 (Anchor bolts M10, 25) has 42 in stock",
        "suppliers GET /products/{sku}/supplier(sku=SKU-21)",
        "SKU-12 (Cordless drill)",
        "Harbour Electric",
        "returned          to this program, which carries out reserve_stock(sku=SKU-55, quantity=5)",
        "R-1",
        "What it took",
        "tokens in",
        "offline",
        "docs/how-to/bind-a-model.md",
    ):
        assert line in ran.stdout, ran.stdout
    assert max(len(line) for line in ran.stdout.splitlines()) <= 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_demo_that_cannot_start_says_why(tmp_path: Path) -> None:
    ran = demo(tmp_path, OUTCROP_TURNS_MAX_ITERATIONS="many")

    assert ran.returncode == 1
    assert "The demo failed: outcrop serve did not start" in ran.stdout
    assert "OUTCROP_TURNS_MAX_ITERATIONS: 'many' is no int" in " ".join(ran.stdout.split())
    assert "Traceback" not in ran.stdout + ran.stderr


@pytest.mark.slow
def test_a_demo_that_is_kept_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-u", EXAMPLE / "demo.py", "--keep"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C stops it." not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        found = re.search(r"endpoint_url='(http://[\d.:]+)'", said)
        assert found
        answer = AgentClient(found[1]).ask("inventory-assistant", "PROD", "session-2", "Check inventory for SKU-12")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert "Cordless drill" in answer.text
    assert process.returncode == 0


class Shop:
    """The example agent on an engine in this process, with the offline model and the real functions."""

    def __init__(self, server: LocalServer, agent: ModuleType, stock: ModuleType, database: Path) -> None:
        self.stock, self.database = stock, database
        self.ids = agent.create(server.client("bedrock-agent"))
        self.agents = AgentClient(session=server)

    def ask(self, text: str) -> Answer:
        def reserve(call: Any) -> Any:
            return self.stock.reserve(self.database, call)

        return self.agents.ask(*self.ids, "session-1", text, on_return_control=reserve)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.syspath_prepend(EXAMPLE)
    import agent

    import stock

    database = tmp_path / "stock.db"
    stock.make(database)
    monkeypatch.setenv("STOCK_DB", str(database))
    config = replace(load(EXAMPLE / "outcrop.toml"), server=ServerSettings(database="sqlite:memory"))
    with LocalServer(config=config) as server:
        yield Shop(server, agent, stock, database)
    for name in ("agent", "stock"):
        del sys.modules[name]


def test_what_is_reserved_is_no_longer_there(shop: Shop) -> None:
    refused = shop.ask("Reserve 43 units of SKU-55")
    assert "42 are available" in refused.text
    assert shop.stock.reserved(shop.database, "SKU-55") == 0

    assert "R-1" in shop.ask("Reserve 40 units of SKU-55").text
    assert "2 are available" in shop.ask("Reserve 3 units of SKU-55").text
    assert "40 reserved" in shop.ask("Check inventory for SKU-55").text


def test_orders_are_placed_and_found_again(shop: Shop) -> None:
    assert "PO-1003" in shop.ask("Order 12 of SKU-33 from the supplier").text
    assert "placed" in shop.ask("What is the status of PO-1003?").text
    assert "shipped" in shop.ask("What is the status of PO-1001?").text


def test_products_and_orders_that_do_not_exist(shop: Shop) -> None:
    for question, said in (
        ("Check inventory for SKU-999", "no product SKU-999"),
        ("Who supplies SKU-999?", "no product SKU-999"),
        ("What is the status of PO-7?", "no order PO-7"),
        ("Order 3 of SKU-999 from the supplier", "no product SKU-999"),
        ("Reserve 3 units of SKU-999", "no product SKU-999"),
    ):
        assert said in shop.ask(question).text


def test_a_threshold_of_ones_own(shop: Shop) -> None:
    text = shop.ask("Which products have fewer than 10 units left?").text
    assert "SKU-12" in text
    assert "SKU-21" in text
    assert "SKU-33" not in text
