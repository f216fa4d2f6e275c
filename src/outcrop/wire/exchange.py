"""One HTTP exchange as plain values: what came in, what goes out.

The server makes a Request from the bytes it received and sends the Response it gets back;
everything else in this room works on these two. No framework's request is ever seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent.

    Shapes: raw_path as it stood on the request line, still percent-encoded and without the query;
            raw_query without the question mark; header names in lower case.
    """

    method: str
    raw_path: str
    raw_query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What to send back: a whole answer, or the head of a stream (then body is empty)."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
