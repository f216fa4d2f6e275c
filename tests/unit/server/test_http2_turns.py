"""Turns of an agent over HTTP/2, against `outcrop serve`: given up in the middle, and overtaken by SIGTERM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import INSTRUCTION, ROLE, collect
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError
from gated_model import GatedModel
from serving import Served

pytestmark = pytest.mark.slow
CANCEL = 8
PATH = "/agents/stock/agentAliases/TSTALIASID/sessions/s-1/text"


@pytest.fixture
def model() -> Iterator[GatedModel]:
    with GatedModel(lambda messages: {"content": f"You said: {messages[-1]['content']}"}) as model:
        yield model


@pytest.fixture
def served(model: GatedModel, tmp_path: Path) -> Iterator[Served]:
    config = tmp_path / "outcrop.toml"
    config.write_text(f"[models]\n'*' = {{ provider = 'openai', base_url = '{model.url}', model = 'm' }}\n")
    with Served(tmp_path / "data", config=config) as server:
        control = server.client("bedrock-agent")
        control.create_agent(agentName="stock", foundationModel="m", instruction=INSTRUCTION, agentResourceRoleArn=ROLE)
        control.prepare_agent(agentId="stock")
        yield server


def ask(client: Any, text: str) -> int:
    """Begin a turn and read the head of its answer."""
    body = json.dumps({"inputText": text, "enableTrace": True}).encode()
    stream = client.open("POST", PATH, ("content-type", "application/json"), end=False)
    client.upload(stream, body)
    client.wait(stream, lambda answer: bool(answer.headers))
    return stream


def events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    return [(event.headers[":event-type"], json.loads(event.payload)) for event in buffer]


def once_free(runtime: Any, text: str) -> Any:
    """The answer to a turn that begins when the one before has ended; each try is a whole round trip."""
    for _ in range(2_000):
        try:
            return runtime.invoke_agent(agentId="stock", agentAliasId="TSTALIASID", sessionId="s-1", inputText=text)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConflictException":
                raise
    raise AssertionError("the session was never free again")


def test_a_turn_over_http_2_streams_its_events(served: Served, model: GatedModel, http2: Any) -> None:
    model.hold(1)
    with http2(served.url) as client:
        stream = ask(client, "Hello")
        client.wait(stream, lambda answer: bool(answer.parts))  # the first step, while the model still thinks
        model.release()
        answer = client.wait(stream)
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert [name for name, _ in events(answer.body)][-1] == "chunk"
    assert len(answer.parts) > 1


def test_a_turn_that_is_given_up_ends_and_is_kept(served: Served, model: GatedModel, http2: Any) -> None:
    model.hold(1)
    with http2(served.url) as client:
        stream = ask(client, "Hello")
        assert model.reached.wait(30)
        client.h2.reset_stream(stream, CANCEL)
        client.flush()
        assert client.ask("GET", "/healthz").body == b"ok\n"  # it has taken note of the reset
        model.release()

    answer = once_free(served.client("bedrock-agent-runtime"), "Well?")
    assert collect(answer).text == "You said: Well?"
    sent = [message["content"] for message in model.requests[-1] if message["role"] != "system"]
    assert sent == ["Hello", "You said: Hello", "Well?"]


def test_sigterm_lets_a_turn_end(served: Served, model: GatedModel, http2: Any) -> None:
    model.hold(1)
    with http2(served.url) as client:
        stream = ask(client, "Hello")
        assert model.reached.wait(30)
        served.process.terminate()
        while client.goaway is None:
            client.read()
        model.release()
        answer = client.wait(stream)
        client.read_to_end()
    assert served.process.wait(30) in (0, -15)
    assert [name for name, _ in events(answer.body)][-1] == "chunk"
