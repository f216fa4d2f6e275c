"""The ASGI application: bytes in, bytes out, in this order.

    gate -> read body -> route -> parse -> validate -> operation -> serialise
      `-> 429 before anything is read                    `-> Stream: head, then frames as batches come

The AWS surface is one raw endpoint, because the raw path and its trailing slash decide what is
called. Whatever is raised becomes an error in AWS's shape, before the first byte as an HTTP
status, after it as an exception frame.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.routing import Router as HttpRouter
from starlette.types import ASGIApp, Receive, Scope, Send

from outcrop.engine import Engine
from outcrop.errors import Fault, RequestEntityTooLargeException, ThrottlingException
from outcrop.ids import request_id
from outcrop.jobs.base import JobsUnavailable
from outcrop.operations.context import Context
from outcrop.operations.registry import Handler, Stream, load
from outcrop.server.limits import Crowded, Gate, Place
from outcrop.storage.database import Unavailable
from outcrop.wire.eventstream import event_frame
from outcrop.wire.exchange import Request, Response
from outcrop.wire.faults import fault_frame, fault_response, unimplemented
from outcrop.wire.parsing import parse
from outcrop.wire.routing import Match, Router
from outcrop.wire.serializing import serialize, stream_head
from outcrop.wire.services import services
from outcrop.wire.signatures import read_credential
from outcrop.wire.validation import validate

LOG = logging.getLogger("outcrop.server")
_COMPLAINTS_EVERY_S = 5.0
_ATTEMPT = re.compile(r"\battempt=([0-9]{1,4})\b")


class Disconnected(Exception):
    """The client went away before its request was read; there is nobody to answer."""


class Door:
    """The AWS surface of one engine as a raw ASGI endpoint."""

    def __init__(self, engine: Engine, handlers: dict[tuple[str, str], Handler], gate: Gate) -> None:
        """Open the door to an engine's operations, for as much at once as the gate lets in."""
        self._engine = engine
        self._gate = gate
        self._handlers = handlers
        self._router = Router(services())
        self._most_bytes = engine.config.server.max_body_bytes
        self._complaints = _Complaints()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        identifier = request_id()
        declared = _declared(scope)
        try:
            # A body that is too large in any case is refused for that, which needs no room.
            place = self._gate.enter(declared if declared <= self._most_bytes else 0)
        except Crowded as error:
            await self._turn_away(scope, send, identifier, error)
            return
        try:
            await self._answer(scope, receive, send, identifier, place)
        finally:
            place.leave()

    async def _answer(self, scope: Scope, receive: Receive, send: Send, identifier: str, place: Place) -> None:
        match: Match | None = None
        try:
            request = await self._read(scope, receive, place)
            match = self._router.match(request.method, request.raw_path)
            answer = await self._perform(match, request, identifier)
            if isinstance(answer, Stream):
                await self._stream(match, answer, identifier, receive, send)
                return
            response = serialize(match.operation, answer, identifier)
        except Disconnected:
            return
        except Exception as error:
            fault = _throttled(error) if isinstance(error, Crowded) else error
            if not isinstance(fault, Fault):
                self._complaints.failed(identifier, "server", fault)
            response = fault_response(match.service if match else None, fault, identifier)
        self._count(match, response.status)
        await _send(response, send)

    async def _turn_away(self, scope: Scope, send: Send, identifier: str, crowded: Crowded) -> None:
        match: Match | None = None
        with suppress(Fault):
            match = self._router.match(scope["method"], scope["raw_path"].decode("latin-1"))
        response = fault_response(match.service if match else None, _throttled(crowded), identifier)
        self._count(match, response.status)
        await _send(response, send)

    async def _read(self, scope: Scope, receive: Receive, place: Place) -> Request:
        if _declared(scope) > self._most_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most_bytes:
                raise self._too_large()
            place.hold(len(parts[-1]))
            more = message.get("more_body", False)
        return Request(
            method=scope["method"],
            raw_path=scope["raw_path"].decode("latin-1"),
            raw_query=scope["query_string"].decode("latin-1"),
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            body=parts[0] if len(parts) == 1 else b"".join(parts),
        )

    def _too_large(self) -> RequestEntityTooLargeException:
        return RequestEntityTooLargeException(f"The request body is over the limit of {self._most_bytes} bytes.")

    async def _perform(self, match: Match, request: Request, identifier: str) -> dict[str, Any] | Stream:
        handler = self._handlers.get((match.service, match.operation.name))
        if handler is None:
            raise unimplemented(match.operation)
        ask = parse(match, request)
        validate(match.operation, ask)
        settings, caller = self._engine.config.server, read_credential(request)
        context = Context(
            engine=self._engine,
            operation=match.operation.name,
            request_id=identifier,
            region=caller.region if caller else settings.region,
            account_id=settings.account_id,
            access_key=caller.access_key if caller else "",
            retry_key=request.headers.get("amz-sdk-invocation-id", "")[:128],
            attempt=_attempt(request.headers.get("amz-sdk-request", "")),
        )
        return await handler(context, ask)

    async def _stream(self, match: Match, stream: Stream, identifier: str, receive: Receive, send: Send) -> None:
        """Send the head at once, then a body part per batch; a fault becomes the last frame."""
        await _start(stream_head(match.operation, stream.head, identifier), send)
        outcome, last = 200, b""
        gone = asyncio.ensure_future(receive())  # the request was read: all that comes is that the client is gone
        try:
            async for batch in stream.events:
                if gone.done():
                    continue  # the turn does not depend on its listener, and nobody needs the frames
                frames = [event_frame(match.operation, name, member) for name, member in batch]
                await _body(frames[0] if len(frames) == 1 else b"".join(frames), send)
        except Exception as error:
            if not isinstance(error, Fault):
                self._complaints.failed(identifier, "stream", error)
            outcome = fault_response(match.service, error, identifier).status
            last = fault_frame(match.operation, error)
        finally:
            is_there = not gone.done()
            gone.cancel()
        # With the end in one piece: a client that stops reading at the fault has then read the end as well.
        await send({"type": "http.response.body", "body": last, "more_body": False})
        if is_there and stream.delivered is not None:
            stream.delivered()
        self._count(match, outcome)

    def _count(self, match: Match | None, status: int) -> None:
        name = match.operation.name if match else "unknown"
        self._engine.metrics.count("outcrop_requests_total", operation=name, status=str(status))


class _Complaints:
    """What the log hears of requests that failed here: a defect with its traceback, a database that is away in a line.

    While a database is away every request fails, so of that there is a line every few seconds.
    """

    def __init__(self) -> None:
        self._unsaid = 0
        self._not_before = 0.0

    def failed(self, identifier: str, what: str, error: Exception) -> None:
        if not isinstance(error, Unavailable | JobsUnavailable):
            LOG.error("request=<%s> | the %s failed", identifier, what, exc_info=error)
            return
        now = asyncio.get_running_loop().time()
        if now < self._not_before:
            self._unsaid += 1
            return
        others = f" (and {self._unsaid} more requests since the last such line)" if self._unsaid else ""
        LOG.warning("request=<%s> | the %s failed: %s%s", identifier, what, error, others)
        self._unsaid, self._not_before = 0, now + _COMPLAINTS_EVERY_S


def application(build: Callable[[], Engine], gate: Gate | None = None, *, is_started: bool = False) -> ASGIApp:
    """The ASGI application of an engine, which is built when the server starts and closed when it stops.

    Shapes: the gate is the one that the server's connections know; without one, the settings' own limits apply. An
            engine that is not started yet is started here.
    """
    inside: list[tuple[Engine, Gate, Door]] = []

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncGenerator[None]:
        engine = build()
        keeper = gate or Gate(engine.config.server, engine.metrics)
        inside.append((engine, keeper, Door(engine, load(), keeper)))
        if not is_started:
            await engine.start()
        yield
        inside.clear()
        await engine.close()

    async def aws(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await inside[0][2](scope, receive, send)

    async def healthz(_request: HttpRequest) -> PlainTextResponse:
        draining = inside[0][1].is_draining
        return PlainTextResponse("draining\n" if draining else "ok\n", status_code=503 if draining else 200)

    async def metrics(_request: HttpRequest) -> PlainTextResponse:
        return PlainTextResponse(inside[0][0].metrics.text(), media_type="text/plain; version=0.0.4")

    own = [Route("/healthz", healthz), Route("/metrics", metrics)]
    return HttpRouter(own, redirect_slashes=False, default=aws, lifespan=lifespan)


def _declared(scope: Scope) -> int:
    """How long a request's body says to be, 0 where it does not say."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _throttled(crowded: Crowded) -> ThrottlingException:
    return ThrottlingException(str(crowded), retry_after_s=crowded.retry_after_s)


def _attempt(header: str) -> int:
    """Which attempt of the SDK at its call this is, from 1: "attempt=2; max=3" is the second."""
    found = _ATTEMPT.search(header)
    return int(found[1]) if found else 1


async def _send(response: Response, send: Send) -> None:
    response.headers.append(("Content-Length", str(len(response.body))))
    await _start(response, send)
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


async def _start(response: Response, send: Send) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def _body(data: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
