"""What an agent may override, and what it may ask for that is not there yet: never silently ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import CHECK, INSTRUCTION, World, functions_group
from botocore.exceptions import ClientError, EventStreamError

from outcrop.testing import call

TEMPLATE = '{"system": "Be brief. $instruction$ ($question$) $prompt_session_attributes$", "messages": []}'


def orchestration(**members: Any) -> dict[str, Any]:
    return {"promptConfigurations": [{"promptType": "ORCHESTRATION", "promptCreationMode": "OVERRIDDEN", **members}]}


def test_a_template_and_its_sampling_take_the_place_of_the_default(world: World) -> None:
    sampling = {"temperature": 0.5, "topP": 0.9, "topK": 7, "maximumLength": 99, "stopSequences": ["END"]}
    override = orchestration(
        basePromptTemplate=TEMPLATE,
        inferenceConfiguration=sampling,
        foundationModel="stage.model",
        additionalModelRequestFields={"effort": "low"},
    )
    ids = world.agent(functions_group(CHECK), promptOverrideConfiguration=override)
    world.model.then("Hello.")

    answer = world.ask(ids, "Hi", sessionState={"promptSessionAttributes": {"today": "Friday"}})

    [request] = world.model.requests
    assert request.system == f"Be brief. {INSTRUCTION} (Hi) today: Friday"
    assert request.model_id == "stage.model"
    assert request.inference == {
        "temperature": 0.5, "topP": 0.9, "topK": 7, "maxTokens": 99, "stopSequences": ["END"],
    }  # fmt: skip
    assert request.additional == {"effort": "low"}
    shown = answer.traces[0]["trace"]["orchestrationTrace"]["modelInvocationInput"]
    assert shown["inferenceConfiguration"] == sampling
    assert json.loads(shown["text"])["system"] == request.system


def test_a_template_that_is_no_json_once_filled_ends_the_stream(world: World) -> None:
    ids = world.agent(promptOverrideConfiguration=orchestration(basePromptTemplate='{"system": "$instruction$'))

    with pytest.raises(EventStreamError, match="incorrectly formatted") as caught:
        world.ask(ids, "Hi")
    assert caught.value.response["Error"]["Code"] == "validationException"


def test_a_template_that_speaks_in_its_messages_is_refused_by_name(world: World) -> None:
    template = (
        '{"system": "$instruction$", "messages": [{"role": "user", "content": [{"text": "In French: $question$"}]}]}'
    )
    ids = world.agent(promptOverrideConfiguration=orchestration(basePromptTemplate=template))

    with pytest.raises(ClientError, match="messages hold text beside placeholders"):
        world.ask(ids, "Hi")


def test_a_template_of_placeholders_is_fine(world: World) -> None:
    template = (
        '{"system": "$instruction$", "messages": [{"role": "user", "content": "$question$"},'
        ' {"role": "assistant", "content": [{"text": "$agent_scratchpad$"}]}]}'
    )
    ids = world.agent(promptOverrideConfiguration=orchestration(basePromptTemplate=template))
    world.model.then("Hello.")

    assert world.ask(ids, "Hi").text == "Hello."


def test_defaults_that_a_client_sends_back_change_nothing(world: World) -> None:
    defaults = {
        "promptType": "ORCHESTRATION",
        "promptCreationMode": "DEFAULT",
        "promptState": "ENABLED",
        "basePromptTemplate": "not even json",
        "inferenceConfiguration": {"temperature": 1.0},
    }
    off = {"promptType": "PRE_PROCESSING", "promptCreationMode": "DEFAULT", "promptState": "DISABLED"}
    ids = world.agent(promptOverrideConfiguration={"promptConfigurations": [defaults, off]})
    world.model.then("Hello.")

    world.ask(ids, "Hi")

    assert world.model.requests[0].system == INSTRUCTION
    assert world.model.requests[0].inference == {"maxTokens": 2048, "temperature": 0.0}


def test_a_disabled_orchestration_sends_the_users_words_alone(world: World) -> None:
    disabled = {"promptType": "ORCHESTRATION", "promptCreationMode": "DEFAULT", "promptState": "DISABLED"}
    ids = world.agent(functions_group(CHECK), promptOverrideConfiguration={"promptConfigurations": [disabled]})
    world.model.then("Hello.")

    world.ask(ids, "Hi")

    assert (world.model.requests[0].system, world.model.requests[0].tools) == ("", ())


POST = {"promptType": "POST_PROCESSING", "promptCreationMode": "DEFAULT", "promptState": "ENABLED"}
PARSER = {"promptType": "ORCHESTRATION", "promptCreationMode": "DEFAULT", "parserMode": "OVERRIDDEN"}
NOT_YET: list[tuple[dict[str, Any], str]] = [
    ({"guardrailConfiguration": {"guardrailIdentifier": "g123456789", "guardrailVersion": "1"}}, "guardrail"),
    (
        {
            "orchestrationType": "CUSTOM_ORCHESTRATION",
            "customOrchestration": {"executor": {"lambda": "arn:aws:lambda:us-east-1:123456789012:function:o"}},
        },
        "CUSTOM_ORCHESTRATION",
    ),
    ({"promptOverrideConfiguration": {"promptConfigurations": [POST]}}, "POST_PROCESSING"),
    (
        {
            "promptOverrideConfiguration": {
                "promptConfigurations": [PARSER],
                "overrideLambda": "arn:aws:lambda:us-east-1:123456789012:function:p",
            }
        },
        "parser Lambda",
    ),
]


@pytest.mark.parametrize(("members", "named"), NOT_YET, ids=[named for _, named in NOT_YET])
def test_what_is_not_there_yet_is_refused_by_name(world: World, members: dict[str, Any], named: str) -> None:
    ids = world.agent(**members)

    with pytest.raises(ClientError) as caught:
        world.ask(ids, "Hi")

    assert caught.value.response["Error"]["Code"] == "NotImplementedException"
    assert named in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


INLINE = {"foundationModel": "some.model", "instruction": INSTRUCTION, "sessionId": "session-1", "inputText": "Hi"}
KNOWLEDGE = [{"knowledgeBaseId": "KB12345678", "description": "what we know"}]


@pytest.mark.parametrize(
    ("members", "code", "named"),
    [
        ({"knowledgeBases": KNOWLEDGE}, "NotImplementedException", "knowledgeBases"),
        ({"agentCollaboration": "SUPERVISOR"}, "NotImplementedException", "agentCollaboration"),
        (
            {"actionGroups": [{"actionGroupName": "a", "apiSchema": {"payload": "openapi: 3.0.0\npaths: 7"}}]},
            "ValidationException",
            "paths",
        ),
        (
            {
                "actionGroups": [
                    {"actionGroupName": "a", "apiSchema": {"s3": {"s3BucketName": "none", "s3ObjectKey": "k"}}}
                ]
            },
            "ValidationException",
            "s3://none/k",
        ),
    ],
)
def test_inline_agents_are_refused_by_name_too(world: World, members: dict[str, Any], code: str, named: str) -> None:
    with pytest.raises(ClientError) as caught:
        world.runtime.invoke_inline_agent(**INLINE, **members)

    assert caught.value.response["Error"]["Code"] == code
    assert named in caught.value.response["Error"]["Message"]


@pytest.mark.parametrize("member", ["files", "knowledgeBaseConfigurations"])
def test_session_state_that_is_not_there_yet(world: World, member: str) -> None:
    source = {"sourceType": "BYTE_CONTENT", "byteContent": {"mediaType": "text/csv", "data": b"a"}}
    search = {"vectorSearchConfiguration": {"numberOfResults": 1}}
    state = {
        "files": [{"name": "f.csv", "useCase": "CHAT", "source": source}],
        "knowledgeBaseConfigurations": [{"knowledgeBaseId": "KB12345678", "retrievalConfiguration": search}],
    }
    ids = world.agent()

    with pytest.raises(ClientError, match=member) as caught:
        world.ask(ids, "Hi", sessionState={member: state[member]})
    assert caught.value.response["Error"]["Code"] == "NotImplementedException"


def test_a_seed_is_told_as_models_want_it(world: World) -> None:
    ids = world.agent(functions_group(CHECK))
    world.functions.add("inventory", "42")
    world.model.then([call("inventory__check", {"sku": "A"})], "one")
    seed = [
        {"role": "assistant", "content": [{"text": "Welcome"}]},
        {"role": "user", "content": [{"text": "a"}]},
        {"role": "user", "content": [{"text": "b"}]},
    ]

    world.ask(ids, "first", sessionState={"conversationHistory": {"messages": seed}})

    sent = world.model.requests[0].messages
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert sent[2]["content"] == [{"text": "a"}, {"text": "b"}]
