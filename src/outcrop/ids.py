"""Resource ids, ARNs and request ids.

Ids are ten upper-case letters and digits, as the service makes them; an ARN is built here
and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import string
from typing import NewType

TurnId = NewType("TurnId", str)
SessionKey = NewType("SessionKey", str)
"""Account-wide key of an agent session: agent id, alias id and the caller's session id."""

TEST_ALIAS_ID = "TSTALIASID"
DRAFT = "DRAFT"
INLINE_AGENT = "INLINE_AGENT"
_ALPHABET = string.ascii_uppercase + string.digits


def resource_id() -> str:
    """A fresh ten-character id of an agent, action group, alias or any other resource."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def request_id() -> str:
    """A fresh UUID in lower case: request ids, invocation ids, turn ids."""
    text = secrets.token_hex(16)  # a UUID of version 4, without the cost of making the object
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"


def worker_id() -> str:
    """A fresh id of a process that carries turns: its host, its process, and chance, for both come again."""
    return f"{socket.gethostname()[:30]}-{os.getpid()}-{secrets.token_hex(4)}"


def turn_id(now: float) -> TurnId:
    """A fresh id of a turn: twelve hexadecimal digits of its time, then twenty of chance.

    Ids of neighbouring turns sort side by side, so the journal grows at its end and not all over.

    Units: now in seconds since the epoch.
    """
    return TurnId(f"{int(now * 1000):012x}{secrets.token_hex(10)}")


def born(turn: TurnId) -> float:
    """When an id of a turn was made: in milliseconds' steps, by the clock of the process that accepted the turn.

    Units: seconds since the epoch.
    """
    return int(turn[:12], 16) / 1000


def invocation_id(turn: TurnId, ordinal: int) -> str:
    """The UUID under which a turn hands control to its caller at a step: the same whoever tells it, and whenever."""
    return uuid_of(f"{turn}/{ordinal}")


def uuid_of(name: str) -> str:
    """A UUID in lower case that is always the same for a name."""
    text = hashlib.sha256(name.encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"


def arn(region: str, account_id: str, resource: str) -> str:
    """The ARN of a Bedrock resource.

    Shapes: resource "agent/ABCDEFGHIJ" -> "arn:aws:bedrock:us-east-1:123456789012:agent/ABCDEFGHIJ".
    """
    return f"arn:aws:bedrock:{region}:{account_id}:{resource}"
