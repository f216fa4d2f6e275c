"""What is wrong in a request gets AWS's error, tells nothing it should not, and changes nothing.

Requests, names and schemas; functions and models that fail are in test_failures.py, clients that go
away in test_hang_ups.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from agents import CHECK, INSTRUCTION, LAMBDA, ROLE, World, functions_group
from refusals import bound_server, refused, tells_nothing

from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """One world for all that is refused: nothing may change in it."""
    model, functions = ScriptedModel(), RecordedFunctions()
    with LocalServer(model, functions) as server:
        world = World(server, model, functions)
        world.ids = world.agent()
        yield world


@pytest.fixture
def untouched(shared: World) -> Iterator[World]:
    """The shared world, which must be afterwards what it was before."""
    yield shared
    agents = shared.control.list_agents()["agentSummaries"]
    assert [(agent["agentName"], agent["agentStatus"]) for agent in agents] == [("stock", "PREPARED")]
    at = {"agentId": shared.ids[0], "agentVersion": "DRAFT"}
    assert shared.control.list_agent_action_groups(**at)["actionGroupSummaries"] == []
    shared.model.then("Still here.")
    assert shared.ask(shared.ids, "Hi", session="s-1").text == "Still here."


def posted(world: World, path: str, body: Any, method: str = "POST") -> tuple[int, str, dict[str, Any]]:
    """A request that no client would send: status, error code, and the body of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = world.server.request(method, path, data, {"content-length": str(len(data))})
    text = response.content.decode()
    tells_nothing(text)
    assert response.headers["x-amzn-requestid"]
    return response.status_code, response.headers.get("x-amzn-errortype", ""), json.loads(text)


# requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"text"', b"\xff\xfe{}", b'{"agentName": NaN}', b"null", b"[" * 100_000],
    ids=["cut", "list", "text", "bytes", "nan", "null", "deep"],
)
def test_a_body_that_is_no_json_object(untouched: World, body: bytes) -> None:
    agent, alias = untouched.ids
    for method, path in (("PUT", "/agents/"), ("POST", f"/agents/{agent}/agentAliases/{alias}/sessions/s-1/text")):
        status, code, answer = posted(untouched, path, body, method)

        assert (status, code) == (400, "ValidationException")
        assert "JSON" in answer["message"]


def test_unknown_members_are_ignored(world: World) -> None:
    body = {"agentName": "stock", "colour": "red", "memoryConfiguration": None}
    status, _, answer = posted(world, "/agents/", body, "PUT")

    assert status == 202
    assert "colour" not in answer["agent"]
    agent, alias = world.agent(name="other")
    world.model.then("Hello.")
    asked = {"inputText": "Hi", "mood": "good", "sessionState": {"weather": {"sun": True}}}
    path = f"/agents/{agent}/agentAliases/{alias}/sessions/s-1/text"
    response = world.server.request("POST", path, json.dumps(asked).encode())
    assert response.status_code == 200
    assert b"chunk" in response.content


WRONG_TYPES = [
    ({"agentName": 5}, "agentName"),
    ({"agentName": "a", "idleSessionTTLInSeconds": "long"}, "idleSessionTTLInSeconds"),
    ({"agentName": "a", "tags": ["x"]}, "tags"),
    ({"agentName": "a", "tags": {"x": 1}}, "tags.x"),
    ({"agentName": "a", "guardrailConfiguration": "none"}, "guardrailConfiguration"),
    ({"agentName": "a", "promptOverrideConfiguration": {"promptConfigurations": {}}}, "promptConfigurations"),
]
BROKEN_RULES = [
    ({}, "'agentName'"),
    ({"agentName": "no spaces"}, "'agentName' failed to satisfy constraint: Member must satisfy regular expression"),
    ({"agentName": "a\n"}, "'agentName'"),
    ({"agentName": "a", "instruction": "short"}, "'instruction' failed to satisfy constraint: Member must have length"),
    ({"agentName": "a", "idleSessionTTLInSeconds": 59}, "greater than or equal to 60"),
    ({"agentName": "a", "agentCollaboration": "ENABLED"}, "Member must satisfy enum value set: ["),
    ({"agentName": "a b", "clientToken": "short"}, "2 validation errors detected: "),
]


@pytest.mark.parametrize(("body", "place"), WRONG_TYPES, ids=[place for _, place in WRONG_TYPES])
def test_a_wrong_type_is_named(untouched: World, body: dict[str, Any], place: str) -> None:
    status, code, answer = posted(untouched, "/agents/", body, "PUT")

    assert (status, code) == (400, "ValidationException")
    assert place in answer["message"]
    assert place in answer["fieldList"][0]["name"]


@pytest.mark.parametrize(("body", "sentence"), BROKEN_RULES)
def test_a_broken_rule_is_told_in_awss_words(untouched: World, body: dict[str, Any], sentence: str) -> None:
    status, code, answer = posted(untouched, "/agents/", body, "PUT")

    assert (status, code) == (400, "ValidationException")
    assert sentence in answer["message"]
    assert answer["fieldList"]


def test_a_union_holds_one_member(untouched: World) -> None:
    body = {**functions_group(CHECK), "actionGroupExecutor": {"lambda": LAMBDA, "customControl": "RETURN_CONTROL"}}
    path = f"/agents/{untouched.ids[0]}/agentversions/DRAFT/actiongroups/"

    status, code, answer = posted(untouched, path, body, "PUT")

    assert (status, code) == (400, "ValidationException")
    assert "actionGroupExecutor" in answer["message"]


def test_a_path_that_is_no_operation(untouched: World) -> None:
    unknown, invalid = (404, "UnknownOperationException"), (400, "ValidationException")
    for method, path, told in (
        ("POST", "/nothing/here", unknown),
        ("DELETE", "/agents", unknown),
        ("GET", "/agents/%FF/", invalid),
    ):
        assert posted(untouched, path, b"", method)[:2] == told


# names --------------------------------------------------------------------------------------------


def test_unknown_agents_and_aliases(world: World) -> None:
    agent, alias = world.agent()
    _, foreign = world.agent(name="other")
    world.model.then("Hello.")

    for ids in (("NOSUCHAGNT", alias), (agent, "NOSUCHALIA"), (agent, foreign), ("TSTALIASID", alias)):
        code, status, message = refused(world.ask, ids, "Hi")
        assert (code, status) == ("ResourceNotFoundException", 404)
        assert message.startswith("Failed to retrieve resource because it doesn't exist.")
    assert world.ask((agent, alias), "Hi").text == "Hello."


@pytest.mark.parametrize("session", ["x", "y" * 101, "with space", "a/b", "naïve", "a?b"])
def test_a_session_id_of_another_form(untouched: World, session: str) -> None:
    agent, alias = untouched.ids
    path = f"/agents/{agent}/agentAliases/{alias}/sessions/{quote(session, safe='')}/text"

    status, code, answer = posted(untouched, path, {"inputText": "Hi"})

    assert (status, code) == (400, "ValidationException")
    assert "'sessionId'" in answer["message"]


def test_an_agent_that_is_not_prepared(world: World) -> None:
    made = world.control.create_agent(agentName="stock", foundationModel="some.model", agentResourceRoleArn=ROLE)
    ids = (made["agent"]["agentId"], "TSTALIASID")

    code, status, message = refused(world.ask, ids, "Hi")
    assert (code, status) == ("ValidationException", 400)
    assert "Not Prepared state" in message
    world.control.prepare_agent(agentId=ids[0])
    assert "Failed state" in refused(world.ask, ids, "Hi")[2]


def test_a_call_that_says_nothing(untouched: World) -> None:
    code, status, message = refused(untouched.ask, untouched.ids)

    assert (code, status) == ("ValidationException", 400)
    assert "inputText" in message


# schemas ------------------------------------------------------------------------------------------

RIGHT = """
openapi: 3.0.0
info: {title: Stock, version: "1"}
paths:
  /items/{id}:
    get:
      operationId: getItem
      description: One item
      parameters:
        - {name: id, in: path, description: its id, required: true, schema: {type: string}}
      responses:
        "200": {description: the item}
"""
MISTAKES = {
    "not yaml": (RIGHT.replace("paths:", "paths: ["), "line"),
    "not an object": ("just text", "is no object"),
    "no version": (RIGHT.replace("openapi: 3.0.0\n", ""), "openapi"),
    "another version": (RIGHT.replace("3.0.0", "2.0"), "line 2"),
    "no paths": ("openapi: 3.0.0\ninfo: {title: t, version: '1'}\n", "paths"),
    "no description": (RIGHT.replace("      description: One item\n", ""), "/items/{id}"),
    "no responses": (RIGHT.partition("      responses:")[0], "/items/{id}"),
    "a silent parameter": (RIGHT.replace("description: its id, ", ""), "parameters"),
    "a parameter nowhere": (RIGHT.replace("in: path", "in: pocket"), "parameters"),
    "a body on GET": (
        RIGHT.replace("      responses:", "      requestBody: {content: {application/json: {schema: {type: object}}}}\n"
                      "      responses:"),
        "requestBody",
    ),
    "a path without a slash": (RIGHT.replace("/items/{id}:", "items/{id}:"), "items/{id}"),
    "an id with two lines": (RIGHT.replace("getItem", "get__item"), "operationId"),
    "an id too long": (RIGHT.replace("getItem", "g" * 80), "operationId"),
    "a reference to nothing": (
        RIGHT.replace("schema: {type: string}", "schema: {$ref: '#/components/schemas/Id'}"),
        "#/components/schemas/Id",
    ),
    "one id twice": (RIGHT + RIGHT.partition("paths:\n")[2].replace("/items/", "/others/"), "getItem"),
}  # fmt: skip


@pytest.mark.parametrize(("document", "place"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_schema_is_told_with_its_place(untouched: World, document: str, place: str) -> None:
    group = {"actionGroupName": "items", "actionGroupExecutor": {"lambda": LAMBDA}, "apiSchema": {"payload": document}}
    inline = {"foundationModel": "m", "instruction": INSTRUCTION, "sessionId": "s-1", "inputText": "Hi"}
    create, invoke = untouched.control.create_agent_action_group, untouched.runtime.invoke_inline_agent

    for work, members in (
        (create, {"agentId": untouched.ids[0], "agentVersion": "DRAFT", **group}),
        (invoke, {"actionGroups": [group], **inline}),
    ):
        code, status, message = refused(work, **members)
        assert (code, status) == ("ValidationException", 400)
        assert "for action: items" in message
        assert place in message.partition("Detail: ")[2]


def test_the_schema_without_a_mistake_is_taken(world: World) -> None:
    group = {"actionGroupName": "items", "actionGroupExecutor": {"lambda": LAMBDA}, "apiSchema": {"payload": RIGHT}}

    world.agent(group)


@pytest.mark.parametrize("place", [("nowhere", "x.yaml"), ("schemas", "x.yaml"), ("schemas", "../../etc/passwd")])
def test_a_schema_that_cannot_be_found(tmp_path: Path, place: tuple[str, str]) -> None:
    (tmp_path / "schemas").mkdir()
    s3 = dict(zip(("s3BucketName", "s3ObjectKey"), place, strict=True))
    group = {"actionGroupName": "items", "actionGroupExecutor": {"lambda": LAMBDA}, "apiSchema": {"s3": s3}}
    with bound_server(tmp_path, ScriptedModel(), buckets={"schemas": {"path": "schemas"}}) as server:
        control = server.client("bedrock-agent")
        agent = control.create_agent(agentName="stock")["agent"]["agentId"]

        code, status, message = refused(control.create_agent_action_group, agentId=agent, agentVersion="DRAFT", **group)

        assert (code, status) == ("ValidationException", 400)
        assert f"s3://{place[0]}/{place[1]}" in message
        assert str(tmp_path) not in message
        assert control.list_agent_action_groups(agentId=agent, agentVersion="DRAFT")["actionGroupSummaries"] == []
