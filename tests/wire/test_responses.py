"""Whatever an operation may return, botocore reads back; moto would have sent the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from moto.core.model import ServiceModel as MotoServiceModel
from moto.core.serialize import SERIALIZERS

from outcrop.wire.serializing import serialize, stream_head, to_json
from outcrop.wire.services import service

SEEDS = range(8)
REQUEST_ID = "6f1b3c2e-95a4-4e2f-8e7c-0a52cbd0d0b1"


def test_what_we_send_is_what_botocore_reads(whole, values, oracle, plain) -> None:
    for seed in SEEDS:
        result = values(seed).of(whole.output_shape)

        response = serialize(whole, result, REQUEST_ID)

        assert response.status == whole.http["responseCode"]
        assert plain(oracle.result(whole, response)) == plain(result)
        assert oracle.answer(whole, response)["ResponseMetadata"]["RequestId"] == REQUEST_ID


def test_moto_would_have_sent_the_same(whole, values, plain) -> None:
    name = whole.service_model.service_name
    theirs = MotoServiceModel(service(name)._service_description, name).operation_model(whole.name)
    for seed in SEEDS:
        result = values(seed).of(whole.output_shape)

        mine = serialize(whole, result, REQUEST_ID)
        other = SERIALIZERS["rest-json"](theirs).serialize(result)

        assert mine.status == other["status_code"]
        if mine.status == 204:
            assert mine.body == b""
        else:
            assert plain(json.loads(mine.body)) == plain(json.loads(other["body"]))


def test_the_head_of_a_stream_carries_its_header_members(streaming, values, oracle) -> None:
    stream = streaming.output_shape.event_stream_name
    head = values(1, optional=1.0).of(streaming.output_shape)
    del head[stream]
    head = {member: "".join(filter(str.isascii, value)).strip() for member, value in head.items()}

    response = stream_head(streaming, head, REQUEST_ID)

    assert response.status == 200
    assert response.body == b""
    assert ("Content-Type", "application/vnd.amazon.eventstream") in response.headers
    sent = dict(response.headers)
    members = streaming.output_shape.members
    assert {member: sent[members[member].serialization["name"]] for member in head} == head


def test_invoke_agent_answers_with_its_mixed_prefixes() -> None:
    operation = service("bedrock-agent-runtime").operation_model("InvokeAgent")

    response = stream_head(operation, {"contentType": "application/json", "sessionId": "s-1", "memoryId": None}, "id")

    assert response.headers == [
        ("Content-Type", "application/vnd.amazon.eventstream"),
        ("x-amzn-RequestId", "id"),
        ("x-amzn-bedrock-agent-content-type", "application/json"),
        ("x-amz-bedrock-agent-session-id", "s-1"),
    ]


def test_nulls_and_unknown_members_are_left_out_and_documents_stay_whole(oracle) -> None:
    get_agent = service("bedrock-agent").operation_model("GetAgent")
    stored = {
        "agentName": "AX123",
        "description": None,
        "secretOfOurs": 1,
        "tags": {"a": None},
        "failureReasons": ["one", None],
        "promptOverrideConfiguration": {
            "promptConfigurations": [
                None,
                {"promptState": None, "additionalModelRequestFields": {"kept": None, "top_k": 3}},
            ]
        },
    }

    response = serialize(get_agent, {"agent": stored, "other": 1}, REQUEST_ID)

    assert json.loads(response.body) == {
        "agent": {
            "agentName": "AX123",
            "failureReasons": ["one"],
            "promptOverrideConfiguration": {
                "promptConfigurations": [{"additionalModelRequestFields": {"kept": None, "top_k": 3}}]
            },
        }
    }


def test_a_deletion_without_content_has_no_body() -> None:
    operation = service("bedrock-agent").operation_model("DeleteAgentActionGroup")

    response = serialize(operation, {}, REQUEST_ID)

    assert (response.status, response.headers, response.body) == (204, [("x-amzn-RequestId", REQUEST_ID)], b"")


def test_an_empty_result_is_an_empty_object() -> None:
    response = serialize(service("bedrock-agent").operation_model("TagResource"), {}, REQUEST_ID)

    assert (response.status, response.body) == (200, b"{}")


@pytest.mark.parametrize(
    "instant",
    [
        "2026-11-20T09:23:23.566864Z",
        datetime(2026, 11, 20, 9, 23, 23, 566864, tzinfo=UTC),
        datetime(2026, 11, 20, 10, 23, 23, 566864, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_instants_are_sent_as_iso_8601(instant, oracle) -> None:
    operation = service("bedrock-agent").operation_model("GetAgent")

    agent = oracle.result(operation, serialize(operation, {"agent": {"createdAt": instant}}, REQUEST_ID))["agent"]

    assert agent["createdAt"] == datetime(2026, 11, 20, 9, 23, 23, 566864, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", ["half an emoji \ud83d", 2**70, [b"\x00", datetime(2026, 1, 1, tzinfo=UTC), "\ud83d"]]
)
def test_what_strict_json_refuses_is_sent_all_the_same(value) -> None:
    read = json.loads(to_json({"value": value}))["value"]

    assert read == (["AA==", "2026-01-01T00:00:00+00:00", "\ud83d"] if isinstance(value, list) else value)


def test_a_value_without_a_form_on_the_wire_is_a_defect() -> None:
    with pytest.raises(TypeError, match="set has no form on the wire"):
        to_json({"value": {1}})
