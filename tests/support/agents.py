"""Agents as a user makes them, with boto3 against a server in this process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel

INSTRUCTION = "You answer questions about the stock of a warehouse, with the tools that you have."
ROLE = "arn:aws:iam::123456789012:role/agent"
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:inventory"
CHECK = {
    "name": "check",
    "description": "How many units of a product are in stock.",
    "parameters": {"sku": {"type": "string", "description": "the product's SKU", "required": True}},
}
RESERVE = {
    "name": "reserve",
    "description": "Reserve units of a product.",
    "parameters": {
        "sku": {"type": "string", "required": True},
        "quantity": {"type": "integer", "required": True},
    },
}


@dataclass
class Answer:
    """Everything one stream brought."""

    text: str = ""
    chunks: list[str] = field(default_factory=list)
    frames: list[tuple[str, Any]] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)
    control: dict[str, Any] | None = None
    response: dict[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> list[str]:
        """The stream in the notation of the canonical sequences."""
        return [short(name, member) for name, member in self.frames]

    @property
    def request_id(self) -> str:
        return self.response["ResponseMetadata"]["RequestId"]


def short(name: str, member: Any) -> str:
    """One frame: `o.in(0)`, `o.obs FINISH(1)`, `chunk`, ..."""
    if name != "trace":
        return name
    [(stage, part)] = member["trace"].items()
    if stage == "failureTrace":
        return "failure"
    assert stage == "orchestrationTrace"
    [(kind, body)] = part.items()
    number = body["traceId"].rpartition("-")[2]
    names = {"modelInvocationInput": "o.in", "modelInvocationOutput": "o.out", "rationale": "o.rat"}
    if kind in names:
        return f"{names[kind]}({number})"
    if kind == "invocationInput":
        return f"o.inv {body['invocationType']}({number})"
    return f"o.obs {body['type']}({number})"


def collect(response: dict[str, Any]) -> Answer:
    """Read a stream to its end; an exception frame is raised as boto3 raises it, with what came before on `.answer`."""
    answer = Answer(response=response)
    try:
        for event in response["completion"]:
            [(name, member)] = event.items()
            answer.frames.append((name, member))
            if name == "chunk":
                answer.chunks.append(member["bytes"].decode())
            elif name == "trace":
                answer.traces.append(member)
            elif name == "returnControl":
                answer.control = member
    except Exception as error:
        error.answer = answer
        raise
    finally:
        response["completion"].close()
    answer.text = "".join(answer.chunks)
    return answer


class World:
    """A server with one way to make an agent and one to ask it."""

    def __init__(self, server: LocalServer, model: ScriptedModel, functions: RecordedFunctions) -> None:
        self.server, self.model, self.functions = server, model, functions
        self.control = server.client("bedrock-agent")
        self.runtime = server.client("bedrock-agent-runtime")

    def agent(self, *groups: dict[str, Any], name: str = "stock", **members: Any) -> tuple[str, str]:
        """A prepared agent with an alias: their ids."""
        made = {"agentName": name, "foundationModel": "anthropic.claude-3-haiku", "instruction": INSTRUCTION}
        agent = self.control.create_agent(**{**made, "agentResourceRoleArn": ROLE, **members})["agent"]["agentId"]
        for number, group in enumerate(groups):
            named = {"actionGroupName": f"group{number}", **group}
            self.control.create_agent_action_group(agentId=agent, agentVersion="DRAFT", **named)
        self.control.prepare_agent(agentId=agent)
        alias = self.control.create_agent_alias(agentId=agent, agentAliasName="PROD")["agentAlias"]["agentAliasId"]
        return agent, alias

    def ask(
        self, ids: tuple[str, str], text: str | None = None, *, session: str = "session-1", **members: Any
    ) -> Answer:
        """One InvokeAgent call with traces on, read to its end."""
        given = {"enableTrace": True, **members}
        if text is not None:
            given["inputText"] = text
        return collect(self.runtime.invoke_agent(agentId=ids[0], agentAliasId=ids[1], sessionId=session, **given))


def functions_group(*functions: dict[str, Any], name: str = "inventory", control: bool = False) -> dict[str, Any]:
    executor = {"customControl": "RETURN_CONTROL"} if control else {"lambda": LAMBDA}
    return {
        "actionGroupName": name,
        "actionGroupExecutor": executor,
        "functionSchema": {"functions": list(functions)},
    }
