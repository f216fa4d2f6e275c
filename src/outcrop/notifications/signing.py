"""Signatures of webhooks by the rules of Standard Webhooks: made here, and checked by receivers.

    webhook-id         of the notice
    webhook-timestamp  seconds since the epoch, of the attempt
    webhook-signature  "v1," + base64(HMAC-SHA256(secret, "<id>.<timestamp>.<body>")), one per secret, spaces between

A receiver written in Python calls `verify`; any library of Standard Webhooks does the same elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets as chance
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from outcrop.errors import RoomError

PREFIX = "whsec_"
TOLERANCE_S = 300.0
_SHORTEST_BYTES, _LONGEST_BYTES = 24, 64
_FRESH_BYTES = 32


class SecretMistake(RoomError):
    """A secret cannot be used. The message does not repeat it."""


class NotGenuine(RoomError):
    """A request is not from whom it claims to be, or is too old to be believed."""


def new_secret() -> str:
    """A fresh secret.

    Shapes: "whsec_" and 32 bytes in base64.
    """
    return PREFIX + base64.b64encode(chance.token_bytes(_FRESH_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The bytes that a secret stands for; its prefix may be left out.

    Errors: SecretMistake when it is no base64, or of fewer than 24 or more than 64 bytes.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _SHORTEST_BYTES <= len(key) <= _LONGEST_BYTES:
        raise SecretMistake(f"a secret is '{PREFIX}' and {_SHORTEST_BYTES} to {_LONGEST_BYTES} bytes in base64")
    return key


def secret_in(variable: str) -> str:
    """The secret that a variable of this process's environment holds, whose prefix may not be left out.

    Errors: SecretMistake.
    """
    # The prefix is needed here: a target must not be able to sign with whatever else the environment holds.
    secret = os.environ.get(variable, "").strip()
    if not secret.startswith(PREFIX):
        raise SecretMistake(f"it does not begin with '{PREFIX}'" if secret else "it is not set")
    key_of(secret)
    return secret


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature of one message by one key, as the header carries it."""
    signed = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def sign(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a message, signed with every secret: with two, receivers can change over in their time.

    Units: timestamp in seconds since the epoch.
    Errors: SecretMistake.
    """
    signatures = [signature(key_of(secret), message_id, timestamp, body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secret: str | Sequence[str],
    *,
    now: float | None = None,
    tolerance_s: float = TOLERANCE_S,
) -> dict[str, Any]:
    """The message of a request that is genuine: signed with the secret (any of several), and of our time.

    Shapes: headers in any case; body as it was received, to the byte -> {"id", "type", "timestamp", "data"}.
    Units: now in seconds since the epoch, the machine's time where it is left out.
    Errors: NotGenuine when a header is missing, the time is more than the tolerance away or no signature fits;
            SecretMistake.
    """
    keys = [key_of(each) for each in ([secret] if isinstance(secret, str) else secret)]
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, written, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise NotGenuine(f"the header {error.args[0]} is missing") from None
    timestamp = _timestamp(written)
    if abs((time.time() if now is None else now) - timestamp) > tolerance_s:
        raise NotGenuine("the timestamp is too old, or lies too far ahead")
    expected = [signature(key, message_id, timestamp, body).encode() for key in keys]
    offered = [each.encode() for each in signatures.split(" ")]
    # Every pair is compared, each in constant time: how long it takes says nothing of what was right.
    if not any([hmac.compare_digest(one, other) for one in expected for other in offered]):
        raise NotGenuine("no signature fits the message")
    return _message(body)


def _timestamp(written: str) -> int:
    # Only plain digits: what is signed is the number, and it must be the text that was sent.
    if not (written.isascii() and written.isdigit() and len(written) <= 12) or str(int(written)) != written:
        raise NotGenuine("the timestamp is no number of seconds")
    return int(written)


def _message(body: bytes) -> dict[str, Any]:
    try:
        message: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        raise NotGenuine("the body is no JSON object")
    return cast("dict[str, Any]", message)
