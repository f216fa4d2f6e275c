"""Tool sets, tables of cases and a conversation driver for the offline model's tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.config import Binding
from outcrop.messages import Message, ToolSpec, text_of, tool_result, tool_results, tool_uses, user
from outcrop.models.base import ConverseRequest, Reply, fold
from outcrop.models.providers.offline import provider

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One line of a table: what the user says, and the calls, question or silence that should follow."""

    tools: str
    text: str
    wanted: str

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        if self.wanted == "none" or self.wanted.startswith("ask:"):
            return []
        parts = [part.strip().split(" ", 1) for part in self.wanted.split("&&")]
        return [(name, json.loads(given)) for name, given in parts]


def spec(
    name: str, description: str, parameters: dict[str, Any] | None = None, required: tuple[str, ...] = ()
) -> ToolSpec:
    schema = {"type": "object", "properties": parameters or {}, "required": list(required)}
    return {"name": name, "description": description, "inputSchema": {"json": schema}}


def read_tool_sets() -> dict[str, list[ToolSpec]]:
    found: dict[str, list[ToolSpec]] = {}
    for line in (HERE / "tool_sets.txt").read_text().splitlines():
        if line.startswith("["):
            found[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            name, description, listed = (part.strip() for part in line.split("|", 2))
            found[list(found)[-1]].append(_tool(name, description, listed))
    return found


def _tool(name: str, description: str, listed: str) -> ToolSpec:
    parameters: dict[str, Any] = {}
    required: list[str] = []
    for part in filter(None, (part.strip() for part in listed.split(" ; "))):
        match = re.match(r"(\w+)(!?):(\w+)(?:\{([^}]*)\})?:(.*)", part)
        assert match, part
        about: dict[str, Any] = {"type": match[3], "description": match[5]}
        if match[4]:
            about["enum"] = match[4].split(",")
        if match[3] == "array":
            about["items"] = {"type": "string"}
        parameters[match[1]] = about
        required += [match[1]] if match[2] else []
    return spec(name, description, parameters, tuple(required))


def read_cases(name: str) -> list[Case]:
    lines = (HERE / name).read_text().splitlines()
    return [Case(*(part.strip() for part in line.split("|", 2))) for line in lines if line and not line.startswith("#")]


class Talk:
    """A conversation with the offline model: say something, give results, read what it does."""

    def __init__(self, tools: list[ToolSpec], system: str = "You help.") -> None:
        self.tools = tools
        self.system = system
        self.messages: list[Message] = []

    async def say(self, text: str) -> Reply:
        self.messages.append(user(text))
        return await self._reply()

    async def results(self, *answers: Any) -> Reply:
        uses = tool_uses(self.messages[-1])
        assert len(uses) == len(answers), uses
        blocks = []
        for use, answer in zip(uses, answers, strict=True):
            text = answer if isinstance(answer, str) else json.dumps(answer)
            blocks.append(tool_result(use["toolUseId"], text))
        self.messages.append(tool_results(blocks))
        return await self._reply()

    async def fails(self, text: str) -> Reply:
        self.messages.append(
            tool_results([tool_result(use["toolUseId"], text, error=True) for use in tool_uses(self.messages[-1])])
        )
        return await self._reply()

    async def _reply(self) -> Reply:
        reply = await reply_to(self.messages, self.tools, self.system)
        self.messages.append(reply.message)
        return reply


async def reply_to(messages: list[Message], tools: list[ToolSpec], system: str = "") -> Reply:
    model = provider(Binding("*", {"provider": "offline"}))
    request = ConverseRequest("any", messages, system=system, tools=tools)
    return await fold(model.stream(request), request)


def calls_of(reply: Reply) -> list[tuple[str, dict[str, Any]]]:
    """The calls of a reply, by the last part of the tools' names."""
    return [(use["name"].split("__")[-1], use["input"]) for use in tool_uses(reply.message)]


def said(reply: Reply) -> str:
    return text_of(reply.message)


async def judge(case: Case, sets: dict[str, list[ToolSpec]]) -> str:
    """Empty where the model does what the case wants, else what it did."""
    reply = await reply_to([user(case.text)], sets[case.tools])
    calls = calls_of(reply)
    if calls != case.calls():
        return f"called {calls}; said {said(reply)}"
    if case.wanted.startswith("ask:"):
        wanted = [name.strip() for name in case.wanted.removeprefix("ask:").split(",")]
        text = said(reply)
        return "" if text.endswith("?") and all(f"the {name}" in text for name in wanted) else f"said {text}"
    return ""
