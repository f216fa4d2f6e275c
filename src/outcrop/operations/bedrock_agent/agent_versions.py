"""GetAgentVersion, ListAgentVersions and DeleteAgentVersion, and the cutting of versions.

    draft (agent, action-group documents)
      |  PrepareAgent: freeze
    agent-version A/DRAFT          what TSTALIASID serves; written over by the next PrepareAgent
      |  an alias without routing: cut
    agent-version A/1, A/2, ...    never changed; a number is never given twice

A snapshot's agentVersion also keeps orchestrationType and customOrchestration, which a turn
needs and GetAgentVersion has no members for; they are left out of answers.
"""

from __future__ import annotations

from outcrop.errors import ConflictException, ResourceNotFoundException
from outcrop.ids import DRAFT
from outcrop.operations import names, resource
from outcrop.operations.context import Context
from outcrop.operations.registry import Result, operation
from outcrop.storage.documents import DocumentTransaction, Record

_DRAFT_ONLY = ("agentVersion", "clientToken", "preparedAt", "failureReasons", "recommendedActions")
_SNAPSHOT_ONLY = ("orchestrationType", "customOrchestration")
_SUMMARY = (
    "agentName",
    "agentStatus",
    "agentVersion",
    "createdAt",
    "updatedAt",
    "description",
    "guardrailConfiguration",
)


def snapshot(docs: DocumentTransaction, agent: Record, now: str) -> Record:
    """The draft as PrepareAgent freezes it; nothing is written.

    Shapes: {"agentVersion", "actionGroups" (each with `schemaText` where its schema came from a bucket),
            "agentKnowledgeBases", "agentCollaborators"}.
    """
    version = {**resource.echo(agent, *_DRAFT_ONLY), "version": DRAFT, "agentStatus": "PREPARED", "updatedAt": now}
    groups: list[Record] = []
    for group in docs.list("action-group", parent=f"{agent['agentId']}/{DRAFT}"):
        text = docs.get("schema-text", f"{agent['agentId']}/{DRAFT}/{group['actionGroupId']}")
        groups.append(group if text is None else {**group, "schemaText": text["payload"]})
    return {"agentVersion": version, "actionGroups": groups, "agentKnowledgeBases": [], "agentCollaborators": []}


def freeze(docs: DocumentTransaction, frozen: Record) -> None:
    """Write a snapshot under its version, which is DRAFT or a new number."""
    version: Record = frozen["agentVersion"]
    docs.put(
        "agent-version", f"{version['agentId']}/{version['version']}", frozen,
        parent=version["agentId"], name=version["version"],
    )  # fmt: skip


def cut(docs: DocumentTransaction, agent_id: str, now: str) -> str:
    """Copy the prepared draft into a new version and give its number.

    Source: docs/behaviour/control-plane.md 5 (stated)
    """
    frozen = docs.get("agent-version", f"{agent_id}/{DRAFT}")
    assert frozen is not None, "a prepared agent has a frozen draft"
    numbers = docs.get("version-numbers", agent_id) or {"issued": 0, "latest": 0}
    number = str(numbers["issued"] + 1)
    frozen["agentVersion"] |= {"version": number, "createdAt": now, "updatedAt": now}
    for group in frozen["actionGroups"]:
        group["agentVersion"] = number
    freeze(docs, frozen)
    docs.put("version-numbers", agent_id, {"issued": int(number), "latest": int(number)})
    return number


def latest(docs: DocumentTransaction, agent_id: str) -> str:
    """The greatest number of a version that exists, DRAFT where none does."""
    return str((docs.get("version-numbers", agent_id) or {"latest": 0})["latest"] or DRAFT)


def numbered_version(docs: DocumentTransaction, agent_id: str, version: str) -> Record:
    """The snapshot of an immutable version.

    Errors: ResourceNotFoundException where the agent has no such version.
    """
    frozen = docs.get("agent-version", f"{agent_id}/{version}") if version != DRAFT else None
    if frozen is None:
        raise ResourceNotFoundException
    return frozen


@operation("GetAgentVersion")
async def get_agent_version(context: Context, ask: Record) -> Result:
    """The agent as it was when the version was cut.

    Errors: ResourceNotFoundException.
    Source: docs/behaviour/control-plane.md 5 (stated)
    """

    def work(docs: DocumentTransaction) -> Result:
        frozen = numbered_version(docs, names.agent_id(docs, ask["agentId"]), ask["agentVersion"])
        return {"agentVersion": resource.echo(frozen["agentVersion"], *_SNAPSHOT_ONLY)}

    return await context.documents.read(work)


@operation("ListAgentVersions")
async def list_agent_versions(context: Context, ask: Record) -> Result:
    """The versions, newest first, then the draft.

    Errors: ResourceNotFoundException; ValidationException for a wrong nextToken.
    Source: docs/behaviour/control-plane.md 5 (inferred that the draft is listed, and where)
    """

    def work(docs: DocumentTransaction) -> Result:
        draft = names.agent(docs, ask["agentId"])
        rows: list[tuple[int, Record]] = []
        for number, frozen in docs.numbered("agent-version", parent=draft["agentId"]):
            version = frozen["agentVersion"]
            if version["version"] != DRAFT:
                rows.append((number, resource.only({**version, "agentVersion": version["version"]}, _SUMMARY)))
        rows.append((0, resource.only(draft, _SUMMARY)))
        return resource.page(f"agent-version/{draft['agentId']}", ask, rows, "agentVersionSummaries")

    return await context.documents.read(work)


@operation("DeleteAgentVersion")
async def delete_agent_version(context: Context, ask: Record) -> Result:
    """The version, being deleted; it is gone at once and its number is not given again.

    Errors: ResourceNotFoundException; ConflictException where an alias serves it, unless skipResourceInUseCheck:
            then those aliases are DISSOCIATED.
    Source: docs/behaviour/control-plane.md 5 (stated; inferred for the aliases)
    """
    now = resource.stamp(context)

    def work(docs: DocumentTransaction) -> Result:
        agent_id, version = names.agent_id(docs, ask["agentId"]), ask["agentVersion"]
        numbered_version(docs, agent_id, version)
        serving = [
            alias
            for alias in docs.list("agent-alias", parent=agent_id)
            if any(route.get("agentVersion") == version for route in alias["routingConfiguration"])
        ]
        if serving and not ask.get("skipResourceInUseCheck"):
            aliases = ", ".join(sorted(alias["agentAliasName"] for alias in serving))
            raise ConflictException(f"Version {version} can't be deleted while an alias routes to it: {aliases}.")
        for alias in serving:
            names.put_alias(docs, {**alias, "agentAliasStatus": "DISSOCIATED", "updatedAt": now})
        docs.delete("agent-version", f"{agent_id}/{version}")
        _renumber(docs, agent_id)
        return {"agentId": agent_id, "agentVersion": version, "agentStatus": "DELETING"}

    return await context.documents.write(work)


def _renumber(docs: DocumentTransaction, agent_id: str) -> None:
    versions = (frozen["agentVersion"]["version"] for frozen in docs.list("agent-version", parent=agent_id))
    numbers = docs.get("version-numbers", agent_id)
    assert numbers is not None, "an agent that had a version has a count of them"
    left = max((int(version) for version in versions if version != DRAFT), default=0)
    docs.put("version-numbers", agent_id, {**numbers, "latest": left})
