"""Python programs that only had two environment variables set: plain boto3, and the way LangChain calls agents."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from agents import CHECK, INSTRUCTION, RESERVE, ROLE, functions_group
from botocore.config import Config
from serving import Served

pytestmark = [pytest.mark.client, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _endpoints(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for door in ("BEDROCK_AGENT", "BEDROCK_AGENT_RUNTIME"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{door}", served.url)


def make(model: str, **group: Any) -> None:
    """An agent and an alias, both found by name later."""
    control = boto3.client("bedrock-agent")
    name = model.replace(".", "-")
    described = {"foundationModel": model, "instruction": INSTRUCTION, "agentResourceRoleArn": ROLE}
    agent = control.create_agent(agentName=name, **described)["agent"]["agentId"]
    control.create_agent_action_group(agentId=agent, agentVersion="DRAFT", **group)
    control.prepare_agent(agentId=agent)
    control.create_agent_alias(agentId=agent, agentAliasName="PROD")


def identify(name: str) -> dict[str, str]:
    """The ids of an agent and its alias, looked up page by page as scripts do."""
    control = boto3.client("bedrock-agent")
    pages = control.get_paginator("list_agents").paginate(PaginationConfig={"PageSize": 1})
    [agent] = [a["agentId"] for page in pages for a in page["agentSummaries"] if a["agentName"] == name]
    aliases = control.get_paginator("list_agent_aliases").paginate(agentId=agent)
    [alias] = [
        a["agentAliasId"] for page in aliases for a in page["agentAliasSummaries"] if a["agentAliasName"] == "PROD"
    ]
    return {"agentId": agent, "agentAliasId": alias}


def test_plain_boto3() -> None:
    make("test.boto3", **functions_group(CHECK))

    response = boto3.client("bedrock-agent-runtime").invoke_agent(
        **identify("test-boto3"), sessionId="session-789", inputText="Check inventory for SKU-55",
        enableTrace=True, endSession=False,
    )  # fmt: skip
    text, steps = "", []
    for event in response["completion"]:
        if "chunk" in event:
            text += event["chunk"]["bytes"].decode("utf-8")
        if "trace" in event:
            steps.append(event["trace"]["trace"]["orchestrationTrace"])

    assert text.startswith("There are 42 of SKU-55.")
    called = [step["invocationInput"]["actionGroupInvocationInput"] for step in steps if "invocationInput" in step]
    assert [(one["actionGroupName"], one["function"]) for one in called] == [("inventory", "check")]


def test_the_way_langchain_calls_an_agent() -> None:
    """A session, a client with time limits and retries, one call, and the answer read for text or for an action."""
    make("test.langchain", **functions_group(RESERVE, name="orders", control=True))
    config = Config(connect_timeout=120, read_timeout=120, retries={"max_attempts": 0})
    client = boto3.Session().client("bedrock-agent-runtime", config=config)
    ids, session = identify("test-langchain"), "f5c25ea2-8d1c-4e2c-9a8d-0e2a7c0b6b7e"

    def invoke(**members: Any) -> tuple[str, dict[str, Any] | None]:
        response = client.invoke_agent(**ids, sessionId=session, endSession=False, enableTrace=False, **members)
        text, control = "", None
        for event in response["completion"]:
            control = event.get("returnControl", control)
            text += event.get("chunk", {}).get("bytes", b"").decode()
        return text, control

    text, control = invoke(inputText="Reserve 5 of SKU-55", sessionState={"sessionAttributes": {"user": "ada"}})
    assert text == ""
    assert control is not None
    [asked] = [member["functionInvocationInput"] for member in control["invocationInputs"]]
    tool_input = {parameter["name"]: parameter["value"] for parameter in asked["parameters"]}
    assert tool_input == {"sku": "SKU-55", "quantity": "5"}

    result = {"actionGroup": asked["actionGroup"], "function": asked["function"]}
    result["responseBody"] = {"TEXT": {"body": "reservation R-1"}}
    state = {"invocationId": control["invocationId"], "returnControlInvocationResults": [{"functionResult": result}]}
    assert invoke(sessionState=state) == ("Five are reserved.", None)
