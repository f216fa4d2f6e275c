"""Any OpenAI-compatible chat-completions server, straight on the HTTP client: the hot path.

    ConverseRequest -> ChatEncoder -> POST {base_url}/chat/completions -> ChatDecoder -> Delta, ...

One session per binding keeps its connections. Retries and the time limits of a reply are not made
here: `resilience` wraps every provider. What a server reports is kept in its own words, but without
its address, for those words reach the caller; the log has both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
from yarl import URL

from outcrop.config import Binding, ConfigMistake, check_keys
from outcrop.models import resilience
from outcrop.models.base import ConverseRequest, Delta, ModelError, ModelProvider, ModelUnavailable
from outcrop.models.chat_request import ChatEncoder, ChatOptions
from outcrop.models.chat_stream import ChatDecoder, error_text
from outcrop.models.failures import failure, retry_after, told
from outcrop.models.settings import KEY_SETTINGS, number, read_key, switch, table, word

KEYS = (
    "provider",
    "base_url",
    "model",
    *KEY_SETTINGS,
    "headers",
    "extra_body",
    "max_tokens_field",
    "top_k",
    "stream_usage",
    "send_reasoning",
    "max_connections",
    "connect_timeout_s",
)
LOG = logging.getLogger("outcrop.models")
_DEFAULT_BASE_URL = "https://api.openai.com/v1"
_PROTECTED = ("messages", "model", "stream", "tools")
_LEAVE_WITHIN_S = 1.0
"""How long a server may take to end a response after its [DONE], so that the connection can be kept."""


def provider(binding: Binding) -> ModelProvider:
    """A provider for the server that a binding describes; it connects when first asked.

    Shapes: base_url up to but without /chat/completions; model is the server's name for the model, else
            the request's model id; headers and extra_body are added to every request.
    Units: connect_timeout_s in seconds; max_connections 0 means no limit.
    Errors: ConfigMistake naming the setting that cannot be used.
    """
    place = f"[models] '{binding.pattern}'"
    check_keys(place, binding.settings, (*KEYS, *resilience.KEYS))
    url = _address(binding, place)
    extra_body = table(binding, "extra_body")
    for key in _PROTECTED:
        if key in extra_body:
            raise ConfigMistake(f"{place}: extra_body cannot set '{key}'")
    options = ChatOptions(
        max_tokens_field=word(binding, "max_tokens_field", "max_tokens"),
        top_k=switch(binding, "top_k", False),
        stream_usage=switch(binding, "stream_usage", True),
        send_reasoning=switch(binding, "send_reasoning", False),
        extra_body=extra_body,
    )
    number(binding, "connect_timeout_s", 10.0)
    number(binding, "max_connections", 0)
    table(binding, "headers")
    return OpenAIProvider(binding, url, options)


def _address(binding: Binding, place: str) -> URL:
    """Where to post to. The setting is not repeated in an error: it may hold a password.

    Errors: ConfigMistake when base_url is no http address, or holds user info.
    """
    given = word(binding, "base_url", _DEFAULT_BASE_URL)
    try:
        url = URL(given.rstrip("/") + "/chat/completions")
    except ValueError:
        raise ConfigMistake(f"{place}: base_url is no http address") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigMistake(f"{place}: base_url is no http address")
    if url.user is not None or url.password is not None:
        raise ConfigMistake(
            f"{place}: base_url holds a user name or password; use api_key_env, api_key_file or headers for them"
        )
    return url


class OpenAIProvider:
    """Streams replies of one server; made by `provider`."""

    __slots__ = ("_address", "_binding", "_encoder", "_headers", "_key", "_model", "_place", "_session", "_url")

    def __init__(self, binding: Binding, url: URL, options: ChatOptions) -> None:
        self._binding = binding
        self._url = url
        self._place = f"the model server at {url.host}:{url.port}"
        self._address = _written(url)
        self._model = word(binding, "model")
        self._encoder = ChatEncoder(options)
        self._session: aiohttp.ClientSession | None = None
        self._key = ""

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        """The reply as it arrives.

        Errors: ModelError and its kinds; ModelUnavailable when the server cannot be reached or breaks off.
        """
        session = self._session or self._open()
        body, names = self._encoder.encode(request, self._model or request.model_id)
        decoder = ChatDecoder(names)
        try:
            async with session.post(self._url, data=body, allow_redirects=False) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                if response.content_type == "application/json":
                    for delta in decoder.whole(await response.read()):
                        yield delta
                    return
                content = response.content
                while not decoder.done and (data := await content.readany()):
                    for delta in decoder.feed(data):
                        yield delta
                for delta in decoder.finish():
                    yield delta
                await _leave(content)
        except ModelError as error:
            LOG.warning("%s failed: %s", self._place, told(str(error), self._key))
            raise type(error)(self._told(str(error)), retry_after_s=error.retry_after_s) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise ModelUnavailable(f"{self._place} took no connection in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnavailable(f"{self._place} cannot be reached or broke off: {_reason(error)}") from error

    def _open(self) -> aiohttp.ClientSession:
        """The session, made when first needed: it belongs to the running loop.

        Errors: ModelAccessDenied when the key cannot be read.
        """
        binding = self._binding
        self._key = read_key(binding)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "User-Agent": "outcrop"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        headers.update({name: str(value) for name, value in table(binding, "headers").items()})
        # Sockets have TCP_NODELAY from asyncio and uvloop alike; compression would cost more than it saves.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=int(number(binding, "max_connections", 0)), keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            skip_auto_headers=("Accept-Encoding",),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=number(binding, "connect_timeout_s", 10.0)),
        )
        return self._session

    async def _refusal(self, response: aiohttp.ClientResponse) -> ModelError:
        """The error that a response other than 200 stands for, with the server's own words."""
        text = (await response.content.read(65_536)).decode("utf-8", "replace")
        with contextlib.suppress(orjson.JSONDecodeError):
            text = error_text(orjson.loads(text)) or text
        message = f"the model server answered {response.status}: {self._told(text) or response.reason}"
        return failure(response.status, message, retry_after(response.headers))

    def _told(self, text: str) -> str:
        """What the server said, without the key and without where it stands."""
        return told(self._address.sub("the model server", text), self._key)

    async def close(self) -> None:
        """Give back the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _written(url: URL) -> re.Pattern[str]:
    """The ways in which a text may write where a server stands: with its scheme, its port, or both."""
    host = rf"\[?{re.escape(url.host or '')}\]?"
    ways = [rf"https?://{host}(?::\d+)?(?![\w.-]*\w)(?:/[^\s'\"<>,;)]*)?", rf"(?<![\w.-]){host}:{url.port}(?!\d)"]
    if not (url.host or "").isalpha():  # a name of one word, such as "ollama", may mean something else when alone
        ways.append(rf"(?<![\w.-]){host}(?![\w.-]*\w)")
    return re.compile("|".join(ways), re.IGNORECASE)


async def _leave(content: aiohttp.StreamReader) -> None:
    """Read a response to its end, so that its connection can carry the next; give up soon."""
    if content.at_eof():
        return
    try:
        async with asyncio.timeout(_LEAVE_WITHIN_S):
            while await content.readany():
                pass
    except TimeoutError:
        return


def _reason(error: Exception) -> str:
    strerror: Any = getattr(error, "strerror", None)
    return told(str(strerror)) if strerror else type(error).__name__
