"""Our own API through unmodified clients: boto3 with a session made for it, the AWS CLI told where the model is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
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


def test_boto3_reaches_every_operation(served: Served) -> None:
    client = served.client("outcrop")
    given: dict[str, Any] = {
        "agentId": "AX123", "agentAliasId": "PROD", "sessionId": "s-1", "turnId": "0190", "targetId": "ABCDEFGHIJ",
        "noticeId": "n-1", "name": "me", "kind": "WEBHOOK", "webhook": {"url": "https://example.com"},
    }  # fmt: skip
    for name in client.meta.service_model.operation_names:
        members = client.meta.service_model.operation_model(name).input_shape.members
        call = {member: value for member, value in given.items() if member in members}

        with pytest.raises(ClientError) as raised:
            client._make_api_call(name, call)

        assert raised.value.response["Error"] == {
            "Code": "NotImplementedException",
            "Message": f"{name} of outcrop is not implemented.",
        }


def test_the_cli_offers_every_operation(environment: dict[str, str], served: Served) -> None:
    client = served.client("outcrop")

    done = aws(environment, "nothing-like-this")

    assert done.returncode in (2, 252)
    offered = done.stderr.replace("_", "-").split()
    for method in client.meta.method_to_api_mapping:
        assert method.replace("_", "-") in offered
    assert "wait" in offered


def test_the_cli_reaches_the_server(environment: dict[str, str]) -> None:
    at = ["--agent-id", "AX123", "--agent-alias-id", "PROD", "--session-id", "s-1"]
    state = json.dumps({"sessionAttributes": {"user": "ada"}})

    done = aws(environment, "start-turn", *at, "--input-text", "Check SKU-55", "--session-state", state)

    assert done.returncode in (254, 255)
    assert "(NotImplementedException) when calling the StartTurn operation" in done.stderr


def test_the_cli_tells_what_a_command_wants(environment: dict[str, str]) -> None:
    done = aws(environment, "start-turn", "--generate-cli-skeleton", "input")

    assert done.returncode == 0, done.stderr
    skeleton = json.loads(done.stdout)
    assert {"agentId", "agentAliasId", "sessionId", "inputText", "sessionState", "busySession"} <= set(skeleton)
