"""How each of Strands' model classes is made so that all calls of a binding share one client.

Used by `providers/strands`, in a thread and only when a binding is first asked: these imports are heavy.
Retries are turned off in the clients, because `resilience` makes them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from outcrop.config import Binding
from outcrop.models.settings import number, table, word

Made = tuple[Any, Callable[[], Any]]
_SILENCE_S = 600.0
"""Longest silence that the clients themselves bear; the limits that matter are those of `resilience`."""
_CONNECTIONS = 64


def _class(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"strands.models.{module}"), name)


def _connect_s(binding: Binding) -> float:
    return number(binding, "connect_timeout_s", 10.0)


def _max_tokens(binding: Binding) -> int:
    return int(number(binding, "max_tokens", 4096))


def _timeout(binding: Binding) -> Any:
    return importlib.import_module("httpx").Timeout(_SILENCE_S, connect=_connect_s(binding))


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value not in ("", None)}


def anthropic(binding: Binding, key: str) -> Made:
    """Anthropic's API; the class makes one client and keeps it."""
    arguments = _given(api_key=key, base_url=word(binding, "base_url"), max_retries=0, timeout=_timeout(binding))
    model = _class("anthropic", "AnthropicModel")(
        client_args=arguments,
        model_id=word(binding, "model"),
        max_tokens=_max_tokens(binding),
        params=table(binding, "params"),
    )
    return model, model.client.close


def _boto(binding: Binding) -> Any:
    return importlib.import_module("botocore.config").Config(
        connect_timeout=_connect_s(binding),
        read_timeout=_SILENCE_S,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )


class ClosingClient:
    """A boto3 client whose event streams give their connection back when their reader fails or leaves.

    Shapes: streams names the calls that stream and the member of their response that does.
    """

    def __init__(self, client: Any, streams: Mapping[str, str]) -> None:
        """Stand before the client."""
        self._client = client
        self._streams = streams

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in self._streams:
            return found

        def call(**request: Any) -> dict[str, Any]:
            response = found(**request)
            member = self._streams[name]
            return {**response, member: _closing(response[member])}

        return call


def _closing(stream: Any) -> Iterator[Any]:
    try:
        yield from stream
    except BaseException:
        stream.close()
        raise


def bedrock(binding: Binding, key: str) -> Made:
    """Amazon Bedrock's Converse API; the class makes one boto3 client and keeps it."""
    model = _class("bedrock", "BedrockModel")(
        boto_client_config=_boto(binding),
        # the class falls back to a model of its own where it is told of none
        model_id=word(binding, "model") or binding.pattern,
        **_given(region_name=word(binding, "region"), endpoint_url=word(binding, "base_url"), api_key=key),
        **_given(max_tokens=_max_tokens(binding) if "max_tokens" in binding.settings else None),
    )
    params = table(binding, "params")
    if params:
        model.config["additional_request_fields"] = params
    model.client = ClosingClient(model.client, {"converse_stream": "stream"})
    return model, model.client.close


def sagemaker(binding: Binding, key: str) -> Made:
    """An OpenAI-like model on a SageMaker endpoint, which `model` names; AWS credentials open it, not a key."""
    model = _class("sagemaker", "SageMakerAIModel")(
        endpoint_config=_given(endpoint_name=word(binding, "model"), region_name=word(binding, "region")),
        payload_config={"max_tokens": _max_tokens(binding), "stream": True, **table(binding, "params")},
        boto_client_config=_boto(binding),
    )
    model.client = ClosingClient(model.client, {"invoke_endpoint_with_response_stream": "Body"})
    return model, model.client.close


def gemini(binding: Binding, key: str) -> Made:
    """Google's Gemini API; left alone the class would make a client per call, so it is given one."""
    options = _given(base_url=word(binding, "base_url"), timeout=int(_SILENCE_S * 1000))
    client = importlib.import_module("google.genai").Client(**_given(api_key=key), http_options=options)
    params: dict[str, Any] = {"max_output_tokens": _max_tokens(binding), **table(binding, "params")}
    model = _class("gemini", "GeminiModel")(client=client, model_id=word(binding, "model"), params=params)
    return model, client.aio.aclose


def mistral(binding: Binding, key: str) -> Made:
    """Mistral's API; the class makes its client per call, so both of its HTTP clients are given and shared."""
    kind, httpx = _class("mistral", "MistralModel"), importlib.import_module("httpx")
    waiting, blocking = httpx.AsyncClient(timeout=_timeout(binding)), httpx.Client(timeout=_timeout(binding))
    arguments = _given(api_key=key, server_url=word(binding, "base_url"), async_client=waiting, client=blocking)
    model = kind(
        client_args=arguments,
        model_id=word(binding, "model"),
        max_tokens=_max_tokens(binding),
        **table(binding, "params"),
    )

    async def close() -> None:
        blocking.close()
        await waiting.aclose()

    return model, close


def litellm(binding: Binding, key: str) -> Made:
    """Whatever LiteLLM reaches; it keeps its clients itself, by host and key."""
    arguments = _given(api_key=key, api_base=word(binding, "base_url"), num_retries=0, timeout=_SILENCE_S)
    params: dict[str, Any] = {"max_tokens": _max_tokens(binding), **table(binding, "params")}
    model = _class("litellm", "LiteLLMModel")(client_args=arguments, model_id=word(binding, "model"), params=params)
    return model, lambda: None
