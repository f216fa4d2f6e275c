"""Both executors keep the promises of the seam; Lambda is a server on this machine that runs real handlers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from outcrop import plugins
from outcrop.config import Binding
from outcrop.testing.conformance.executors import MODULE, Bind, ExecutorSuite, write_handlers
from outcrop.tools.bindings import SEAM
from outcrop.tools.executors.aws_lambda import executor as aws_lambda
from outcrop.tools.executors.local_function import executor as local_function

# One invocation in a process of its own: event on stdin, client context as an argument, payload on stdout.
RUN = """
import base64, importlib, json, os, sys, types
folder, module, function, context = sys.argv[1:]
out = os.dup(1)
os.dup2(2, 1)
sys.path.insert(0, folder)
custom = json.loads(base64.b64decode(context))["custom"]
told = types.SimpleNamespace(
    client_context=types.SimpleNamespace(custom=custom), aws_request_id="r-1", function_name="shelf"
)
try:
    payload, failed = json.dumps(getattr(importlib.import_module(module), function)(json.load(sys.stdin), told)), 0
except Exception as error:
    payload, failed = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}), 1
os.write(out, payload.encode())
os._exit(failed)
"""


@asynccontextmanager
async def lambda_endpoint(folder: Path) -> AsyncIterator[str]:
    """Lambda's Invoke call over the handlers of a folder; the endpoint's path names the handler."""

    async def invoke(request: web.Request) -> web.Response:
        assert request.match_info["name"] == "shelf"
        context = request.headers["X-Amz-Client-Context"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RUN, str(folder), MODULE, request.match_info["handler"], context),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"]},
        )
        try:
            payload, _ = await process.communicate(await request.read())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        headers = {"X-Amz-Function-Error": "Unhandled"} if process.returncode else {}
        return web.Response(body=payload or b"{}", headers=headers)

    app = web.Application()
    app.router.add_post("/{handler}/2015-03-31/functions/{name}/invocations", invoke)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class TestLocalFunction(ExecutorSuite):
    @pytest.fixture
    async def bind(self, tmp_path: Path) -> AsyncIterator[Bind]:
        made = []

        def bind(handler, **settings):
            made.append(
                local_function(Binding("shelf", {"path": ".", "handler": f"{MODULE}.{handler}", **settings}), folder)
            )
            return made[-1]

        folder = write_handlers(tmp_path)
        yield bind
        for executor in made:
            await executor.close()


class TestAwsLambda(ExecutorSuite):
    @pytest.fixture
    async def bind(self, tmp_path: Path) -> AsyncIterator[Bind]:
        made = []

        def bind(handler, **settings):
            made.append(
                aws_lambda(
                    Binding("*", {"kind": "aws_lambda", "endpoint_url": f"{url}/{handler}", **settings}), tmp_path
                )
            )
            return made[-1]

        async with lambda_endpoint(write_handlers(tmp_path)) as url:
            yield bind
            for executor in made:
                await executor.close()


def test_every_executor_of_the_folder_has_a_suite() -> None:
    assert plugins.names(SEAM) == ["aws_lambda", "local_function"]
