"""The OpenAI-compatible provider against a server on loopback: what it sends, what it reads, how it fails."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web
from fake_servers import DONE, USAGE, chunk, plain, stream

from outcrop.config import Binding, ConfigMistake
from outcrop.messages import text_of, user
from outcrop.models.base import (
    ConverseRequest,
    ModelAccessDenied,
    ModelError,
    ModelNotReady,
    ModelRejected,
    ModelThrottled,
    ModelUnavailable,
    fold,
)
from outcrop.models.providers import openai
from outcrop.testing.conformance.models import Answer

REQUEST = ConverseRequest("anthropic.claude-v1:0", [user("Hello")], "Be brief.")


@asynccontextmanager
async def provider(server_url, **settings):
    made = openai.provider(Binding("*haiku*", {"provider": "openai", "base_url": f"{server_url}/v1", **settings}))
    try:
        yield made
    finally:
        await made.close()


async def reply(made, request=REQUEST):
    return await fold(made.stream(request), request)


async def test_a_request_goes_to_chat_completions_with_its_key_and_headers(openai_server, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    openai_server.answers.extend([Answer("Hi"), Answer("Hi")])
    more = {"model": "qwen3:8b", "api_key_env": "OUR_KEY", "headers": {"X-Team": "stock"}, "extra_body": {"seed": 1}}
    async with provider(openai_server.url, **more) as made:
        assert text_of((await reply(made)).message) == "Hi"
    sent, headers = openai_server.requests[0], openai_server.headers[0]
    assert openai_server.paths == ["/v1/chat/completions"]
    assert (sent["model"], sent["seed"], sent["stream"]) == ("qwen3:8b", 1, True)
    assert headers["Authorization"] == "Bearer sk-secret"
    assert headers["X-Team"] == "stock"
    assert "Cookie" not in headers
    assert "Accept-Encoding" not in headers


async def test_without_a_model_setting_the_request_names_the_model_and_no_key_is_sent(openai_server):
    openai_server.answers.append(Answer("Hi"))
    async with provider(openai_server.url) as made:
        await reply(made)
    assert openai_server.requests[0]["model"] == "anthropic.claude-v1:0"
    assert "Authorization" not in openai_server.headers[0]


async def test_one_connection_carries_one_call_after_the_other(openai_server):
    openai_server.answers.extend([Answer("Hi")] * 5)
    async with provider(openai_server.url) as made:
        for _ in range(5):
            await reply(made)
    assert len(set(openai_server.peers)) == 1


async def test_connections_have_no_delay(openai_server):
    openai_server.answers.append(Answer("Hi there"))
    async with provider(openai_server.url) as made, aclosing(made.stream(REQUEST)) as deltas:
        await anext(deltas)
        [connection] = made._session.connector._acquired
        sock = connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_text_arrives_before_the_reply_is_finished(openai_server):
    finish = asyncio.Event()

    async def slowly(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "Hi"}))
        await finish.wait()
        await response.write(chunk({}, "stop") + DONE)
        return response

    openai_server.answers.append(slowly)
    async with provider(openai_server.url) as made:
        seen = []
        async for delta in made.stream(REQUEST):
            seen.append(next(iter(delta)))
            if seen[-1] == "contentBlockDelta":
                finish.set()
    assert seen == ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop"]


async def test_every_cut_of_the_stream_arrives_over_the_wire(openai_server):
    whole = chunk({"content": "Größe "}) + chunk({"content": "☃"}) + chunk({}, "stop") + USAGE + DONE
    cuts = range(1, len(whole), 7)
    openai_server.answers.extend(stream(whole[:at], whole[at:]) for at in cuts)
    async with provider(openai_server.url) as made:
        for _ in cuts:
            answer = await reply(made)
            assert text_of(answer.message) == "Größe ☃"
            assert answer.usage == {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}


async def test_a_connection_cut_before_the_end_is_an_error_and_the_next_call_works(openai_server):
    whole = chunk({"content": "Hi"}) + chunk({"content": " there"}) + chunk({}, "stop")
    cuts = range(0, len(whole) - 2, 23)
    openai_server.answers.extend(stream(whole[:at], cut=True) for at in cuts)
    openai_server.answers.append(Answer("Hi"))
    async with provider(openai_server.url) as made:
        for _ in cuts:
            with pytest.raises(ModelUnavailable, match="broke off"):
                await reply(made)
        assert text_of((await reply(made)).message) == "Hi"


async def test_a_server_that_does_not_stream_is_understood(openai_server):
    choice = {"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    openai_server.answers.append(plain(200, {"choices": [choice], "usage": {"prompt_tokens": 1}}))
    async with provider(openai_server.url) as made:
        assert text_of((await reply(made)).message) == "Hi"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": {"message": "max_tokens is too large"}}, ModelRejected, "400: max_tokens is too large"),
        (401, {"error": {"message": "bad key"}}, ModelAccessDenied, "bad key"),
        (403, {"detail": "forbidden"}, ModelAccessDenied, "forbidden"),
        (404, {"error": "model 'x' not found"}, ModelRejected, "not found"),
        (422, {"message": "unprocessable"}, ModelRejected, "unprocessable"),
        (429, {"error": {"message": "slow down"}}, ModelThrottled, "slow down"),
        (500, {}, ModelUnavailable, "500"),
        (502, "rubbish", ModelUnavailable, "rubbish"),
        (503, {"error": {"message": "Loading model"}}, ModelNotReady, "Loading"),
        (503, {"error": {"message": "overloaded"}}, ModelUnavailable, "overloaded"),
        (301, {}, ModelRejected, "301"),
    ],
)
async def test_a_refusal_is_typed_and_keeps_the_servers_words(openai_server, status, body, kind, words):
    openai_server.answers.append(plain(status, body))
    async with provider(openai_server.url) as made:
        with pytest.raises(ModelError, match=words) as raised:
            await reply(made)
    assert type(raised.value) is kind


async def test_a_refusal_that_is_no_json_is_told_in_brief(openai_server):
    async def page(_):
        return web.Response(status=500, text="<html>\n" + "x" * 9000, content_type="text/html")

    openai_server.answers.append(page)
    async with provider(openai_server.url) as made:
        with pytest.raises(ModelUnavailable, match="500: <html> xxx") as raised:
            await reply(made)
    assert len(str(raised.value)) < 700


@pytest.mark.parametrize("reported_in_a_stream", [False, True])
async def test_a_refusal_names_the_servers_address_in_the_log_only(openai_server, caplog, reported_in_a_stream):
    address = openai_server.url.removeprefix("http://")
    said = (
        f"{openai_server.url}/v1/chat/completions at {address} ({address.split(':')[0]}): see https://help.example/1.2"
    )
    error = {"error": {"message": f"{said}: no tools", "code": 400}}
    if reported_in_a_stream:
        openai_server.answers.append(stream(b"data: " + json.dumps(error).encode() + b"\n\n"))
    else:
        openai_server.answers.append(plain(400, error))
    async with provider(openai_server.url) as made:
        with pytest.raises(ModelRejected) as raised:
            await reply(made)
    server = "the model server"
    words = f"{server} at {server} ({server}): see https://help.example/1.2: no tools"
    assert str(raised.value).removeprefix("the model server answered 400: ") == words
    assert f"the model server at {address} failed: " in caplog.text


async def test_throttling_says_how_long_to_wait(openai_server):
    openai_server.answers.append(plain(429, {}, **{"Retry-After": "12"}))
    async with provider(openai_server.url) as made:
        with pytest.raises(ModelThrottled) as raised:
            await reply(made)
    assert raised.value.retry_after_s == 12


async def test_the_key_is_in_no_error_and_no_repr(openai_server, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "sk-secret")
    openai_server.answers.append(plain(401, {"error": {"message": "Incorrect API key provided: sk-secret"}}))
    async with provider(openai_server.url, api_key_env="OUR_KEY") as made:
        with pytest.raises(ModelAccessDenied, match=r"\*\*\*") as raised:
            await reply(made)
        assert "sk-secret" not in f"{raised.value!r} {made!r} {made._binding!r}"


async def test_a_key_that_is_not_there_is_named(openai_server, monkeypatch, tmp_path):
    monkeypatch.delenv("OUR_KEY", raising=False)
    async with provider(openai_server.url, api_key_env="OUR_KEY") as made:
        with pytest.raises(ModelAccessDenied, match=r"'\*haiku\*': environment variable OUR_KEY is not set"):
            await reply(made)
        monkeypatch.setenv("OUR_KEY", "sk-later")
        openai_server.answers.append(Answer("Hi"))
        await reply(made)
    assert openai_server.headers[0]["Authorization"] == "Bearer sk-later"
    async with provider(openai_server.url, api_key_file=str(tmp_path / "none")) as made:
        with pytest.raises(ModelAccessDenied, match=r"key file .*none: No such file"):
            await reply(made)


async def test_a_key_may_be_in_a_file(openai_server, tmp_path):
    (tmp_path / "key").write_text("sk-file\n")
    openai_server.answers.append(Answer("Hi"))
    async with provider(openai_server.url, api_key_file=str(tmp_path / "key")) as made:
        await reply(made)
    assert openai_server.headers[0]["Authorization"] == "Bearer sk-file"


async def test_a_server_that_is_not_there_is_unavailable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with provider(f"http://127.0.0.1:{port}") as made:
        with pytest.raises(ModelUnavailable, match=f"127.0.0.1:{port} cannot be reached"):
            await reply(made)


async def test_a_server_that_takes_no_connection_is_given_up():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.socket() as first:
            first.connect(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            async with provider(url, connect_timeout_s=0.01) as made:
                with pytest.raises(ModelUnavailable, match="took no connection in time"):
                    await reply(made)


async def test_closing_twice_and_unused_is_fine(openai_server):
    async with provider(openai_server.url) as made:
        await made.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_ulr": "x"}, "unknown key 'base_ulr'; did you mean 'base_url'"),
        ({"base_url": "localhost:11434"}, "base_url is no http address"),
        ({"base_url": "http://host:port/v1"}, "base_url is no http address"),
        ({"base_url": 5}, "base_url = 5 is no text"),
        ({"extra_body": {"messages": []}}, "extra_body cannot set 'messages'"),
        ({"extra_body": "x"}, "extra_body = 'x' is no table"),
        ({"top_k": "yes"}, "top_k = 'yes' is neither true nor false"),
        ({"connect_timeout_s": -1}, "connect_timeout_s = -1 is no number"),
        ({"max_attempt": 1}, "did you mean 'max_attempts'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings, words):
    with pytest.raises(ConfigMistake, match=words):
        openai.provider(Binding("*", {"provider": "openai", **settings}))


@pytest.mark.parametrize("user", ["anna:hunter2", ":hunter2", "hunter2", "anna:hunter2@more"])
def test_a_password_in_the_address_is_refused_and_not_repeated(user):
    with pytest.raises(ConfigMistake, match="base_url holds a user name or password") as raised:
        openai.provider(Binding("*", {"provider": "openai", "base_url": f"http://{user}@127.0.0.1:1/v1"}))
    assert "hunter2" not in str(raised.value)
