"""What an agent did, step by step, read from its traces.

modelInvocationOutput -> model    rationale -> thought    invocationInput -> action    observation -> result | answer
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

JSON = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that an agent did.

    Shapes: kind is thought, model, action, result, reprompt, answer, guardrail, note or failure; or retry, which is
            ours: the request is made again, or, where the name is AnswerVoid, what was told of the answer is void and
            it is told from its start. name is the model, "group.function" or "group POST /path", the knowledge base,
            the collaborator, or a code. agent is the collaborator that did it, "" for the agent itself. part is the
            trace as it came.
    Units:  millis, 0 where the trace has no time.
    """

    kind: str
    name: str = ""
    text: str = ""
    millis: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    agent: str = ""
    part: JSON = field(default_factory=dict[str, Any], repr=False, compare=False)

    @property
    def is_action(self) -> bool:
        """Whether the service had something done; what it returns control for is done by its caller."""
        if self.kind != "action":
            return False
        _, told = _only(_in(self.part, "trace"))
        execution = _in(told, "invocationInput", "actionGroupInvocationInput", "executionType")
        return execution != "RETURN_CONTROL" and _in(told, "invocationInput", "invocationType") != "KNOWLEDGE_BASE"

    def is_like(self, other: Step) -> bool:
        """Whether both tell of the same; a journal may have rounded the time that it took."""
        return replace(self, millis=0) == replace(other, millis=0)


class StepReader:
    """Makes steps of the trace parts of one turn, fed in order."""

    def __init__(self) -> None:
        """Begin with nothing remembered."""
        self._models: dict[str, str] = {}
        self._asked: defaultdict[str, deque[str]] = defaultdict(deque)

    def copy(self) -> StepReader:
        """Another reader that remembers the same."""
        other = StepReader()
        other._models.update(self._models)
        other._asked.update({agent: deque(names) for agent, names in self._asked.items()})
        return other

    def feed(self, part: JSON) -> Step | None:
        """The step that a trace part tells of; None where it only announces one, or is of a kind unknown here."""
        stage, told = _only(_in(part, "trace", default={}))
        kind, body = (stage, told) if "traceId" in told else _only(told)
        agent = _in(part, "collaboratorName")
        match kind:
            case "modelInvocationInput":
                self._models[_in(body, "traceId")] = _in(body, "foundationModel")
                return None
            case "modelInvocationOutput":
                return self._model(body, agent, part)
            case "rationale":
                return Step("thought", text=_in(body, "text"), agent=agent, part=part)
            case "invocationInput":
                name, text = _invoked(body)
                self._asked[agent].append(name)
                return Step("action", name, text, agent=agent, part=part)
            case "observation":
                return self._observation(body, agent, part)
            case "guardrailTrace":
                return Step("guardrail", _in(body, "action"), millis=_millis(body), agent=agent, part=part)
            case "customOrchestrationTrace":
                return Step("note", text=_in(body, "event", "text"), agent=agent, part=part)
            case "failureTrace":
                code, reason = str(_in(body, "failureCode")), _in(body, "failureReason")
                return Step("failure", code, reason, _millis(body), agent=agent, part=part)
            case _:
                return None

    def _model(self, body: JSON, agent: str, part: JSON) -> Step:
        return Step(
            "model",
            self._models.get(_in(body, "traceId"), ""),
            _in(body, "parsedResponse", "text"),
            _millis(body),
            input_tokens=_in(body, "metadata", "usage", "inputTokens", default=0),
            output_tokens=_in(body, "metadata", "usage", "outputTokens", default=0),
            agent=agent,
            part=part,
        )

    def _observation(self, body: JSON, agent: str, part: JSON) -> Step:
        kind = _in(body, "type")
        final = _in(body, "finalResponse", default=None)
        if final is not None:
            return Step("answer", kind, _in(final, "text"), _millis(final), agent=agent, part=part)
        asked = self._asked[agent]
        name = asked.popleft() if asked else ""
        text, output = _observed(body)
        step = "reprompt" if kind == "REPROMPT" else "result"
        return Step(step, name, text, _millis(output), agent=agent, part=part)


def _invoked(body: JSON) -> tuple[str, str]:
    """Name and input of an invocation."""
    action = _in(body, "actionGroupInvocationInput", default={})
    if action:
        group, function = _in(action, "actionGroupName"), _in(action, "function")
        called = (
            f"{group}.{function}" if function else f"{group} {_in(action, 'verb').upper()} {_in(action, 'apiPath')}"
        )
        entries = [*_in(action, "parameters", default=())]
        for properties in _in(action, "requestBody", "content", default={}).values():
            entries += properties
        return called, ", ".join(f"{_in(entry, 'name')}={_in(entry, 'value')}" for entry in entries)
    if lookup := _in(body, "knowledgeBaseLookupInput", default={}):
        return _in(lookup, "knowledgeBaseId"), _in(lookup, "text")
    if other := _in(body, "agentCollaboratorInvocationInput", default={}):
        return _in(other, "agentCollaboratorName"), _in(other, "input", "text")
    return "code", _in(body, "codeInterpreterInvocationInput", "code")


def _observed(body: JSON) -> tuple[str, JSON]:
    """Text of an observation, and the member that holds its times."""
    if lookup := _in(body, "knowledgeBaseLookupOutput", default={}):
        return f"{len(_in(lookup, 'retrievedReferences', default=()))} passages", lookup
    if other := _in(body, "agentCollaboratorInvocationOutput", default={}):
        return _in(other, "output", "text"), other
    if code := _in(body, "codeInterpreterInvocationOutput", default={}):
        return _in(code, "executionOutput") or _in(code, "executionError"), code
    action = _in(body, "actionGroupInvocationOutput", default=None) or _in(body, "repromptResponse", default={})
    return _in(action, "text"), action


def _millis(body: JSON) -> int:
    return _in(body, "metadata", "totalTimeMs", default=_in(body, "metadata", "operationTotalTimeMs", default=0))


def _only(union: JSON) -> tuple[str, JSON]:
    """Name and value of a union's one member; nothing where it is empty."""
    for name, value in union.items():
        return name, value
    return "", {}


def _in(whole: Any, *path: str, default: Any = "") -> Any:
    """The value at the end of a path of members; the default where a member is absent."""
    for name in path:
        whole = whole.get(name)
        if whole is None:
            return default
    return whole
