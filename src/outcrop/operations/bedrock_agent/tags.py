"""TagResource, UntagResource and ListTagsForResource, and the tags that creating and deleting a resource moves.

A resource's tags are one document under its ARN. Sessions have tags at the runtime door, not here.
"""

from __future__ import annotations

import re

from outcrop.errors import ResourceNotFoundException, ServiceQuotaExceededException
from outcrop.operations.context import Context
from outcrop.operations.registry import Result, operation
from outcrop.operations.resource import invalid
from outcrop.storage.documents import DocumentTransaction, Record

MOST_TAGS = 50
"""Tags of one resource: docs/behaviour/control-plane.md 10 (inferred)."""

_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]+:[0-9]{12}:(?P<kind>[a-z-]+)/(?P<id>\S+)")
_ARN_MEMBER = {"agent": "agentArn", "agent-alias": "agentAliasArn"}
"""The kinds of resource that exist here, each with the member of its record that holds the ARN."""


def put_tags(docs: DocumentTransaction, arn: str, tags: dict[str, str]) -> None:
    """Set these tags on a resource beside those it has; the same key gets the new value.

    Errors: ServiceQuotaExceededException where it would have more than 50.
    Source: docs/behaviour/control-plane.md 10 (inferred)
    """
    merged = {**_tags(docs, arn), **tags}
    if len(merged) > MOST_TAGS:
        raise ServiceQuotaExceededException(f"A resource can have at most {MOST_TAGS} tags; {arn} would have more.")
    if merged:
        docs.put("tags", arn, {"tags": merged})


def drop_tags(docs: DocumentTransaction, arn: str) -> None:
    """Forget a deleted resource's tags."""
    docs.delete("tags", arn)


def _tags(docs: DocumentTransaction, arn: str) -> dict[str, str]:
    return (docs.get("tags", arn) or {"tags": {}})["tags"]


def _must_exist(docs: DocumentTransaction, arn: str) -> None:
    parts = _ARN.fullmatch(arn)
    if parts is None:
        raise invalid("resourceArn", f"Value '{arn}' at 'resourceArn' is not the ARN of a resource that has tags.")
    member = _ARN_MEMBER.get(parts["kind"])
    record = None if member is None else docs.get(parts["kind"], parts["id"])
    # The ARN is compared whole: another region's or account's resource of the same id is not this one.
    if member is None or record is None or record[member] != arn:
        raise ResourceNotFoundException


@operation("TagResource")
async def tag_resource(context: Context, ask: Record) -> Result:
    """Nothing; the resource has the tags from now on.

    Errors: ResourceNotFoundException; ServiceQuotaExceededException; ValidationException for a malformed ARN.
    Source: docs/behaviour/control-plane.md 10 (stated)
    """

    def work(docs: DocumentTransaction) -> Result:
        _must_exist(docs, ask["resourceArn"])
        put_tags(docs, ask["resourceArn"], ask["tags"])
        return {}

    return await context.documents.write(work)


@operation("UntagResource")
async def untag_resource(context: Context, ask: Record) -> Result:
    """Nothing; the resource lacks these tags from now on. A key that it lacks already is no error.

    Errors: ResourceNotFoundException; ValidationException for a malformed ARN.
    Source: docs/behaviour/control-plane.md 10 (stated)
    """

    def work(docs: DocumentTransaction) -> Result:
        arn: str = ask["resourceArn"]
        _must_exist(docs, arn)
        kept = {key: value for key, value in _tags(docs, arn).items() if key not in ask["tagKeys"]}
        if kept:
            docs.put("tags", arn, {"tags": kept})
        else:
            drop_tags(docs, arn)
        return {}

    return await context.documents.write(work)


@operation("ListTagsForResource")
async def list_tags_for_resource(context: Context, ask: Record) -> Result:
    """The resource's tags, an empty map where it has none.

    Errors: ResourceNotFoundException; ValidationException for a malformed ARN.
    Source: docs/behaviour/control-plane.md 10 (stated)
    """

    def work(docs: DocumentTransaction) -> Result:
        _must_exist(docs, ask["resourceArn"])
        return {"tags": _tags(docs, ask["resourceArn"])}

    return await context.documents.read(work)
