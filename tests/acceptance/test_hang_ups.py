"""Clients that go away or send too much, over real sockets: turns end, sessions go on, nothing is half done."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from agents import CHECK, INSTRUCTION, ROLE, collect, functions_group
from botocore.exceptions import ClientError
from gated_model import GatedModel, tool_call
from refusals import refused, shelf
from serving import Served

pytestmark = pytest.mark.slow


def decide(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Check first, then answer; a later question is answered at once."""
    if messages[-1]["role"] == "user" and messages[-1]["content"] == "Check SKU-55":
        return tool_call("inventory__check", {"sku": "SKU-55"})
    return {"content": "There are 42." if messages[-1]["role"] == "tool" else "As I said, 42."}


class Street:
    """A server of its own process, reached over sockets that may be closed at any time."""

    def __init__(self, server: Served, model: GatedModel) -> None:
        self.server, self.model = server, model
        self.control, self.runtime = server.client("bedrock-agent"), server.client("bedrock-agent-runtime")

    def connect(self) -> socket.socket:
        address = urlsplit(self.server.url)
        return socket.create_connection((address.hostname, address.port), timeout=30)

    def post(self, path: str, body: bytes, method: str = "POST", *headers: str) -> socket.socket:
        """A request, sent; the answer is the caller's to read or to leave."""
        head = [f"{method} {path} HTTP/1.1", "host: here", "content-type: application/json", *headers]
        connection = self.connect()
        connection.sendall("\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body)
        return connection

    def agent(self) -> dict[str, str]:
        made = self.control.create_agent(
            agentName="stock", foundationModel="m", instruction=INSTRUCTION, agentResourceRoleArn=ROLE
        )
        agent = made["agent"]["agentId"]
        self.control.create_agent_action_group(agentId=agent, agentVersion="DRAFT", **functions_group(CHECK))
        self.control.prepare_agent(agentId=agent)
        return {"agentId": agent, "agentAliasId": "TSTALIASID"}


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    bindings = shelf(tmp_path, "fine(event, '42 in stock')")
    with GatedModel(decide) as model:
        lines = [
            "[server]", "max_body_bytes = 20000",
            "[models]", f"'*' = {{ provider = 'openai', base_url = '{model.url}', model = 'm' }}",
            "[functions]", f"inventory = {{ path = '{bindings['inventory']['path']}' }}",
        ]  # fmt: skip
        (tmp_path / "outcrop.toml").write_text("\n".join(lines))
        with Served(tmp_path / "data", config=tmp_path / "outcrop.toml") as server:
            yield Street(server, model)


def is_busy(error: ClientError) -> bool:
    return error.response["Error"]["Code"] == "ConflictException"


def until_free(work: Callable[[], Any]) -> Any:
    """What the work gives once the session is free again; each try is a whole round trip."""
    for _ in range(2_000):
        try:
            return work()
        except ClientError as error:
            if not is_busy(error):
                raise
    raise AssertionError("the session was never free again")


def test_a_client_that_hangs_up_leaves_a_turn_that_ends_and_a_session_that_goes_on(street: Street) -> None:
    ids = street.agent()
    street.model.hold(2)
    body = {"inputText": "Check SKU-55", "enableTrace": True}
    path = f"/agents/{ids['agentId']}/agentAliases/{ids['agentAliasId']}/sessions/s-1/text"

    connection = street.post(path, json.dumps(body).encode())
    begun = b""
    while b"modelInvocationOutput" not in begun:
        begun += connection.recv(65_536)
    assert begun.startswith(b"HTTP/1.1 200")
    assert street.model.reached.wait(30)
    connection.close()
    meanwhile = refused(street.runtime.invoke_agent, **ids, sessionId="s-1", inputText="Well?")
    street.model.release()
    answer = collect(until_free(lambda: street.runtime.invoke_agent(**ids, sessionId="s-1", inputText="Well?")))

    assert meanwhile[:2] == ("ConflictException", 409)
    assert "s-1" in meanwhile[2]
    assert answer.text == "As I said, 42."
    sent = [message for message in street.model.requests[-1] if message["role"] != "system"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
    assert [message["content"] for message in sent[2:]] == ["42 in stock", "There are 42.", "Well?"]
    assert len(street.model.requests) == 3


def test_a_client_that_hangs_up_in_its_request_asks_for_nothing(street: Street) -> None:
    body = json.dumps({"agentName": "half"}).encode()
    for cut in (0, 5, len(body) - 1):
        connection = street.connect()
        head = f"PUT /agents/ HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        connection.sendall(head + body[:cut])
        connection.close()

    assert street.control.list_agents()["agentSummaries"] == []
    assert street.agent()


def test_a_request_that_was_not_sent_whole_is_not_carried_out(street: Street) -> None:
    agent = street.agent()["agentId"]
    for sent in (b"", b"{"):
        connection = street.connect()
        head = [f"DELETE /agents/{agent}/?skipResourceInUseCheck=true HTTP/1.1", "host: here", "content-length: 2"]
        connection.sendall("\r\n".join([*head, "", ""]).encode() + sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):  # until the server has seen that nothing more comes
            pass
        connection.close()

    assert street.control.get_agent(agentId=agent)["agent"]["agentStatus"] == "PREPARED"


def test_a_body_over_the_limit(street: Street) -> None:
    large = json.dumps({"agentName": "large", "description": "x" * 30_000}).encode()
    with pytest.raises(ClientError) as caught:
        street.control.create_agent(agentName="large", description="x" * 30_000)
    error, metadata = caught.value.response["Error"], caught.value.response["ResponseMetadata"]
    assert (error["Code"], metadata["HTTPStatusCode"]) == ("RequestEntityTooLargeException", 413)
    assert "20000 bytes" in error["Message"]

    connection = street.connect()
    connection.sendall(b"PUT /agents/ HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
    connection.sendall(f"{len(large):x}\r\n".encode() + large + b"\r\n0\r\n\r\n")
    answer = b""
    while b'"message"' not in answer and (part := connection.recv(65_536)):
        answer += part
    connection.close()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"requestentitytoolargeexception" in answer.lower()
    assert street.control.list_agents()["agentSummaries"] == []
    assert street.agent()
