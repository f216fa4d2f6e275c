"""Notices as events on a bus of Amazon EventBridge, or of whatever else speaks PutEvents."""

from __future__ import annotations

import asyncio
import re
import threading
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, cast

import orjson
from yarl import URL

from outcrop.notifications.base import Notice, Refused, Undeliverable
from outcrop.notifications.posting import Answer, Means, failure, place_of
from outcrop.notifications.settings import Settings

SETTINGS: Mapping[str, str] = {
    "endpointUrl": "where PutEvents is answered; default AWS",
    "region": "region to sign for; default the server's",
    "eventBusName": "the event bus, by its name or its ARN; default `default`",
    "source": "the source that events name; default `outcrop`",
    "allowPrivate": "whether the address may be on a private network or on this machine; default false",
}
MOST_ENTRY_BYTES = 256 * 1024
"""The largest entry that EventBridge takes."""

_NEVER_CUT = ("noticeId", "turnId", "agentId", "agentAliasId", "agentVersion", "sessionId", "status")
_READ_WITHIN_S = 10.0
_CODE = re.compile(r"[0-9A-Za-z_.]{1,80}")
_TRY_AGAIN = re.compile(r"Throttl|TooManyRequests|RequestLimit|LimitExceeded|Expired|Internal|Unavailable|NotYetValid")
_STAND_IN = "outcrop"
"""Credentials for an endpoint of one's own, where the environment has none: something must be signed."""


def target(settings: Mapping[str, Any], means: Means) -> EventBridge:
    """The event bus that settings describe; connects with the first notice.

    Errors: ConfigMistake naming a setting that cannot be used.
    """
    read = Settings("eventBridge", settings, SETTINGS)
    region = read.text("region") or means.region
    if not re.fullmatch(r"[a-z0-9-]{1,64}", region):
        raise read.mistake("region is no region's name")
    source = read.text("source") or "outcrop"
    if source.startswith("aws."):
        raise read.mistake("source begins with 'aws.', which only AWS may write")
    allow_private = read.switch("allowPrivate")
    own = read.text("endpointUrl")
    host = f"events.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    url = read.address("endpointUrl", means.post, allow_private=allow_private, default=f"https://{host}/")
    bus = read.text("eventBusName") or "default"
    return EventBridge(means, url, {"EventBusName": bus, "Source": source}, _Signer(region, bool(own)), allow_private)


class EventBridge:
    """Puts notices on one event bus."""

    __slots__ = ("_allow_private", "_entry", "_means", "_signer", "_url")

    def __init__(self, means: Means, url: URL, entry: Mapping[str, str], signer: _Signer, allow_private: bool) -> None:
        self._means = means
        self._url = url
        self._entry = entry
        self._signer = signer
        self._allow_private = allow_private

    async def deliver(self, notice: Notice) -> None:
        """Put a notice on the bus once, cut to what an event may hold.

        Errors: Undeliverable; Refused.
        """
        try:
            entry = {**self._entry, **entry_of(notice, MOST_ENTRY_BYTES - self._entry_bytes())}
        except TypeError as error:
            raise Refused(f"the notice {notice.id} cannot be written as JSON") from error
        body = orjson.dumps({"Entries": [entry]})
        headers = await asyncio.to_thread(self._signer.headers, str(self._url), body)
        if headers is None:
            raise Undeliverable(f"{place_of(self._url)} cannot be asked: no AWS credentials were found")
        answer = await self._means.post.send(
            self._url, body, headers, allow_private=self._allow_private, read_within_s=_READ_WITHIN_S
        )
        _check(answer)

    async def close(self) -> None:
        """There is nothing to give back; the connections are everybody's."""

    def _entry_bytes(self) -> int:
        """What AWS counts of an entry besides its detail: the source, and 14 bytes for the time."""
        return len(self._entry["Source"].encode()) + 14


def entry_of(notice: Notice, most_bytes: int) -> dict[str, Any]:
    """What PutEvents takes of a notice, without the bus and the source.

    Shapes: "turn.waiting_for_input" -> DetailType "Outcrop Turn Waiting For Input"; Detail is the notice's body with
            its id as noticeId, and `truncated` where something was left out.
    Errors: TypeError when the body is no JSON.
    """
    kind = "Outcrop " + notice.kind.replace(".", " ").replace("_", " ").title()
    detail = _fitted({"noticeId": notice.id, **notice.body}, most_bytes - len(kind))
    return {"DetailType": kind, "Detail": detail.decode(), "Time": notice.at}


def _fitted(detail: Mapping[str, Any], most_bytes: int) -> bytes:
    """The detail as JSON of at most so many bytes. The largest member goes first: a text is cut, all else is left out.

    Half an action is worse than none, so nothing is cut inside a member. What names the turn always stays.
    """
    written = orjson.dumps(detail)
    if len(written) <= most_bytes:
        return written
    kept: dict[str, Any] = {**detail, "truncated": True}
    sizes = {name: len(orjson.dumps(value)) for name, value in detail.items() if name not in _NEVER_CUT}
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        value = kept.pop(name)
        room = most_bytes - len(orjson.dumps({**kept, name: ""}))
        if isinstance(value, str) and room > 0:
            kept[name] = _cut(value, room)
        written = orjson.dumps(kept)
        if len(written) <= most_bytes:
            return written
    return written


def _cut(text: str, most_bytes: int) -> str:
    """The longest beginning of a text that takes at most so many bytes in JSON, its quotes not counted."""
    text = text[:most_bytes]  # a character takes a byte at least
    fits = bisect_right(range(len(text) + 1), most_bytes + 2, key=lambda length: len(orjson.dumps(text[:length])))
    return text[: fits - 1]


def _check(answer: Answer) -> None:
    """Nothing, when the event was taken.

    Errors: Undeliverable; Refused.
    """
    told = _object(answer.body)
    if answer.status != 200:
        code = _code(str(told.get("__type", "")).rpartition("#")[2])
        if answer.status == 400 and _TRY_AGAIN.search(code):
            raise Undeliverable(f"{answer.place} answered {code}")
        if answer.status == 400 and code:
            raise Refused(f"{answer.place} answered {code}")
        raise failure(answer)
    if told.get("FailedEntryCount") == 0:
        return
    entries = told.get("Entries")
    first: Any = cast("list[Any]", entries)[0] if isinstance(entries, list) and entries else None
    code = _code(str(cast("dict[str, Any]", first).get("ErrorCode", ""))) if isinstance(first, dict) else ""
    raise Undeliverable(f"{answer.place} did not take the event: {code or 'it does not say why'}")


def _object(body: bytes) -> dict[str, Any]:
    try:
        told: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", told) if isinstance(told, dict) else {}


def _code(text: str) -> str:
    """An error code, and nothing that only looks like one."""
    return text if _CODE.fullmatch(text) else ""


class _Signer:
    """Signs requests with the credentials that boto3 would use, found when first needed; used from threads."""

    __slots__ = ("_credentials", "_is_own", "_lock", "_region")

    def __init__(self, region: str, is_own: bool) -> None:
        self._region = region
        self._is_own = is_own
        self._lock = threading.Lock()
        self._credentials: Any = None

    def headers(self, url: str, body: bytes) -> dict[str, str] | None:
        """The headers of one PutEvents call, signed; None where there are no credentials for AWS."""
        from botocore.auth import SigV4Auth  # heavy, and only these calls need it
        from botocore.awsrequest import AWSRequest

        credentials = self._found()
        if credentials is None:
            return None
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
        request = AWSRequest(method="POST", url=url, data=body, headers=headers)
        SigV4Auth(credentials, "events", self._region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    def _found(self) -> Any:
        import botocore.session
        from botocore.credentials import Credentials

        with self._lock:
            if self._credentials is None:
                self._credentials = botocore.session.get_session().get_credentials()
            if self._credentials is None:
                return Credentials(_STAND_IN, _STAND_IN) if self._is_own else None
            return self._credentials.get_frozen_credentials()
