"""Functions that really run: Python handlers in warm processes, and any endpoint that speaks Lambda's Invoke call."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agents import CHECK, LAMBDA, RESERVE, World, collect, functions_group
from botocore.exceptions import EventStreamError

from outcrop.clock import StillClock
from outcrop.config import Binding, Config, ServerSettings
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel, call

ECHO = """
import json, os
print("loaded")  # what a handler prints is nobody's answer

def respond(event, body, **more):
    text = body if isinstance(body, str) else json.dumps(body)
    if "function" in event:
        told = {"function": event["function"], "functionResponse": {"responseBody": {"TEXT": {"body": text}}}}
    else:
        told = {"apiPath": event["apiPath"], "httpMethod": event["httpMethod"], "httpStatusCode": 200}
        told["responseBody"] = {"application/json": {"body": text}}
    return {"messageVersion": "1.0", "response": {"actionGroup": event["actionGroup"], **told}, **more}

def echo(event, context):
    print("called")
    return respond(event, {"event": event, "pid": os.getpid(), "name": context.function_name,
        "arn": context.invoked_function_arn, "left": context.get_remaining_time_in_millis(),
        "memory": context.memory_limit_in_mb, "request": context.aws_request_id, "environment": dict(os.environ)})
"""

OPENAPI = """
openapi: 3.0.0
info: {title: Stock, version: "1"}
paths:
  /shelves/{shelf}/items:
    post:
      operationId: putItem
      description: Puts an item on a shelf
      parameters:
        - {name: shelf, in: path, description: the shelf, required: true, schema: {type: string}}
        - {name: dry, in: query, description: only pretend, schema: {type: boolean}}
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [sku]
              properties:
                sku: {type: string, description: the product's SKU}
                quantity: {type: integer, description: how many}
                labels: {type: array, items: {type: string}}
      responses:
        "200": {description: done}
"""
API_TOOL = "POST__inventory__putItem"

Serve = Callable[..., World]


@pytest.fixture
def serve(tmp_path: Path, outcrop_model: ScriptedModel, database_setting: str) -> Iterator[Serve]:
    """Starts a server whose function `inventory` is the given code, with a scripted model."""
    with ExitStack() as stack:

        def start(code: str = ECHO, handler: str = "echo", **settings: Any) -> World:
            (tmp_path / "shelf").mkdir()
            (tmp_path / "shelf" / "app.py").write_text(code)
            settings = {"path": "shelf", "handler": f"app.{handler}", **settings}
            return start_with(settings)

        def start_with(settings: dict[str, Any]) -> World:
            (tmp_path / "schemas").mkdir()
            config = Config(
                server=ServerSettings(database=database_setting),
                functions=(Binding("inventory", settings),),
                buckets=(Binding("schemas", {"path": "schemas"}),),
                root=tmp_path,
            )
            server = stack.enter_context(LocalServer(outcrop_model, config=config, clock=StillClock()))
            return World(server, outcrop_model, RecordedFunctions())

        start.bound_to = start_with
        yield start


def api_group(**schema: Any) -> dict[str, Any]:
    return {"actionGroupName": "inventory", "actionGroupExecutor": {"lambda": LAMBDA}, "apiSchema": schema}


def told(world: World) -> list[str]:
    """What the model was last told by its tools, in its order."""
    blocks = world.model.requests[-1].messages[-1]["content"]
    return [block["toolResult"]["content"][0]["text"] for block in blocks if "toolResult" in block]


def echoed(world: World) -> dict[str, Any]:
    [text] = told(world)
    return json.loads(text)


def test_a_function_gets_lambdas_event_and_context(serve: Serve) -> None:
    world = serve(timeout_s=20, memory_mb=512)
    agent, alias = world.agent(functions_group(RESERVE))
    world.model.then([call("inventory__reserve", {"sku": "SKU-55", "quantity": 5, "colour": "red"})], "Done.")
    state = {"sessionAttributes": {"user": "ada"}, "promptSessionAttributes": {"now": "noon"}}

    answer = world.ask((agent, alias), "Reserve 5 of SKU-55", session="session-789", sessionState=state)

    assert answer.text == "Done."
    seen = echoed(world)
    assert seen["event"] == {
        "messageVersion": "1.0",
        "agent": {"name": "stock", "id": agent, "alias": alias, "version": "1"},
        "inputText": "Reserve 5 of SKU-55",
        "sessionId": "session-789",
        "actionGroup": "inventory",
        "function": "reserve",
        "parameters": [
            {"name": "sku", "type": "string", "value": "SKU-55"},
            {"name": "quantity", "type": "integer", "value": "5"},
        ],
        **state,
    }
    assert (seen["name"], seen["arn"], str(seen["memory"])) == ("inventory", LAMBDA, "512")
    assert 0 < seen["left"] <= 20_000
    assert seen["request"]


def test_an_api_operation_gets_lambdas_event(serve: Serve) -> None:
    world = serve()
    ids = world.agent(api_group(payload=OPENAPI))
    given = {"shelf": "A", "dry": True, "sku": "SKU-55", "quantity": 5, "labels": ["new", "red"]}
    world.model.then([call(API_TOOL, given)], "Done.")

    assert world.ask(ids, "Put 5 SKU-55 on shelf A").text == "Done."

    event = echoed(world)["event"]
    assert "function" not in event
    assert (event["apiPath"], event["httpMethod"]) == ("/shelves/{shelf}/items", "POST")
    assert event["parameters"] == [
        {"name": "shelf", "type": "string", "value": "A"},
        {"name": "dry", "type": "boolean", "value": "true"},
    ]
    assert event["requestBody"] == {
        "content": {
            "application/json": {
                "properties": [
                    {"name": "sku", "type": "string", "value": "SKU-55"},
                    {"name": "quantity", "type": "integer", "value": "5"},
                    {"name": "labels", "type": "array", "value": '["new","red"]'},
                ]
            }
        }
    }


def test_a_schema_in_a_bucket_is_read_when_the_group_is_made(serve: Serve, tmp_path: Path) -> None:
    world = serve()
    path = tmp_path / "schemas" / "v1" / "stock.yaml"
    path.parent.mkdir()
    path.write_text(OPENAPI)

    ids = world.agent(api_group(s3={"s3BucketName": "schemas", "s3ObjectKey": "v1/stock.yaml"}))
    path.unlink()
    world.model.then([call(API_TOOL, {"shelf": "A", "sku": "SKU-55"})], "Done.")

    assert world.ask(ids, "Put SKU-55 on shelf A").text == "Done."
    assert echoed(world)["event"]["apiPath"] == "/shelves/{shelf}/items"
    group = world.control.list_agent_action_groups(agentId=ids[0], agentVersion="1")["actionGroupSummaries"][0]
    found = world.control.get_agent_action_group(
        agentId=ids[0], agentVersion="1", actionGroupId=group["actionGroupId"]
    )["agentActionGroup"]
    assert found["apiSchema"] == {"s3": {"s3BucketName": "schemas", "s3ObjectKey": "v1/stock.yaml"}}


def test_the_model_learns_the_status_of_an_api_call(serve: Serve) -> None:
    code = ECHO + (
        "\ndef missing(event, context):\n"
        "    answer = respond(event, 'no such shelf')\n"
        "    answer['response']['httpStatusCode'] = 404\n"
        "    return answer\n"
    )
    world = serve(code, "missing")
    ids = world.agent(api_group(payload=OPENAPI))
    world.model.then([call(API_TOOL, {"shelf": "Z", "sku": "SKU-55"})], "There is no shelf Z.")

    assert world.ask(ids, "Put SKU-55 on shelf Z").text == "There is no shelf Z."

    [text] = told(world)
    assert "no such shelf" in text
    assert "404" in text


def test_inline_agents_call_functions_too(serve: Serve) -> None:
    world = serve()
    world.model.then([call("inventory__check", {"sku": "SKU-55"})], "Done.")

    response = world.runtime.invoke_inline_agent(
        foundationModel="some.model",
        instruction="You answer questions about the stock of a warehouse.",
        sessionId="session-1",
        inputText="Check SKU-55",
        actionGroups=[functions_group(CHECK)],
    )

    assert collect(response).text == "Done."
    assert echoed(world)["event"]["function"] == "check"


def test_a_process_serves_call_after_call(serve: Serve) -> None:
    world = serve()
    ids = world.agent(functions_group(CHECK))
    check = [call("inventory__check", {"sku": "SKU-55"})]
    world.model.then(check, "one", check, "two")

    world.ask(ids, "First")
    first = echoed(world)
    world.ask(ids, "Second")
    second = echoed(world)

    assert first["pid"] == second["pid"] != os.getpid()
    assert first["request"] != second["request"]


def test_the_calls_of_one_reply_run_side_by_side(serve: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meeting")
    code = ECHO + (
        f"\nMEETING = {str(tmp_path / 'meeting')!r}\n"
        "def meet(event, context):\n"
        "    sku = event['parameters'][0]['value']\n"
        "    with open(MEETING, 'w' if sku == 'A' else 'r'):  # each waits for the other to come\n"
        "        return respond(event, f'{sku} was met')\n"
    )
    world = serve(code, "meet", timeout_s=20)
    ids = world.agent(functions_group(CHECK))
    world.model.then(
        [call("inventory__check", {"sku": "A"}), call("inventory__check", {"sku": "B"})], "Both were there."
    )

    assert world.ask(ids, "Check A and B").text == "Both were there."
    assert told(world) == ["A was met", "B was met"]


def test_a_function_changes_the_session(serve: Serve) -> None:
    code = ECHO + (
        "\ndef count(event, context):\n"
        "    seen = event['sessionAttributes'].get('seen', '0'), event['promptSessionAttributes'].get('step', '0')\n"
        "    session, step = (str(int(one) + 1) for one in seen)\n"
        "    return respond(event, list(seen), sessionAttributes={'seen': session}, "
        "promptSessionAttributes={'step': step})\n"
    )
    world = serve(code, "count")
    ids = world.agent(functions_group(CHECK))
    check = [call("inventory__check", {"sku": "SKU-55"})]
    world.model.then(check, check, "one", check, "two")

    world.ask(ids, "First", sessionState={"sessionAttributes": {"seen": "7", "user": "ada"}})
    assert json.loads(told(world)[0]) == ["8", "1"]
    world.ask(ids, "Second")
    assert json.loads(told(world)[0]) == ["9", "0"]


def test_what_two_functions_of_one_reply_change_is_merged_in_the_models_order(serve: Serve) -> None:
    code = ECHO + (
        "\ndef note(event, context):\n"
        "    sku = event['parameters'][0]['value']\n"
        "    return respond(event, event['sessionAttributes'], sessionAttributes={sku: 'seen', 'last': sku})\n"
    )
    world = serve(code, "note")
    ids = world.agent(functions_group(CHECK))
    a, b, c = (call("inventory__check", {"sku": sku}) for sku in "ABC")
    world.model.then([a, b], [c], "Done.")

    world.ask(ids, "Check A and B, then C")

    assert json.loads(told(world)[0]) == {"A": "seen", "B": "seen", "last": "B"}


def test_reprompt_and_failure_are_different_things(serve: Serve) -> None:
    code = ECHO + (
        "\ndef judge(event, context):\n"
        "    sku = event['parameters'][0]['value']\n"
        "    answer = respond(event, 'an SKU looks like SKU-55')\n"
        "    answer['response']['functionResponse']['responseState'] = 'REPROMPT' if sku == '55' else 'FAILURE'\n"
        "    return answer\n"
    )
    world = serve(code, "judge")
    ids = world.agent(functions_group(CHECK))
    world.model.then(
        [call("inventory__check", {"sku": "55"})], "Which SKU?", [call("inventory__check", {"sku": "x"})], "Back."
    )

    assert world.ask(ids, "Check 55").text == "Which SKU?"
    [block] = world.model.requests[-1].messages[-1]["content"]
    assert block["toolResult"]["status"] == "error"
    assert told(world) == ["an SKU looks like SKU-55"]

    with pytest.raises(EventStreamError) as caught:
        world.ask(ids, "Check x")
    assert caught.value.response["Error"] == {
        "Code": "dependencyFailedException",
        "Message": "Received failed response from API execution. Retry the request later.",
    }
    assert world.ask(ids, "Hello?").text == "Back."


def test_a_process_that_dies_is_replaced(serve: Serve) -> None:
    code = ECHO + (
        "\ndef fragile(event, context):\n"
        "    if event['parameters'][0]['value'] == 'BROKEN':\n"
        "        os._exit(9)\n"
        "    return echo(event, context)\n"
    )
    world = serve(code, "fragile", concurrency=1)
    ids = world.agent(functions_group(CHECK))
    world.model.then(
        [call("inventory__check", {"sku": "BROKEN"})], [call("inventory__check", {"sku": "SKU-55"})], "Well again."
    )

    with pytest.raises(EventStreamError, match="dependencyFailedException"):
        world.ask(ids, "Check BROKEN")
    assert world.ask(ids, "Check SKU-55").text == "Well again."
    assert echoed(world)["event"]["parameters"][0]["value"] == "SKU-55"


def test_a_handler_does_not_see_the_servers_secrets(serve: Serve) -> None:
    world = serve(environment={"SHELF": "A"})
    ids = world.agent(functions_group(CHECK))
    world.model.then([call("inventory__check", {"sku": "SKU-55"})], "Done.")

    world.ask(ids, "Check")

    seen = echoed(world)["environment"]
    assert seen["SHELF"] == "A"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in seen.values()


class FakeLambda(BaseHTTPRequestHandler):
    """Lambda's Invoke call, answered by whatever the test put into the server."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.calls.append((self.path, self.headers, event))
        status, headers, body = self.server.answer(event)
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def fake_lambda() -> Iterator[ThreadingHTTPServer]:
    """An endpoint on this machine; `calls` are what it was sent, `answer` says what it answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeLambda)
    server.calls = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(serve: Serve, server: ThreadingHTTPServer) -> World:
    return serve.bound_to({"kind": "aws_lambda", "endpoint_url": f"http://127.0.0.1:{server.server_port}"})


def test_a_remote_function_is_invoked_as_lambda_is(serve: Serve, fake_lambda: ThreadingHTTPServer) -> None:
    def answer(event: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        body = {"functionResponse": {"responseBody": {"TEXT": {"body": "42 in stock"}}}}
        response = {"actionGroup": event["actionGroup"], "function": event["function"], **body}
        return 200, {"X-Amz-Executed-Version": "$LATEST"}, {"messageVersion": "1.0", "response": response}

    fake_lambda.answer = answer
    world = remote(serve, fake_lambda)
    ids = world.agent(functions_group(CHECK))
    world.model.then([call("inventory__check", {"sku": "SKU-55"})], "There are 42.")

    assert world.ask(ids, "Check SKU-55").text == "There are 42."

    assert told(world) == ["42 in stock"]
    [(path, headers, event)] = fake_lambda.calls
    assert path == "/2015-03-31/functions/inventory/invocations"
    assert headers["X-Amz-Invocation-Type"] == "RequestResponse"
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert "idempotencyKey" in json.loads(base64.b64decode(headers["X-Amz-Client-Context"]))["custom"]
    assert event["agent"]["id"] == ids[0]
    assert event["parameters"] == [{"name": "sku", "type": "string", "value": "SKU-55"}]


def test_a_remote_functions_errors_end_the_turn_and_not_the_session(
    serve: Serve, fake_lambda: ThreadingHTTPServer
) -> None:
    unhandled = {"errorType": "ValueError", "errorMessage": "password is hunter2", "stackTrace": ["/var/task/app.py"]}
    missing = {"Type": "User", "Message": "Function not found"}
    answers = [
        (200, {"X-Amz-Function-Error": "Unhandled"}, unhandled),
        (404, {"x-amzn-errortype": "ResourceNotFoundException"}, missing),
    ]
    fake_lambda.answer = lambda _event: answers.pop(0)
    world = remote(serve, fake_lambda)
    ids = world.agent(functions_group(CHECK))
    check = [call("inventory__check", {"sku": "SKU-55"})]
    world.model.then(check, check, "Back.")

    for expected in ("error message from the Lambda function is Unhandled", "inventory"):
        with pytest.raises(EventStreamError) as caught:
            world.ask(ids, "Check")
        error = caught.value.response["Error"]
        assert error["Code"] == "dependencyFailedException"
        assert expected in error["Message"]
        assert "hunter2" not in str(caught.value.response) + str(caught.value.answer.traces)
    assert world.ask(ids, "Hello?").text == "Back."
    assert len(fake_lambda.calls) == 2
