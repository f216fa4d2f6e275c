"""Events on a bus: what PutEvents is sent, what it may answer, and how long notices are cut to fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import boto3
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from outcrop.config import ConfigMistake
from outcrop.notifications.base import KINDS, Notice, Refused, Undeliverable
from outcrop.notifications.targets.event_bridge import MOST_ENTRY_BYTES, entry_of, target

TAKEN = {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}


@pytest.fixture
def moto() -> Iterator[None]:
    """An EventBridge that is not ours, for every boto3 client of this process."""
    with mock_aws():
        yield


@pytest.fixture
def bus(means, receiver):
    def make(post=None, **settings):
        given = {"endpointUrl": f"http://127.0.0.1:{receiver.port}", "allowPrivate": True}
        return target(given | settings, means(**post or {}))

    return make


def answers(receiver, *told: dict, status: int = 200) -> None:
    receiver.answers.extend(web.json_response(each, status=status) for each in told)


def an_error(receiver, status: int, code: str) -> None:
    answers(receiver, {"__type": code, "message": "my password is hunter2"}, status=status)


async def test_another_eventbridge_takes_the_event(bus, receiver, moto, notice) -> None:
    events = boto3.client("events", region_name="eu-central-1")
    events.create_event_bus(Name="agents")

    passed_on = []

    async def pass_on(request: web.Request) -> web.Response:
        given = json.loads(await request.read())  # which boto3 checks against AWS's model
        told = await asyncio.to_thread(events.put_events, **given)
        passed_on.append(told)
        return web.json_response({name: told[name] for name in ("FailedEntryCount", "Entries")})

    receiver.answers.append(pass_on)
    await bus(eventBusName="agents").deliver(notice)

    assert passed_on[0]["FailedEntryCount"] == 0
    assert passed_on[0]["Entries"][0]["EventId"]
    [entry] = json.loads(receiver.taken[0][1])["Entries"]
    assert json.loads(entry["Detail"]) == {"noticeId": "turn-1:7", **notice.body}


async def test_the_call_is_the_one_that_boto3_makes(bus, receiver, notice) -> None:
    answers(receiver, TAKEN, TAKEN)
    await bus().deliver(notice)
    entry = entry_of(notice, MOST_ENTRY_BYTES) | {"EventBusName": "default", "Source": "outcrop"}
    theirs = boto3.client("events", endpoint_url=f"http://127.0.0.1:{receiver.port}")
    told = await asyncio.to_thread(theirs.put_events, Entries=[entry])
    theirs.close()

    assert told["Entries"] == TAKEN["Entries"]
    (headers, body), (their_headers, their_body) = receiver.taken
    assert json.loads(body) == json.loads(their_body)
    for name in ("X-Amz-Target", "Content-Type", "Host"):
        assert headers[name] == their_headers[name]
    scope, signed = _signed(headers)
    their_scope, theirs_signed = _signed(their_headers)
    assert scope == their_scope
    assert signed == theirs_signed - {"amz-sdk-invocation-id", "amz-sdk-request"}


def _signed(headers: dict[str, str]) -> tuple[str, set[str]]:
    """The key, day, region and service of a request's signature, and the headers it covers."""
    scope, signed, _ = headers["Authorization"].split(", ")
    return scope, set(signed.partition("=")[2].split(";"))


async def test_one_call_signed_for_its_service_and_region(bus, receiver, notice) -> None:
    answers(receiver, TAKEN)
    await bus(region="eu-west-3", eventBusName="agents", source="shop.agents").deliver(notice)

    [(headers, body)] = receiver.taken
    assert headers["X-Amz-Target"] == "AWSEvents.PutEvents"
    assert headers["Content-Type"] == "application/x-amz-json-1.1"
    assert "/eu-west-3/events/aws4_request" in headers["Authorization"]
    assert "AKIAIOSFODNN7EXAMPLE" in headers["Authorization"]
    [entry] = json.loads(body)["Entries"]
    assert json.loads(entry.pop("Detail"))["noticeId"] == "turn-1:7"
    assert entry == {
        "EventBusName": "agents",
        "Source": "shop.agents",
        "DetailType": "Outcrop Turn Completed",
        "Time": notice.at,
    }


async def test_it_is_signed_as_botocore_signs(bus, receiver, notice) -> None:
    """The receiver signs what it got once more, from the same keys."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    answers(receiver, TAKEN)
    await bus(endpointUrl=f"http://127.0.0.1:{receiver.port}/some/bus").deliver(notice)
    [(headers, body)] = receiver.taken

    signer = SigV4Auth(
        Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), "events", "us-east-1"
    )
    signed = [name for name in headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")]
    got = {name.lower(): value for name, value in headers.items()}
    again = AWSRequest("POST", f"http://{headers['Host']}/some/bus", {name: got[name] for name in signed}, body)
    again.context["timestamp"] = got["x-amz-date"]
    expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert headers["Authorization"].endswith(f"Signature={expected}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_detail_type(kind, notice) -> None:
    entry = entry_of(Notice("turn-1:7", kind, notice.at, {}), MOST_ENTRY_BYTES)
    assert entry["DetailType"] in {
        "Outcrop Turn Completed",
        "Outcrop Turn Failed",
        "Outcrop Turn Cancelled",
        "Outcrop Turn Waiting For Input",
        "Outcrop Turn Paused",
    }


async def test_an_entry_that_failed_is_tried_again_and_its_code_is_told(bus, receiver, notice) -> None:
    failed = {"ErrorCode": "ThrottlingException", "ErrorMessage": "my password is hunter2"}
    answers(receiver, {"FailedEntryCount": 1, "Entries": [failed]})
    with pytest.raises(Undeliverable, match=r"did not take the event: ThrottlingException$"):
        await bus().deliver(notice)


@pytest.mark.parametrize(
    "told",
    [
        {"FailedEntryCount": 1, "Entries": [{}]},
        {"FailedEntryCount": 1, "Entries": []},
        {"FailedEntryCount": 1},
        {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "no <code> at all"}]},
        {"FailedEntryCount": 1, "Entries": "none"},
        {},
    ],
)
async def test_an_answer_that_does_not_say_why_is_tried_again(bus, receiver, notice, told) -> None:
    answers(receiver, told)
    with pytest.raises(Undeliverable, match="did not take the event: it does not say why"):
        await bus().deliver(notice)


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'"taken"'])
async def test_what_is_no_answer_is_no_success(bus, receiver, notice, answer: bytes) -> None:
    receiver.answers.append(web.Response(body=answer))
    with pytest.raises(Undeliverable, match="did not take the event"):
        await bus().deliver(notice)


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "ExpiredTokenException",
        "com.amazonaws.events#InternalException",
        "LimitExceededException",
    ],
)
async def test_errors_that_pass_are_tried_again(bus, receiver, notice, code: str) -> None:
    an_error(receiver, 400, code)
    with pytest.raises(Undeliverable, match=f"answered {code.rpartition('#')[2]}$"):
        await bus().deliver(notice)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"])
async def test_errors_that_stay_are_not(bus, receiver, notice, code: str) -> None:
    an_error(receiver, 400, code)
    with pytest.raises(Refused, match=f"answered {code}$"):
        await bus().deliver(notice)


async def test_a_status_decides_where_there_is_no_code(bus, receiver, notice) -> None:
    for status, kind in (
        (400, Refused),
        (404, Refused),
        (301, Undeliverable),
        (429, Undeliverable),
        (503, Undeliverable),
    ):
        receiver.answers.append(web.Response(status=status, text="no"))
        with pytest.raises(kind, match=f"answered {status}"):
            await bus().deliver(notice)


async def test_an_endpoint_that_never_answers_is_left(bus, receiver, notice, forever) -> None:
    receiver.answers.append(forever)
    with pytest.raises(Undeliverable, match=r"did not answer within 0\.2 s"):
        await bus(post={"total_s": 0.2}).deliver(notice)


async def test_an_endpoint_of_ones_own_needs_no_credentials(bus, receiver, notice, monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    answers(receiver, TAKEN)
    await bus().deliver(notice)
    assert "Credential=outcrop/" in receiver.taken[0][0]["Authorization"]


async def test_aws_itself_does(means, notice, monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for region, domain in (("eu-west-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")):
        with pytest.raises(
            Undeliverable, match=rf"https://events\.{region}\.{domain} .* no AWS credentials were found"
        ):
            await target({"region": region}, means()).deliver(notice)


async def test_a_name_that_leads_inwards_is_refused(means, names, receiver, notice) -> None:
    settings = {"endpointUrl": f"http://events.example.com:{receiver.port}"}
    with pytest.raises(Refused, match="on a private network"):
        await target(settings, means(resolver=names(["127.0.0.1"]))).deliver(notice)
    assert receiver.connections == set()


async def test_a_body_that_is_no_json_is_refused(bus, notice) -> None:
    with pytest.raises(Refused, match="turn-1:7 cannot be written as JSON"):
        await bus().deliver(Notice(notice.id, notice.kind, notice.at, {"what": object()}))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"endpointUrl": "nowhere"}, "endpointUrl is no http or https address"),
        ({"endpointUrl": 7}, "endpointUrl is no text"),
        ({"region": "eu-west-1.evil.example.com/"}, "region is no region's name"),
        ({"source": "aws.bedrock"}, "source begins with 'aws.'"),
        ({"eventBusname": "x"}, "unknown key 'eventBusname'; did you mean 'eventBusName'?"),
    ],
)
def test_a_wrong_setting_is_named(means, settings, says: str) -> None:
    with pytest.raises(ConfigMistake, match=r"^eventBridge: ") as caught:
        target(settings, means())
    assert says in str(caught.value)


def detail_of(body: dict, most_bytes: int = MOST_ENTRY_BYTES) -> tuple[dict, int]:
    entry = entry_of(Notice("turn-1:7", "turn.completed", 0.0, body), most_bytes)
    return json.loads(entry["Detail"]), len(entry["Detail"].encode()) + len(entry["DetailType"])


def test_a_long_answer_is_cut_to_the_last_byte_that_fits() -> None:
    body = {"turnId": "turn-1", "status": "COMPLETED", "answer": "ä" * 300_000, "usage": {"inputTokens": 5}}
    detail, size = detail_of(body)
    assert MOST_ENTRY_BYTES - 2 <= size <= MOST_ENTRY_BYTES
    assert detail["truncated"] is True
    assert body["answer"].startswith(detail["answer"])
    assert len(detail["answer"]) > 120_000
    assert (detail["turnId"], detail["usage"]) == ("turn-1", {"inputTokens": 5})


def test_an_answer_that_just_fits_is_whole() -> None:
    empty = len(json.dumps({"noticeId": "turn-1:7", "turnId": "turn-1", "answer": ""}, separators=(",", ":")))
    room = MOST_ENTRY_BYTES - empty - len("Outcrop Turn Completed")
    whole, size = detail_of({"turnId": "turn-1", "answer": "x" * room})
    assert "truncated" not in whole
    assert size == MOST_ENTRY_BYTES
    assert detail_of({"turnId": "turn-1", "answer": "x" * (room + 1)})[0]["truncated"] is True


def test_an_action_is_whole_or_not_there() -> None:
    inputs = {"invocationId": "i-1", "invocationInputs": [{"parameters": ["x" * 1000] * 300}]}
    detail, size = detail_of({"turnId": "turn-1", "status": "WAITING_FOR_INPUT", "returnControl": inputs})
    assert detail == {
        "noticeId": "turn-1:7",
        "turnId": "turn-1",
        "status": "WAITING_FOR_INPUT",
        "truncated": True,
    }
    assert size <= MOST_ENTRY_BYTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


@given(
    body=st.dictionaries(st.sampled_from(["answer", "failure", "usage", "statusReason", "returnControl"]), JSON),
    most_bytes=st.integers(150, 400),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a machine with more to do is no reason to fail
def test_whatever_is_told_fits_and_names_its_turn(body: dict, most_bytes: int) -> None:
    detail, size = detail_of({"turnId": "turn-1", **body}, most_bytes)
    assert size <= most_bytes
    assert detail["turnId"] == "turn-1"
    whole = {"noticeId": "turn-1:7", "turnId": "turn-1", **body}
    assert detail == whole or detail["truncated"] is True
    for name in detail.keys() - {"truncated"}:
        assert detail[name] == whole[name] or whole[name].startswith(detail[name])
