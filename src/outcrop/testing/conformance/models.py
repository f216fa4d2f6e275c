"""What every model provider must do, as checks that a test runs over it.

    @pytest.mark.parametrize("check", CHECKS, ids=name_of)
    async def test_my_provider(check):
        await check(prepare)

`prepare` stands for your provider: given the answers that the model behind it shall give, it opens a
provider for the length of an `async with`. A check that needs what your model cannot be made to do,
such as failing, is left out by choosing from CHECKS and FAILURES.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from outcrop.messages import Message, ToolSpec, text_of, tool_result, tool_results, tool_uses, user
from outcrop.models.base import (
    ConverseRequest,
    Delta,
    Folder,
    ModelAccessDenied,
    ModelError,
    ModelNotReady,
    ModelProvider,
    ModelRejected,
    ModelThrottled,
    ModelUnavailable,
    Reply,
    fold,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model behind a provider shall answer to one request.

    Shapes: text, then calls (name, input); or a failure instead of both; `breaks_off` ends the
            connection after the text.
    """

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = field(default_factory=tuple[tuple[str, Mapping[str, Any]], ...])
    failure: type[ModelError] | None = None
    breaks_off: bool = False


Prepare: TypeAlias = Callable[[Sequence[Answer]], AbstractAsyncContextManager[ModelProvider]]
Check: TypeAlias = Callable[[Prepare], Awaitable[None]]

INVENTORY: ToolSpec = {
    "name": "get_inventory",
    "description": "Looks up how many units of a product are in stock.",
    "inputSchema": {
        "json": {
            "type": "object",
            "properties": {"sku": {"type": "string", "description": "Product id, such as SKU-55"}},
            "required": ["sku"],
        }
    },
}
PRICE: ToolSpec = {
    "name": "get_price",
    "description": "Looks up the list price of a product.",
    "inputSchema": INVENTORY["inputSchema"],
}
_SYSTEM = "You answer questions about the stock of a shop."
_STOCK = (("get_inventory", {"sku": "SKU-55"}),)
_BOTH = (("get_inventory", {"sku": "SKU-55"}), ("get_price", {"sku": "SKU-77"}))
_ASKS_STOCK = user("Check inventory for SKU-55")
_ASKS_BOTH = user("Check inventory for SKU-55 and get the price of SKU-77")


def request(*messages: Message, tools: Sequence[ToolSpec] = ()) -> ConverseRequest:
    """A request of these messages, as the checks make them."""
    return ConverseRequest("anthropic.claude-conformance-v1:0", messages, _SYSTEM, tuple(tools), {"maxTokens": 512})


async def text_is_streamed(prepare: Prepare) -> None:
    """A reply of text comes as deltas, folds to one assistant message, and ends the turn."""
    async with prepare([Answer("Hello, how can I help you today?")]) as provider:
        deltas = await _all(provider, request(user("Hello")))
    reply = _folded(deltas, request(user("Hello")))
    assert reply.message["role"] == "assistant"
    assert text_of(reply.message).strip(), f"no text in {reply.message}"
    assert reply.stop_reason == "end_turn", reply.stop_reason


async def events_are_in_order(prepare: Prepare) -> None:
    """Every event is one of ConverseStream's; messageStart is first, messageStop comes after all content."""
    async with prepare([Answer("One moment.", _STOCK)]) as provider:
        deltas = await _all(provider, request(_ASKS_STOCK, tools=[INVENTORY]))
    kinds = [next(iter(delta)) for delta in deltas]
    assert all(len(delta) == 1 for delta in deltas), "an event has exactly one member"
    assert set(kinds) <= set(Delta.__annotations__), f"unknown events in {kinds}"
    assert kinds[0] == "messageStart", kinds
    assert kinds.count("messageStop") == 1, kinds
    assert set(kinds[kinds.index("messageStop") + 1 :]) <= {"metadata"}, f"content after messageStop: {kinds}"


async def a_tool_is_called(prepare: Prepare) -> None:
    """A tool call has an id, the tool's own name and its input, and stops the reply for tool use."""
    async with prepare([Answer("", _STOCK)]) as provider:
        reply = await _reply(provider, request(_ASKS_STOCK, tools=[INVENTORY]))
    assert _called(reply) == list(_STOCK), reply.message
    assert reply.stop_reason == "tool_use", reply.stop_reason
    assert all(use["toolUseId"] for use in tool_uses(reply.message))


async def two_tools_are_called_at_once(prepare: Prepare) -> None:
    """Two calls of one reply stay apart: each with its id and its input, in order."""
    async with prepare([Answer("", _BOTH)]) as provider:
        reply = await _reply(provider, request(_ASKS_BOTH, tools=[INVENTORY, PRICE]))
    assert _called(reply) == list(_BOTH), reply.message
    assert len({use["toolUseId"] for use in tool_uses(reply.message)}) == 2, "two calls have one id"


async def tool_results_are_taken(prepare: Prepare) -> None:
    """The results of tools go back in the next request, and the model answers in text."""
    async with prepare([Answer("", _STOCK), Answer("42 units of SKU-55 are in stock.")]) as provider:
        first = await _reply(provider, request(_ASKS_STOCK, tools=[INVENTORY]))
        results = tool_results(tool_result(use["toolUseId"], '{"units": 42}') for use in tool_uses(first.message))
        reply = await _reply(provider, request(_ASKS_STOCK, first.message, results, tools=[INVENTORY]))
    assert "42" in text_of(reply.message), reply.message
    assert reply.stop_reason == "end_turn", reply.stop_reason


async def failed_tool_results_are_taken(prepare: Prepare) -> None:
    """A tool result may say that the tool failed, or have no status at all."""
    async with prepare([Answer("", _BOTH), Answer("That did not work.")]) as provider:
        first = await _reply(provider, request(_ASKS_BOTH, tools=[INVENTORY, PRICE]))
        uses = tool_uses(first.message)
        results = [tool_result(use["toolUseId"], "the tool timed out", error=True) for use in uses[:1]]
        for use in uses[1:]:
            results.append({"toolUseId": use["toolUseId"], "content": [{"json": {"price": 5}}]})
        reply = await _reply(
            provider, request(_ASKS_BOTH, first.message, tool_results(results), tools=[INVENTORY, PRICE])
        )
    assert reply.message["content"], "no answer to a failed tool"


async def usage_is_counted(prepare: Prepare) -> None:
    """Every call has its tokens, counted or estimated, and the total is their sum."""
    async with prepare([Answer("Hello.")]) as provider:
        reply = await _reply(provider, request(user("Hello")))
    usage = reply.usage
    assert usage["inputTokens"] > 0, usage
    assert usage["outputTokens"] > 0, usage
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"], usage


async def the_request_is_left_alone(prepare: Prepare) -> None:
    """A provider changes nothing of the messages and tools it is given."""
    asked = request(_ASKS_STOCK, tools=[INVENTORY])
    before = copy.deepcopy((asked.messages, asked.tools, asked.inference))
    async with prepare([Answer("", _STOCK)]) as provider:
        await _reply(provider, asked)
    assert before == (asked.messages, asked.tools, asked.inference), "the provider changed the request"


async def replies_do_not_mix(prepare: Prepare) -> None:
    """Calls under way at the same time each get a whole reply."""
    async with prepare([Answer("All is well today.")] * 5) as provider:
        replies = await asyncio.gather(*(_reply(provider, request(user("Hello"))) for _ in range(5)))
    assert len({text_of(reply.message) for reply in replies}) == 1, [text_of(reply.message) for reply in replies]


async def a_reader_may_leave(prepare: Prepare) -> None:
    """A reply that nobody reads to its end costs nothing: the next call is answered."""
    async with prepare([Answer("A long answer to begin with."), Answer("Hello again.")]) as provider:
        async with aclosing(cast("Any", provider.stream(request(user("Hello"))))) as deltas:
            async for _ in deltas:
                break
        reply = await _reply(provider, request(user("Hello")))
    assert text_of(reply.message).strip()


async def throttling_is_typed(prepare: Prepare) -> None:
    """A refusal because of the rate is ModelThrottled."""
    await _fails(prepare, ModelThrottled)


async def a_server_error_is_typed(prepare: Prepare) -> None:
    """A server that fails is ModelUnavailable."""
    await _fails(prepare, ModelUnavailable)


async def a_refused_key_is_typed(prepare: Prepare) -> None:
    """Refused credentials are ModelAccessDenied."""
    await _fails(prepare, ModelAccessDenied)


async def a_refused_request_is_typed(prepare: Prepare) -> None:
    """A request that the provider finds wrong is ModelRejected, in the provider's words."""
    await _fails(prepare, ModelRejected)


async def a_loading_model_is_typed(prepare: Prepare) -> None:
    """A model that is still being loaded is ModelNotReady."""
    await _fails(prepare, ModelNotReady)


async def a_broken_stream_is_typed(prepare: Prepare) -> None:
    """A reply that breaks off is ModelUnavailable after what had come, never a short reply.

    Errors: AssertionError when the reply passes for a whole one.
    """
    folder = Folder()
    async with prepare([Answer("This is where it", breaks_off=True)]) as provider:
        try:
            async for delta in provider.stream(request(user("Hello"))):
                folder.feed(delta)
        except ModelUnavailable:
            pass
        else:
            raise AssertionError("a reply that broke off passed for a whole one")
    assert text_of(folder.reply(request()).message) == "This is where it"


async def _fails(prepare: Prepare, kind: type[ModelError]) -> None:
    raised: ModelError | None = None
    async with prepare([Answer(failure=kind)]) as provider:
        try:
            await _reply(provider, request(user("Hello")))
        except ModelError as error:
            raised = error
    assert type(raised) is kind, f"{kind.__name__} expected, not {raised!r}"
    assert str(raised), f"{kind.__name__} without a message"


async def _all(provider: ModelProvider, asked: ConverseRequest) -> list[Delta]:
    return [delta async for delta in provider.stream(asked)]


async def _reply(provider: ModelProvider, asked: ConverseRequest) -> Reply:
    return await fold(provider.stream(asked), asked)


def _folded(deltas: Sequence[Delta], asked: ConverseRequest) -> Reply:
    folder = Folder()
    for delta in deltas:
        folder.feed(delta)
    return folder.reply(asked)


def _called(reply: Reply) -> list[tuple[str, Mapping[str, Any]]]:
    return [(use["name"], use["input"]) for use in tool_uses(reply.message)]


CHECKS: tuple[Check, ...] = (
    text_is_streamed,
    events_are_in_order,
    a_tool_is_called,
    two_tools_are_called_at_once,
    tool_results_are_taken,
    failed_tool_results_are_taken,
    usage_is_counted,
    the_request_is_left_alone,
    replies_do_not_mix,
    a_reader_may_leave,
)
"""What every provider must pass."""

FAILURES: tuple[Check, ...] = (
    throttling_is_typed,
    a_server_error_is_typed,
    a_refused_key_is_typed,
    a_refused_request_is_typed,
    a_loading_model_is_typed,
    a_broken_stream_is_typed,
)
"""What every provider that calls a server must pass."""


def name_of(check: Any) -> str:
    """A check's name, for the ids of parametrised tests."""
    return str(check.__name__)
