"""CreateNotificationTarget, GetNotificationTarget, UpdateNotificationTarget, DeleteNotificationTarget, lists, redrive.

Targets are documents of the caller's account; deliveries are the jobs that take notices to them.
"""

from __future__ import annotations

import base64
from contextlib import suppress

from outcrop.clock import iso
from outcrop.config import ConfigMistake
from outcrop.errors import (
    ConflictException,
    InternalServerException,
    ResourceNotFoundException,
    ServiceQuotaExceededException,
)
from outcrop.ids import resource_id
from outcrop.jobs.base import JobStatus, JobsUnavailable, Place, State
from outcrop.notifications import audience, records
from outcrop.notifications.base import KINDS, event_name
from outcrop.notifications.signing import SecretMistake, new_secret, secret_in
from outcrop.operations import resource
from outcrop.operations.context import Context
from outcrop.operations.registry import Result, operation
from outcrop.operations.resource import invalid
from outcrop.orchestration.announcing import NOTIFICATION, PRIVATE_SETTING, job_key
from outcrop.storage.documents import DocumentTransaction, Record

_MOST_TARGETS = 100
"""Of one account: every turn that is announced looks through all of them."""
_MOST_LISTED = 100
_EVENTS = [event_name(kind) for kind in KINDS]
_STATES: dict[str, tuple[State, ...]] = {"PENDING": ("queued", "running"), "DELIVERED": ("done",), "DEAD": ("dead",)}
_STATUSES: dict[State, str] = {state: status for status, states in _STATES.items() for state in states}
_SAID = ("Again", "GiveUp", "WorkerLost")
"""Failed attempts that say in their own words what went wrong; others are mistakes of ours, and the log's."""
_FAILED_HERE = "The server failed; its log says how."


@operation("CreateNotificationTarget")
async def create_notification_target(context: Context, ask: Record) -> Result:
    """The new target, with the secret that its notices are signed with.

    Errors: ConflictException where the name is taken; ServiceQuotaExceededException; ValidationException naming the
            member.
    """
    now = resource.stamp(context)
    target: Record = {
        **_said(ask),
        "targetId": resource_id(),
        "accountId": context.account_id,
        "kind": ask["kind"],
        "createdAt": now,
        "updatedAt": now,
    }
    webhook = target.get("webhook")
    if webhook is not None and not webhook.get("secret") and not webhook.get("secretEnv"):
        target["webhook"] = {**webhook, "secret": new_secret()}
    _check(context, target)

    def work(docs: DocumentTransaction) -> Result:
        _must_be_free(docs, target)
        if len(_of_account(docs, context.account_id)) >= _MOST_TARGETS:
            raise ServiceQuotaExceededException(f"An account has at most {_MOST_TARGETS} notification targets.")
        audience.put(docs, target)
        return _with_secret(target)

    answer = await resource.once(context, ask, work)
    context.engine.audience.changed()
    return answer


@operation("GetNotificationTarget")
async def get_notification_target(context: Context, ask: Record) -> Result:
    """The target, without its secrets.

    Errors: ResourceNotFoundException.
    """
    return records.shown(await context.documents.read(lambda docs: _target(docs, context, ask)))


@operation("UpdateNotificationTarget")
async def update_notification_target(context: Context, ask: Record) -> Result:
    """The target as it is from now on: what the call leaves out is reset, except the secret.

    Errors: ResourceNotFoundException; ConflictException where the new name is taken; ValidationException naming the
            member.
    """
    now = resource.stamp(context)

    def work(docs: DocumentTransaction) -> Result:
        before = _target(docs, context, ask)
        kept = resource.only(before, ("targetId", "accountId", "kind", "createdAt"))
        target: Record = {**_said(ask), **kept, "updatedAt": now}
        webhook = target.get("webhook")
        if webhook is not None and not webhook.get("secret") and not webhook.get("secretEnv"):
            target["webhook"] = {**webhook, **resource.only(before.get("webhook", {}), ("secret", "secretEnv"))}
        _check(context, target)
        _must_be_free(docs, target)
        audience.put(docs, target)
        return records.shown(target)

    answer = await context.documents.write(work)
    context.engine.audience.changed()
    return answer


@operation("DeleteNotificationTarget")
async def delete_notification_target(context: Context, ask: Record) -> Result:
    """Nothing; the target is gone, and with it what was not delivered yet.

    Errors: ResourceNotFoundException; InternalServerException.
    """

    def work(docs: DocumentTransaction) -> None:
        docs.delete(audience.KIND, _target(docs, context, ask)["targetId"])

    await context.documents.write(work)
    context.engine.audience.changed()
    with suppress(JobsUnavailable):  # a job whose target is gone has nothing to do
        await context.engine.jobs.drop(NOTIFICATION, ask["targetId"])
    return {}


@operation("ListNotificationTargets")
async def list_notification_targets(context: Context, ask: Record) -> Result:
    """The targets of the caller's account, most recently changed first.

    Errors: ValidationException for a wrong nextToken.
    """

    def work(docs: DocumentTransaction) -> Result:
        rows = [(number, records.shown(target)) for number, target in _of_account(docs, context.account_id)]
        size = ask.get("maxResults") or _MOST_LISTED
        return resource.page("notification-target", {**ask, "maxResults": size}, rows, "notificationTargets")

    return await context.documents.read(work)


@operation("ListNotificationDeliveries")
async def list_notification_deliveries(context: Context, ask: Record) -> Result:
    """The deliveries to a target, newest first.

    Errors: ResourceNotFoundException; ValidationException for a wrong nextToken; InternalServerException.
    """
    target = await context.documents.read(lambda docs: _target(docs, context, ask))
    target_id, size = target["targetId"], ask.get("maxResults") or _MOST_LISTED
    states = _STATES[ask["status"]] if ask.get("status") else tuple(_STATUSES)
    scope = f"deliveries/{target_id}/{ask.get('status', '')}"
    after = _place(scope, ask["nextToken"]) if ask.get("nextToken") else None
    try:
        found = await context.engine.jobs.listed(NOTIFICATION, target_id, states, after=after, limit=size + 1)
    except JobsUnavailable as error:
        raise _away() from error
    result: Result = {"deliveries": [_delivery(job) for job in found[:size]]}
    if len(found) > size:
        result["nextToken"] = _token(scope, found[size - 1])
    return result


@operation("RedriveNotificationDelivery")
async def redrive_notification_delivery(context: Context, ask: Record) -> Result:
    """The delivery, which is pending again.

    Errors: ResourceNotFoundException; ConflictException where it is not dead; InternalServerException.
    """
    target = await context.documents.read(lambda docs: _target(docs, context, ask))
    key, jobs = job_key(target["targetId"], ask["noticeId"]), context.engine.jobs
    try:
        job = await jobs.find(NOTIFICATION, key)
        if job is None or job.state not in _STATUSES:
            raise ResourceNotFoundException(f"The target has no delivery {ask['noticeId']}.")
        if job.state != "dead" or not await jobs.redrive(NOTIFICATION, key):
            raise ConflictException(f"Delivery {ask['noticeId']} is not DEAD. Only a DEAD one can be redriven.")
        return _delivery(await jobs.find(NOTIFICATION, key) or job)
    except JobsUnavailable as error:
        raise _away() from error


# targets -----------------------------------------------------------------------------------------


def _said(ask: Record) -> Record:
    """What a call says of a target, with the defaults of what it leaves out."""
    said: Record = {"events": _EVENTS, "agents": ["*"], "status": "ACTIVE"}
    return said | resource.echo(ask, "clientToken", "targetId")


def _check(context: Context, target: Record) -> None:
    """The rules between members, and those that the service model cannot say.

    Errors: ValidationException naming the member.
    """
    member = records.member_of(target["kind"])
    for other in ("webhook", "eventBridge"):
        if other != member and target.get(other) is not None:
            raise invalid(other, f"{other} is not for a target of kind {target['kind']}; {member} is.")
    settings = target.get(member)
    if settings is None:
        raise invalid(member, f"{member} is required for a target of kind {target['kind']}.")
    if settings.get("allowPrivate") and not context.engine.config.server.allow_private_notifications:
        place = f"{member}.allowPrivate"
        raise invalid(place, f"{place}: this server does not allow it; {PRIVATE_SETTING} = true would.")
    try:
        records.check(target)
    except ConfigMistake as mistake:
        raise invalid(member, f"{mistake}.") from mistake
    if settings.get("secretEnv") and target["status"] == "ACTIVE":
        _must_hold_a_secret(f"{member}.secretEnv", settings["secretEnv"])


def _must_hold_a_secret(place: str, variable: str) -> None:
    try:
        secret_in(variable)
    except SecretMistake as mistake:
        # In the same words for one that is not set: which variables a server has is nobody's business.
        told = "this server has no environment variable of that name that holds a secret: 'whsec_' and base64"
        raise invalid(place, f"{place}: {told}.") from mistake


def _target(docs: DocumentTransaction, context: Context, ask: Record) -> Record:
    """A target of the caller's account.

    Errors: ResourceNotFoundException.
    """
    target = docs.get(audience.KIND, ask["targetId"])
    if target is None or target["accountId"] != context.account_id:
        raise ResourceNotFoundException(f"There is no notification target {ask['targetId']}.")
    return target


def _of_account(docs: DocumentTransaction, account_id: str) -> list[tuple[int, Record]]:
    return [row for row in docs.numbered(audience.KIND) if row[1]["accountId"] == account_id]


def _must_be_free(docs: DocumentTransaction, target: Record) -> None:
    other = audience.named(docs, target["accountId"], target["name"])
    if other is not None and other["targetId"] != target["targetId"]:
        raise ConflictException(f"A notification target with name {target['name']} already exists.")


def _with_secret(target: Record) -> Record:
    """A target as the answer to its creation shows it."""
    answer = records.shown(target)
    secret = target.get("webhook", {}).get("secret")
    return {**answer, "webhook": {**answer["webhook"], "secret": secret}} if secret else answer


# deliveries --------------------------------------------------------------------------------------


def _delivery(job: JobStatus) -> Record:
    target_id, _, notice_id = job.key.partition("/")
    delivery: Record = {
        "noticeId": notice_id,
        "targetId": target_id,
        "turnId": notice_id.partition(":")[0],
        "event": event_name(job.body["kind"]),
        "status": _STATUSES.get(job.state, "DEAD"),
        "attempts": job.attempts,
        "createdAt": iso(job.submitted_at),
    }
    if job.error_class:
        delivery["lastError"] = job.error_message if job.error_class in _SAID else _FAILED_HERE
    if job.next_at is not None:
        delivery["nextAttemptAt"] = iso(job.next_at)
    if job.state == "done":
        delivery["deliveredAt"] = iso(job.changed_at)
    return delivery


def _token(scope: str, last: JobStatus) -> str:
    return base64.urlsafe_b64encode(f"{scope}\n{last.submitted_at!r}\n{last.key}".encode()).decode()


def _place(scope: str, token: str) -> Place:
    """Where a list of deliveries goes on.

    Errors: ValidationException where the token is none of this list's.
    """
    try:
        told, at, key = base64.b64decode(token, altchars=b"-_", validate=True).decode().split("\n")
        if told == scope:
            return Place(float(at), key)
    except ValueError:
        pass  # refused below, as a token of another list is
    raise invalid("nextToken", "The nextToken is not one that this list returned. Start again without it.")


def _away() -> InternalServerException:
    return InternalServerException("The database of deliveries cannot be reached. Retry the request.")
