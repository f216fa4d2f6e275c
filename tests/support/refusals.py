"""What a refusal must look like, and what it must not tell; and servers on bindings that a test writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agents import World
from botocore.exceptions import ClientError, EventStreamError

from outcrop.clock import StillClock
from outcrop.config import Binding, Config, ServerSettings
from outcrop.models.base import ModelProvider
from outcrop.testing import LocalServer

HOME = str(Path(__file__).parents[2])


def tells_nothing(text: str, *secrets: str) -> None:
    """No trace of how this server is made or where it lies."""
    found = [one for one in ("Traceback", 'File "', "outcrop.", HOME, "sqlite", *secrets) if one in text]
    assert not found, f"{found} in what a caller sees: {text}"


def refused(work: Callable[..., Any], *arguments: Any, **members: Any) -> tuple[str, int, str]:
    """What boto3 raises before any stream: code, status, message."""
    with pytest.raises(ClientError) as caught:
        work(*arguments, **members)
    assert not isinstance(caught.value, EventStreamError)
    response = caught.value.response
    tells_nothing(json.dumps(response, default=str))
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def broken(world: World, ids: tuple[str, str], text: str = "Check", *secrets: str, **members: Any) -> tuple[str, str]:
    """What ends the stream of a turn: the exception's name and message; a failure trace comes before it."""
    with pytest.raises(EventStreamError) as caught:
        world.ask(ids, text, **members)
    error, answer = caught.value.response["Error"], caught.value.answer
    assert answer.kinds[-1] == "failure"
    assert answer.traces[-1]["trace"]["failureTrace"]["failureReason"] == error["Message"]
    tells_nothing(json.dumps([caught.value.response, answer.traces], default=str), *secrets)
    return error["Code"], error["Message"]


def bound_server(
    root: Path,
    model: ModelProvider | None = None,
    database: str = "sqlite:memory",
    **sections: dict[str, dict[str, Any]],
) -> LocalServer:
    """A server in this process with these sections of bindings; with a model, [models] does not count."""
    config = Config(server=ServerSettings(database=database), root=root)
    for name, table in sections.items():
        config = replace(config, **{name: tuple(Binding(key, value) for key, value in table.items())})
    return LocalServer(model, config=config, clock=StillClock())


def shelf(tmp_path: Path, body: str, **settings: Any) -> dict[str, dict[str, Any]]:
    """A function `inventory` whose handler answers what `body` evaluates to; `fine` makes a good answer of a text."""
    lines = [
        "import os, time",
        "def fine(event, text):",
        "    told = {'responseBody': {'TEXT': {'body': text}}}",
        "    response = {'actionGroup': event['actionGroup'], 'function': event['function'], 'functionResponse': told}",
        "    return {'messageVersion': '1.0', 'response': response}",
        "def handler(event, context):",
        "    sku = event['parameters'][0]['value']",
        f"    return {body}",
    ]
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "app.py").write_text("\n".join(lines))
    return {"inventory": {"path": "shelf", **settings}}
