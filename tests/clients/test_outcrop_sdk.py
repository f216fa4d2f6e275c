"""Our own API through unmodified clients: boto3 with a session made for it, the AWS CLI told where the model is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agents import INSTRUCTION, ROLE
from botocore.exceptions import ClientError
from serving import Served

from outcrop.cli.main import main

pytestmark = [pytest.mark.client, pytest.mark.slow]
AWS = Path(sys.executable).with_name("aws")


@pytest.fixture
def environment(aws_environment: dict[str, str], served: Served, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `export AWS_DATA_PATH=$(outcrop sdk-path)` adds, and the address."""
    assert main(["sdk-path"]) == 0
    folder = capsys.readouterr().out.removesuffix("\n")
    return {**aws_environment, "AWS_DATA_PATH": folder, "AWS_ENDPOINT_URL_OUTCROP": served.url}


def aws(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(AWS), "outcrop", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def agent(served: Served) -> tuple[str, str]:
    """A prepared agent and its test alias."""
    control = served.client("bedrock-agent")
    made = {"agentName": "afar", "foundationModel": "test.background", "instruction": INSTRUCTION}
    agent = control.create_agent(**made, agentResourceRoleArn=ROLE)["agent"]["agentId"]
    control.prepare_agent(agentId=agent)
    return agent, "TSTALIASID"


def test_boto3_reaches_every_operation(served: Served) -> None:
    client = served.client("outcrop")
    given: dict[str, Any] = {
        "agentId": "AX123", "agentAliasId": "PROD", "sessionId": "s-1", "turnId": "0190", "targetId": "ABCDEFGHIJ",
        "noticeId": "n-1", "name": "me", "kind": "WEBHOOK", "webhook": {"url": "https://example.com"},
        "inputText": "Hi",
    }  # fmt: skip
    said: dict[str, str] = {}
    for name in client.meta.service_model.operation_names:
        members = client.meta.service_model.operation_model(name).input_shape.members
        call = {member: value for member, value in given.items() if member in members}
        try:
            client._make_api_call(name, call)
        except ClientError as error:
            said[name] = error.response["Error"]["Code"]
        else:
            said[name] = "answered"

    answered = {"CreateNotificationTarget", "ListNotificationTargets"}
    assert {name for name, how in said.items() if how == "answered"} == answered
    assert {how for name, how in said.items() if name not in answered} == {"ResourceNotFoundException"}


def test_boto3_waits_for_a_turn_and_pages_through_turns(served: Served, agent: tuple[str, str]) -> None:
    client = served.client("outcrop")
    at = {"agentId": agent[0], "agentAliasId": agent[1]}

    turns = [client.start_turn(**at, sessionId=f"s-{n}", inputText="Hi")["turnId"] for n in "123"]
    for turn_id in turns:
        client.get_waiter("turn_completed").wait(turnId=turn_id, waitSeconds=30)
        client.get_waiter("turn_settled").wait(turnId=turn_id)
    pages = client.get_paginator("list_turns").paginate(**at, PaginationConfig={"PageSize": 2})

    assert {client.get_turn(turnId=turn_id)["answer"] for turn_id in turns} == {"Hello from afar."}
    assert set(turns) <= {turn["turnId"] for page in pages for turn in page["turnSummaries"]}


def test_the_cli_offers_every_operation(environment: dict[str, str], served: Served) -> None:
    client = served.client("outcrop")

    done = aws(environment, "nothing-like-this")

    assert done.returncode in (2, 252)
    offered = done.stderr.replace("_", "-").split()
    for method in client.meta.method_to_api_mapping:
        assert method.replace("_", "-") in offered
    assert "wait" in offered


def test_the_cli_starts_a_turn_and_waits_for_it(environment: dict[str, str], agent: tuple[str, str]) -> None:
    at = ["--agent-id", "afar", "--agent-alias-id", agent[1], "--session-id", "s-cli"]
    state = json.dumps({"sessionAttributes": {"user": "ada"}})

    def said(*words: str) -> str:
        done = aws(environment, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    turn_id = said(
        "start-turn", *at, "--input-text", "Hi", "--session-state", state, "--query", "turnId", "--output", "text"
    )
    said("wait", "turn-completed", "--turn-id", turn_id, "--wait-seconds", "30")
    answer = said("get-turn", "--turn-id", turn_id, "--query", "answer", "--output", "text")
    events = json.loads(said("list-turn-events", "--turn-id", turn_id, "--include-trace"))
    listed = said("list-turns", "--session-id", "s-cli", "--query", "turnSummaries[].status", "--output", "text")

    assert answer == "Hello from afar."
    assert "modelInvocationInput" in events["events"][0]["trace"]["trace"]["orchestrationTrace"]
    assert "nextToken" not in events
    assert listed == "COMPLETED"


def test_the_cli_tells_what_a_command_wants(environment: dict[str, str]) -> None:
    done = aws(environment, "start-turn", "--generate-cli-skeleton", "input")

    assert done.returncode == 0, done.stderr
    skeleton = json.loads(done.stdout)
    assert {"agentId", "agentAliasId", "sessionId", "inputText", "sessionState", "busySession"} <= set(skeleton)
