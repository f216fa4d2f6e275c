"""InvokeInlineAgent: the whole definition travels with the call; only the session is kept."""

from __future__ import annotations

import asyncio
from typing import Any

from outcrop.errors import NotImplementedException, ValidationException
from outcrop.ids import INLINE_AGENT, TEST_ALIAS_ID, SessionKey
from outcrop.operations.context import Context
from outcrop.operations.conversations import converse
from outcrop.operations.invocation import Invocation
from outcrop.operations.registry import Stream, operation
from outcrop.orchestration.definition import Definition, NotYetSupported, define, inline
from outcrop.tools.base import SchemaMistake
from outcrop.tools.bindings import ObjectUnreadable

_LARGE_SCHEMA_CHARS = 20_000
"""A longer schema takes long enough to read that every other turn would feel it."""


@operation("InvokeInlineAgent")
async def invoke_inline_agent(context: Context, ask: dict[str, Any]) -> Stream:
    """The stream of one turn of an agent that is defined by the call itself.

    Errors: ValidationException naming the member; ConflictException when the session is busy; NotImplementedException.
    Source: docs/behaviour/invoke-agent.md 9 (stated, observed, inferred: the page says which)
    """
    groups = [await _with_schema(context, group) for group in ask.get("actionGroups", ())]
    arn = context.arn(f"agent-alias/{INLINE_AGENT}/{TEST_ALIAS_ID}")
    if any(_schema_length(group) > _LARGE_SCHEMA_CHARS for group in groups):
        definition = await asyncio.to_thread(_definition, ask, groups, arn)
    else:
        definition = _definition(ask, groups, arn)
    name = ask.get("agentName", "")
    default_ttl = context.engine.config.turns.default_idle_session_ttl_s
    return await converse(
        Invocation(
            context=context,
            ask=ask,
            state=ask.get("inlineSessionState", {}),
            definition=definition,
            key=SessionKey(f"{context.account_id}/{INLINE_AGENT}/{name}/{ask['sessionId']}"),
            idle_ttl_s=ask.get("idleSessionTTLInSeconds", default_ttl),
        )
    )


def _schema_length(group: dict[str, Any]) -> int:
    return len(group.get("schemaText") or group.get("apiSchema", {}).get("payload") or "")


def _definition(ask: dict[str, Any], groups: list[dict[str, Any]], arn: str) -> Definition:
    try:
        return define(inline(ask, groups, arn))
    except NotYetSupported as error:
        raise NotImplementedException(f"InvokeInlineAgent does not implement {error} yet.") from error
    except SchemaMistake as error:
        raise ValidationException(str(error), fieldList=[{"name": "actionGroups", "message": str(error)}]) from error


async def _with_schema(context: Context, group: dict[str, Any]) -> dict[str, Any]:
    """The action group with its schema's text, where that lies in a bucket."""
    place = group.get("apiSchema", {}).get("s3")
    if place is None:
        return group
    try:
        text = await context.engine.bucket_object(place["s3BucketName"], place["s3ObjectKey"])
    except ObjectUnreadable as error:
        raise ValidationException(f"actionGroups: {error}") from error
    return {**group, "schemaText": text.decode(errors="replace")}
