"""Traces of every kind, also those that only AWS sends, as steps."""

from __future__ import annotations

from typing import Any

import pytest

from outcrop.client import Step
from outcrop.client.steps import StepReader


def orchestration(kind: str, body: dict[str, Any], **envelope: Any) -> dict[str, Any]:
    return {"trace": {"orchestrationTrace": {kind: {"traceId": "r-0", **body}}}, **envelope}


def action(name: str, text: str = "", **members: Any) -> dict[str, Any]:
    parameters = [{"name": "sku", "type": "string", "value": text}] if text else []
    called = {"actionGroupName": "stock", "parameters": parameters, "executionType": "LAMBDA", **members}
    if "apiPath" not in members:
        called["function"] = name
    body = {"invocationType": "ACTION_GROUP", "actionGroupInvocationInput": called}
    return orchestration("invocationInput", body)


def result(text: str) -> dict[str, Any]:
    return orchestration("observation", {"type": "ACTION_GROUP", "actionGroupInvocationOutput": {"text": text}})


def steps(*parts: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    reader = StepReader()
    read = [reader.feed(part) for part in parts]
    return [(step.kind, step.name, step.text, step.millis) for step in read if step is not None]


def test_results_go_to_their_actions_whether_in_pairs_or_in_rows() -> None:
    pairs = [action("check", "A"), result("1"), action("find", "B"), result("2")]
    rows = [action("check", "A"), action("find", "B"), result("1"), result("2")]

    for parts in (pairs, rows):
        told = {name: text for kind, name, text, _ in steps(*parts) if kind == "result"}
        assert told == {"stock.check": "1", "stock.find": "2"}


def test_an_api_operation_with_a_body() -> None:
    body = {"content": {"application/json": [{"name": "quantity", "type": "integer", "value": "12"}]}}
    [step] = steps(action("", "SKU-12", apiPath="/orders", verb="post", requestBody=body))

    assert step == ("action", "stock POST /orders", "sku=SKU-12, quantity=12", 0)


def test_a_knowledge_base_a_collaborator_and_code() -> None:
    references = [{"content": {"text": "a"}}, {"content": {"text": "b"}}]
    lookup = {"invocationType": "KNOWLEDGE_BASE", "knowledgeBaseLookupInput": {"knowledgeBaseId": "KB1", "text": "q"}}
    found = {"retrievedReferences": references, "metadata": {"totalTimeMs": 5}}
    other = {"agentCollaboratorName": "Finance", "input": {"type": "TEXT", "text": "how much?"}}
    said = {"agentCollaboratorName": "Finance", "output": {"type": "TEXT", "text": "12"}}
    code = {"codeInterpreterInvocationInput": {"code": "1 / 0"}, "invocationType": "ACTION_GROUP_CODE_INTERPRETER"}

    assert steps(
        orchestration("invocationInput", lookup),
        orchestration("observation", {"type": "KNOWLEDGE_BASE", "knowledgeBaseLookupOutput": found}),
        orchestration("invocationInput", {"agentCollaboratorInvocationInput": other}),
        orchestration("observation", {"agentCollaboratorInvocationOutput": said}),
        orchestration("invocationInput", code),
        orchestration("observation", {"codeInterpreterInvocationOutput": {"executionError": "by zero"}}),
    ) == [
        ("action", "KB1", "q", 0),
        ("result", "KB1", "2 passages", 5),
        ("action", "Finance", "how much?", 0),
        ("result", "Finance", "12", 0),
        ("action", "code", "1 / 0", 0),
        ("result", "code", "by zero", 0),
    ]


def test_traces_that_are_no_orchestration() -> None:
    output = {"traceId": "r-pre-0", "parsedResponse": {"isValid": True}, "metadata": {"totalTimeMs": 9}}
    assert steps(
        {"trace": {"preProcessingTrace": {"modelInvocationOutput": output}}},
        {"trace": {"guardrailTrace": {"traceId": "r-g", "action": "INTERVENED", "metadata": {"totalTimeMs": 4}}}},
        {"trace": {"customOrchestrationTrace": {"traceId": "r-0", "event": {"text": "thinking"}}}},
        {"trace": {"failureTrace": {"traceId": "r-0", "failureCode": 400, "failureReason": "no"}}},
        orchestration("observation", {"type": "REPROMPT", "repromptResponse": {"text": "which?", "source": "PARSER"}}),
        {"trace": {"somethingNew": {"traceId": "r-0"}}},
        {"trace": {}},
    ) == [
        ("model", "", "", 9),
        ("guardrail", "INTERVENED", "", 4),
        ("note", "", "thinking", 0),
        ("failure", "400", "no", 0),
        ("reprompt", "", "which?", 0),
    ]


def test_a_collaborators_steps_carry_its_name_and_are_not_the_answer() -> None:
    final = {"type": "FINISH", "finalResponse": {"text": "12", "metadata": {"operationTotalTimeMs": 7}}}
    step = StepReader().feed(orchestration("observation", final, collaboratorName="Finance"))

    assert step == Step("answer", "FINISH", "12", 7, agent="Finance")


@pytest.mark.parametrize(
    ("part", "acts"),
    [
        (action("check"), True),
        (action("check", executionType="RETURN_CONTROL"), False),
        (orchestration("invocationInput", {"invocationType": "KNOWLEDGE_BASE", "knowledgeBaseLookupInput": {}}), False),
        (orchestration("invocationInput", {"invocationType": "AGENT_COLLABORATOR"}), True),
        (result("1"), False),
    ],
)
def test_what_counts_as_an_action(part: dict[str, Any], acts: bool) -> None:
    step = StepReader().feed(part)
    assert step is not None
    assert step.is_action is acts
