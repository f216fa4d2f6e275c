"""CreateAgentActionGroup, GetAgentActionGroup, UpdateAgentActionGroup, DeleteAgentActionGroup, ListAgentActionGroups.

Writes go to the draft (the service model lets no other version in); a version's groups are
read from its snapshot. A schema in a bucket is read when the group is written, and its text
is kept beside the record ("schema-text"), so the bucket may change or go.
"""

from __future__ import annotations

import asyncio

from outcrop.errors import ConflictException, ResourceNotFoundException, RoomError
from outcrop.ids import DRAFT, resource_id
from outcrop.operations import names, resource
from outcrop.operations.bedrock_agent import agent_versions, agents
from outcrop.operations.context import Context
from outcrop.operations.registry import Result, operation
from outcrop.storage.documents import DocumentTransaction, Record
from outcrop.tools import openapi
from outcrop.tools.base import SchemaMistake
from outcrop.tools.toolbox import Toolbox

_SUMMARY = ("actionGroupId", "actionGroupName", "actionGroupState", "description", "updatedAt")
_EXCLUDED_BY_SIGNATURE = ("description", "apiSchema", "functionSchema", "actionGroupExecutor")


@operation("CreateAgentActionGroup")
async def create_agent_action_group(context: Context, ask: Record) -> Result:
    """The new action group; its agent must be prepared again.

    Errors: ResourceNotFoundException; ConflictException where the name is taken; ValidationException, with the
            place in the schema where that is at fault.
    Source: docs/behaviour/action-groups.md 1 (stated)
    """
    first = await resource.answered(context, ask)
    if first is not None:
        return first
    await context.documents.read(lambda docs: names.agent_id(docs, ask["agentId"]))
    text = await _usable_schema(context, ask)
    now, group_id = resource.stamp(context), resource_id()

    def work(docs: DocumentTransaction) -> Result:
        agent = names.agent(docs, ask["agentId"])
        group = {
            **_content(ask),
            "agentId": agent["agentId"],
            "agentVersion": DRAFT,
            "actionGroupId": group_id,
            "createdAt": now,
            "updatedAt": now,
        }
        _write(docs, agent, group, text, now)
        return {"agentActionGroup": group}

    return await resource.once(context, ask, work)


@operation("GetAgentActionGroup")
async def get_agent_action_group(context: Context, ask: Record) -> Result:
    """The action group of the draft or of a version.

    Errors: ResourceNotFoundException.
    Source: docs/behaviour/action-groups.md 1 (stated)
    """

    def work(docs: DocumentTransaction) -> Result:
        for _, group in _groups(docs, names.agent_id(docs, ask["agentId"]), ask["agentVersion"]):
            if group["actionGroupId"] == ask["actionGroupId"]:
                return {"agentActionGroup": resource.echo(group, "schemaText")}
        raise ResourceNotFoundException

    return await context.documents.read(work)


@operation("UpdateAgentActionGroup")
async def update_agent_action_group(context: Context, ask: Record) -> Result:
    """The action group as it is now: what the call leaves out is reset. Its agent must be prepared again.

    Errors: as CreateAgentActionGroup.
    Source: docs/behaviour/action-groups.md 1 (stated)
    """
    await context.documents.read(lambda docs: _stored(docs, ask))
    text = await _usable_schema(context, ask)
    now = resource.stamp(context)

    def work(docs: DocumentTransaction) -> Result:
        agent, before = _stored(docs, ask)
        kept = ("agentId", "agentVersion", "actionGroupId", "clientToken", "createdAt")
        group = {**_content(ask), **resource.only(before, kept), "updatedAt": now}
        _write(docs, agent, group, text, now)
        return {"agentActionGroup": group}

    return await context.documents.write(work)


@operation("DeleteAgentActionGroup")
async def delete_agent_action_group(context: Context, ask: Record) -> Result:
    """Nothing; the action group is gone from the draft. Its agent must be prepared again.

    Errors: ResourceNotFoundException; ConflictException while it is ENABLED, unless skipResourceInUseCheck.
    Source: docs/behaviour/action-groups.md 1 (observed)
    """
    now = resource.stamp(context)

    def work(docs: DocumentTransaction) -> Result:
        agent, group = _stored(docs, ask)
        if group["actionGroupState"] == "ENABLED" and not ask.get("skipResourceInUseCheck"):
            raise ConflictException(
                f"ActionGroup {group['actionGroupName']} can't be deleted while it is ENABLED. "
                "Disable it first, or set skipResourceInUseCheck."
            )
        for kind in ("action-group", "schema-text"):
            docs.delete(kind, _id(group))
        agents.edited(docs, agent, now)
        return {}

    return await context.documents.write(work)


@operation("ListAgentActionGroups")
async def list_agent_action_groups(context: Context, ask: Record) -> Result:
    """The action groups of the draft or of a version, most recently updated first.

    Errors: ResourceNotFoundException; ValidationException for a wrong nextToken.
    Source: docs/behaviour/control-plane.md 3, 6 (stated; inferred order)
    """

    def work(docs: DocumentTransaction) -> Result:
        agent_id, version = names.agent_id(docs, ask["agentId"]), ask["agentVersion"]
        rows = [(number, resource.only(group, _SUMMARY)) for number, group in _groups(docs, agent_id, version)]
        return resource.page(f"action-group/{agent_id}/{version}", ask, rows, "actionGroupSummaries")

    return await context.documents.read(work)


def _id(group: Record) -> str:
    return f"{group['agentId']}/{DRAFT}/{group['actionGroupId']}"


def _groups(docs: DocumentTransaction, agent_id: str, version: str) -> list[tuple[int, Record]]:
    """The groups of the draft or of a version with falling numbers, as `resource.page` wants them."""
    if version == DRAFT:
        return list(docs.numbered("action-group", parent=f"{agent_id}/{DRAFT}"))
    groups = agent_versions.numbered_version(docs, agent_id, version)["actionGroups"]
    return [(len(groups) - place, group) for place, group in enumerate(groups)]


def _stored(docs: DocumentTransaction, ask: Record) -> tuple[Record, Record]:
    agent = names.agent(docs, ask["agentId"])
    group = docs.get("action-group", f"{agent['agentId']}/{DRAFT}/{ask['actionGroupId']}")
    if group is None:
        raise ResourceNotFoundException
    return agent, group


def _content(ask: Record) -> Record:
    """The members of the record that come from the caller; the signature has another name in answers."""
    content = {"actionGroupState": "ENABLED", **resource.echo(ask, "parentActionGroupSignature")}
    if ask.get("parentActionGroupSignature"):
        content["parentActionSignature"] = ask["parentActionGroupSignature"]
    return content


def _write(docs: DocumentTransaction, agent: Record, group: Record, text: str | None, now: str) -> None:
    parent = f"{agent['agentId']}/{DRAFT}"
    signature = group.get("parentActionSignature")
    for other in docs.list("action-group", parent=parent):
        if other["actionGroupId"] == group["actionGroupId"]:
            continue
        if other["actionGroupName"] == group["actionGroupName"]:
            raise ConflictException(f"ActionGroup with name {group['actionGroupName']} already exists.")
        if signature and other.get("parentActionSignature") == signature:
            raise ConflictException(f"ActionGroup {other['actionGroupName']} has the signature {signature} already.")
    docs.put("action-group", _id(group), group, parent=parent, name=group["actionGroupName"])
    if text is None:
        docs.delete("schema-text", _id(group))
    else:
        docs.put("schema-text", _id(group), {"payload": text}, parent=parent)
    agents.edited(docs, agent, now)


async def _usable_schema(context: Context, ask: Record) -> str | None:
    """Check what the group is made of; the text of its schema where that comes from a bucket."""
    _check(ask)
    if ask.get("parentActionGroupSignature"):
        return None
    api: Record = ask.get("apiSchema") or {}
    text = await _from_bucket(context, api["s3"]) if "s3" in api else None
    try:
        # In a thread: a large OpenAPI document takes long enough to be felt by every turn.
        if api:
            document: str = api["payload"] if text is None else text
            await asyncio.to_thread(openapi.check, document, ask["actionGroupName"])
        else:
            await asyncio.to_thread(Toolbox.of, [{**_content(ask), "actionGroupState": "ENABLED"}])
    except SchemaMistake as mistake:
        raise resource.invalid("apiSchema" if api else "functionSchema", str(mistake)) from mistake
    return text


def _check(ask: Record) -> None:
    """The rules between members, docs/behaviour/action-groups.md 1."""
    signature = ask.get("parentActionGroupSignature")
    if signature:
        for member in _EXCLUDED_BY_SIGNATURE:
            if ask.get(member):
                raise resource.invalid(member, f"{member} must be empty with parentActionGroupSignature {signature}.")
        return
    if bool(ask.get("apiSchema")) == bool(ask.get("functionSchema")):
        raise resource.invalid("apiSchema", "Give exactly one of apiSchema and functionSchema.")
    if not ask.get("actionGroupExecutor"):
        raise resource.invalid(
            "actionGroupExecutor", "actionGroupExecutor is required without a parentActionGroupSignature."
        )
    if ask.get("parentActionGroupSignatureParams"):
        raise resource.invalid(
            "parentActionGroupSignatureParams", "parentActionGroupSignatureParams needs a parentActionGroupSignature."
        )


async def _from_bucket(context: Context, place: dict[str, str]) -> str:
    """The text of a schema in a bucket."""
    bucket, key = place.get("s3BucketName"), place.get("s3ObjectKey")
    if not bucket or not key:
        raise resource.invalid("apiSchema", "apiSchema.s3 needs both s3BucketName and s3ObjectKey.")
    where = f"s3://{bucket}/{key}"
    try:
        body: bytes = await context.engine.bucket_object(bucket, key)
        return body.decode("utf-8-sig")
    except RoomError as error:
        raise resource.invalid("apiSchema", f"The schema {where} can't be read: {error}") from error
    except UnicodeDecodeError as error:
        raise resource.invalid("apiSchema", f"The schema {where} is not text in UTF-8.") from error
