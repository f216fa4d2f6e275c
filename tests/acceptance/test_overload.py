"""More than a server can do, and a server that goes away, as boto3 and a load balancer see them."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from agents import INSTRUCTION, ROLE, collect
from botocore.config import Config
from botocore.exceptions import ClientError
from gated_model import GatedModel
from serving import Served

pytestmark = pytest.mark.slow
DEADLINE_S = 30


class Street:
    """A server in a process of its own with an agent, whose model can be held."""

    def __init__(self, server: Served, model: GatedModel) -> None:
        self.server, self.model = server, model
        self.control, self.runtime = server.client("bedrock-agent"), server.client("bedrock-agent-runtime")
        self.control.create_agent(
            agentName="stock", foundationModel="m", instruction=INSTRUCTION, agentResourceRoleArn=ROLE
        )
        self.control.prepare_agent(agentId="stock")

    def ask(self, session: str, text: str = "Hello", runtime: Any = None) -> Any:
        """The head of an answer; the rest comes when the model has spoken."""
        return (runtime or self.runtime).invoke_agent(
            agentId="stock", agentAliasId="TSTALIASID", sessionId=session, inputText=text
        )

    def connect(self) -> http.client.HTTPConnection:
        address = urlsplit(self.server.url)
        return http.client.HTTPConnection(address.hostname, address.port, timeout=DEADLINE_S)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text, over a connection of its own."""
        with closing(self.connect()) as connection:
            return fetch(connection, path)[:2]


def fetch(connection: http.client.HTTPConnection, path: str) -> tuple[int, str, dict[str, str]]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}


@pytest.fixture
def settings() -> str:
    """Lines of section [server]; a test may name others."""
    return ""


@pytest.fixture
def street(settings: str, tmp_path: Path) -> Iterator[Street]:
    with GatedModel(lambda messages: {"content": f"You said: {messages[-1]['content']}"}) as model:
        config = tmp_path / "outcrop.toml"
        binding = f"'*' = {{ provider = 'openai', base_url = '{model.url}', model = 'm' }}"
        config.write_text(f"[server]\n{settings}\n[models]\n{binding}\n")
        with Served(tmp_path / "data", config=config) as server:
            yield Street(server, model)


def refusal(work: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        work()
    return caught.value.response


# Too much at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", ["most_requests = 1"])
def test_one_request_too_many_is_throttled_at_both_doors_and_told_when_to_come_back(street: Street) -> None:
    street.model.hold(1)
    under_way = street.ask("s-1")

    for refused in (refusal(lambda: street.ask("s-2")), refusal(street.control.list_agents)):
        assert refused["Error"]["Code"] == "ThrottlingException"
        assert "1 requests are being answered" in refused["Error"]["Message"]
        assert refused["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert int(refused["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) >= 1
    assert street.get("/healthz") == (200, "ok\n")
    figures = street.get("/metrics")[1].splitlines()
    assert "outcrop_requests_in_flight 1" in figures
    assert 'outcrop_requests_throttled_total{limit="requests"} 2' in figures
    assert 'outcrop_requests_total{operation="ListAgents",status="429"} 1' in figures

    street.model.release()
    assert collect(under_way).text == "You said: Hello"
    assert collect(street.ask("s-2")).text == "You said: Hello"
    assert "outcrop_requests_in_flight 0" in street.get("/metrics")[1].splitlines()


@pytest.mark.parametrize("settings", ["most_requests = 1"])
def test_boto3s_own_retries_get_in_when_there_is_room(street: Street) -> None:
    street.model.hold(1)
    under_way = street.ask("s-1")
    statuses: list[int] = []

    def seen(response: Any, **_: Any) -> None:
        """The first refusal makes room."""
        statuses.append(response[0].status_code)
        street.model.release()

    patient = boto3.client(
        "bedrock-agent-runtime",
        endpoint_url=street.server.url,
        config=Config(retries={"mode": "standard", "total_max_attempts": 8}),
    )
    patient.meta.events.register("needs-retry.bedrock-agent-runtime.InvokeAgent", seen)
    threading.Thread(target=collect, args=(under_way,), daemon=True).start()

    assert collect(street.ask("s-2", "Patience", patient)).text == "You said: Patience"
    assert (statuses[0], statuses[-1]) == (429, 200)
    assert len(street.model.requests) == 2


@pytest.mark.parametrize("settings", ["most_body_bytes_at_once = 3000"])
def test_bodies_that_are_too_much_together_are_throttled_and_small_ones_pass(street: Street) -> None:
    street.model.hold(1)
    under_way = street.ask("s-1", "x" * 2_000)
    assert street.model.reached.wait(30)

    refused = refusal(lambda: street.ask("s-2", "y" * 2_000))
    assert (refused["Error"]["Code"], refused["ResponseMetadata"]["HTTPStatusCode"]) == ("ThrottlingException", 429)
    assert collect(street.ask("s-3", "small")).text == "You said: small"

    street.model.release()
    assert collect(under_way).text == "You said: " + "x" * 2_000
    assert collect(street.ask("s-2", "y" * 2_000)).text == "You said: " + "y" * 2_000


@pytest.mark.parametrize("settings", ["most_requests = 1"])
def test_a_large_body_that_is_refused_leaves_its_connection_usable(street: Street) -> None:
    street.model.hold(1)
    under_way = street.ask("s-1")
    path = "/agents/stock/agentAliases/TSTALIASID/sessions/s-2/text"
    body = json.dumps({"inputText": "z" * 5_000_000}).encode()
    with closing(street.connect()) as connection:
        for _ in range(2):
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("x-amzn-errortype")) == (429, "ThrottlingException")
            answer.read()
        street.model.release()
        collect(under_way)
        assert fetch(connection, "/healthz")[0] == 200


# Going away ---------------------------------------------------------------------------------------


def until_draining(street: Street) -> None:
    """Ask as a load balancer does, until the server says that it goes away."""
    for _ in range(10_000):
        if street.get("/healthz") == (503, "draining\n"):
            return
    raise AssertionError("the server never said that it drains")


@pytest.mark.parametrize("settings", ["drain_s = 600"])
def test_a_server_that_drains_says_so_and_loses_no_request(street: Street) -> None:
    street.model.hold(1)
    under_way = street.ask("s-1")
    with closing(street.connect()) as kept:
        assert "connection" not in fetch(kept, "/agents/stock/")[2]

        street.server.process.send_signal(signal.SIGTERM)
        until_draining(street)

        status, _, headers = fetch(kept, "/agents/stock/")  # a kept connection whose owner has not noticed yet
        assert (status, headers["connection"]) == (200, "close")
    with closing(street.connect()) as fresh:
        status, _, headers = fetch(fresh, "/agents/stock/")
        assert (status, headers["connection"]) == (200, "close")
    assert collect(street.ask("s-2", "Late")).text == "You said: Late"

    street.server.process.send_signal(signal.SIGTERM)  # enough of waiting
    street.model.release()
    assert collect(under_way).text == "You said: Hello"
    assert street.server.process.wait(DEADLINE_S) in (0, -signal.SIGTERM)


def test_without_a_drain_idle_connections_end_and_requests_under_way_do_not(street: Street) -> None:
    street.model.hold(1)
    under_way = street.ask("s-1")
    with closing(street.connect()) as idle:
        fetch(idle, "/healthz")
        street.server.process.send_signal(signal.SIGTERM)
        assert idle.sock.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        street.get("/healthz")

    street.model.release()
    assert collect(under_way).text == "You said: Hello"
    assert street.server.process.wait(DEADLINE_S) in (0, -signal.SIGTERM)
