"""Strands' classes behind our protocol, against servers on loopback that speak Anthropic's and Bedrock's APIs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web
from fake_servers import anthropic_start, frame, sse, stream

from outcrop.config import Binding, ConfigMistake
from outcrop.messages import reasoning_of, text_of, user
from outcrop.models.base import (
    ConverseRequest,
    ModelAccessDenied,
    ModelError,
    ModelThrottled,
    ModelUnavailable,
    fold,
)
from outcrop.models.providers import strands
from outcrop.models.providers._strands_clients import ClosingClient
from outcrop.testing.conformance.models import INVENTORY, Answer


def request(**more):
    return ConverseRequest("anthropic.claude-v1:0", [user("Hello")], "Be brief.", (INVENTORY,), **more)


@asynccontextmanager
async def provider(kind, url, **settings):
    made = strands.provider(Binding("*", {"provider": "strands", "kind": kind, "base_url": url, **settings}))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OUR_KEY", "sk-ant-secret")
    return {"api_key_env": "OUR_KEY"}


async def reply(made, asked=None):
    asked = asked or request()
    return await fold(made.stream(asked), asked)


INFERENCE = {"maxTokens": 77, "temperature": 0.5, "topP": 0.9, "topK": 40, "stopSequences": ["END"]}


async def test_anthropic_is_sent_what_the_request_wants(anthropic_server, key):
    anthropic_server.answers.extend([Answer("Hi")] * 3)
    async with provider(
        "anthropic", anthropic_server.url, model="claude-sonnet", params={"service_tier": "auto"}, **key
    ) as made:
        await reply(made, request(inference=INFERENCE, additional={"metadata": {"user_id": "u"}}))
        await reply(made)
        await reply(made, request(inference={"temperature": 0.0, "topP": 1}))
    first, second, third = anthropic_server.requests
    assert anthropic_server.headers[0]["x-api-key"] == "sk-ant-secret"
    assert (first["model"], first["max_tokens"], first["temperature"], first["top_p"]) == (
        "claude-sonnet",
        77,
        0.5,
        0.9,
    )
    assert (first["top_k"], first["stop_sequences"], first["metadata"]) == (40, ["END"], {"user_id": "u"})
    assert first["tools"][0]["name"] == "get_inventory"
    assert first["system"] == "Be brief."
    assert (second["max_tokens"], second["service_tier"]) == (4096, "auto")
    assert not {"temperature", "top_p", "top_k", "metadata"} & set(second)
    assert third["temperature"] == 0.0
    assert "top_p" not in third


async def test_anthropic_has_one_client_for_all_calls(anthropic_server, key):
    anthropic_server.answers.extend([Answer("Hi")] * 4)
    async with provider("anthropic", anthropic_server.url, **key) as made:
        for tokens in (10, 20, 10, 30):
            await reply(made, request(inference={"maxTokens": tokens}))
        assert len(set(anthropic_server.peers)) == 1
        assert len({id(tuned.client) for tuned in made._tuned.values()}) == 1
        assert len(made._tuned) == 3


async def test_anthropic_thinking_keeps_its_signature_and_goes_back(anthropic_server, key):
    block = {"type": "thinking", "thinking": "", "signature": ""}
    events = [
        anthropic_start(),
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "cmVk"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    anthropic_server.answers.extend([stream(*(sse(event, event["type"]) for event in events)), Answer("Fine.")])
    async with provider("anthropic", anthropic_server.url, **key) as made:
        first = await reply(made)
        assert (reasoning_of(first.message), text_of(first.message)) == ("Hm", "Hi")
        assert first.usage == {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}
        redacted = {"reasoningContent": {"redactedContent": "cmVk"}}
        said = {"role": "assistant", "content": [first.message["content"][0], redacted, {"text": "Hi"}]}
        await reply(made, ConverseRequest("m", [user("Hello"), said, user("And?")]))
    sent = anthropic_server.requests[1]["messages"][1]["content"]
    assert sent == [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "cmVk"},
        {"type": "text", "text": "Hi"},
    ]


async def test_anthropic_overloaded_in_mid_stream(anthropic_server, key):
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    anthropic_server.answers.append(stream(sse(anthropic_start(), "message_start"), sse(error, "error")))
    async with provider("anthropic", anthropic_server.url, **key) as made:
        with pytest.raises(ModelUnavailable, match="Overloaded"):
            await reply(made)


async def test_anthropic_throttling_says_how_long_to_wait_and_is_not_repeated_by_the_client(anthropic_server, key):
    anthropic_server.answers.append(Answer(failure=ModelThrottled))
    async with provider("anthropic", anthropic_server.url, **key) as made:
        with pytest.raises(ModelThrottled) as raised:
            await reply(made)
    assert raised.value.retry_after_s == 7
    assert len(anthropic_server.requests) == 1


async def test_a_refused_key_is_not_repeated_in_the_error(anthropic_server, key):
    async def echo(asked):
        words = f"invalid x-api-key {asked.headers['x-api-key']}"
        return web.json_response({"type": "error", "error": {"type": "x", "message": words}}, status=401)

    anthropic_server.answers.append(echo)
    async with provider("anthropic", anthropic_server.url, **key) as made:
        with pytest.raises(ModelAccessDenied, match=r"\*\*\*") as raised:
            await reply(made)
    assert "sk-ant-secret" not in str(raised.value)


async def test_a_stream_that_ends_too_early_is_broken_off(anthropic_server, key):
    anthropic_server.answers.append(stream(sse(anthropic_start(), "message_start")))
    async with provider("anthropic", anthropic_server.url, **key) as made:
        with pytest.raises(ModelUnavailable):
            await reply(made)


async def test_bedrock_is_sent_what_the_request_wants(bedrock_server):
    bedrock_server.answers.extend([Answer("Hi")] * 2)
    async with provider("bedrock", bedrock_server.url, region="us-east-1", params={"a": 1}) as made:
        await reply(made, request(inference=INFERENCE))
        await reply(made, ConverseRequest("amazon.nova-lite-v1:0", [user("Hello")], inference=INFERENCE))
    first, second = bedrock_server.requests
    assert bedrock_server.paths == [
        "/model/anthropic.claude-v1%3A0/converse-stream",
        "/model/amazon.nova-lite-v1%3A0/converse-stream",
    ]
    inference = {"maxTokens": 77, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]}
    assert first["inferenceConfig"] == second["inferenceConfig"] == inference
    assert first["additionalModelRequestFields"] == {"a": 1, "top_k": 40}
    assert second["additionalModelRequestFields"] == {"a": 1}
    assert first["system"] == [{"text": "Be brief."}]


async def test_bedrock_works_on_threads_of_its_own_and_up_to_64_at_once(bedrock_server):
    arrived, gate = asyncio.Semaphore(0), asyncio.Event()

    async def held(asked):
        arrived.release()
        await gate.wait()
        return await stream(*bedrock_server.pieces(Answer("Hi")), content_type=bedrock_server.content_type)(asked)

    bedrock_server.answers.extend([held] * 40)
    async with provider("bedrock", bedrock_server.url, region="us-east-1") as made:
        tasks = [asyncio.create_task(reply(made)) for _ in range(40)]
        for _ in tasks:
            await arrived.acquire()
        names = {thread.name for thread in threading.enumerate() if thread.name.startswith("outcrop-bedrock")}
        gate.set()
        assert {text_of((await task).message) for task in tasks} == {"Hi"}
    assert len(names) == 41
    assert "outcrop-bedrock" not in {thread.name for thread in threading.enumerate()}


async def test_bedrock_text_arrives_before_the_reply_is_finished(bedrock_server):
    finish = asyncio.Event()

    async def slowly(asked):
        response = web.StreamResponse(headers={"Content-Type": bedrock_server.content_type})
        await response.prepare(asked)
        await response.write(frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}))
        await finish.wait()
        await response.write(frame("messageStop", {"stopReason": "end_turn"}))
        return response

    bedrock_server.answers.append(slowly)
    async with provider("bedrock", bedrock_server.url, region="us-east-1") as made:
        seen = []
        async for delta in made.stream(request()):
            seen.append(next(iter(delta)))
            finish.set()
    assert seen == ["contentBlockDelta", "messageStop"]


async def test_bedrock_keeps_its_connection_between_calls(bedrock_server):
    bedrock_server.answers.extend([Answer("Hi")] * 4)
    async with provider("bedrock", bedrock_server.url, region="us-east-1") as made:
        for _ in range(4):
            await reply(made)
    assert len(set(bedrock_server.peers)) == 1


def test_an_event_stream_is_closed_when_its_reader_fails_or_leaves_but_not_when_it_ends():
    class Stream:
        closed = 0

        def __iter__(self):
            return iter([1, 2])

        def close(self):
            self.closed += 1

    class Client:
        stream, region = Stream(), "here"

        def converse_stream(self, modelId):
            return {"stream": self.stream, "model": modelId}

    client = ClosingClient(Client(), {"converse_stream": "stream"})
    assert client.region == "here"
    assert list(client.converse_stream(modelId="m")["stream"]) == [1, 2]
    assert Client.stream.closed == 0
    left = client.converse_stream(modelId="m")["stream"]
    assert next(left) == 1
    del left
    assert Client.stream.closed == 1
    failing = client.converse_stream(modelId="m")["stream"]
    next(failing)
    with pytest.raises(KeyError):
        failing.throw(KeyError())
    assert Client.stream.closed == 2


async def test_bedrock_reports_an_error_in_mid_stream(bedrock_server):
    pieces = [
        frame("messageStart", {"role": "assistant"}),
        frame("throttlingException", {"message": "too fast"}, "exception"),
    ]
    bedrock_server.answers.append(stream(*pieces, content_type=bedrock_server.content_type))
    async with provider("bedrock", bedrock_server.url, region="us-east-1") as made:
        with pytest.raises(ModelThrottled, match="too fast"):
            await reply(made)


async def test_a_reader_that_leaves_a_blocking_client_is_not_held(bedrock_server):
    never = asyncio.Event()

    async def endless(asked):
        response = web.StreamResponse(headers={"Content-Type": bedrock_server.content_type})
        await response.prepare(asked)
        await response.write(frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}))
        await never.wait()
        return response

    bedrock_server.answers.append(endless)
    async with (
        provider("bedrock", bedrock_server.url, region="us-east-1") as made,
        aclosing(made.stream(request())) as deltas,
    ):
        await anext(deltas)


async def test_calls_at_once_load_the_class_once(anthropic_server, key, monkeypatch):
    made_clients = []
    kind = strands.KINDS["anthropic"]

    def noting(binding, secret):
        made_clients.append(binding)
        return kind.make(binding, secret)

    changed = strands.Kind(noting, kind.inference)
    monkeypatch.setattr(strands, "KINDS", {**strands.KINDS, "anthropic": changed})
    anthropic_server.answers.extend([Answer("Hi")] * 5)
    async with provider("anthropic", anthropic_server.url, **key) as made:
        await asyncio.gather(*(reply(made) for _ in range(5)))
    assert len(made_clients) == 1


async def test_a_library_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "strands.models.mistral", None)
    async with provider("mistral", "http://127.0.0.1:1") as made:
        with pytest.raises(ModelError, match=r"provider 'mistral' needs a library .*pip install 'outcrop\[strands\]'"):
            await reply(made)


async def test_a_key_that_is_not_there_is_named(monkeypatch):
    monkeypatch.delenv("OUR_KEY", raising=False)
    async with provider("anthropic", "http://127.0.0.1:1", api_key_env="OUR_KEY") as made:
        with pytest.raises(ModelAccessDenied, match="OUR_KEY is not set"):
            await reply(made)


def test_nothing_heavy_is_loaded_with_the_module():
    heavy = ("anthropic", "boto3", "httpx", "pydantic", "strands")
    code = f"import sys, outcrop.models.catalogue; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "antropic"}, "kind = 'antropic' is not one of"),
        ({"kind": "anthropic", "max_tokens": "x"}, "max_tokens = 'x'"),
        ({"kind": "anthropic", "params": 5}, "params = 5 is no table"),
        ({"kind": "anthropic", "regin": "x"}, "did you mean 'region'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings, words):
    with pytest.raises(ConfigMistake, match=words):
        strands.provider(Binding("*", {"provider": "strands", **settings}))
