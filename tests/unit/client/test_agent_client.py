"""The client against a scripted runtime: what it sends, what it reads, what it dares to send again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from scripted_runtime import ACTED, Runtime, chunk, failed, refusal, stream, trace

from outcrop.client import (
    ActionCall,
    ActionFailed,
    AgentAccessDenied,
    AgentCallFailed,
    AgentClient,
    AgentConflict,
    AgentDependencyFailed,
    AgentInterrupted,
    AgentNotFound,
    AgentNotReady,
    AgentRequestInvalid,
    AgentServerFailed,
    AgentThrottled,
    AgentUnreachable,
    Step,
)

Make = Callable[..., AgentClient]
WHO = ("AX123", "PROD", "session-789")
RESERVE = {
    "invocationId": "inv-1",
    "invocationInputs": [
        {
            "functionInvocationInput": {
                "actionGroup": "orders",
                "function": "reserve",
                "actionInvocationType": "RESULT",
                "agentId": "ABCDEFGHIJ",
                "parameters": [
                    {"name": "sku", "type": "string", "value": "SKU-55"},
                    {"name": "quantity", "type": "integer", "value": "5"},
                ],
            }
        }
    ],
}


def test_an_answer_with_its_chunks_citations_and_ids(runtime: Runtime, client: Make) -> None:
    citation = {"generatedResponsePart": {"textResponsePart": {"text": "42", "span": {"start": 0, "end": 1}}}}
    runtime.then(stream(chunk("There are "), chunk("42.", attribution={"citations": [citation]})))
    heard: list[str] = []

    answer = client().ask(*WHO, "Check inventory for SKU-55", on_chunk=heard.append)

    assert answer.text == "There are 42."
    assert heard == ["There are ", "42."]
    assert answer.citations == [citation]
    assert (answer.session_id, answer.request_id) == ("session-789", "request-1")
    assert answer.first_chunk_s is not None
    assert 0 < answer.first_chunk_s <= answer.total_s
    assert runtime.asks == [
        (
            "/agents/AX123/agentAliases/PROD/sessions/session-789/text",
            {
                "inputText": "Check inventory for SKU-55",
                "enableTrace": True,
                "streamingConfigurations": {"streamFinalResponse": True},
            },
        )
    ]


def test_a_character_that_is_split_between_chunks_arrives_whole(runtime: Runtime, client: Make) -> None:
    data = "Zażółć 🏬!".encode()
    runtime.then(stream(*[chunk(data[at : at + 1]) for at in range(len(data))]))
    heard: list[str] = []

    assert client().ask(*WHO, "Say it", on_chunk=heard.append).text == "Zażółć 🏬!"
    assert "".join(heard) == "Zażółć 🏬!"
    assert "" not in heard


def test_steps_and_tokens_come_from_the_traces(runtime: Runtime, client: Make) -> None:
    usage = {"totalTimeMs": 12, "usage": {"inputTokens": 100, "outputTokens": 7}}
    called = {"actionGroupName": "stock", "function": "check", "executionType": "LAMBDA"}
    called |= {"parameters": [{"name": "sku", "type": "string", "value": "SKU-55"}]}
    told = {"actionGroupInvocationOutput": {"text": "42", "metadata": {"totalTimeMs": 3}}, "type": "ACTION_GROUP"}
    final = {"finalResponse": {"text": "42.", "metadata": {"operationTotalTimeMs": 40}}, "type": "FINISH"}
    runtime.then(
        stream(
            trace(modelInvocationInput={"foundationModel": "anthropic.claude", "text": "..."}),
            trace(modelInvocationOutput={"metadata": usage}),
            trace(rationale={"text": "Look it up."}),
            trace(invocationInput={"invocationType": "ACTION_GROUP", "actionGroupInvocationInput": called}),
            trace(observation=told),
            trace(modelInvocationOutput={"metadata": usage}),
            trace(observation=final),
            chunk("42."),
        )
    )
    heard: list[Step] = []

    answer = client().ask(*WHO, "Check", on_step=heard.append)

    assert [(step.kind, step.name, step.text, step.millis) for step in answer.steps] == [
        ("model", "anthropic.claude", "", 12),
        ("thought", "", "Look it up.", 0),
        ("action", "stock.check", "sku=SKU-55", 0),
        ("result", "stock.check", "42", 3),
        ("model", "anthropic.claude", "", 12),
        ("answer", "FINISH", "42.", 40),
    ]
    assert heard == answer.steps
    assert (answer.input_tokens, answer.output_tokens) == (200, 14)


def test_control_is_returned_until_there_is_an_answer(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(("returnControl", RESERVE)), stream(("returnControl", RESERVE)), stream(chunk("Reserved.")))
    asked: list[ActionCall] = []

    def reserve(call: ActionCall) -> dict[str, Any]:
        asked.append(call)
        return {"reservation": f"R-{len(asked)}"}

    answer = client().ask(
        *WHO, "Reserve 5", on_return_control=reserve, session_state={"sessionAttributes": {"user": "ada"}}
    )

    assert answer.text == "Reserved."
    assert answer.return_control is None
    assert [(call.action_group, call.name, call.parameters) for call in asked] == [
        ("orders", "reserve", {"sku": "SKU-55", "quantity": 5})
    ] * 2
    first, second, third = [body for _, body in runtime.asks]
    assert first["sessionState"] == {"sessionAttributes": {"user": "ada"}}
    assert "inputText" not in second
    assert second["sessionState"] == {
        "invocationId": "inv-1",
        "returnControlInvocationResults": [
            {
                "functionResult": {
                    "actionGroup": "orders",
                    "function": "reserve",
                    "agentId": "ABCDEFGHIJ",
                    "responseBody": {"TEXT": {"body": '{"reservation": "R-1"}'}},
                }
            }
        ],
    }
    assert "R-2" in str(third["sessionState"])


def test_without_a_callback_control_is_the_answer(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(("returnControl", RESERVE)), stream(chunk("Reserved.")))
    agents = client()

    asked = agents.ask(*WHO, "Reserve 5")
    assert asked.text == ""
    assert asked.return_control is not None
    state = asked.return_control.session_state(["R-7"])

    assert agents.ask(*WHO, "", session_state=state).text == "Reserved."
    assert "R-7" in str(runtime.asks[1][1]["sessionState"])


def test_an_action_that_failed_is_told_to_the_model(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(("returnControl", RESERVE)), stream(chunk("There are only 3.")))

    def reserve(call: ActionCall) -> str:
        raise ActionFailed("only 3 left")

    assert client().ask(*WHO, "Reserve 5", on_return_control=reserve).text == "There are only 3."
    [member] = runtime.asks[1][1]["sessionState"]["returnControlInvocationResults"]
    assert member["functionResult"]["responseState"] == "REPROMPT"
    assert member["functionResult"]["responseBody"] == {"TEXT": {"body": "only 3 left"}}


def test_an_action_that_breaks_ends_the_turn_and_raises_its_own_error(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(("returnControl", RESERVE)), stream(failed("dependencyFailedException")))

    def reserve(call: ActionCall) -> str:
        raise KeyError("secret")

    with pytest.raises(KeyError, match="secret"):
        client().ask(*WHO, "Reserve 5", on_return_control=reserve)
    [member] = runtime.asks[1][1]["sessionState"]["returnControlInvocationResults"]
    assert member["functionResult"]["responseState"] == "FAILURE"
    assert "secret" not in str(member)


@pytest.mark.parametrize("answer", [{"confirmed": False}, "no", 1, object(), None])
def test_what_is_neither_true_nor_false_is_denied_and_raised(answer: Any, runtime: Runtime, client: Make) -> None:
    [asked] = RESERVE["invocationInputs"]
    confirm = {**asked["functionInvocationInput"], "actionInvocationType": "USER_CONFIRMATION"}
    control = {**RESERVE, "invocationInputs": [{"functionInvocationInput": confirm}]}
    runtime.then(stream(("returnControl", control)), stream(chunk("Then not.")))

    with pytest.raises(TypeError, match=f"reserve is of type {type(answer).__name__}; wanted is True or False"):
        client().ask(*WHO, "Reserve 5", on_return_control=lambda _: answer)
    [member] = runtime.asks[1][1]["sessionState"]["returnControlInvocationResults"]
    assert member["functionResult"]["confirmationState"] == "DENY"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDeniedException", AgentAccessDenied),
        (409, "ConflictException", AgentConflict),
        (424, "DependencyFailedException", AgentDependencyFailed),
        (500, "InternalServerException", AgentServerFailed),
        (404, "ResourceNotFoundException", AgentNotFound),
        (429, "ThrottlingException", AgentThrottled),
        (400, "ValidationException", AgentRequestInvalid),
        (503, "", AgentServerFailed),
        (400, "ServiceQuotaExceededException", AgentCallFailed),
        (501, "NotImplementedException", AgentCallFailed),
    ],
)
def test_a_refusal_has_its_type(
    status: int, code: str, kind: type[AgentCallFailed], runtime: Runtime, client: Make
) -> None:
    runtime.then(refusal(status, code, "not now"))

    with pytest.raises(kind, match="not now") as caught:
        client(attempts=1).ask(*WHO, "Hello")
    assert type(caught.value) is kind
    assert not caught.value.has_begun
    assert caught.value.code == (code or "503")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("dependencyFailedException", AgentDependencyFailed),
        ("validationException", AgentRequestInvalid),
        ("throttlingException", AgentThrottled),
        ("modelNotReadyException", AgentNotReady),
        ("badGatewayException", AgentDependencyFailed),
    ],
)
def test_an_exception_in_the_stream_has_its_type_and_what_was_streamed(
    code: str, kind: type[AgentCallFailed], runtime: Runtime, client: Make
) -> None:
    runtime.then(stream(chunk("There are "), failed(code, "it broke")))

    with pytest.raises(kind, match="it broke") as caught:
        client(attempts=1).ask(*WHO, "Hello")
    assert caught.value.has_begun
    assert caught.value.code == code[0].upper() + code[1:]
    assert caught.value.partial_text == "There are "
    assert caught.value.request_id == "request-1"


@pytest.mark.parametrize(
    "reply",
    [
        refusal(429, "ThrottlingException"),
        refusal(424, "ModelNotReadyException"),
        refusal(409, "ConflictException"),
        refusal(500, "InternalServerException"),
        stream(failed("throttlingException")),
        stream(failed("modelNotReadyException")),
        stream(chunk("4"), failed("internalServerException")),
        stream(chunk("4"), cut=True),
        stream(),
    ],
    ids=lambda reply: str(reply.error or len(reply.frames)),
)
def test_what_is_safe_is_sent_again_on_the_same_session(reply: Any, runtime: Runtime, client: Make) -> None:
    runtime.then(reply, stream(chunk("42.")))
    heard: list[Step] = []

    answer = client().ask(*WHO, "Check", on_step=heard.append)

    assert answer.text == "42."
    assert [step.kind for step in heard] == ["retry"]
    assert runtime.asks[0] == runtime.asks[1]


@pytest.mark.parametrize("code", ["validationException", "dependencyFailedException", "accessDeniedException"])
def test_what_would_fail_again_is_not_sent_again(code: str, runtime: Runtime, client: Make) -> None:
    runtime.then(stream(failed(code)))

    with pytest.raises(AgentCallFailed):
        client().ask(*WHO, "Check")
    assert len(runtime.asks) == 1


def test_a_turn_that_has_acted_and_failed_is_not_made_again(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(ACTED, failed("throttlingException")))

    with pytest.raises(AgentThrottled):
        client().ask(*WHO, "Check")


def test_without_traces_nobody_knows_whether_it_has_acted(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(failed("throttlingException")))

    with pytest.raises(AgentThrottled):
        client(trace=False).ask(*WHO, "Check")
    assert runtime.asks[0][1]["enableTrace"] is False


def test_a_turn_that_was_interrupted_is_joined_even_if_it_has_acted(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(ACTED, cut=True), stream(ACTED, chunk("42.")))

    answer = client().ask(*WHO, "Check")

    assert answer.text == "42."
    assert [step.kind for step in answer.steps] == ["action", "retry"]


def test_a_server_that_does_not_resume_is_not_asked_to(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("There"), cut=True))

    with pytest.raises(AgentInterrupted) as caught:
        client(resumes=False).ask(*WHO, "Check")
    assert caught.value.partial_text == "There"


def test_aws_is_not_taken_for_a_server_that_resumes() -> None:
    keys = {"region": "us-east-1"}
    assert AgentClient(**keys).resumes is False
    assert AgentClient("https://bedrock-agent-runtime.eu-west-1.amazonaws.com", **keys).resumes is False
    assert AgentClient("http://127.0.0.1:8700", **keys).resumes is True


def test_a_session_that_went_on_with_other_words_is_left_alone(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(ACTED, cut=True), refusal(409, "ConflictException", "in progress"))

    with pytest.raises(AgentInterrupted) as caught:
        client().ask(*WHO, "Check")
    assert isinstance(caught.value.__cause__, AgentConflict)
    assert len(runtime.asks) == 2


def test_results_that_were_sent_already_are_not_an_error_of_the_caller(runtime: Runtime, client: Make) -> None:
    """The turn took the results, went on, and its session began another one while the connection was down."""
    runtime.then(stream(("returnControl", RESERVE)), stream(cut=True), refusal(400, "ValidationException", "nothing"))
    done: list[ActionCall] = []

    with pytest.raises(AgentInterrupted) as caught:
        client().ask(*WHO, "Reserve", on_return_control=lambda call: done.append(call) or "ok")
    assert isinstance(caught.value.__cause__, AgentRequestInvalid)
    assert len(done) == 1
    assert runtime.asks[1] == runtime.asks[2]


def test_results_are_sent_again_and_the_action_is_not_done_again(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(("returnControl", RESERVE)), stream(cut=True), stream(chunk("Reserved.")))
    done: list[ActionCall] = []

    answer = client().ask(*WHO, "Reserve", on_return_control=lambda call: done.append(call) or "ok")

    assert answer.text == "Reserved."
    assert len(done) == 1


def test_attempts_come_to_an_end(runtime: Runtime, client: Make) -> None:
    runtime.then(*[refusal(429, "ThrottlingException")] * 2)

    with pytest.raises(AgentThrottled):
        client(attempts=2).ask(*WHO, "Check")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client has waited, without waiting."""
    found: list[float] = []
    monkeypatch.setattr("outcrop.client.agent_client.time", SimpleNamespace(sleep=found.append))
    return found


@pytest.mark.parametrize("cut", [True, False])
def test_a_server_may_take_some_seconds_to_come_back(
    cut: bool, waits: list[float], runtime: Runtime, boto: boto3.Session
) -> None:
    away = [refusal(503, "")] * 4
    runtime.then(stream(chunk("There a"), cut=True) if cut else away[0], *away, stream(chunk("42.")))
    agents = AgentClient(runtime.url, session=boto)

    assert agents.ask(*WHO, "Check").text == "42."
    assert len(waits) == 5
    assert all(0.5 * most <= wait <= most for wait, most in zip(waits[1:], [1, 2, 4, 8], strict=True))
    assert 7 < sum(waits) < 16
    agents.close()


def test_a_session_that_an_earlier_call_left_busy_is_waited_for(
    waits: list[float], runtime: Runtime, boto: boto3.Session
) -> None:
    busy = refusal(409, "ConflictException", "in progress")
    runtime.then(stream(ACTED, cut=True), *[busy] * 6, stream(chunk("42.")))
    agents = AgentClient(runtime.url, session=boto)

    with pytest.raises(AgentInterrupted):
        agents.ask(*WHO, "Check")
    assert agents.ask(*WHO, "And now?").text == "42."
    assert sum(waits) > 7
    agents.close()


@pytest.mark.parametrize("url", ["127.0.0.1:8791", "localhost:8791", "agents.example", ""])
def test_an_endpoint_without_a_scheme_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=f"endpoint_url '{url}' .* the scheme is missing: write 'http://{url}'"):
        AgentClient(url)


def test_an_endpoint_that_is_no_http_address_is_named() -> None:
    with pytest.raises(ValueError, match=r"endpoint_url 'ftp://here' is no http:// or https:// address$"):
        AgentClient("ftp://here")


@pytest.mark.parametrize("has_session", [True, False])
def test_an_endpoint_of_ones_own_needs_no_region(
    has_session: bool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    runtime.then(stream(chunk("42.")))
    agents = AgentClient(runtime.url, session=boto3.Session() if has_session else None)

    assert agents.ask(*WHO, "Check").text == "42."
    agents.close()


def test_nobody_listens(client: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    agents = AgentClient(f"http://127.0.0.1:{port}", attempts=2, backoff_s=0.0)

    with pytest.raises(AgentUnreachable):
        agents.ask(*WHO, "Hello?")


def test_silence_is_an_interruption(runtime: Runtime, client: Make) -> None:
    silence = threading.Event()
    quiet = stream()
    quiet.hang = silence
    runtime.then(quiet)

    with pytest.raises(AgentInterrupted):
        client(read_timeout_s=0.1, attempts=1).ask(*WHO, "Hello?")
    silence.set()


def test_garbage_in_the_stream_is_an_interruption(runtime: Runtime, client: Make) -> None:
    broken = stream(chunk("42."))
    broken.frames[0] = broken.frames[0][:-1] + b"\x00"
    runtime.then(broken)

    with pytest.raises(AgentInterrupted):
        client(attempts=1).ask(*WHO, "Check")


def test_what_a_callback_raises_is_the_callers_own(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("a"), chunk("b")))

    def stop(text: str) -> None:
        raise StopIteration(text)

    with pytest.raises(StopIteration):
        client().ask(*WHO, "Check", on_chunk=stop)


def test_ending_a_session(runtime: Runtime, client: Make) -> None:
    runtime.then(stream(chunk("Session is terminated")))

    client().end(*WHO)

    assert runtime.asks[0][1] == {"endSession": True}


def test_files_and_events_of_another_day(runtime: Runtime, client: Make) -> None:
    made = {"name": "plot.png", "type": "image/png", "bytes": b"\x89"}
    runtime.then(stream(("files", {"files": [made]}), chunk("Here.")))

    assert client().ask(*WHO, "Plot").files == [made]
