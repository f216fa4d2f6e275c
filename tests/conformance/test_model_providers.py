"""Every file of models/providers passes the conformance suite, against servers on loopback where it needs one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from fake_servers import FakeAnthropic, FakeBedrock, FakeOpenAI, FakeServer, serving

from outcrop import plugins
from outcrop.config import Binding
from outcrop.models.base import ModelProvider, ModelUnavailable
from outcrop.models.providers import offline, openai, scripted, strands
from outcrop.testing.conformance.models import CHECKS, FAILURES, Answer, name_of


@asynccontextmanager
async def by_script(answers: Sequence[Answer]) -> AsyncIterator[ModelProvider]:
    model = scripted.ScriptedModel([list(_written(answer)) for answer in answers])
    yield model
    await model.close()


def _written(answer: Answer):
    if answer.text:
        yield answer.text
    for name, given in answer.calls:
        yield scripted.call(name, given)
    if answer.failure is not None:
        yield answer.failure("the script says so")
    if answer.breaks_off:
        yield ModelUnavailable("the script breaks off")


@asynccontextmanager
async def offline_by_rule(answers: Sequence[Answer]) -> AsyncIterator[ModelProvider]:
    provider = offline.provider(Binding("*", {"provider": "offline"}))
    yield provider
    await provider.close()


@asynccontextmanager
async def _over(server: FakeServer, answers: Sequence[Answer], make) -> AsyncIterator[ModelProvider]:
    server.answers.extend(answers)
    async with serving(server):
        provider = make(server.url)
        try:
            yield provider
        finally:
            await provider.close()


def over_openai(answers: Sequence[Answer]):
    settings = {"provider": "openai", "model": "fake"}
    return _over(
        FakeOpenAI(), answers, lambda url: openai.provider(Binding("*", {**settings, "base_url": f"{url}/v1"}))
    )


def over_anthropic(answers: Sequence[Answer]):
    os.environ["OUR_TEST_KEY"] = "sk-ant-test"
    settings = {"provider": "strands", "kind": "anthropic", "model": "claude", "api_key_env": "OUR_TEST_KEY"}
    return _over(FakeAnthropic(), answers, lambda url: strands.provider(Binding("*", {**settings, "base_url": url})))


def over_bedrock(answers: Sequence[Answer]):
    settings = {"provider": "strands", "kind": "bedrock", "region": "us-east-1"}
    return _over(FakeBedrock(), answers, lambda url: strands.provider(Binding("*", {**settings, "base_url": url})))


CASES = {
    "offline": {"offline": offline_by_rule},
    "openai": {"openai": over_openai},
    "scripted": {"scripted": by_script},
    "strands": {"strands-anthropic": over_anthropic, "strands-bedrock": over_bedrock},
}
"""File of the folder -> how to open it."""

ALL = {name: prepare for cases in CASES.values() for name, prepare in cases.items()}
THAT_FAIL = {name: prepare for name, prepare in ALL.items() if name != "offline"}
"""The offline model calls nobody, so nothing can refuse or break off."""


def test_every_file_of_the_folder_has_its_case():
    assert sorted(CASES) == plugins.names("outcrop.models.providers")


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("provider", sorted(ALL))
async def test_provider(provider, check):
    await check(ALL[provider])


@pytest.mark.parametrize("check", FAILURES, ids=name_of)
@pytest.mark.parametrize("provider", sorted(THAT_FAIL))
async def test_provider_that_fails(provider, check):
    await check(THAT_FAIL[provider])
