"""Who a request says it is from: the credential scope of its AWS signature, header or presigned URL.

    Authorization: AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/<service>/aws4_request, ...
    ?X-Amz-Credential=<key>%2F<date>%2F<region>%2F<service>%2Faws4_request

Read for the region and the access key; nothing is verified yet. Anything else is anonymous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from outcrop.wire.exchange import Request

_SCOPE = re.compile(
    r"(?P<access_key>\w{1,128})/[0-9]{8}/(?P<region>[a-z0-9-]{1,32})/(?P<service>[a-z0-9-]{1,32})/aws4_request",
    re.ASCII,
)
_HEADER = re.compile(rf"AWS4-HMAC-SHA256\s.*?\bCredential={_SCOPE.pattern}\s*(?:,|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a signature claims: whose key, and the region and service it was made for."""

    access_key: str
    region: str
    service: str


def read_credential(request: Request) -> Credential | None:
    """The credential that a request was signed with; None when it is not signed or the signature is malformed."""
    header = request.headers.get("authorization")
    if header is not None:
        found = _HEADER.match(header)
    elif "X-Amz-Credential=" in request.raw_query:
        found = _SCOPE.fullmatch(parse_qs(request.raw_query).get("X-Amz-Credential", [""])[0])
    else:
        found = None
    return Credential(found["access_key"], found["region"], found["service"]) if found else None
