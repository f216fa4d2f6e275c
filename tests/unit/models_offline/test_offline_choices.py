"""Which tools the offline model calls with what, over a dozen realistic tool sets: tables of what people say."""

from __future__ import annotations

import pytest
from offline_driver import Case, Talk, calls_of, judge, read_cases, reply_to, said, spec

from outcrop.messages import ToolSpec, user

_SMALL_TALK = (
    "Hello", "How are you today?", "Tell me a joke", "What is the meaning of life?", "Write a poem about the sea",
    "Who won the world cup in 1998?", "I am bored", "5", "yes", "no", "thank you very much", "???", "asdf qwer zxcv",
    "Explain quantum mechanics", "Repeat the word banana 10 times", "What's the time?", "Are you a real person?",
    "Wie geht es dir?", "¿Dónde está la biblioteca?", "你好", "مرحبا", "My dog is called Rex", "the",
    "and then", "don't",
    "Who is the president of the United States?", "What did I just say?",
)  # fmt: skip


@pytest.mark.parametrize("case", read_cases("cases.txt"), ids=lambda case: f"{case.tools}: {case.text}"[:80])
async def test_says_and_calls(case: Case, sets: dict[str, list[ToolSpec]]) -> None:
    assert await judge(case, sets) == ""


async def test_cases_written_after_the_rules_are_right_too(sets: dict[str, list[ToolSpec]]) -> None:
    cases = read_cases("held_out.txt")
    wrong = [f"{case.text}: {what}" for case in cases if (what := await judge(case, sets))]
    assert len(wrong) <= len(cases) * 0.05, "\n".join(wrong)


@pytest.mark.parametrize("text", _SMALL_TALK)
async def test_small_talk_calls_no_action(text: str, sets: dict[str, list[ToolSpec]]) -> None:
    for tools in sets.values():
        reply = await reply_to([user(text)], tools)
        assert [name for name, _ in calls_of(reply) if name != "Search"] == []
        assert not said(reply).endswith("What should I use?")


async def test_the_order_in_which_tools_are_offered_matters_only_between_equals(
    sets: dict[str, list[ToolSpec]],
) -> None:
    for case in read_cases("cases.txt"):
        forward = await reply_to([user(case.text)], sets[case.tools])
        backward = await reply_to([user(case.text)], sets[case.tools][::-1])
        if len(case.calls()) == 1 and "SKU" not in case.text:
            assert calls_of(forward) == calls_of(backward), case.text


async def test_equal_tools_go_to_the_first_offered() -> None:
    one = spec("a__ping_host", "Ping a host", {"host": {"type": "string"}}, ("host",))
    other = {**one, "name": "b__ping_host"}
    for tools in ([one, other], [other, one]):
        reply = await reply_to([user('ping host "alpha"')], tools)
        assert reply.message["content"][1]["toolUse"]["name"] == tools[0]["name"]


async def test_an_action_wins_over_the_knowledge_base_and_the_knowledge_base_over_silence(
    sets: dict[str, list[ToolSpec]],
) -> None:
    talk = Talk(sets["helpdesk"])
    assert calls_of(await talk.say("Show ticket TCK-1")) == [("get_ticket", {"ticket_id": "TCK-1"})]
    await talk.results({"ticket_id": "TCK-1", "status": "open"})
    asked = "Where can I park my bike at the office?"
    assert calls_of(await talk.say(asked)) == [("Search", {"searchQuery": asked})]


# --- parameters, one rule at a time

_S, _I, _N, _B = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
_DATE = {"type": "string", "format": "date"}
_NAMES = {"type": "array", "items": {"type": "string"}}
_LINES = {
    "type": "array",
    "items": {"type": "object", "properties": {"sku": _S, "quantity": _I}, "required": ["sku", "quantity"]},
}
_FILLED = [
    ("integer beside its word", {"quantity": _I}, "run the job with quantity 5", {"quantity": 5}),
    ("integer before its word", {"retries": _I}, "run the job with 3 retries", {"retries": 3}),
    ("integer after an equals sign", {"retries": _I}, "run the job, retries=4", {"retries": 4}),
    ("two numbers, each by its word", {"width": _I, "height": _I}, "run the job height 3 width 9",
     {"width": 9, "height": 3}),
    ("thousands", {"count": _I}, "run the job for 1,200 rows", {"count": 1200}),
    ("a dozen", {"count": _I}, "run the job a dozen times", {"count": 12}),
    ("two dozen", {"count": _I}, "run the job two dozen times", {"count": 24}),
    ("twenty-five", {"count": _I}, "run the job twenty-five times", {"count": 25}),
    ("two hundred and fifty", {"count": _I}, "run the job two hundred and fifty times", {"count": 250}),
    ("a fraction is no integer", {"ratio": _N, "count": _I}, "run the job 0.5 7", {"ratio": 0.5, "count": 7}),
    ("amount in dollars", {"amount": _N}, "run the job for $19.99", {"amount": 19.99}),
    ("amount in euros", {"amount": _N, "currency": _S}, "run the job for 19.99 EUR",
     {"amount": 19.99, "currency": "EUR"}),
    ("amount with a sign before", {"amount": _N, "currency": _S}, "run the job for £5",
     {"amount": 5, "currency": "GBP"}),
    ("ISO date", {"date": _DATE}, "run the job on 2026-12-24", {"date": "2026-12-24"}),
    ("day and month and year", {"date": _DATE}, "run the job on 24 December 2026", {"date": "2026-12-24"}),
    ("American date", {"date": _DATE}, "run the job on December 24th, 2026", {"date": "2026-12-24"}),
    ("date with dots", {"date": _DATE}, "run the job on 24.12.2026", {"date": "2026-12-24"}),
    ("day and month stay as written", {"date": _DATE}, "run the job on 24 December", {"date": "24 December"}),
    ("relative days stay as written", {"date": _DATE}, "run the job tomorrow", {"date": "tomorrow"}),
    ("ambiguous dates stay as written", {"date": _DATE}, "run the job on 03/04/2026", {"date": "03/04/2026"}),
    ("from and to", {"start_date": _S, "end_date": _S}, "run the job until 2026-02-03 from 2026-02-01",
     {"start_date": "2026-02-01", "end_date": "2026-02-03"}),
    ("a date's digits are no count", {"date": _DATE, "count": _I}, "run the job on 24 December 2026 with 3 rows",
     {"date": "2026-12-24", "count": 3}),
    ("time", {"time": _S}, "run the job at 14:30", {"time": "14:30"}),
    ("e-mail", {"email": _S}, "run the job and tell ann.b+x@mail.example.com.", {"email": "ann.b+x@mail.example.com"}),
    ("phone", {"phone": _S}, "run the job, call +353 86 123 4567", {"phone": "+353 86 123 4567"}),
    ("URL", {"url": _S}, "run the job with https://example.com/a?b=1.", {"url": "https://example.com/a?b=1"}),
    ("UUID", {"job_id": _S}, "run the job 0e7c2a54-91aa-4b1e-9d8e-0123456789ab",
     {"job_id": "0e7c2a54-91aa-4b1e-9d8e-0123456789ab"}),
    ("hash id", {"job_id": _S}, "run the job #4711", {"job_id": "4711"}),
    ("number as id", {"job_id": _S}, "run the job 4711", {"job_id": "4711"}),
    ("integer id", {"job_id": _I}, "run the job 4711", {"job_id": 4711}),
    ("ids by their letters", {"order_id": _S, "customer_id": _S}, "run the job for CUS-1 and ORD-2",
     {"order_id": "ORD-2", "customer_id": "CUS-1"}),
    ("id by example",
     {"a": {"type": "string", "description": "e.g. QX-1"}, "b": {"type": "string", "description": "e.g. ZZ9"}},
     "run the job ZZ7 QX-3", {"a": "QX-3", "b": "ZZ7"}),
    ("quoted", {"name": _S}, 'run the job "Night Run 7"', {"name": "Night Run 7"}),
    ("quoted in single quotes", {"name": _S}, "run the job 'Night Run'", {"name": "Night Run"}),
    ("person", {"customer": _S}, "run the job for Maria da Silva", {"customer": "Maria da Silva"}),
    ("places by preposition", {"origin": _S, "destination": _S}, "run the job to New York from Cork",
     {"origin": "Cork", "destination": "New York"}),
    ("lower-case place", {"room": _S}, "run the job in the living room", {"room": "living room"}),
    ("enum in any case", {"level": {"type": "string", "enum": ["LOW", "HIGH"]}}, "run the job with high level",
     {"level": "HIGH"}),
    ("enum in the plural", {"kind": {"type": "string", "enum": ["cat", "dog"]}}, "run the job for dogs",
     {"kind": "dog"}),
    ("enum of several words",
     {"state": {"type": "string", "enum": ["IN_PROGRESS", "DONE"]}}, "run the job, in progress",
     {"state": "IN_PROGRESS"}),
    ("number in an enum", {"size": {"type": "integer", "enum": [10, 20]}}, "run the job with 20", {"size": 20}),
    ("boolean by its name", {"verbose": _B}, "run the job verbose", {"verbose": True}),
    ("boolean denied", {"verbose": _B}, "run the job without verbose output", {"verbose": False}),
    ("boolean said outright", {"verbose": _B}, "run the job, verbose=false", {"verbose": False}),
    ("switch", {"enabled": _B}, "run the job, disable it", {"enabled": False}),
    ("list", {"tags": _NAMES}, "run the job with tags red, green and dark blue",
     {"tags": ["red", "green", "dark blue"]}),
    ("list of numbers", {"ports": {"type": "array", "items": _I}}, "run the job on ports 80 and 443",
     {"ports": [80, 443]}),
    ("list of addresses", {"emails": _NAMES}, "run the job for a@x.example and b@x.example",
     {"emails": ["a@x.example", "b@x.example"]}),
    ("list of records", {"lines": _LINES}, "run the job with 3 units of AB-1 and 4 units of AB-2",
     {"lines": [{"sku": "AB-1", "quantity": 3}, {"sku": "AB-2", "quantity": 4}]}),
    ("object", {"where": {"type": "object", "properties": {"city": _S}, "required": ["city"]}}, "run the job in Oslo",
     {"where": {"city": "Oslo"}}),
    ("message after saying", {"message": _S}, "run the job saying we are closed", {"message": "we are closed"}),
    ("message after a colon", {"message": _S}, "run the job: we are closed, and back soon",
     {"message": "we are closed, and back soon"}),
    ("reason", {"reason": _S}, "run the job because the disk is full", {"reason": "the disk is full"}),
    ("quantity as text", {"quantity": _S}, "run the job with 5 units", {"quantity": "5"}),
    ("default of the schema", {"mode": {"type": "string", "default": "fast"}}, "run the job", {"mode": "fast"}),
    ("default told in words", {"limit": {"type": "integer", "description": "Rows, default 20"}}, "run the job",
     {"limit": 20}),
    ("type list", {"count": {"type": ["null", "integer"]}}, "run the job 3 times", {"count": 3}),
    ("each number once", {"count": _I, "limit": _I}, "run the job with count 3 and limit 4", {"count": 3, "limit": 4}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "text", "wanted"), [row[1:] for row in _FILLED], ids=[row[0] for row in _FILLED]
)
async def test_fills(properties: dict, text: str, wanted: dict) -> None:
    tool = spec("jobs__run_job", "Run the job", properties, tuple(properties))
    assert calls_of(await reply_to([user(text)], [tool])) == [("run_job", wanted)]


@pytest.mark.parametrize(
    "properties",
    [
        {"limit": _I, "offset": _I},
        {"note": _S},
        {"customer": _S},
        {"verbose": _B},
        {"tags": _NAMES},
        {"where": {"type": "object"}},
    ],
)
async def test_leaves_optional_parameters_alone_that_nobody_speaks_of(properties: dict) -> None:
    tool = spec("jobs__run_job", "Run the job", properties)
    assert calls_of(await reply_to([user("please run the job")], [tool])) == [("run_job", {})]
