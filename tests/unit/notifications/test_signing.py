"""Signatures by the rules of Standard Webhooks, against their published example and against forgers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.notifications.signing import NotGenuine, SecretMistake, key_of, new_secret, sign, signature, verify

# The example that the Standard Webhooks libraries test themselves with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HEADERS = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": SIGNED}


def test_the_published_example_is_signed_as_published() -> None:
    assert sign([SECRET], ID, AT, BODY) == HEADERS


def test_the_published_example_is_believed_at_its_time() -> None:
    assert verify(HEADERS, BODY, SECRET, now=AT) == {"test": 2432232314}
    assert verify(HEADERS, BODY, SECRET.removeprefix("whsec_"), now=AT) == {"test": 2432232314}


def test_headers_may_be_written_in_any_case() -> None:
    assert verify({name.title(): value for name, value in HEADERS.items()}, BODY, SECRET, now=AT)


@pytest.mark.parametrize("late_s", [-300, 300])
def test_a_clock_may_be_five_minutes_off(late_s: int) -> None:
    assert verify(HEADERS, BODY, SECRET, now=AT + late_s)


@pytest.mark.parametrize("late_s", [-301, 301, 10**9])
def test_an_old_or_early_request_is_not_believed(late_s: int) -> None:
    with pytest.raises(NotGenuine, match="timestamp"):
        verify(HEADERS, BODY, SECRET, now=AT + late_s)


def test_the_machines_time_counts_where_none_is_given() -> None:
    with pytest.raises(NotGenuine, match="timestamp"):
        verify(HEADERS, BODY, SECRET)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": ID + "x"},
        {"webhook-timestamp": str(AT + 1)},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": SIGNED.replace("v1,", "v2,")},
        {"webhook-signature": SIGNED.removeprefix("v1,")},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,gänz anders"},
    ],
)
def test_a_changed_header_is_not_believed(changed: dict[str, str]) -> None:
    with pytest.raises(NotGenuine, match="no signature fits"):
        verify(HEADERS | changed, BODY, SECRET, now=AT)


@pytest.mark.parametrize("written", ["", "soon", "1614265330.0", "-1", "+1614265330", " 1614265330", "1" * 400, "٣"])
def test_a_timestamp_is_a_number_of_seconds(written: str) -> None:
    with pytest.raises(NotGenuine, match="no number of seconds"):
        verify(HEADERS | {"webhook-timestamp": written}, BODY, SECRET, now=AT)


@pytest.mark.parametrize("missing", HEADERS)
def test_a_missing_header_is_named(missing: str) -> None:
    with pytest.raises(NotGenuine, match=missing):
        verify({name: value for name, value in HEADERS.items() if name != missing}, BODY, SECRET, now=AT)


def test_another_secret_is_not_believed() -> None:
    with pytest.raises(NotGenuine, match="no signature fits"):
        verify(HEADERS, BODY, new_secret(), now=AT)


def test_while_secrets_change_either_side_may_be_first() -> None:
    new = new_secret()
    signed_by_both = sign([new, SECRET], ID, AT, BODY)
    assert signed_by_both["webhook-signature"].split(" ")[1] == SIGNED
    for known in (new, SECRET, [SECRET, new]):
        assert verify(signed_by_both, BODY, known, now=AT)
    assert verify(HEADERS, BODY, [new, SECRET], now=AT)


def test_a_signed_body_that_is_no_message_is_not_believed() -> None:
    for body in (b"", b"[1]", b"\xff"):
        with pytest.raises(NotGenuine, match="no JSON object"):
            verify(sign([SECRET], ID, AT, body), body, SECRET, now=AT)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!", "whsec_c2hvcnQ=", "whsec_" + "QUFB" * 22])
def test_a_secret_that_is_none_is_not_repeated(secret: str) -> None:
    with pytest.raises(SecretMistake) as caught:
        key_of(secret)
    assert str(caught.value) == "a secret is 'whsec_' and 24 to 64 bytes in base64"


def test_fresh_secrets_differ() -> None:
    assert len({new_secret() for _ in range(20)}) == 20
    assert len(key_of(new_secret())) == 32


@given(
    body=st.dictionaries(st.text(), st.integers()).map(lambda value: json.dumps(value).encode()), place=st.integers(0)
)
def test_any_changed_byte_is_noticed(body: bytes, place: int) -> None:
    headers = sign([SECRET], ID, AT, body)
    verify(headers, body, SECRET, now=AT)
    changed = bytearray(body)
    changed[place % len(body)] ^= 1
    with pytest.raises(NotGenuine, match="no signature fits"):
        verify(headers, bytes(changed), SECRET, now=AT)
    assert signature(key_of(SECRET), ID, AT, body) in headers["webhook-signature"]
