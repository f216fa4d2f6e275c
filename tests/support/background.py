"""Turns in the background as their callers see them, through boto3 against a server in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from agents import World
from botocore.exceptions import ClientError
from held_model import HeldModel

from outcrop.clock import StillClock
from outcrop.config import Binding
from outcrop.testing import LocalServer, RecordedFunctions, call

CHECK_A = [call("inventory__check", {"sku": "A"})]
DAY_S = 86_400.0
POLICIES = (
    Binding("thrifty-*", {"budget": {"agent_steps": 1, "period": "day", "at_limit": "pause"}}),
    Binding("patient-*", {"busy_session": "enqueue"}),
)


class Scene(World):
    """One server for all tests of a process, because its jobs take a second to launch; each test has its own agents."""

    def __init__(self, server: LocalServer, model: HeldModel, functions: RecordedFunctions, clock: StillClock) -> None:
        super().__init__(server, model, functions)
        self.model, self.clock = model, clock
        self.outcrop = server.client("outcrop")
        self.numbers = itertools.count(1)

    def hold(self, call: int = 1, *, after: int = 0) -> Any:
        """Let the model's n-th call from now on wait."""
        return self.model.hold(len(self.model.requests) + call, after=after)

    def some(self, *groups: dict[str, Any], name: str = "stock") -> tuple[str, str]:
        """An agent of this test's own."""
        return self.agent(*groups, name=f"{name}-{next(self.numbers)}")

    def start(self, ids: tuple[str, str], text: str = "", *, session: str = "session-1", **members: Any) -> str:
        """A turn's id."""
        self.clock.advance(0.01)
        given = {"inputText": text} if text else {}
        began = self.outcrop.start_turn(agentId=ids[0], agentAliasId=ids[1], sessionId=session, **given, **members)
        return began["turnId"]

    def get(self, turn_id: str, wait_s: int = 30) -> dict[str, Any]:
        """The turn once it rests."""
        told = self.outcrop.get_turn(turnId=turn_id, waitSeconds=wait_s)
        told.pop("ResponseMetadata")
        return told

    def events(self, turn_id: str, **members: Any) -> tuple[list[dict[str, Any]], str | None, str]:
        """One page, where it goes on, and the status."""
        told = self.outcrop.list_turn_events(turnId=turn_id, **members)
        return told["events"], told.get("nextToken"), told["status"]

    def all_events(self, turn_id: str, page: int = 100) -> list[dict[str, Any]]:
        """What there is at the moment, traces included, read in pages."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            events, following, _ = self.events(turn_id, includeTrace=True, maxResults=page, **token)
            found += events
            if not events or following is None:
                return found
            token = {"nextToken": following}


def results(control: dict[str, Any], text: str = "R-1") -> dict[str, Any]:
    """A sessionState with an answer to everything that was asked."""
    brought = []
    for given in control["invocationInputs"]:
        asked = given["functionInvocationInput"]
        named = {"actionGroup": asked["actionGroup"], "function": asked["function"]}
        brought.append({"functionResult": {**named, "responseBody": {"TEXT": {"body": text}}}})
    return {"invocationId": control["invocationId"], "returnControlInvocationResults": brought}


def refusal(of: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        of()
    error = raised.value.response["Error"]
    return error["Code"], error["Message"]
