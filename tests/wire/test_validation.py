"""Every constraint of the models is kept, and what breaks one is named in AWS's sentence."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.model import OperationModel, Shape

from outcrop.errors import ValidationException
from outcrop.wire.exchange import Request
from outcrop.wire.parsing import parse
from outcrop.wire.services import CONTROL_PLANE, RUNTIME, service
from outcrop.wire.validation import validate

NAME = "([0-9a-zA-Z][_-]?){1,100}"


def _complaint(name: str, params: dict[str, Any], door: str = CONTROL_PLANE) -> ValidationException:
    with pytest.raises(ValidationException) as raised:
        validate(service(door).operation_model(name), params)
    return raised.value


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"agentName": "a", "agentCollaboration": "ENABLED"},
            "Value 'ENABLED' at 'agentCollaboration' failed to satisfy constraint: "
            "Member must satisfy enum value set: [SUPERVISOR, SUPERVISOR_ROUTER, DISABLED]",
        ),
        ({}, "Value null at 'agentName' failed to satisfy constraint: Member must not be null"),
        (
            {"agentName": "a"},
            None,
        ),
        (
            {"agentName": "a", "idleSessionTTLInSeconds": 59},
            "Value '59' at 'idleSessionTTLInSeconds' failed to satisfy constraint: "
            "Member must have value greater than or equal to 60",
        ),
        (
            {"agentName": "a", "idleSessionTTLInSeconds": 5401},
            "Value '5401' at 'idleSessionTTLInSeconds' failed to satisfy constraint: "
            "Member must have value less than or equal to 5400",
        ),
        (
            {"agentName": "a", "description": ""},
            "Value '' at 'description' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        (
            {"agentName": "a", "description": "d" * 201},
            f"Value '{'d' * 201}' at 'description' failed to satisfy constraint: "
            "Member must have length less than or equal to 200",
        ),
        (
            {"agentName": "a", "instruction": "a secret too short"},
            "Value at 'instruction' failed to satisfy constraint: Member must have length greater than or equal to 40",
        ),
        ({"agentName": "a", "instruction": "i" * 20_000}, None),
        (
            {"agentName": "a", "instruction": "i" * 20_001},
            "Value at 'instruction' failed to satisfy constraint: Member must have length less than or equal to 20000",
        ),
        (
            {"agentName": "a", "tags": {"bad!": "v"}},
            "Value '{bad!=v}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: "
            "[Member must have length less than or equal to 128, Member must have length greater than or equal to 1, "
            r"Member must satisfy regular expression pattern: [a-zA-Z0-9\s._:/=+@-]*]",
        ),
        (
            {"agentName": "a", "tags": {"k": "bad!"}},
            "Value '{k=bad!}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: "
            "[Member must have length less than or equal to 256, "
            r"Member must satisfy regular expression pattern: [a-zA-Z0-9\s._:/=+@-]*]",
        ),
        (
            {"agentName": "a", "promptOverrideConfiguration": {"promptConfigurations": []}},
            None,
        ),
        (
            {
                "agentName": "a",
                "promptOverrideConfiguration": {
                    "promptConfigurations": [{}, {"inferenceConfiguration": {"temperature": 1.5}}]
                },
            },
            "Value at 'promptOverrideConfiguration.promptConfigurations.2.member.inferenceConfiguration.temperature' "
            "failed to satisfy constraint: Member must have value less than or equal to 1",
        ),
        (
            {"agentName": "a", "promptOverrideConfiguration": {"promptConfigurations": [None]}},
            "Value null at 'promptOverrideConfiguration.promptConfigurations.1.member' failed to satisfy constraint: "
            "Member must not be null",
        ),
        (
            {"agentName": "a", "customOrchestration": {"executor": {}}},
            "Value at 'customOrchestration.executor' failed to satisfy constraint: "
            "Member must have exactly one of these members set: [lambda]",
        ),
    ],
)
def test_the_sentence_for_one_violation(params: dict[str, Any], sentence: str | None) -> None:
    if sentence is None:
        validate(service(CONTROL_PLANE).operation_model("CreateAgent"), params)
    else:
        assert _complaint("CreateAgent", params).message == f"1 validation error detected: {sentence}"


def test_several_violations_are_counted_joined_and_listed() -> None:
    fault = _complaint("CreateAgent", {"agentName": "no spaces", "orchestrationType": "SLOW"})

    assert fault.message == (
        "2 validation errors detected: "
        f"Value 'no spaces' at 'agentName' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {NAME}; "
        "Value 'SLOW' at 'orchestrationType' failed to satisfy constraint: "
        "Member must satisfy enum value set: [DEFAULT, CUSTOM_ORCHESTRATION]"
    )
    assert fault.members["fieldList"] == [
        {"name": "agentName", "message": f"Member must satisfy regular expression pattern: {NAME}"},
        {
            "name": "orchestrationType",
            "message": "Member must satisfy enum value set: [DEFAULT, CUSTOM_ORCHESTRATION]",
        },
    ]


def test_a_list_of_scalars_is_named_as_a_whole() -> None:
    fault = _complaint("UntagResource", {"resourceArn": _arn("agent/ABCDEFGHIJ"), "tagKeys": ["fine", "bad!"]})

    assert fault.message == (
        "1 validation error detected: Value '[fine, bad!]' at 'tagKeys' failed to satisfy constraint: "
        "Member must satisfy constraint: [Member must have length less than or equal to 128, "
        "Member must have length greater than or equal to 1, "
        r"Member must satisfy regular expression pattern: [a-zA-Z0-9\s._:/=+@-]*]"
    )


def test_a_union_with_two_members_is_refused() -> None:
    executor = {"lambda": "arn:aws:lambda:us-east-1:123456789012:function:f", "customControl": "RETURN_CONTROL"}
    group = {"agentId": "ABCDEFGHIJ", "agentVersion": "DRAFT", "actionGroupName": "g", "actionGroupExecutor": executor}

    assert _complaint("CreateAgentActionGroup", group).message == (
        "1 validation error detected: Value at 'actionGroupExecutor' failed to satisfy constraint: "
        "Member must have exactly one of these members set: [lambda, customControl]"
    )


def test_what_is_sensitive_is_not_repeated_at_any_depth() -> None:
    files = [{"name": "the-secret", "useCase": "NONE", "source": {"sourceType": "S3"}}]
    params = {"agentId": "A", "agentAliasId": "B", "sessionId": "s-1", "sessionState": {"files": files}}

    message = _complaint("InvokeAgent", params, RUNTIME).message

    assert "useCase" in message
    assert "the-secret" not in message


def test_a_huge_value_is_shortened() -> None:
    message = _complaint("CreateAgent", {"agentName": "!" * 100_000}).message

    assert f"Value '{'!' * 256}...' at" in message
    assert len(message) < 1000


def test_what_is_in_a_list_that_is_too_long_is_not_looked_at() -> None:
    ask = {"agentId": "A", "agentAliasId": "B", "sessionId": "s-1"}
    started = time.perf_counter()

    for results in ([{}] * 4_000_000, [None] * 4_000_000):
        state = {"returnControlInvocationResults": results}
        assert _complaint("InvokeAgent", {**ask, "sessionState": state}, RUNTIME).message == (
            "1 validation error detected: Value at 'sessionState.returnControlInvocationResults' failed to satisfy "
            "constraint: Member must have length less than or equal to 5"
        )

    assert time.perf_counter() - started < 1.0


def test_what_is_in_a_map_that_is_too_long_is_not_looked_at(router) -> None:
    metadata = {f"!{number}": 1 for number in range(51)}
    match = router.match("PUT", "/sessions/")

    given = parse(match, Request("PUT", "/sessions/", "", {}, json.dumps({"sessionMetadata": metadata}).encode()))

    assert _complaint("CreateSession", given, RUNTIME).message == (
        "1 validation error detected: Value at 'sessionMetadata' failed to satisfy constraint: "
        "Member must have length less than or equal to 50"
    )


@pytest.mark.parametrize(
    ("configurations", "count"),
    [(10, "10 validation errors"), (100, "100 validation errors"), (101, "At least 100 validation errors")],
)
def test_of_very_many_violations_a_hundred_are_counted_and_twenty_spelled_out(configurations: int, count: str) -> None:
    functions = [{"name": "bad!"}] * configurations
    params = {"agentId": "A", "agentVersion": "DRAFT", "actionGroupName": "g"}

    fault = _complaint("CreateAgentActionGroup", {**params, "functionSchema": {"functions": functions}})

    assert fault.message.startswith(
        f"{count} detected: Value 'bad!' at 'functionSchema.functions.1.member.name' failed"
    )
    assert len(fault.members["fieldList"]) == min(20, configurations)


def test_millions_of_violations_cost_no_time() -> None:
    messages = [{}] * 1_000_000
    ask = {"agentId": "A", "agentAliasId": "B", "sessionId": "s-1"}
    started = time.perf_counter()

    history = {"conversationHistory": {"messages": messages}}
    of_history = _complaint("InvokeAgent", {**ask, "sessionState": history}, RUNTIME).message
    of_tags = _complaint("CreateAgent", {"agentName": "a", "tags": {f"bad!{n}": "v" for n in range(100_000)}}).message

    assert of_history.startswith("At least 100 validation errors detected: ")
    assert of_tags.startswith("1 validation error detected: Value '{bad!0=v, bad!1=v, ")
    assert time.perf_counter() - started < 1.0


def _arn(resource: str) -> str:
    return f"arn:aws:bedrock:us-east-1:123456789012:{resource}"


@pytest.mark.parametrize("value", ["AX123", "my-agent_2", "ABCDEFGHIJ", "TSTALIASID", "PROD"])
def test_a_name_is_accepted_where_the_path_has_an_id(value: str) -> None:
    validate(
        service(RUNTIME).operation_model("InvokeAgent"), {"agentId": value, "agentAliasId": value, "sessionId": "s-1"}
    )
    validate(service(CONTROL_PLANE).operation_model("GetAgent"), {"agentId": value})
    validate(service(CONTROL_PLANE).operation_model("GetAgentAlias"), {"agentId": value, "agentAliasId": value})


@pytest.mark.parametrize("value", ["", "a b", "-a", "a__b", "a/b", "a\n"])
def test_what_is_neither_name_nor_id_is_refused(value: str) -> None:
    assert f"regular expression pattern: {NAME}" in _complaint("GetAgent", {"agentId": value}).message


@pytest.mark.parametrize(
    "resource",
    [
        "agent/ABCDEFGHIJ",
        "agent-alias/ABCDEFGHIJ/KLMNOPQRST",
        "knowledge-base/ABCDEFGHIJ",
        "flow/ABCDEFGHIJ",
        "flow/ABCDEFGHIJ/alias/TSTALIASID",
        "prompt/ABCDEFGHIJ",
        "prompt/ABCDEFGHIJ:12",
        "retrieval-instruction/abcdefghij",
    ],
)
def test_every_taggable_kind_of_arn_is_accepted(resource: str) -> None:
    validate(service(CONTROL_PLANE).operation_model("ListTagsForResource"), {"resourceArn": _arn(resource)})


def test_an_arn_of_another_kind_is_refused() -> None:
    fault = _complaint("ListTagsForResource", {"resourceArn": _arn("guardrail/abcdefghij")})

    assert "at 'resourceArn' failed to satisfy constraint: Member must satisfy regular expression" in fault.message


def test_a_pattern_must_match_the_whole_value() -> None:
    message = _complaint("GetAgentVersion", {"agentId": "ABCDEFGHIJ", "agentVersion": "1x"}).message

    assert "at 'agentVersion' failed" in message


def test_control_characters_are_found() -> None:
    params = {"knowledgeBaseId": "ABCDEFGHIJ", "dataSourceId": "ABCDEFGHIJ"}

    validate(service(RUNTIME).operation_model("GetDocumentContent"), {**params, "documentId": "a title, 東京.pdf"})
    assert "at 'documentId'" in _complaint("GetDocumentContent", {**params, "documentId": "a\u0007"}, RUNTIME).message


def test_a_blank_text_is_refused_where_the_pattern_looks_ahead() -> None:
    params = {"knowledgeBaseId": "ABCDEFGHIJ"}
    query = {"queryGenerationInput": {"type": "TEXT", "text": "   "}}

    assert "at 'queryGenerationInput.text'" in _complaint("GenerateQuery", {**params, **query}, RUNTIME).message


def test_a_long_almost_match_costs_no_time() -> None:
    content = {"dataType": "BYTE_CONTENT", "data": b"x", "mimeType": "a/" * 500_000 + "\n"}
    inline = {"type": "BYTE", "byteContent": {"mimeType": content["mimeType"], "data": b"x"}}
    document = {
        "content": {
            "dataSourceType": "CUSTOM",
            "custom": {"customDocumentIdentifier": {"id": "1"}, "sourceType": "IN_LINE", "inlineContent": inline},
        }
    }
    params = {"knowledgeBaseId": "ABCDEFGHIJ", "dataSourceId": "ABCDEFGHIJ", "documents": [document]}

    started = time.perf_counter()
    message = _complaint("IngestKnowledgeBaseDocuments", params).message

    assert "mimeType' failed" in message
    assert time.perf_counter() - started < 1.0


def test_every_constraint_of_every_operation_is_kept(operation: OperationModel, values) -> None:
    source = values(3, wild=False, optional=1.0)
    params = source.of(operation.input_shape)
    validate(operation, params)
    broken = 0
    for path, break_it, sentence in _ways(operation.input_shape, params, source):
        spoilt = copy.deepcopy(params)
        break_it(spoilt)
        with pytest.raises(ValidationException) as raised:
            validate(operation, spoilt)
        said = [(item["name"], item["message"]) for item in raised.value.members["fieldList"]]
        assert any(name == ".".join(path) and sentence in message for name, message in said), (path, sentence, said)
        broken += 1
        if broken == 60:
            break
    assert broken or not _constrained(operation)


def _constrained(operation: OperationModel) -> bool:
    return any(_spoilt(shape) for shape in operation.input_shape.members.values())


def _ways(
    shape: Shape, value: Any, source: Any, path: tuple[Any, ...] = (), keys: tuple[Any, ...] = ()
) -> Iterator[Any]:
    """Every way to break one constraint of a value: the member's path, how, and what must be said."""
    if shape.type_name == "structure" and not shape.is_document_type:
        for name in shape.required_members:
            yield (*path, name), _without((*keys, name)), "Member must not be null"
        if shape.is_tagged_union and len(shape.members) > 1 and path:
            other = next(name for name in shape.members if name not in value)
            yield (
                path,
                _with((*keys, other), source.of(shape.members[other])),
                "Member must have exactly one of these members set",
            )
        for name, item in value.items():
            yield from _ways(shape.members[name], item, source, (*path, name), (*keys, name))
    elif shape.type_name == "list":
        for number, item in enumerate(value[:1], 1):
            if shape.member.type_name in ("structure", "list", "map"):
                yield from _ways(shape.member, item, source, (*path, str(number), "member"), (*keys, 0))
    for spoilt, sentence in _spoilt(shape):
        yield path, _with(keys, spoilt), sentence


def _spoilt(shape: Shape) -> list[tuple[Any, str]]:
    traits, ways = shape.metadata, []
    if shape.type_name in ("integer", "long", "float", "double"):
        if "max" in traits:
            ways.append((traits["max"] + 1, f"Member must have value less than or equal to {traits['max']}"))
        if "min" in traits:
            ways.append((traits["min"] - 1, f"Member must have value greater than or equal to {traits['min']}"))
    if shape.type_name == "string":
        if traits.get("max", 10**9) < 10**6:
            ways.append(("x" * (traits["max"] + 1), f"Member must have length less than or equal to {traits['max']}"))
        if traits.get("min"):
            ways.append(("", f"Member must have length greater than or equal to {traits['min']}"))
        if shape.enum:
            ways.append(("none of them", "Member must satisfy enum value set: ["))
        if traits.get("pattern", ".*") not in (".*", r"[\s\S]+", r"[\s\S]*", r"^[\s\S]*$", r"^[\s\S]+$"):
            ways.append(("\u0007\n", f"Member must satisfy regular expression pattern: {traits['pattern']}"))
    return ways


def _with(keys: tuple[Any, ...], new: Any) -> Any:
    def spoil(params: Any) -> None:
        for key in keys[:-1]:
            params = params[key]
        params[keys[-1]] = new

    return spoil


def _without(keys: tuple[Any, ...]) -> Any:
    def spoil(params: Any) -> None:
        for key in keys[:-1]:
            params = params[key]
        del params[keys[-1]]

    return spoil
