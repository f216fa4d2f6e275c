"""Which provider answers for a Bedrock model id: the [models] bindings, built once and shared.

    model id, ARN or inference profile --first glob that matches--> Binding --> resilient(provider)

The engine makes one catalogue; a turn asks it for the model of its definition. Nothing bound means
the built-in offline model.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import orjson

from outcrop import plugins
from outcrop.config import Binding, Config, ConfigMistake, bound, check_keys
from outcrop.models import prices, resilience
from outcrop.models.base import ModelProvider
from outcrop.models.providers.strands import KINDS

SEAM = "outcrop.models.providers"
DEFAULT = Binding("*", {"provider": "offline"})
"""What answers where no binding matches."""

_REGION_PREFIX = re.compile(r"(?:us|us-gov|eu|apac|ap|jp|au|ca|sa|me|il|af|mx|global)\.")
_PATHS = ("path", "api_key_file")
_MOST_REMEMBERED = 1024


def model_names(model_id: str) -> tuple[str, ...]:
    """The names that a model goes by, the full one first: what a binding's glob may match.

    Shapes: "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x-v1:0" -> itself,
            "us.anthropic.claude-x-v1:0", "anthropic.claude-x-v1:0".
    """
    names = [model_id]
    bare = model_id.rsplit("/", 1)[-1]
    if bare and bare not in names:
        names.append(bare)
    prefix = _REGION_PREFIX.match(bare)
    if prefix and bare[prefix.end() :]:
        names.append(bare[prefix.end() :])
    return tuple(names)


class Catalogue:
    """The providers of one configuration, each built when first needed and shared by all turns."""

    def __init__(self, config: Config) -> None:
        """Take the bindings; nothing is built yet."""
        self._config = config
        self._providers: dict[bytes, ModelProvider] = {}
        self._resolved: dict[str, ModelProvider] = {}

    def resolve(self, model_id: str) -> ModelProvider:
        """The provider that answers for a model id, with retries and time limits around it.

        Errors: ConfigMistake when the binding cannot be used; the message names it.
        """
        found = self._resolved.get(model_id)
        if found is None:
            found = self._provider(self._bound(model_id))
            if len(self._resolved) >= _MOST_REMEMBERED:
                self._resolved.clear()
            self._resolved[model_id] = found
        return found

    def price(self, model_id: str) -> prices.Price | None:
        """What the model costs, none where its binding does not say.

        Errors: ConfigMistake when the binding says what is no price.
        """
        return prices.price_of(self._bound(model_id))

    def bound_by(self, model_id: str) -> str:
        """The glob of the binding that answers for a model id, empty where none matches."""
        found = bound(self._config.models, *model_names(model_id))
        return "" if found is None else found.pattern

    def check(self) -> None:
        """Build every bound provider, so that a mistake shows when the server starts; none connects yet.

        Errors: ConfigMistake naming the first binding that cannot be used.
        """
        for binding in self._config.models:
            self._provider(binding)
            prices.price_of(binding)

    async def close(self) -> None:
        """Close every provider."""
        providers = list(self._providers.values())
        self._providers.clear()
        self._resolved.clear()
        for provider in providers:
            await provider.close()

    def _bound(self, model_id: str) -> Binding:
        return bound(self._config.models, *model_names(model_id)) or DEFAULT

    def _provider(self, binding: Binding) -> ModelProvider:
        said = {key: value for key, value in binding.settings.items() if key not in prices.KEYS}
        binding = replace(binding, settings=said)
        key = orjson.dumps(said, option=orjson.OPT_SORT_KEYS, default=str)
        if key not in self._providers:
            self._providers[key] = self._build(binding)
        return self._providers[key]

    def _build(self, binding: Binding) -> ModelProvider:
        place = f"[models] '{binding.pattern}'"
        name = binding.settings.get("provider")
        if not isinstance(name, str):
            raise ConfigMistake(f'{place}: provider must name what answers, such as "openai" or "offline"')
        own: dict[str, Any] = {key: value for key, value in binding.settings.items() if key not in resilience.KEYS}
        for key in _PATHS:
            if isinstance(own.get(key), str):
                own[key] = str(self._config.root / own[key])
        if name in KINDS:
            name, own = "strands", {**own, "provider": "strands", "kind": own.get("kind", name)}
        try:
            factory = plugins.load(SEAM, name, "provider")
        except plugins.UnknownPlugin as error:
            raise _unknown(place, name) from error
        except ImportError as error:
            raise ConfigMistake(f"{place}: provider '{name}' cannot be loaded: {error}") from error
        provider = factory(replace(binding, settings=own))
        return resilience.resilient(provider, resilience.policy_of(binding))


def _unknown(place: str, name: str) -> ConfigMistake:
    try:
        check_keys(place, [name], sorted({*plugins.names(SEAM), *KINDS}))
    except ConfigMistake as mistake:
        return ConfigMistake(str(mistake).replace("unknown key", "unknown provider", 1))
    return ConfigMistake(f"{place}: unknown provider '{name}'")
