"""Functions and models that fail: AWS's exception ends the stream, nothing private is in it, the session goes on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from agents import CHECK, LAMBDA, World, functions_group
from failing_model import FailingModel, garbage, refusal, says
from refusals import bound_server, broken, shelf

from outcrop.errors import RoomError
from outcrop.testing import RecordedFunctions, ScriptedModel, call

CHECKS = [call("inventory__check", {"sku": "SKU-55"})]
FAILED = "Received failed response from API execution. Retry the request later."
UNHANDLED = "The error message from the Lambda function is Unhandled."
MODEL_FAILED = "Dependency resource: received model timeout/error exception from Bedrock. Try the request again."

Serve = Callable[..., World]


@pytest.fixture
def serve(tmp_path: Path, outcrop_model: ScriptedModel, database_setting: str) -> Iterator[Serve]:
    """Starts a server with these bindings; without [models] it has the scripted model."""
    with ExitStack() as stack:

        def start(**sections: dict[str, dict[str, Any]]) -> World:
            model = None if "models" in sections else outcrop_model
            server = stack.enter_context(bound_server(tmp_path, model, database_setting, **sections))
            return World(server, outcrop_model, RecordedFunctions())

        yield start


def check(sku: str) -> list[Any]:
    return [call("inventory__check", {"sku": sku})]


def test_a_function_that_raises(serve: Serve, tmp_path: Path) -> None:
    world = serve(functions=shelf(tmp_path, "fine(event, 'ok') if sku == 'SKU-55' else 1 / len('')"))
    ids = world.agent(functions_group(CHECK))
    world.model.then(check("x"), check("SKU-55"), "There you are.")

    code, message = broken(world, ids, "Check x", "ZeroDivision", str(tmp_path))

    assert code == "dependencyFailedException"
    assert LAMBDA in message
    assert UNHANDLED in message
    assert world.ask(ids, "Check SKU-55").text == "There you are."


def test_a_function_that_returns_rubbish(serve: Serve, tmp_path: Path) -> None:
    rubbish = {
        "text": "'hello'",
        "none": "None",
        "empty": "{}",
        "list": "[1, 2]",
        "no response": "{'messageVersion': '1.0'}",
        "no body": "{'response': {'functionResponse': {}}}",
        "an object for a body": "fine(event, {'stock': 42})",
        "another group": "fine({**event, 'actionGroup': 'other'}, 'ok')",
        "another function": "fine({**event, 'function': 'sell'}, 'ok')",
        "attributes that are no text": "{**fine(event, 'ok'), 'sessionAttributes': {'a': 1}}",
        "a state of its own": "{'response': {'functionResponse': {'responseState': 'MAYBE'}}}",
    }
    cases = ", ".join(f"{name!r}: lambda: {answer}" for name, answer in rubbish.items())
    world = serve(functions=shelf(tmp_path, f"{{{cases}, 'fine': lambda: fine(event, 'ok')}}[sku]()"))
    ids = world.agent(functions_group(CHECK))
    world.model.then(*[check(name) for name in rubbish], check("fine"), "There you are.")

    for name in rubbish:
        assert broken(world, ids, f"Check {name}") == ("dependencyFailedException", FAILED)
    assert world.ask(ids, "Check fine").text == "There you are."


def test_what_cannot_be_written_as_json_is_a_crash(serve: Serve, tmp_path: Path) -> None:
    world = serve(functions=shelf(tmp_path, "{'response': object()}"))
    ids = world.agent(functions_group(CHECK))
    world.model.then(CHECKS, "Back.")

    code, message = broken(world, ids)

    assert (code, UNHANDLED in message) == ("dependencyFailedException", True)
    assert world.ask(ids, "Hello?").text == "Back."


def test_a_large_response_is_fine_and_a_huge_one_is_not(serve: Serve, tmp_path: Path) -> None:
    world = serve(functions=shelf(tmp_path, "fine(event, 'x' * int(sku))"))
    ids = world.agent(functions_group(CHECK))
    world.model.then(check("1000000"), "That was long.", check("6300000"), "Back.")

    assert world.ask(ids, "Check 1000000").text == "That was long."
    [block] = world.model.requests[-1].messages[-1]["content"]
    assert block["toolResult"]["content"][0]["text"] == "x" * 1_000_000
    code, message = broken(world, ids, "Check 6300000")
    assert (code, UNHANDLED in message) == ("dependencyFailedException", True)
    assert world.ask(ids, "Hello?").text == "Back."


def test_a_function_that_never_returns(serve: Serve, tmp_path: Path) -> None:
    body = "fine(event, 'ok') if sku == 'SKU-55' else time.sleep(3600)"
    world = serve(functions=shelf(tmp_path, body, timeout_s=0.5, concurrency=1))
    ids = world.agent(functions_group(CHECK))
    world.model.then(check("x"), check("SKU-55"), "There you are.")

    code, message = broken(world, ids, "Check x")

    assert (code, UNHANDLED in message) == ("dependencyFailedException", True)
    assert world.ask(ids, "Check SKU-55").text == "There you are."


@pytest.mark.parametrize(
    "settings",
    [
        {"path": "gone"},
        {"path": "shelf", "python": "/no/such/python"},
        {"kind": "aws_lambda", "endpoint_url": "http://127.0.0.1:9"},
        None,
    ],
    ids=["no folder", "no interpreter", "no endpoint", "no binding"],
)
def test_a_function_that_cannot_be_run(serve: Serve, tmp_path: Path, settings: dict[str, Any] | None) -> None:
    shelf(tmp_path, "fine(event, 'ok')")
    (tmp_path / "gone").mkdir()
    world = serve(functions={} if settings is None else {"inventory": settings})
    (tmp_path / "gone").rmdir()
    ids = world.agent(functions_group(CHECK))
    world.model.then(CHECKS, "Back.")

    code, message = broken(world, ids, "Check", str(tmp_path), "127.0.0.1")

    assert code == "dependencyFailedException"
    assert "inventory" in message
    assert world.ask(ids, "Hello?").text == "Back."


@pytest.mark.parametrize("code", ["def handler(event, context:", "import no_such_module", "raise ValueError('pw')", ""])
def test_a_function_that_cannot_be_loaded(serve: Serve, tmp_path: Path, code: str) -> None:
    bindings = shelf(tmp_path, "None")
    (tmp_path / "shelf" / "app.py").write_text(code)
    world = serve(functions=bindings)
    ids = world.agent(functions_group(CHECK))
    world.model.then(CHECKS, "Back.")

    kind, message = broken(world, ids, "Check", str(tmp_path), "no_such_module", "pw'")

    assert (kind, UNHANDLED in message) == ("dependencyFailedException", True)
    assert world.ask(ids, "Hello?").text == "Back."


# models -------------------------------------------------------------------------------------------

KEY = "sk-abcdefgh12345678"


@pytest.fixture
def model() -> Iterator[FailingModel]:
    with FailingModel() as server:
        yield server


@pytest.fixture
def asked(serve: Serve, model: FailingModel, monkeypatch: pytest.MonkeyPatch) -> tuple[World, tuple[str, str]]:
    """A server on that model, with an agent; a failed call is made twice."""
    monkeypatch.setenv("MODEL_KEY", KEY)
    quick = {"max_attempts": 2, "backoff_s": 0, "api_key_env": "MODEL_KEY"}
    world = serve(models={"*": {"provider": "openai", "base_url": model.url, "model": "m", **quick}})
    return world, world.agent()


REFUSALS = [
    (429, "slow down", "throttlingException", "Your request rate is too high.", 2),
    (401, f"the key {KEY} opens nothing", "accessDeniedException", "Access denied when calling Bedrock.", 1),
    (400, f"bad request for {KEY}: no such model", "validationException", "no such model", 1),
    (500, f"Traceback: {KEY}", "dependencyFailedException", MODEL_FAILED, 2),
    (503, "Loading model", "modelNotReadyException", "", 2),
]


@pytest.mark.parametrize(("status", "text", "code", "sentence", "attempts"), REFUSALS)
def test_a_model_that_refuses(
    asked: tuple[World, tuple[str, str]],
    model: FailingModel,
    status: int,
    text: str,
    code: str,
    sentence: str,
    attempts: int,
) -> None:
    world, ids = asked
    model.answers += [refusal(status, text)] * attempts + [says("Back again.")]

    found, message = broken(world, ids, "Hi", KEY)

    assert found == code
    assert sentence in message
    assert len(model.requests) == attempts
    assert world.ask(ids, "Hello?").text.replace(" ", "") == "Backagain."
    assert [m["content"] for m in model.requests[-1]["messages"] if m["role"] == "user"] == ["Hello?"]


def test_a_model_that_throttles_once_is_asked_again(asked: tuple[World, tuple[str, str]], model: FailingModel) -> None:
    world, ids = asked
    model.answers += [refusal(429, "slow down"), says("Hello.")]

    assert world.ask(ids, "Hi").text == "Hello."


def test_a_model_that_cannot_be_reached(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    where = {"base_url": f"http://127.0.0.1:{port}/v1", "max_attempts": 2, "backoff_s": 0}
    world = serve(models={"test.gone": {"provider": "openai", **where}, "*": {"provider": "offline"}})
    ids = world.agent(foundationModel="test.gone")

    assert broken(world, ids, "Hi", str(port)) == ("dependencyFailedException", MODEL_FAILED)
    assert broken(world, ids, "Hi again") == ("dependencyFailedException", MODEL_FAILED)
    assert world.ask(world.agent(name="other"), "Hi").text


@pytest.mark.parametrize("streams", [False, True])
def test_a_model_that_dies_in_mid_stream(
    asked: tuple[World, tuple[str, str]], model: FailingModel, streams: bool
) -> None:
    world, ids = asked
    half = says("The answer is", dies=True)
    model.answers += [half, half, says("Back."), says("Unused.")]
    members = {"streamingConfigurations": {"streamFinalResponse": streams}}

    assert broken(world, ids, "Hi", **members) == ("dependencyFailedException", MODEL_FAILED)

    model.answers[:] = [says("Back.")]
    assert world.ask(ids, "Hello?").text == "Back."
    users = [m["content"] for m in model.requests[-1]["messages"] if m["role"] != "system"]
    assert users == ["Hello?"]


def test_a_server_that_is_no_model(asked: tuple[World, tuple[str, str]], model: FailingModel) -> None:
    world, ids = asked
    model.answers += [garbage, garbage]

    assert broken(world, ids, "Hi")[0] == "dependencyFailedException"

    model.answers[:] = [says("Back.")]
    assert world.ask(ids, "Hello?").text == "Back."


@pytest.mark.parametrize(
    ("section", "binding", "named"),
    [
        ("models", {"provider": "nobody"}, "nobody"),
        ("models", {"provider": "scripted", "path": "gone.json"}, "gone.json"),
        ("models", {}, "provider"),
        ("functions", {"kind": "magic"}, "magic"),
        ("functions", {}, "kind"),
        ("functions", {"path": "nowhere"}, "nowhere"),
        ("functions", {"path": ".", "handler": "app"}, "handler = 'app'"),
    ],
)
def test_a_binding_that_cannot_be_used_stops_the_server_before_it_starts(
    serve: Serve, section: str, binding: dict[str, Any], named: str
) -> None:
    with pytest.raises(RoomError, match=named):
        serve(**{section: {"thing": binding}})
