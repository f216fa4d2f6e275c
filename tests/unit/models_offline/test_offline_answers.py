"""What the offline model makes of results: a table of shapes and the sentences they become."""

from __future__ import annotations

from typing import Any

import pytest
from offline_driver import Talk, calls_of, said, spec

_NUMBER = {"type": "string", "description": "e.g. SKU-55"}
_ANSWERS: list[tuple[str, Any, str]] = [
    (
        "counts and a place",
        {"sku": "SKU-55", "on_hand": 42, "warehouse": "DUB-1"},
        "SKU-55 has 42 on hand in warehouse DUB-1.",
    ),
    ("id and name", {"sku": "SKU-55", "name": "Trail lamp", "on_hand": 42}, "SKU-55 (Trail lamp) has 42 on hand."),
    ("camel case", {"productId": "P-1", "unitsLeft": 3}, "Product P-1 has 3 units left."),
    ("name without id", {"name": "Acme", "email": "a@x.example"}, "Acme has email a@x.example."),
    ("the asked thing is the subject", {"shelf": "SKU-55", "price": 2}, "SKU-55 has price 2."),
    ("no subject", {"price": 2.5, "weight": 3}, "Price 2.5 and weight 3."),
    ("status", {"sku": "SKU-55", "on_hand": 0, "status": "sold out"}, "SKU-55 has 0 on hand. The status is sold out."),
    ("status alone", {"sku": "SKU-55", "status": "active"}, "The status of SKU-55 is active."),
    ("boolean that describes", {"sku": "SKU-55", "in_stock": True}, "SKU-55. It is in stock."),
    (
        "boolean denied",
        {"sku": "SKU-55", "on_hand": 0, "available": False},
        "SKU-55 has 0 on hand. It is not available.",
    ),
    (
        "boolean of another kind",
        {"sku": "SKU-55", "price": 1, "gift_wrap": True},
        "SKU-55 has price 1. Gift wrap: yes.",
    ),
    ("money", {"sku": "SKU-55", "price": 19.99, "currency": "EUR"}, "SKU-55 has price 19.99 EUR."),
    (
        "measures",
        {"sku": "SKU-55", "lead_time_days": 5, "discount_percent": 10},
        "SKU-55 has lead time 5 days and discount 10%.",
    ),
    ("large numbers", {"sku": "SKU-55", "on_hand": 1234567}, "SKU-55 has 1,234,567 on hand."),
    ("nothing known", {"sku": "SKU-55", "supplier": None}, "SKU-55 has supplier unknown."),
    (
        "nested",
        {"sku": "SKU-55", "supplier": {"name": "Acme", "city": "Cork"}},
        "For SKU-55, the supplier is Acme (in city Cork).",
    ),
    (
        "nested beside others",
        {"sku": "SKU-55", "on_hand": 1, "supplier": {"name": "Acme"}},
        "SKU-55 has 1 on hand. The supplier is Acme.",
    ),
    ("an envelope", {"statusCode": 200, "data": {"sku": "SKU-55", "on_hand": 1}}, "SKU-55 has 1 on hand."),
    ("a wrapped record", {"product": {"sku": "SKU-55", "on_hand": 1}}, "SKU-55 has 1 on hand."),
    ("a message", {"message": "All is well"}, "All is well."),
    ("a message beside success", {"success": True, "message": "All is well."}, "All is well."),
    ("success alone", {"ok": True}, "Done."),
    ("an empty record", {}, "The result is empty."),
    ("an empty list", [], "There are no results."),
    ("an empty list with a name", {"products": []}, "There are no products."),
    ("a list of words", {"colours": ["red", "green", "blue"]}, "Colours: red, green and blue."),
    ("a list of one record", [{"sku": "SKU-55", "on_hand": 1}], "SKU-55 has 1 on hand."),
    (
        "a list of records",
        {"count": 2, "products": [{"sku": "A-1", "on_hand": 1}, {"sku": "A-2", "on_hand": 2, "in_stock": True}]},
        "There are 2 products:\n- A-1: 1 on hand\n- A-2: 2 on hand, in stock",
    ),
    ("a bare number", 42, "42."),
    ("a bare boolean", True, "true."),
    ("a JSON string", '"ready"', "ready."),
    ("plain text", "42 of them are in Dublin", "42 of them are in Dublin."),
    ("a sentence", "There are 42.", "There are 42."),
    ("XML", "<stock><sku>SKU-55</sku><on_hand>4</on_hand></stock>", "SKU-55 has on hand 4."),
    ("HTML", "<p>There are <b>42</b> of them</p>", "B 42."),
    ("broken JSON", '{"sku": "SKU-55", ', '{"sku": "SKU-55",.'),
    ("nothing at all", "", "Check inventory is done; it returned nothing."),
]


@pytest.mark.parametrize(("result", "wanted"), [row[1:] for row in _ANSWERS], ids=[row[0] for row in _ANSWERS])
async def test_a_result_becomes_sentences(talk: Talk, result: Any, wanted: str) -> None:
    await talk.say("Check inventory for SKU-55")
    assert said(await talk.results(result)) == wanted


async def test_a_long_list_is_cut_and_says_how_much_is_left(talk: Talk) -> None:
    await talk.say("Which products are low on stock?")
    lines = said(await talk.results([{"sku": f"SKU-{n}", "on_hand": n} for n in range(250)])).splitlines()
    assert lines[0] == "There are 250 results:"
    assert lines[1] == "- SKU-0: 0 on hand"
    assert lines[-1] == "- and 240 more"
    assert len(lines) == 12


async def test_a_huge_text_is_cut(talk: Talk) -> None:
    await talk.say("Check inventory for SKU-55")
    assert len(said(await talk.results("word " * 100_000))) < 5_000


async def test_deep_nesting_ends(talk: Talk) -> None:
    deep: Any = {"sku": "SKU-1"}
    for _ in range(200):
        deep = {"inner": deep}
    await talk.say("Check inventory for SKU-55")
    assert len(said(await talk.results(deep))) < 5_000


async def test_json_content_blocks_are_read_like_text(talk: Talk) -> None:
    asked = await talk.say("Check inventory for SKU-55")
    use = asked.message["content"][1]["toolUse"]
    block = {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"json": {"sku": "SKU-55", "on_hand": 7}}]}}
    talk.messages.append({"role": "user", "content": [block]})
    assert said(await talk._reply()) == "SKU-55 has 7 on hand."


async def test_what_was_made_is_named_by_its_own_id(talk: Talk) -> None:
    await talk.say("Reserve 5 units of SKU-55")
    made = {"sku": "SKU-55", "reservationId": "RES-1", "quantity": 5, "status": "confirmed"}
    assert said(await talk.results(made)) == "Reservation RES-1 has sku SKU-55 and quantity 5. The status is confirmed."


async def test_several_calls_of_one_tool_are_told_apart() -> None:
    talk = Talk([spec("inventory__check_inventory", "Current stock of a product", {"sku": _NUMBER}, ("sku",))])
    assert len(calls_of(await talk.say("Check inventory for SKU-1 and SKU-2"))) == 2
    assert (
        said(await talk.results("none", "seven")) == "Check inventory (SKU-1): none.\n\nCheck inventory (SKU-2): seven."
    )
    await talk.say("Check inventory for SKU-1 and SKU-2")
    answered = await talk.results({"sku": "SKU-1", "on_hand": 0}, {"sku": "SKU-2", "on_hand": 7})
    assert said(answered) == "SKU-1 has 0 on hand.\n\nSKU-2 has 7 on hand."


async def test_one_failure_among_results_is_told_beside_them(talk: Talk) -> None:
    await talk.say("Check inventory for SKU-1 and who supplies SKU-2?")
    answered = await talk.results({"sku": "SKU-1", "on_hand": 3}, {"error": "no supplier is known"})
    assert said(answered) == (
        "Check inventory for SKU-1: SKU-1 has 3 on hand.\n\n"
        "Who supplies SKU-2? I could not get supplier: no supplier is known."
    )
