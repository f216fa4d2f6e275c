"""The credential scope is read from the header or the presigned URL; anything else is anonymous."""

from __future__ import annotations

import boto3
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from outcrop.wire.exchange import Request
from outcrop.wire.signatures import Credential, read_credential

SCOPE = "AKIAIOSFODNN7EXAMPLE/20261120/eu-central-1/bedrock/aws4_request"
EXPECTED = Credential("AKIAIOSFODNN7EXAMPLE", "eu-central-1", "bedrock")


def _request(authorization: str | None = None, query: str = "") -> Request:
    headers = {} if authorization is None else {"authorization": authorization}
    return Request("GET", "/agents/", query, headers, b"")


@pytest.mark.parametrize("auth", [SigV4Auth, SigV4QueryAuth])
def test_what_botocore_signs_is_read(auth) -> None:
    signed = AWSRequest("POST", "http://localhost:8700/agents/", data=b"{}")
    auth(Credentials("AKIAIOSFODNN7EXAMPLE", "secret", "token"), "bedrock", "eu-central-1").add_auth(signed)
    url = signed.prepare().url

    request = _request(signed.headers.get("Authorization"), url.partition("?")[2])

    assert read_credential(request) == EXPECTED


def test_a_real_client_signs_for_bedrock() -> None:
    seen = []
    client = boto3.client("bedrock-agent-runtime", region_name="eu-central-1")
    client.meta.events.register("before-send", lambda request, **_: seen.append(request) or _answer())

    client.list_sessions()

    header = seen[0].headers["Authorization"]
    found = read_credential(_request(header.decode() if isinstance(header, bytes) else header))
    assert found == EXPECTED


def _answer():
    from botocore.awsrequest import AWSResponse

    class Body:
        def stream(self):
            yield b'{"sessionSummaries":[]}'

    return AWSResponse("http://localhost/", 200, {}, Body())


@pytest.mark.parametrize(
    "header",
    [
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host;x-amz-date, Signature=00",
        f"AWS4-HMAC-SHA256 Credential={SCOPE},SignedHeaders=host,Signature=00",
        f"AWS4-HMAC-SHA256 SignedHeaders=host, Signature=00, Credential={SCOPE}",
    ],
)
def test_every_way_to_write_the_header_is_read(header: str) -> None:
    assert read_credential(_request(header)) == EXPECTED


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer abc",
        "Basic dXNlcjpwYXNz",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=AKIA, Signature=00",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}x, Signature=00",
        "AWS4-HMAC-SHA256 Credential=A/20261120/EU CENTRAL/bedrock/aws4_request, Signature=00",
        "AWS4-HMAC-SHA256 Credential=A/20261120/../bedrock/aws4_request, Signature=00",
        "AWS4-HMAC-SHA256 Credential=A/today/eu-central-1/bedrock/aws4_request, Signature=00",
        f"AWS4-HMAC-SHA256 NotCredential={SCOPE}, Signature=00",
    ],
)
def test_anything_else_in_the_header_is_anonymous(header: str) -> None:
    assert read_credential(_request(header)) is None


@pytest.mark.parametrize("query", ["", "X-Amz-Credential=", "X-Amz-Credential=AKIA%2Fx", "a=X-Amz-Credential=b"])
def test_anything_else_in_the_query_is_anonymous(query: str) -> None:
    assert read_credential(_request(None, query)) is None
