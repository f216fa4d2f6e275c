from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outcrop.clock import StillClock
from outcrop.errors import ConflictException, ValidationException
from outcrop.operations.resource import echo, only, page

Call = Callable[..., Awaitable[dict[str, Any]]]
TOKEN = "t" * 40
ROWS = [(number, {"n": number}) for number in (9, 7, 4, 2, 1)]


def test_an_echo_lacks_what_is_named_and_what_is_none() -> None:
    assert echo({"a": 1, "b": None, "c": [], "tags": {}}, "tags") == {"a": 1, "c": []}


def test_a_summary_has_only_the_members_that_the_record_has() -> None:
    assert only({"a": 1, "b": 2}, ("b", "c")) == {"b": 2}


def test_pages_follow_one_another_to_the_end() -> None:
    seen: list[int] = []
    ask: dict[str, Any] = {"maxResults": 2}
    for _ in range(3):
        answer = page("things", ask, ROWS, "things")
        seen += [thing["n"] for thing in answer["things"]]
        ask["nextToken"] = answer.get("nextToken")
    assert seen == [9, 7, 4, 2, 1]
    assert ask["nextToken"] is None


def test_a_page_goes_on_where_it_was_although_the_list_changed() -> None:
    first = page("things", {"maxResults": 2}, ROWS, "things")
    changed = [(10, {"n": "new"}), *(row for row in ROWS if row[0] != 7)]
    second = page("things", {"maxResults": 2, "nextToken": first["nextToken"]}, changed, "things")
    assert [thing["n"] for thing in second["things"]] == [4, 2]


def test_ten_items_are_a_page_unless_more_are_asked_for() -> None:
    rows = [(number, {}) for number in range(30, 0, -1)]
    assert len(page("things", {}, rows, "things")["things"]) == 10
    whole = page("things", {"maxResults": 100}, rows, "things")
    assert len(whole["things"]) == 30
    assert "nextToken" not in whole


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "!!!!",
        "ü",
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"others\n3").decode(),
        base64.urlsafe_b64encode(b"things\nthree").decode(),
        base64.urlsafe_b64encode(b"things").decode(),
    ],
)
def test_a_token_that_is_none_of_this_list_is_refused(token: str) -> None:
    with pytest.raises(ValidationException, match="nextToken") as refused:
        page("things", {"nextToken": token}, ROWS, "things")
    assert refused.value.members["fieldList"][0]["name"] == "nextToken"


async def test_a_repeated_client_token_gets_the_first_answer_and_creates_nothing(call: Call) -> None:
    first = await call("CreateAgent", agentName="one", clientToken=TOKEN)
    again = await call("CreateAgent", agentName="two", clientToken=TOKEN)
    assert again == first
    assert len((await call("ListAgents"))["agentSummaries"]) == 1


async def test_a_token_counts_for_its_operation_only(call: Call, prepared: str) -> None:
    await call("CreateAgent", agentName="one", clientToken=TOKEN)
    alias = await call("CreateAgentAlias", agentId=prepared, agentAliasName="PROD", clientToken=TOKEN)
    assert alias["agentAlias"]["agentAliasName"] == "PROD"


async def test_a_token_is_forgotten_after_a_day(call: Call, clock: StillClock) -> None:
    await call("CreateAgent", agentName="one", clientToken=TOKEN)
    clock.advance(24 * 3600 - 1)
    assert (await call("CreateAgent", agentName="one", clientToken=TOKEN))["agent"]["agentName"] == "one"
    clock.advance(1)
    with pytest.raises(ConflictException):
        await call("CreateAgent", agentName="one", clientToken=TOKEN)


async def test_a_failed_call_leaves_its_token_free(call: Call) -> None:
    await call("CreateAgent", agentName="one")
    with pytest.raises(ConflictException):
        await call("CreateAgent", agentName="one", clientToken=TOKEN)
    assert (await call("CreateAgent", agentName="two", clientToken=TOKEN))["agent"]["agentName"] == "two"


async def test_expired_tokens_do_not_pile_up(call: Call, clock: StillClock, engine: Any) -> None:
    for n in range(5):
        await call("CreateAgent", agentName=f"agent-{n}", clientToken=f"{n}" * 40)
    clock.advance(25 * 3600)
    await call("CreateAgent", agentName="late", clientToken=TOKEN)
    assert len(await engine.documents.read(lambda docs: docs.list("client-token"))) == 1
