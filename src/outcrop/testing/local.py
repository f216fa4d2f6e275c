"""A whole server inside this process: the application in a thread, boto3 clients that speak to it without a socket.

boto3 builds, signs and parses as always; only the bytes go straight into the ASGI application
and come back as it sends them, so streams are streams.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit

from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.config import Config as ClientConfig

from outcrop.client import sdk_session
from outcrop.clock import Clock
from outcrop.config import Config, ServerSettings
from outcrop.engine import Engine
from outcrop.models.base import ModelProvider
from outcrop.models.prices import Price
from outcrop.server.app import application
from outcrop.testing.functions import RecordedFunctions

T = TypeVar("T")
ENDPOINT = "http://outcrop.local"


class _Models:
    """One provider for every model id."""

    def __init__(self, provider: ModelProvider) -> None:
        self._provider = provider

    def resolve(self, model_id: str) -> ModelProvider:
        return self._provider

    def price(self, model_id: str) -> Price | None:
        return None

    def bound_by(self, model_id: str) -> str:
        return "*"

    async def close(self) -> None:
        await self._provider.close()


class LocalServer:
    """An engine and its front door, for the length of a `with` block.

    Shapes: without a model the configuration's bindings apply; without functions too.
    """

    def __init__(
        self,
        model: ModelProvider | None = None,
        functions: RecordedFunctions | None = None,
        *,
        config: Config | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Describe the server; it starts with `with`."""
        self._model = model
        self._functions = functions
        self._config = config or Config(server=ServerSettings(database="sqlite:memory"))
        self._clock = clock
        self._app: Any = None
        self._stop: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread
        self.engine: Engine

    def __enter__(self) -> Self:
        """Start the application.

        Errors: what `Engine.build` raises, as `outcrop serve` would refuse to start.
        """
        models = _Models(self._model) if self._model is not None else None
        self.engine = Engine.build(self._config, self._clock, models=models, functions=self._functions)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outcrop-local", daemon=True)
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, as a server stops."""
        assert self._stop is not None
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns, run where the engine runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def client(self, service: str, **options: Any) -> Any:
        """A real boto3 client of `bedrock-agent`, `bedrock-agent-runtime` or `outcrop` whose requests come here."""
        unsigned = ClientConfig(signature_version=UNSIGNED, retries={"max_attempts": 0})
        settings = {"region_name": self._config.server.region, "endpoint_url": ENDPOINT, **options}
        settings["config"] = unsigned.merge(options.get("config", ClientConfig()))
        make: Callable[..., Any] = sdk_session().client
        client = make(service, **settings)
        client.meta.events.register_first("before-send.*", self._send)
        return client

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> AWSResponse:
        """The answer to one raw HTTP request, for what no client would send."""
        return self._exchange(method, f"{ENDPOINT}{path}", dict(headers or {}), body)

    # the inside ---------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._app = application(lambda: self.engine)
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        ready: asyncio.Future[None] = self._loop.create_future()
        ended: asyncio.Future[None] = self._loop.create_future()

        async def send(message: dict[str, Any]) -> None:
            match message["type"]:
                case "lifespan.startup.complete":
                    ready.set_result(None)
                case "lifespan.startup.failed":
                    ready.set_exception(RuntimeError(message.get("message", "the application did not start")))
                case _:
                    if not ended.done():
                        ended.set_result(None)

        async def live() -> None:
            await self._app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, inbox.get, send)

        task = self._loop.create_task(live())
        await inbox.put({"type": "lifespan.startup"})
        await ready

        async def stop() -> None:
            await inbox.put({"type": "lifespan.shutdown"})
            await ended
            await task

        self._stop = stop

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        body = request.body or b""
        headers = {str(name): _text(value) for name, value in request.headers.items()}
        return self._exchange(request.method, request.url, headers, body.encode() if isinstance(body, str) else body)

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: bytes) -> AWSResponse:
        parts = urlsplit(url)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        answer = _Answer()

        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()  # this client never goes away
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def call() -> None:
            try:
                await self._app(scope, receive, answer.take)
            finally:
                answer.end()

        asyncio.run_coroutine_threadsafe(call(), self._loop)
        status, given = answer.head.result(60)
        return AWSResponse(url, status, cast(Any, HeadersDict(given)), answer)


class _Answer:
    """What the application sends, as botocore reads a raw response."""

    def __init__(self) -> None:
        self.head: Future[tuple[int, dict[str, str]]] = Future()
        self._parts: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    async def take(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.head.set_result((message["status"], headers))
        elif message.get("body"):
            self._parts.put(message["body"])

    def end(self) -> None:
        if not self.head.done():
            self.head.set_exception(RuntimeError("the application ended without an answer"))
        self._parts.put(None)

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        while (part := self._parts.get()) is not None:
            yield part

    def read(self, *_: Any, **__: Any) -> bytes:
        return b"".join(self.stream())

    def close(self) -> None:
        pass


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
