"""Frames are what botocore expects, byte by byte and member by member."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import EventStreamError
from moto.core.eventstream import EventStream as MotoStream
from moto.core.eventstream import EventStreamEncoder
from moto.core.model import ServiceModel as MotoServiceModel
from moto.core.serialize import EventStreamJSONSerializer

from outcrop.wire.eventstream import UnknownEvent, event_frame, exception_frame, stream_members
from outcrop.wire.services import service

SEEDS = range(6)


@pytest.fixture
def invoke_agent():
    return service("bedrock-agent-runtime").operation_model("InvokeAgent")


def test_every_event_of_every_stream_reaches_botocore(streaming, values, oracle, plain) -> None:
    events = [name for name, shape in stream_members(streaming).items() if not shape.metadata.get("exception")]
    assert events
    for seed in SEEDS:
        sent = [{name: values(seed).of(stream_members(streaming)[name])} for name in events]

        frames = [event_frame(streaming, name, member) for event in sent for name, member in event.items()]

        assert plain(list(oracle.stream(streaming, *frames))) == plain(sent)


def test_every_exception_of_every_stream_is_raised_by_botocore(streaming, oracle) -> None:
    exceptions = [name for name, shape in stream_members(streaming).items() if shape.metadata.get("exception")]
    assert exceptions
    for name in exceptions:
        stream = iter(oracle.stream(streaming, exception_frame(streaming, name, {"message": "so it is"})))

        with pytest.raises(EventStreamError) as raised:
            next(stream)

        assert raised.value.response["Error"] == {"Code": name, "Message": "so it is"}


def test_moto_would_frame_the_same_payloads(streaming, values, oracle, plain) -> None:
    name = streaming.service_model.service_name
    theirs = MotoServiceModel(service(name)._service_description, name).operation_model(streaming.name)
    events = [name for name, shape in stream_members(streaming).items() if not shape.metadata.get("exception")]
    for seed in SEEDS:
        sent = [{name: values(seed).of(stream_members(streaming)[name])} for name in events]
        serializer = EventStreamJSONSerializer(theirs)
        messages = MotoStream({theirs.output_shape.event_stream_name: sent}, theirs.output_shape, serializer)
        theirs_read = list(oracle.stream(streaming, *map(EventStreamEncoder().encode_event, messages)))

        frames = [event_frame(streaming, name, member) for event in sent for name, member in event.items()]

        assert plain(list(oracle.stream(streaming, *frames))) == plain(theirs_read)


def test_a_chunk_of_text_byte_by_byte(invoke_agent) -> None:
    assert event_frame(invoke_agent, "chunk", {"bytes": b"Hello"}) == (
        b"\x00\x00\x00o\x00\x00\x00K\x9fN\xa7\xed"
        b"\x0b:event-type\x07\x00\x05chunk"
        b"\r:content-type\x07\x00\x10application/json"
        b"\r:message-type\x07\x00\x05event"
        b'{"bytes":"SGVsbG8="}'
        b"\x0bn]\xde"
    )


def test_an_exception_byte_by_byte(invoke_agent) -> None:
    assert exception_frame(invoke_agent, "throttlingException", {"message": "slow down"}) == (
        b"\x00\x00\x00\x88\x00\x00\x00a\xde\x01u\xf4"
        b"\x0f:exception-type\x07\x00\x13throttlingException"
        b"\r:content-type\x07\x00\x10application/json"
        b"\r:message-type\x07\x00\texception"
        b'{"message":"slow down"}'
        b"\x83.\xe0r"
    )


def test_the_short_way_of_a_chunk_and_the_long_one_agree(invoke_agent, oracle) -> None:
    short = event_frame(invoke_agent, "chunk", {"bytes": "grüße 東".encode()})
    long = event_frame(invoke_agent, "chunk", {"bytes": bytearray("grüße 東".encode())})

    assert short == long
    assert list(oracle.stream(invoke_agent, short)) == [{"chunk": {"bytes": "grüße 東".encode()}}]


def test_keys_are_in_alphabetical_order(invoke_agent) -> None:
    frame = event_frame(invoke_agent, "trace", {"sessionId": "s", "agentId": "a", "trace": {"failureTrace": {}}})

    assert b'{"agentId":"a","sessionId":"s","trace":{"failureTrace":{}}}' in frame


def test_nulls_never_reach_the_client_except_inside_documents(invoke_agent, oracle) -> None:
    reference = {"content": {"text": "null and void"}, "metadata": {"key": {"kept": None}}, "location": None}
    citation = {"generatedResponsePart": None, "retrievedReferences": [reference]}

    frame = event_frame(invoke_agent, "chunk", {"bytes": b"x", "attribution": {"citations": [citation]}})

    [event] = oracle.stream(invoke_agent, frame)
    [read] = event["chunk"]["attribution"]["citations"]
    assert read == {
        "retrievedReferences": [{"content": {"text": "null and void"}, "metadata": {"key": {"kept": None}}}]
    }


def test_the_word_null_in_a_text_stays(invoke_agent, oracle) -> None:
    member = {"trace": {"orchestrationTrace": {"rationale": {"text": "null", "traceId": "t-0"}}}}

    assert list(oracle.stream(invoke_agent, event_frame(invoke_agent, "trace", member))) == [{"trace": member}]


def test_files_travel_as_base64(invoke_agent, oracle) -> None:
    files = {"files": [{"name": "a.png", "type": "image/png", "bytes": b"\x89PNG\x00"}]}

    frame = event_frame(invoke_agent, "files", files)

    assert list(oracle.stream(invoke_agent, frame)) == [{"files": files}]


def test_an_event_that_the_stream_lacks_is_named(invoke_agent) -> None:
    with pytest.raises(UnknownEvent, match="InvokeAgent has no event 'chunks'"):
        event_frame(invoke_agent, "chunks", {})
    with pytest.raises(UnknownEvent, match="Retrieve has no event 'chunk'"):
        event_frame(service("bedrock-agent-runtime").operation_model("Retrieve"), "chunk", {})


def test_the_payload_is_the_member_itself(invoke_agent) -> None:
    frame = event_frame(invoke_agent, "returnControl", {"invocationId": "i", "invocationInputs": []})

    headers_length = int.from_bytes(frame[4:8])
    assert json.loads(frame[12 + headers_length : -4]) == {"invocationId": "i", "invocationInputs": []}
