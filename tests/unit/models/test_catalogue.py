"""A model id finds the first binding that matches any of its names, and equal bindings share a provider."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from fake_servers import plain

from outcrop.config import Binding, Config, ConfigMistake
from outcrop.messages import text_of, user
from outcrop.models.base import ConverseRequest, ModelAccessDenied, fold
from outcrop.models.catalogue import Catalogue, model_names
from outcrop.models.prices import Price
from outcrop.models.providers.offline import OfflineModel
from outcrop.models.providers.openai import OpenAIProvider
from outcrop.models.providers.scripted import ScriptedModel
from outcrop.models.providers.strands import KINDS, StrandsProvider
from outcrop.models.resilience import Policy
from outcrop.testing.conformance.models import Answer

HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
ARN = "arn:aws:bedrock:us-east-1"


def catalogue(root=None, **bindings):
    found = tuple(Binding(pattern, settings) for pattern, settings in bindings.items())
    return Catalogue(Config(models=found) if root is None else Config(models=found, root=root))


def openai(**more):
    return {"provider": "openai", "base_url": "http://127.0.0.1:1/v1", **more}


@pytest.mark.parametrize(
    ("model_id", "names"),
    [
        (HAIKU, [HAIKU]),
        (f"us.{HAIKU}", [f"us.{HAIKU}", HAIKU]),
        (f"us-gov.{HAIKU}", [f"us-gov.{HAIKU}", HAIKU]),
        (f"{ARN}::foundation-model/{HAIKU}", [f"{ARN}::foundation-model/{HAIKU}", HAIKU]),
        (f"{ARN}:1:inference-profile/eu.{HAIKU}", [f"{ARN}:1:inference-profile/eu.{HAIKU}", f"eu.{HAIKU}", HAIKU]),
        (f"{ARN}:1:provisioned-model/abc123", [f"{ARN}:1:provisioned-model/abc123", "abc123"]),
        ("meta.llama3-8b", ["meta.llama3-8b"]),
    ],
)
def test_the_names_of_a_model(model_id, names):
    assert list(model_names(model_id)) == names


@pytest.mark.parametrize("prefix", ["", "us.", "apac.", f"{ARN}::foundation-model/", f"{ARN}:1:inference-profile/us."])
def test_a_binding_of_the_bare_id_holds_for_every_name_of_the_model(prefix):
    found = catalogue(**{"anthropic.claude-3-haiku*": openai()}).resolve(prefix + HAIKU)
    assert isinstance(found.provider, OpenAIProvider)


def test_the_first_match_wins_and_the_default_is_offline():
    models = catalogue(**{"*haiku*": openai(), "anthropic.*": {"provider": "anthropic"}})
    assert isinstance(models.resolve(HAIKU).provider, OpenAIProvider)
    assert isinstance(models.resolve("anthropic.claude-sonnet").provider, StrandsProvider)
    assert isinstance(models.resolve("amazon.nova-lite-v1:0").provider, OfflineModel)


def test_equal_bindings_share_one_provider():
    models = catalogue(**{"a*": openai(), "b*": openai(), "c*": openai(model="other")})
    assert models.resolve("a1") is models.resolve("a2") is models.resolve("b")
    assert models.resolve("c") is not models.resolve("a1")


def test_ids_are_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr("outcrop.models.catalogue._MOST_REMEMBERED", 3)
    models = catalogue(**{"*": openai()})
    assert len({id(models.resolve(str(n))) for n in range(10)}) == 1
    assert len(models._resolved) <= 3


def test_policy_settings_go_around_the_provider():
    found = catalogue(**{"*": {"provider": "offline", "max_attempts": 2}}).resolve("x")
    assert found.policy == Policy(max_attempts=2)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_strands_may_be_named_as_a_provider(kind):
    found = catalogue(**{"*": {"provider": kind, "model": "m"}}).resolve("x").provider
    assert isinstance(found, StrandsProvider)
    assert found._name == kind


def test_paths_start_from_the_configuration_file(tmp_path):
    (tmp_path / "script.json").write_text(json.dumps(["Hi"]))
    found = catalogue(tmp_path, **{"*": {"provider": "scripted", "path": "script.json"}}).resolve("x")
    assert isinstance(found.provider, ScriptedModel)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"provider": "opnai"}, r"\[models\] '\*': unknown provider 'opnai'; did you mean 'openai'\?"),
        ({"provider": "zzz"}, "unknown provider 'zzz'; it knows anthropic, bedrock"),
        ({}, "provider must name what answers"),
        ({"provider": "openai", "modl": "x"}, "did you mean 'model'"),
        ({"provider": "strands", "kind": "antropic"}, "kind = 'antropic' is not one of anthropic"),
        ({"provider": "anthropic", "top_k": 1}, "unknown key 'top_k'"),
        ({"provider": "offline", "max_attempts": "many"}, "max_attempts = 'many'"),
    ],
)
def test_a_binding_that_cannot_be_used_is_named(settings, words):
    models = catalogue(**{"*": settings})
    with pytest.raises(ConfigMistake, match=words):
        models.resolve("x")
    with pytest.raises(ConfigMistake, match=words):
        models.check()


def test_bindings_that_can_be_used_are_checked_without_a_key_or_a_connection():
    catalogue(**{"a": openai(api_key_env="NOT_SET"), "b": {"provider": "gemini"}, "c": {"provider": "offline"}}).check()


def test_openai_without_an_address_is_openais_own():
    models = catalogue(**{"*": {"provider": "openai", "api_key_env": "NOT_SET"}})
    models.check()
    assert str(models.resolve("x").provider._url) == "https://api.openai.com/v1/chat/completions"


IN, OUT = "usd_per_million_input_tokens", "usd_per_million_output_tokens"


@pytest.mark.parametrize("model_id", [HAIKU, f"eu.{HAIKU}", f"{ARN}::foundation-model/{HAIKU}"])
def test_a_binding_says_what_its_model_costs(model_id):
    models = catalogue(**{"anthropic.*": openai(**{IN: 0.25, OUT: 1})})
    models.check()
    assert models.price(model_id) == Price(Decimal("0.25"), Decimal("1.0"))
    assert models.price(model_id).microusd(1000, 200) == 450
    assert models.bound_by(model_id) == "anthropic.*"


def test_a_binding_that_says_no_price_has_none():
    models = catalogue(**{"anthropic.*": openai()})
    assert models.price(HAIKU) is None
    assert models.price("amazon.nova-lite-v1:0") is None, "nor has the built-in model"
    assert models.bound_by("amazon.nova-lite-v1:0") == ""


def test_a_price_makes_no_provider_of_its_own():
    models = catalogue(**{"a": openai(**{IN: 1, OUT: 2}), "b": openai(), "c": {"provider": "offline", IN: 0, OUT: 0}})
    models.check()
    assert models.resolve("a") is models.resolve("b")
    assert isinstance(models.resolve("c").provider, OfflineModel)
    assert models.price("c") == Price(Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("price", "told"),
    [
        ({IN: 1}, f"{IN} needs {OUT} beside it"),
        ({OUT: 1}, f"{OUT} needs {IN} beside it"),
        ({IN: -1, OUT: 1}, f"{IN} = -1 is no number of at least 0"),
        ({IN: 1, OUT: "cheap"}, f"{OUT} = 'cheap' is no number of at least 0"),
        ({IN: float("inf"), OUT: 1}, f"{IN} = inf is no number of at least 0"),
        ({IN: 1, OUT: float("nan")}, f"{OUT} = nan is no number of at least 0"),
    ],
)
def test_what_is_no_price_is_named_at_the_start(price, told):
    models = catalogue(**{"*haiku*": openai(**price)})
    with pytest.raises(ConfigMistake) as caught:
        models.check()
    assert str(caught.value) == f"[models] '*haiku*': {told}"
    with pytest.raises(ConfigMistake):
        models.price(HAIKU)


async def test_a_bound_model_answers_with_retries_until_closed(openai_server, monkeypatch):
    openai_server.answers.extend([plain(503, {"error": "busy"}), Answer("Hi")])
    settings = openai(base_url=f"{openai_server.url}/v1", backoff_s=0, model="fake")
    models = catalogue(**{"*": settings})
    request = ConverseRequest(HAIKU, [user("Hello")])
    reply = await fold(models.resolve(HAIKU).stream(request), request)
    assert text_of(reply.message) == "Hi"
    await models.close()
    assert models._providers == {}


async def test_a_missing_key_is_refused_once_and_named(openai_server, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    models = catalogue(**{"*": openai(api_key_env="NOT_SET")})
    request = ConverseRequest(HAIKU, [user("Hello")])
    with pytest.raises(ModelAccessDenied, match="NOT_SET is not set"):
        await fold(models.resolve(HAIKU).stream(request), request)
    await models.close()
