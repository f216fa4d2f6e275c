"""CreateAgent, GetAgent, UpdateAgent, DeleteAgent, ListAgents and PrepareAgent.

    CREATING -> NOT_PREPARED -> PREPARING -> PREPARED | FAILED
                     ^---- UpdateAgent, any change of an action group

Work that AWS does later is done when the call is answered: the answer names the passing
state, the next GetAgent the lasting one. A version is frozen by `agent_versions`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from outcrop.errors import ConflictException, ValidationException
from outcrop.ids import DRAFT, resource_id
from outcrop.operations import names, resource
from outcrop.operations.bedrock_agent import agent_versions
from outcrop.operations.bedrock_agent.tags import drop_tags, put_tags
from outcrop.operations.context import Context
from outcrop.operations.registry import Result, operation
from outcrop.storage.documents import DocumentTransaction, Record
from outcrop.tools.base import SchemaMistake
from outcrop.tools.toolbox import Toolbox

_SUMMARY = ("agentId", "agentName", "agentStatus", "description", "updatedAt", "guardrailConfiguration")
_UNSET: Record = {"orchestrationType": "DEFAULT", "agentCollaboration": "DISABLED", "idleSessionTTLInSeconds": 600}
"""What GetAgent says where nothing was said: docs/behaviour/control-plane.md 4 (observed; the 600 s inferred)."""

_FAILURE = ("failureReasons", "recommendedActions")
_NO_INSTRUCTION = "Exception: Agent Instruction cannot be null"
_NO_MODEL = "Exception: Agent Foundation Model cannot be null"


@operation("CreateAgent")
async def create_agent(context: Context, ask: Record) -> Result:
    """The new agent, being created.

    Errors: ConflictException where the name is taken; ValidationException; ServiceQuotaExceededException for tags.
    Source: docs/behaviour/control-plane.md 4 (stated)
    """
    _check(ask)
    now, agent_id = resource.stamp(context), resource_id()

    def work(docs: DocumentTransaction) -> Result:
        _must_be_free(docs, ask["agentName"], agent_id)
        agent = {
            **_UNSET,
            "agentResourceRoleArn": _role(context, agent_id),
            **resource.echo(ask, "tags"),
            "agentId": agent_id,
            "agentArn": context.arn(f"agent/{agent_id}"),
            "agentVersion": DRAFT,
            "agentStatus": "NOT_PREPARED",
            "createdAt": now,
            "updatedAt": now,
        }
        names.put_agent(docs, agent)
        put_tags(docs, agent["agentArn"], ask.get("tags") or {})
        return {"agent": {**agent, "agentStatus": "CREATING"}}

    return await resource.once(context, ask, work)


@operation("GetAgent")
async def get_agent(context: Context, ask: Record) -> Result:
    """The agent's draft.

    Errors: ResourceNotFoundException.
    Source: docs/behaviour/control-plane.md 4 (stated)
    """
    return {"agent": await context.documents.read(lambda docs: names.agent(docs, ask["agentId"]))}


@operation("UpdateAgent")
async def update_agent(context: Context, ask: Record) -> Result:
    """The agent, being updated: what the call leaves out is reset.

    Errors: ResourceNotFoundException; ConflictException where the new name is taken; ValidationException.
    Source: docs/behaviour/control-plane.md 2, 4 (stated)
    """
    _check(ask)
    now = resource.stamp(context)

    def work(docs: DocumentTransaction) -> Result:
        before = names.agent(docs, ask["agentId"])
        _must_be_free(docs, ask["agentName"], before["agentId"])
        kept = ("agentId", "agentArn", "agentVersion", "clientToken", "createdAt", "preparedAt")
        agent = {
            **_UNSET,
            **resource.echo(ask),
            **resource.only(before, kept),
            "agentStatus": "NOT_PREPARED",
            "updatedAt": now,
        }
        names.put_agent(docs, agent)
        return {"agent": {**agent, "agentStatus": "UPDATING"}}

    return await context.documents.write(work)


@operation("DeleteAgent")
async def delete_agent(context: Context, ask: Record) -> Result:
    """The agent, being deleted; it is gone at once, and its versions, aliases, action groups and tags with it.

    Errors: ResourceNotFoundException; ConflictException while it has aliases, unless skipResourceInUseCheck.
    Source: docs/behaviour/control-plane.md 4 (inferred what counts as in use)
    """

    def work(docs: DocumentTransaction) -> Result:
        agent = names.agent(docs, ask["agentId"])
        agent_id: str = agent["agentId"]
        aliases = docs.list("agent-alias", parent=agent_id)
        if aliases and not ask.get("skipResourceInUseCheck"):
            named = ", ".join(sorted(alias["agentAliasName"] for alias in aliases))
            raise ConflictException(f"Agent {agent['agentName']} can't be deleted while it has aliases: {named}.")
        for alias in aliases:
            drop_tags(docs, alias["agentAliasArn"])
            docs.delete("agent-alias", f"{agent_id}/{alias['agentAliasId']}")
        for frozen in docs.list("agent-version", parent=agent_id):
            docs.delete("agent-version", f"{agent_id}/{frozen['agentVersion']['version']}")
        for group in docs.list("action-group", parent=f"{agent_id}/{DRAFT}"):
            for kind in ("action-group", "schema-text"):
                docs.delete(kind, f"{agent_id}/{DRAFT}/{group['actionGroupId']}")
        docs.delete("version-numbers", agent_id)
        drop_tags(docs, agent["agentArn"])
        docs.delete("agent", agent_id)
        return {"agentId": agent_id, "agentStatus": "DELETING"}

    return await context.documents.write(work)


@operation("ListAgents")
async def list_agents(context: Context, ask: Record) -> Result:
    """The agents, most recently updated first.

    Errors: ValidationException for a wrong nextToken.
    Source: docs/behaviour/control-plane.md 3 (inferred order and page size)
    """

    def work(docs: DocumentTransaction) -> Result:
        rows = [(number, resource.only(agent, _SUMMARY)) for number, agent in docs.numbered("agent")]
        answer = resource.page("agent", ask, rows, "agentSummaries")
        for summary in answer["agentSummaries"]:
            summary["latestAgentVersion"] = agent_versions.latest(docs, summary["agentId"])
        return answer

    return await context.documents.read(work)


@operation("PrepareAgent")
async def prepare_agent(context: Context, ask: Record) -> Result:
    """The draft, being prepared; the next GetAgent says PREPARED, or FAILED with reasons.

    Errors: ResourceNotFoundException; ValidationException for a supervisor without collaborators.
    Source: docs/behaviour/control-plane.md 4 (observed: the instruction's reason and the supervisor's message)
    """
    now = resource.stamp(context)

    def look(docs: DocumentTransaction) -> Record:
        return agent_versions.snapshot(docs, names.agent(docs, ask["agentId"]), now)

    while True:
        seen = await context.documents.read(look)
        # Schemas are read outside the transaction: that takes long enough to hold up every writer.
        reasons = await asyncio.to_thread(_unpreparable, seen)

        def settle(docs: DocumentTransaction, seen: Record = seen, reasons: list[str] = reasons) -> Result | None:
            if look(docs) != seen:
                return None
            agent = names.agent(docs, ask["agentId"])
            settled = {**resource.echo(agent, *_FAILURE), "updatedAt": now}
            if reasons:
                failure = {"failureReasons": reasons, "recommendedActions": ["Mend the agent, then prepare it again."]}
                settled |= {"agentStatus": "FAILED", **failure}
            else:
                settled |= {"agentStatus": "PREPARED", "preparedAt": now}
                agent_versions.freeze(docs, seen)
            names.put_agent(docs, settled)
            answer = resource.only(agent, ("agentId", "agentVersion"))
            return {**answer, "agentStatus": "PREPARING", "preparedAt": now}

        answer = await context.documents.write(settle)
        if answer is not None:
            return answer


def edited(docs: DocumentTransaction, agent: Record, now: str) -> None:
    """Note that the draft differs from what was prepared.

    Source: docs/behaviour/control-plane.md 4 (stated)
    """
    names.put_agent(docs, {**resource.echo(agent, *_FAILURE), "agentStatus": "NOT_PREPARED", "updatedAt": now})


def _unpreparable(frozen: Record) -> list[str]:
    agent: Record = frozen["agentVersion"]
    collaboration = agent["agentCollaboration"]
    if collaboration != "DISABLED" and not frozen["agentCollaborators"]:
        raise ValidationException(
            f"This agent cannot be prepared. The AgentCollaboration attribute is set to {collaboration} "
            "but no agent collaborators are added."
        )
    groups: list[Record] = frozen["actionGroups"]
    reasons: list[str] = []
    if not agent.get("instruction"):
        reasons.append(_NO_INSTRUCTION)
    if not agent.get("foundationModel"):
        reasons.append(_NO_MODEL)
    try:
        Toolbox.of(groups, {group["actionGroupName"]: group["schemaText"] for group in groups if "schemaText" in group})
    except SchemaMistake as mistake:
        reasons.append(f"Exception: {mistake}")
    return reasons


def _role(context: Context, agent_id: str) -> str:
    """A role's ARN for an agent made without one: GetAgent owes one, and UpdateAgent wants it back."""
    return f"arn:aws:iam::{context.account_id}:role/AmazonBedrockExecutionRoleForAgents_{agent_id}"


def _must_be_free(docs: DocumentTransaction, name: str, agent_id: str) -> None:
    other = docs.named("agent", name)
    if other is not None and other["agentId"] != agent_id:
        raise ConflictException(f"Agent with name {name} already exists.")


def _check(ask: Record) -> None:
    """The rules between members, docs/behaviour/control-plane.md 4 and 4.1."""
    if ask.get("orchestrationType") == "CUSTOM_ORCHESTRATION" and not ask.get("customOrchestration", {}).get(
        "executor"
    ):
        raise resource.invalid(
            "customOrchestration",
            "customOrchestration.executor is required with orchestrationType CUSTOM_ORCHESTRATION.",
        )
    _check_prompts(ask.get("promptOverrideConfiguration") or {})


def _check_prompts(override: dict[str, Any]) -> None:
    stages: list[dict[str, Any]] = override.get("promptConfigurations") or []
    member = "promptOverrideConfiguration"
    for stage, times in Counter(stage["promptType"] for stage in stages if "promptType" in stage).items():
        if times > 1:
            raise resource.invalid(member, f"promptConfigurations holds {times} entries for promptType {stage}.")
    for stage in stages:
        if stage.get("promptCreationMode") == "OVERRIDDEN" and not stage.get("basePromptTemplate"):
            kind = stage.get("promptType")
            raise resource.invalid(
                member, f"basePromptTemplate is required for {kind}: its promptCreationMode is OVERRIDDEN."
            )
    parsed = [stage.get("promptType") for stage in stages if stage.get("parserMode") == "OVERRIDDEN"]
    if parsed and not override.get("overrideLambda"):
        raise resource.invalid(member, f"overrideLambda is required: the parserMode of {parsed[0]} is OVERRIDDEN.")
    if override.get("overrideLambda") and not parsed:
        raise resource.invalid(member, "overrideLambda is set, but no promptConfiguration has parserMode OVERRIDDEN.")
