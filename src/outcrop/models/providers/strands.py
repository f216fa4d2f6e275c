"""Every other provider, through Strands' model classes: one line of KINDS each.

    { provider = "anthropic", model = "claude-sonnet-4-5", api_key_env = "ANTHROPIC_API_KEY" }

The library and the class are loaded on the first call, in a thread. A binding has one client for all
its calls. Clients that block (boto3) live on an event loop of their own with 64 threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from outcrop.config import Binding, ConfigMistake, check_keys
from outcrop.messages import Message
from outcrop.models import resilience
from outcrop.models.base import ConverseRequest, Delta, ModelError, ModelProvider, ModelUnavailable
from outcrop.models.providers._strands_clients import (
    anthropic,
    bedrock,
    gemini,
    litellm,
    mistral,
    sagemaker,
)
from outcrop.models.providers._strands_errors import typed
from outcrop.models.providers._strands_loop import OwnLoop
from outcrop.models.settings import KEY_SETTINGS, number, read_key, table, word

KEYS = ("provider", "kind", "model", *KEY_SETTINGS, "base_url", "region", "max_tokens", "params", "connect_timeout_s")
_EVENTS = (
    "contentBlockDelta",
    "contentBlockStart",
    "contentBlockStop",
    "messageStart",
    "messageStop",
    "metadata",
)
_THREADS = 64
_MOST_TUNINGS = 64


@dataclass(frozen=True, slots=True)
class Kind:
    """How one of Strands' classes is made and told what a request wants.

    Shapes: make(binding, key) -> (model, close); inference maps our settings to the class's own, as a path
            below its configuration; additional is the path of fields that we only pass on.
    """

    make: Callable[[Binding, str], tuple[Any, Callable[[], Any]]]
    inference: Mapping[str, str]
    additional: str = "params"
    config: str = "config"
    """The attribute of the class that holds its configuration."""
    model_key: str = "model_id"
    blocks: bool = False
    """Whether its client blocks the thread that calls it."""


KINDS: Mapping[str, Kind] = {
    "anthropic": Kind(
        anthropic,
        {
            "maxTokens": "max_tokens",
            "temperature": "params.temperature",
            "topP": "params.top_p",
            "topK": "params.top_k",
            "stopSequences": "params.stop_sequences",
        },
    ),
    "bedrock": Kind(
        bedrock,
        {
            "maxTokens": "max_tokens",
            "temperature": "temperature",
            "topP": "top_p",
            "topK": "additional_request_fields.top_k",
            "stopSequences": "stop_sequences",
        },
        additional="additional_request_fields",
        blocks=True,
    ),
    "gemini": Kind(
        gemini,
        {
            "maxTokens": "params.max_output_tokens",
            "temperature": "params.temperature",
            "topP": "params.top_p",
            "topK": "params.top_k",
            "stopSequences": "params.stop_sequences",
        },
    ),
    "litellm": Kind(
        litellm,
        {
            "maxTokens": "params.max_tokens",
            "temperature": "params.temperature",
            "topP": "params.top_p",
            "stopSequences": "params.stop",
        },
    ),
    "mistral": Kind(mistral, {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}, additional=""),
    "sagemaker": Kind(
        sagemaker,
        {
            "maxTokens": "max_tokens",
            "temperature": "temperature",
            "topP": "top_p",
            "topK": "top_k",
            "stopSequences": "stop",
        },
        additional="additional_args",
        config="payload_config",
        model_key="",
        blocks=True,
    ),
}
"""Provider name -> class; a binding may use the name in place of `strands`."""


def provider(binding: Binding) -> ModelProvider:
    """A provider of the kind that a binding names; its library is loaded when first asked.

    Shapes: kind is a key of KINDS; model is the provider's name for the model, else the request's model id;
            params are added to what every request asks for.
    Units: connect_timeout_s in seconds; max_tokens where the request sets none.
    Errors: ConfigMistake naming the setting that cannot be used.
    """
    place = f"[models] '{binding.pattern}'"
    check_keys(place, binding.settings, (*KEYS, *resilience.KEYS))
    kind = word(binding, "kind")
    if kind not in KINDS:
        raise ConfigMistake(f"{place}: kind = '{kind}' is not one of {', '.join(KINDS)}")
    for name in ("model", "base_url", "region"):
        word(binding, name)
    number(binding, "connect_timeout_s", 10.0)
    number(binding, "max_tokens", 4096)
    table(binding, "params")
    return StrandsProvider(binding, kind)


class StrandsProvider:
    """Streams replies of one of Strands' classes; made by `provider`."""

    def __init__(self, binding: Binding, kind: str) -> None:
        self._binding = binding
        self._name = kind
        self._kind = KINDS[kind]
        self._making = asyncio.Lock()
        self._model: Any = None
        self._close: Callable[[], Any] | None = None
        self._key = ""
        self._loop: OwnLoop | None = None
        self._tuned: OrderedDict[bytes, Any] = OrderedDict()

    async def stream(self, request: ConverseRequest) -> AsyncIterator[Delta]:
        """The reply as it arrives.

        Errors: ModelError and its kinds; ModelError itself, naming the extra to install, when the library is missing.
        """
        if self._model is None:
            await self._make()
        model = self._tune(request)
        messages, tools = [_complete(message) for message in request.messages], list(request.tools)
        system = request.system or None
        ended = False
        if self._loop is not None:
            events = self._loop.run(lambda cancel: model.stream(messages, tools, system, cancel_signal=cancel))
        else:
            events = model.stream(messages, tools, system)
        try:
            async for event in events:
                name = next(iter(event), "")
                if name in _EVENTS:
                    ended = ended or name == "messageStop"
                    yield _plain(event)
        except Exception as error:
            raise typed(error, self._key) from error
        finally:
            await events.aclose()
        if not ended:
            raise ModelUnavailable(f"the {self._name} model broke off before the reply was complete")

    async def _make(self) -> None:
        """Load the library and make the client, once.

        Errors: ModelAccessDenied when the key cannot be read; ModelError when the library is missing.
        """
        async with self._making:
            if self._model is not None:
                return
            key = read_key(self._binding)
            try:
                model, close = await asyncio.to_thread(self._kind.make, self._binding, key)
            except ImportError as error:
                raise ModelError(
                    f"[models] '{self._binding.pattern}': provider '{self._name}' needs a library that is not "
                    f"installed ({error.name}); pip install 'outcrop[strands]'"
                ) from error
            except Exception as error:
                raise typed(error, key) from error
            self._loop = OwnLoop(f"outcrop-{self._name}", _THREADS) if self._kind.blocks else None
            self._model, self._close, self._key = model, close, key

    def _tune(self, request: ConverseRequest) -> Any:
        """The model with a request's settings: a shallow copy on the same client, kept for the next such request."""
        model_id = word(self._binding, "model") or request.model_id
        wanted = orjson.dumps([model_id, request.inference, dict(request.additional)])
        tuned = self._tuned.get(wanted)
        if tuned is None:
            tuned = copy.copy(self._model)
            setattr(tuned, self._kind.config, self._configured(model_id, request))
            self._tuned[wanted] = tuned
            if len(self._tuned) > _MOST_TUNINGS:
                self._tuned.popitem(last=False)
        return tuned

    def _configured(self, model_id: str, request: ConverseRequest) -> dict[str, Any]:
        kind = self._kind
        config: dict[str, Any] = copy.deepcopy(dict(getattr(self._model, kind.config)))
        if kind.model_key:
            config[kind.model_key] = model_id
        given: dict[str, Any] = dict(request.inference)
        if "temperature" in given and given.get("topP") == 1:
            # says nothing, and newer Claude models refuse it beside a temperature
            del given["topP"]
        if kind.make is bedrock and "anthropic" not in model_id:
            # not a Converse setting: only Claude has it under this name
            given.pop("topK", None)
        for name, value in given.items():
            if name in kind.inference:
                _put(config, kind.inference[name], value)
        if kind.additional and request.additional:
            for name, value in request.additional.items():
                _put(config, f"{kind.additional}.{name}", value)
        return config

    async def close(self) -> None:
        """Give back the client, and the threads where it has its own."""
        close, loop = self._close, self._loop
        self._model, self._close, self._loop = None, None, None
        self._tuned.clear()
        if close is not None:
            closing = close()
            if asyncio.iscoroutine(closing):
                with contextlib.suppress(RuntimeError):
                    await closing
        if loop is not None:
            await loop.close()


def _complete(message: Message) -> dict[str, Any]:
    """A message as Strands reads it: every tool result with a status, redacted reasoning as bytes."""
    blocks: list[Any] = []
    for block in message["content"]:
        if "toolResult" in block and "status" not in block["toolResult"]:
            blocks.append({"toolResult": {**block["toolResult"], "status": "success"}})
        elif "reasoningContent" in block and isinstance(block["reasoningContent"].get("redactedContent"), str):
            redacted = b64decode(block["reasoningContent"]["redactedContent"])
            blocks.append({"reasoningContent": {"redactedContent": redacted}})
        else:
            blocks.append(block)
    return {"role": message["role"], "content": blocks}


def _plain(event: dict[str, Any]) -> Delta:
    """An event without what only Strands adds to it."""
    if "metadata" in event:
        usage: dict[str, Any] = event["metadata"].get("usage") or {}
        return {"metadata": {"usage": usage} if usage else {}}
    return cast("Delta", event)


def _put(config: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".", 1)
    for name in above:
        config = config.setdefault(name, {})
    config[last] = value
