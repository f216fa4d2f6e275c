"""A frozen agent version: everything a turn runs on. Stored agents and inline agents both become one.

It is built from plain AWS-shaped dicts and keeps them, so that it can be journalled with the
turn and rebuilt years later, whatever became of the agent meanwhile.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from outcrop.errors import RoomError
from outcrop.ids import INLINE_AGENT, TEST_ALIAS_ID
from outcrop.models.base import InferenceConfig
from outcrop.sessions.entries import Kept
from outcrop.tools.toolbox import Toolbox

DEFAULT_INFERENCE: Mapping[str, Any] = {
    "maximumLength": 2048,
    "stopSequences": [],
    "temperature": 0.0,
    "topK": 250,
    "topP": 1.0,
}
"""What the orchestration stage runs with where the agent overrides nothing, in the trace's names."""


_PLACEHOLDER = re.compile(r"\$[a-z_]+\$")
_STAGES_TO_COME = ("PRE_PROCESSING", "POST_PROCESSING")


class NotYetSupported(RoomError):
    """The agent is configured with something that this release cannot honour; it is never silently ignored."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the agent is.

    Shapes: inline agents have the id INLINE_AGENT, the alias TSTALIASID and an empty version.
    """

    agent_id: str
    alias_id: str
    version: str
    name: str
    alias_arn: str

    @property
    def is_inline(self) -> bool:
        """Whether the agent has no stored resource."""
        return self.agent_id == INLINE_AGENT


@dataclass(frozen=True, slots=True)
class Definition:
    """Everything a turn runs on."""

    kept: Kept
    identity: Identity
    foundation_model: str
    instruction: str
    template: str
    toolbox: Toolbox
    inference: InferenceConfig
    shown_inference: Mapping[str, Any]
    overrides_inference: bool
    additional_fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    strategy: str = "react"
    idle_ttl_s: int = 0
    """Seconds; 0 where the agent sets none."""


class Definitions:
    """The definitions in use, built once per stored version; the least recently used go first."""

    def __init__(self, most: int = 256) -> None:
        """Keep at most that many."""
        self._most = most
        self._known: OrderedDict[Hashable, Definition] = OrderedDict()

    def get(self, key: Hashable) -> Definition | None:
        """The definition of a version at a revision, where it was built before."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def keep(self, key: Hashable, definition: Definition) -> Definition:
        """The same definition, kept for the next call."""
        self._known[key] = definition
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return definition


def define(record: Mapping[str, Any]) -> Definition:
    """A definition from its journalled record.

    Shapes: record is {"identity": {...}, "agent": agentVersion-shaped dict, "actionGroups": [agentActionGroup, ...]};
            a group whose schema lies in a bucket carries its text as "schemaText".
    Errors: NotYetSupported; SchemaMistake where an action group cannot be read.
    """
    agent: Mapping[str, Any] = record["agent"]
    _refuse_what_is_missing(agent)
    stage = _orchestration_stage(agent)
    # With DEFAULT, clients send back the defaults that they read; those count for nothing.
    override: Mapping[str, Any] = stage if stage.get("promptCreationMode") == "OVERRIDDEN" else {}
    sampling: Mapping[str, Any] = override.get("inferenceConfiguration", {})
    bare = stage.get("promptState", "ENABLED") == "DISABLED"
    _refuse_words_in_messages(override.get("basePromptTemplate", ""))
    return Definition(
        kept=Kept.of(record),
        identity=Identity(**record["identity"]),
        foundation_model=override.get("foundationModel") or agent.get("foundationModel", ""),
        instruction="" if bare else agent.get("instruction", ""),
        template=override.get("basePromptTemplate", ""),
        toolbox=_toolbox(() if bare else record["actionGroups"]),
        inference=_inference(sampling),
        shown_inference={**DEFAULT_INFERENCE, **sampling},
        overrides_inference=bool(sampling),
        additional_fields=override.get("additionalModelRequestFields") or {},
        idle_ttl_s=agent.get("idleSessionTTLInSeconds", 0),
    )


def stored(version: Mapping[str, Any], alias_id: str, alias_arn: str) -> dict[str, Any]:
    """The record of a stored agent's version.

    Shapes: version is the document {"agentVersion", "actionGroups", ...} that PrepareAgent and aliases cut.
    Errors: NotYetSupported when it has knowledge bases.
    """
    agent: Mapping[str, Any] = version["agentVersion"]
    identity = {
        "agent_id": agent["agentId"],
        "alias_id": alias_id,
        "version": agent["version"],
        "name": agent["agentName"],
        "alias_arn": alias_arn,
    }
    if version.get("agentKnowledgeBases"):
        raise NotYetSupported("knowledge bases")
    return {"identity": identity, "agent": agent, "actionGroups": version["actionGroups"]}


def inline(ask: Mapping[str, Any], action_groups: Sequence[Mapping[str, Any]], alias_arn: str) -> dict[str, Any]:
    """The record of an inline agent.

    Shapes: ask is InvokeInlineAgent's input; action_groups are its groups with schemas read from buckets.
    Errors: NotYetSupported when it asks for knowledge bases or collaborators.
    """
    for member in ("knowledgeBases", "collaborators", "collaboratorConfigurations"):
        if ask.get(member):
            raise NotYetSupported(member)
    name = ask.get("agentName", "")
    identity = {
        "agent_id": INLINE_AGENT,
        "alias_id": TEST_ALIAS_ID,
        "version": "",
        "name": name or INLINE_AGENT,
        "alias_arn": alias_arn,
    }
    kept = (
        "foundationModel",
        "instruction",
        "guardrailConfiguration",
        "promptOverrideConfiguration",
        "orchestrationType",
        "customOrchestration",
        "agentCollaboration",
    )
    agent = {member: ask[member] for member in kept if member in ask}
    return {"identity": identity, "agent": agent, "actionGroups": list(action_groups)}


def _refuse_what_is_missing(agent: Mapping[str, Any]) -> None:
    """A guardrail or an orchestration that is configured and not applied would be worse than an error."""
    if agent.get("guardrailConfiguration"):
        raise NotYetSupported("guardrailConfiguration")
    if agent.get("orchestrationType", "DEFAULT") != "DEFAULT":
        raise NotYetSupported("orchestrationType CUSTOM_ORCHESTRATION")
    if agent.get("agentCollaboration", "DISABLED") != "DISABLED":
        raise NotYetSupported("agentCollaboration")
    for config in _stages(agent):
        disabled = config.get("promptState", "ENABLED") == "DISABLED"
        if config.get("promptType") in _STAGES_TO_COME and not disabled:
            raise NotYetSupported(f"stage {config['promptType']}")
        if config.get("parserMode") == "OVERRIDDEN" and not disabled:
            raise NotYetSupported("a parser Lambda (overrideLambda)")


def _refuse_words_in_messages(template: str) -> None:
    """Conversation and tool calls travel natively, so a template's messages may say nothing of their own.

    What is no JSON is told when the template is filled.
    """
    try:
        body: Any = orjson.loads(template)
    except orjson.JSONDecodeError:
        return
    messages: Any = cast(dict[str, Any], body).get("messages") if isinstance(body, dict) else None
    if _PLACEHOLDER.sub("", " ".join(_texts(messages))).strip():
        raise NotYetSupported("an ORCHESTRATION template whose messages hold text beside placeholders")


def _texts(value: Any) -> list[str]:
    """Every text of a template's messages: strings under "content" and "text"."""
    match value:
        case str():
            return [value]
        case list():
            return [text for item in cast(list[Any], value) for text in _texts(item)]
        case dict():
            given = cast(dict[str, Any], value)
            return _texts(given.get("content")) + _texts(given.get("text"))
        case _:
            return []


def _stages(agent: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return agent.get("promptOverrideConfiguration", {}).get("promptConfigurations", ())


def _orchestration_stage(agent: Mapping[str, Any]) -> Mapping[str, Any]:
    for config in _stages(agent):
        if config.get("promptType") == "ORCHESTRATION":
            return config
    return {}


def _toolbox(groups: Sequence[Mapping[str, Any]]) -> Toolbox:
    read = {group["actionGroupName"]: group["schemaText"] for group in groups if "schemaText" in group}
    return Toolbox.of(groups, read)


def _inference(override: Mapping[str, Any]) -> InferenceConfig:
    """What is sent to the model: neutral defaults (topP 1, no stop sequences) are left to the provider."""
    config = InferenceConfig(maxTokens=DEFAULT_INFERENCE["maximumLength"], temperature=0.0)
    if "maximumLength" in override:
        config["maxTokens"] = override["maximumLength"]
    if "temperature" in override:
        config["temperature"] = override["temperature"]
    if "topP" in override:
        config["topP"] = override["topP"]
    if "topK" in override:
        config["topK"] = override["topK"]
    if override.get("stopSequences"):
        config["stopSequences"] = override["stopSequences"]
    return config
