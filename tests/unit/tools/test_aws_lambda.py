"""Lambda's Invoke call: what is sent, and what each failure becomes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from outcrop.config import Binding
from outcrop.tools.base import IdempotencyKey, ToolCrashed, ToolTimedOut, ToolUnreachable
from outcrop.tools.executors.aws_lambda import executor
from outcrop.tools.lambda_event import event_of

KEY = IdempotencyKey("turn-1/2/0")
ANSWER = {
    "response": {
        "actionGroup": "stock",
        "function": "count",
        "functionResponse": {"responseBody": {"TEXT": {"body": "12"}}},
    }
}


class Endpoint:
    """Answers every Invoke with what the test set, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[web.Request, bytes]] = []
        self.answer = lambda: web.json_response(ANSWER)
        self.runner: web.AppRunner | None = None

    async def invoke(self, request: web.Request) -> web.Response:
        self.asked.append((request, await request.read()))
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer

    async def open(self) -> None:
        app = web.Application()
        app.router.add_post("/2015-03-31/functions/{name}/invocations", self.invoke)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    await endpoint.open()
    yield endpoint
    await endpoint.runner.cleanup()


@pytest.fixture
async def remote(endpoint, tmp_path):
    made = executor(Binding("*", {"endpoint_url": endpoint.url, "timeout_s": 5}), tmp_path)
    yield made
    await made.close()


def an_error(status: int, code: str) -> web.Response:
    return web.json_response({"Message": "no"}, status=status, headers={"x-amzn-ErrorType": code})


async def test_one_invoke_with_event_and_key(endpoint, remote, function_call) -> None:
    call = function_call()
    assert (await remote.execute(call, KEY)).text == "12"
    [(request, body)] = endpoint.asked
    assert json.loads(body) == event_of(call)
    assert request.match_info["name"] == "stock"
    assert request.query["Qualifier"] == "PROD"
    assert json.loads(base64.b64decode(request.headers["X-Amz-Client-Context"])) == {
        "custom": {"idempotencyKey": "turn-1/2/0"}
    }
    assert "/eu-west-1/lambda/" in request.headers["Authorization"]


async def test_a_region_may_be_set_and_credentials_may_be_absent(
    endpoint, tmp_path, function_call, monkeypatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    remote = executor(Binding("*", {"endpoint_url": endpoint.url, "region": "sa-east-1"}), tmp_path)
    assert (await remote.execute(function_call(lambda_arn="stock"), KEY)).text == "12"
    await remote.close()
    request, _ = endpoint.asked[0]
    assert "Credential=outcrop/" in request.headers["Authorization"]
    assert "/sa-east-1/lambda/" in request.headers["Authorization"]
    assert "Qualifier" not in request.query


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "ResourceNotFoundException"),
        (403, "AccessDeniedException"),
        (429, "TooManyRequestsException"),
        (500, "ServiceException"),
        (502, "EC2ThrottledException"),
    ],
)
async def test_a_refusal_is_told_and_not_tried_again(endpoint, remote, function_call, status, code) -> None:
    endpoint.answer = lambda: an_error(status, code)
    with pytest.raises(ToolUnreachable, match=f"stock: {code}"):
        await remote.execute(function_call(), KEY)
    assert len(endpoint.asked) == 1


async def test_no_connection(endpoint, remote, function_call) -> None:
    await endpoint.runner.cleanup()
    with pytest.raises(ToolUnreachable, match="stock: its endpoint could not be reached"):
        await remote.execute(function_call(), KEY)


async def test_a_connection_that_breaks_is_not_tried_again(endpoint, remote, function_call) -> None:
    def hang_up() -> web.Response:
        endpoint.asked[-1][0].transport.abort()
        return web.Response()

    endpoint.answer = hang_up
    with pytest.raises(ToolUnreachable, match="stock: its endpoint could not be reached"):
        await remote.execute(function_call(), KEY)
    assert len(endpoint.asked) == 1


async def test_silence_is_a_timeout_and_not_tried_again(endpoint, tmp_path, function_call) -> None:
    async def never() -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    endpoint.answer = never
    remote = executor(Binding("*", {"endpoint_url": endpoint.url, "timeout_s": 0.2}), tmp_path)
    with pytest.raises(ToolTimedOut, match=r"stock did not answer within 0\.2 s"):
        await remote.execute(function_call(), KEY)
    await remote.close()
    assert len(endpoint.asked) == 1


async def test_errors_of_the_function(endpoint, remote, function_call) -> None:
    def failed(message: str) -> None:
        told = {"errorType": "KeyError", "errorMessage": message, "stackTrace": ["line 1"]}
        endpoint.answer = lambda: web.json_response(told, headers={"X-Amz-Function-Error": "Unhandled"})

    failed("password=hunter2")
    with pytest.raises(ToolCrashed) as crash:
        await remote.execute(function_call(), KEY)
    assert str(crash.value) == "stock: Unhandled"
    assert "hunter2" in crash.value.detail
    failed("2026-11-20T10:00:00.000Z 5c06e197 Task timed out after 3.00 seconds")
    with pytest.raises(ToolTimedOut, match="its own time limit"):
        await remote.execute(function_call(), KEY)
