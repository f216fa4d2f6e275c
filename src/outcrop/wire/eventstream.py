"""Binary frames of an event stream.

    | total length 4 | headers length 4 | CRC of these 4 | headers | JSON payload | CRC of all before 4 |
    a header:  | name length 1 | name | 7 (string) | value length 2 | value |

The payload is the member itself, keys in alphabetical order; there is no first frame for the
response. A `chunk` of text is the hot path and takes no detour through the model. The
server sends one frame for each event that an operation yields; the last may be an exception.
"""

from __future__ import annotations

from binascii import b2a_base64
from functools import cache
from struct import Struct
from typing import Any
from zlib import crc32

from botocore.model import OperationModel, StructureShape

from outcrop.errors import RoomError
from outcrop.wire.serializing import to_json, without_nulls

_PRELUDE = Struct(">II")
_CRC = Struct(">I")
_STRING = b"\x07"
_AROUND = 16  # prelude, its CRC, the message CRC


class UnknownEvent(RoomError):
    """The operation's stream has no member of this name, or the operation has no stream."""


def event_frame(operation: OperationModel, name: str, member: dict[str, Any]) -> bytes:
    """The frame of one event.

    Shapes: name "chunk", member {"bytes": b"..."} -> a whole frame.
    Errors: UnknownEvent when the operation's stream lacks the name.
    Source: docs/behaviour/invoke-agent.md 1.2 (observed).
    """
    headers = _headers_of(operation, name)
    data = member.get("bytes")
    if type(data) is bytes and len(member) == 1:
        return frame(headers, b'{"bytes":"%b"}' % b2a_base64(data, newline=False))
    payload = to_json(member, sort=True)
    if b"null" in payload:  # seldom, and often only a word in a text: then the model says what may stay
        payload = to_json(without_nulls(stream_members(operation)[name], member), sort=True)
    return frame(headers, payload)


def exception_frame(operation: OperationModel, name: str, members: dict[str, Any]) -> bytes:
    """The frame that ends a stream with an exception, by the name of its member ("validationException").

    Errors: UnknownEvent when the operation's stream lacks the name.
    Source: docs/behaviour/invoke-agent.md 1.2 (observed).
    """
    return frame(_headers_of(operation, name), to_json(members, sort=True))


def frame(headers: bytes, payload: bytes) -> bytes:
    """One message: the encoded headers and the payload, framed."""
    prelude = _PRELUDE.pack(_AROUND + len(headers) + len(payload), len(headers))
    message = b"%b%b%b%b" % (prelude, _CRC.pack(crc32(prelude)), headers, payload)
    return message + _CRC.pack(crc32(message))


@cache
def stream_members(operation: OperationModel) -> dict[str, StructureShape]:
    """The events and exceptions of an operation's stream by name; none when it has no stream."""
    stream = operation.get_event_stream_output()
    members = stream.members if isinstance(stream, StructureShape) else {}
    return {name: member for name, member in members.items() if isinstance(member, StructureShape)}


@cache
def _headers_of(operation: OperationModel, name: str) -> bytes:
    member = stream_members(operation).get(name)
    if member is None:
        raise UnknownEvent(f"{operation.name} has no event '{name}'")
    kind = "exception" if member.metadata.get("exception") else "event"
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    return b"".join(_header(*header) for header in headers.items())


def _header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + _STRING + len(value).to_bytes(2) + value.encode()
