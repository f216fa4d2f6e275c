"""Several servers and a worker on one PostgreSQL: any of them answers any session, and none of them is missed."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from agents import INSTRUCTION, LAMBDA, ROLE, Answer, collect
from botocore.exceptions import EventStreamError
from gated_model import GatedModel, Message, tool_call
from postgresql import PostgreSQL
from serving import Served

pytestmark = pytest.mark.slow

_PATIENCE_S = 60.0
_HANDLER = """
import os

def handler(event, context):
    with open(os.environ["EFFECTS"], "a") as effects:
        effects.write("paid\\n")
    return {"messageVersion": "1.0", "response": {
        "actionGroup": event["actionGroup"], "function": event["function"],
        "functionResponse": {"responseBody": {"TEXT": {"body": "R-1"}}}}}
"""
_PAY = {"name": "pay", "description": "Pay an invoice.", "parameters": {"invoice": {"type": "string"}}}
_AGENT = {"agentId": "payer", "agentAliasId": "TSTALIASID"}


def decide(messages: list[Message]) -> Message:
    """Pay once where that is asked; then say what there was."""
    if messages[-1]["role"] == "tool":
        return {"content": f"Done: {messages[-1]['content']}"}
    if messages[-1]["content"] == "Pay INV-7":
        return tool_call("billing__pay", {"invoice": "INV-7"}, len(messages))
    return {"content": f"I have seen {len(messages)} messages."}


class Node(Served):
    """One server process with clients."""

    def __enter__(self) -> Node:
        super().__enter__()
        self.control, self.runtime, self.outcrop = map(
            self.client, ("bedrock-agent", "bedrock-agent-runtime", "outcrop")
        )
        return self

    def ask(self, session: str, text: str) -> Answer:
        return collect(self.invoke(session, text))

    def invoke(self, session: str, text: str) -> dict[str, Any]:
        """The answer, to be read as it comes."""
        return self.runtime.invoke_agent(**_AGENT, sessionId=session, inputText=text, enableTrace=True)

    def turn_of(self, session: str) -> str:
        """The id of the only turn of a session."""
        [turn] = self.outcrop.list_turns(**_AGENT, sessionId=session)["turnSummaries"]
        return turn["turnId"]

    def rests(self, turn_id: str) -> dict[str, Any]:
        """A turn once it has ended, without anybody asking for its answer."""
        return self.outcrop.get_turn(turnId=turn_id, waitSeconds=20)


class Aside:
    """A call that is made in a thread; `answer` or `error` is what came of it."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self._ask = ask
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.answer = self._ask()
        except Exception as error:
            self.error = error

    def join(self) -> Aside:
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive(), "the call does not end"
        return self


class House:
    """One database, one model, one function that counts its effects; servers and workers as they are asked for."""

    def __init__(self, folder: Path, url: str, model: GatedModel, stack: ExitStack) -> None:
        self.folder, self.url, self.model, self._stack = folder, url, model, stack
        self._numbers, self._nodes = itertools.count(1), list[Node]()
        self.session = ""
        self.effects = folder / "effects"
        (folder / "billing").mkdir()
        (folder / "billing" / "app.py").write_text(_HANDLER)
        self.config = folder / "outcrop.toml"
        self.config.write_text(
            "[server]\nbeat_s = 0.2\nlease_s = 1.5\nstop_grace_s = 0.2\n"
            f'[models]\n"*" = {{ provider = "openai", base_url = "{model.url}", model = "m" }}\n'
            '[functions]\n"inventory" = { path = "billing", handler = "app.handler", '
            f'environment = {{ EFFECTS = "{self.effects}" }} }}\n'
        )

    def node(self) -> Node:
        """One more server."""
        folder = self.folder / f"node-{next(self._numbers)}"
        node = self._stack.enter_context(Node(folder, "--database", self.url, config=self.config))
        self._nodes.append(node)
        return node

    def nodes(self) -> tuple[Node, Node]:
        """Two that live, and a session of the test's own: those before may have killed some."""
        self._nodes = [node for node in self._nodes if node.process.poll() is None]
        while len(self._nodes) < 2:
            self.node()
        self.session = f"session-{next(self._numbers)}"
        self.effects.unlink(missing_ok=True)
        first, second, *_ = self._nodes
        return first, second

    def make_agent(self) -> None:
        """Through both nodes."""
        first, second = self.nodes()
        made = {"agentName": "payer", "foundationModel": "some.model", "instruction": INSTRUCTION}
        first.control.create_agent(**made, agentResourceRoleArn=ROLE)
        second.control.create_agent_action_group(
            agentId="payer",
            agentVersion="DRAFT",
            actionGroupName="billing",
            actionGroupExecutor={"lambda": LAMBDA},
            functionSchema={"functions": [_PAY]},
        )
        first.control.prepare_agent(agentId="payer")

    @contextmanager
    def worker(self) -> Iterator[None]:
        """A process without a door."""
        command = [sys.executable, "-m", "outcrop.cli.main", "worker", "--data-dir", str(self.folder / "worker")]
        command += ["--database", self.url, "--config", str(self.config)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        try:
            assert "takes jobs" in process.stdout.readline()
            yield
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()

    def held_after_it_has_paid(self, node: Node) -> Aside:
        """A turn at a node that asks the model what to say, having paid."""
        self.model.hold(len(self.model.requests) + 2)
        caller = Aside(lambda: node.ask(self.session, "Pay INV-7"))
        assert self.model.reached.wait(_PATIENCE_S)
        return caller

    def state(self, turn_id: str) -> object:
        """A turn's, as its journal has it."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT state FROM turns WHERE id = %s", [turn_id]).fetchone()
        return found[0] if found else None

    @property
    def paid(self) -> int:
        return len(self.effects.read_text().splitlines()) if self.effects.exists() else 0


@pytest.fixture(scope="module")
def _house(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, _migrated: str) -> Iterator[House]:
    url = postgresql.database(template=_migrated)
    with GatedModel(decide) as model, ExitStack() as stack:
        house = House(tmp_path_factory.mktemp("house"), url, model, stack)
        house.make_agent()
        yield house
        model.release()
    postgresql.drop(url)


@pytest.fixture
def house(_house: House) -> Iterator[House]:
    """Servers for all tests of this file, because each takes seconds to start; killed ones are replaced."""
    yield _house
    _house.model.release()


def test_any_node_answers_any_session(house: House) -> None:
    first, second = house.nodes()

    answers = [
        node.ask(house.session, text).text
        for node, text in ((first, "Hi"), (second, "And?"), (second, "So?"), (first, "Bye"))
    ]

    # the system's, then a question and an answer more each time
    assert answers == [f"I have seen {number} messages." for number in (2, 4, 6, 8)]


def test_a_retry_at_another_node_joins_the_turn_and_hears_it_from_its_start(house: House) -> None:
    first, second = house.nodes()
    before = len(house.model.requests)
    caller = house.held_after_it_has_paid(first)

    response = second.invoke(house.session, "Pay INV-7")
    heard: list[Any] = []
    for event in response["completion"]:
        heard.append(event)
        if "observation" in event.get("trace", {}).get("trace", {}).get("orchestrationTrace", {}):
            house.model.release()  # what came before was heard while the turn still ran at the other node
            break
    heard += list(response["completion"])

    here = caller.join().answer
    assert here is not None
    assert here.text == "Done: R-1"
    assert b"".join(event["chunk"]["bytes"] for event in heard if "chunk" in event) == b"Done: R-1"
    assert [next(iter(event)) for event in heard] == [name for name, _ in here.frames]
    assert (house.paid, len(house.model.requests) - before) == (1, 2)


def test_a_cancel_at_one_node_stops_a_turn_of_another(house: House) -> None:
    first, second = house.nodes()
    caller = house.held_after_it_has_paid(first)
    turn_id = second.turn_of(house.session)

    began = time.monotonic()
    second.outcrop.cancel_turn(turnId=turn_id, reason="The customer hung up.")
    told = second.rests(turn_id)
    took = time.monotonic() - began

    assert told["status"] == "CANCELLED"
    assert took < 1.0 or _is_busy(), f"it took {took:.1f} s"
    error = caller.join().error
    assert isinstance(error, EventStreamError)
    assert "The customer hung up." in str(error)
    house.model.release()
    assert second.ask(house.session, "Hi").text, "the session is free"


def _is_busy() -> bool:
    """Whether more processes want a processor than there are: nothing can be said of times then."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def test_the_turn_of_a_killed_node_is_finished_by_another_without_anybody_asking(house: House) -> None:
    first, second = house.nodes()
    caller = house.held_after_it_has_paid(first)
    turn_id = second.turn_of(house.session)

    first.kill()
    told = second.rests(turn_id)

    assert (told["status"], told["answer"]) == ("COMPLETED", "Done: R-1")
    assert house.paid == 1
    assert caller.join().error is not None
    assert second.ask(house.session, "Pay INV-7").text == "Done: R-1", "whoever asks again hears what was done"
    assert house.paid == 1


def test_the_turn_of_a_killed_node_is_finished_by_a_worker(house: House) -> None:
    first, second = house.nodes()
    with house.worker():
        house.held_after_it_has_paid(first)
        turn_id = first.turn_of(house.session)

        for node in (first, second):
            node.kill()
        while house.state(turn_id) != "done":
            time.sleep(0.05)

    assert house.paid == 1


def test_a_node_that_stops_hands_its_turns_over_at_once(house: House) -> None:
    first, second = house.nodes()
    caller = house.held_after_it_has_paid(first)
    turn_id = second.turn_of(house.session)

    first.process.terminate()
    told = second.rests(turn_id)

    assert (told["status"], told["answer"], house.paid) == ("COMPLETED", "Done: R-1", 1)
    error = caller.join().error
    assert isinstance(error, EventStreamError)
    assert "The server is stopping." in str(error)
    first.process.wait(30)


def test_a_turn_in_the_background_runs_wherever_there_is_room(house: House) -> None:
    first, second = house.nodes()

    started = first.outcrop.start_turn(**_AGENT, sessionId=house.session, inputText="Pay INV-7")["turnId"]
    told = second.rests(started)

    assert (told["status"], told["answer"], house.paid) == ("COMPLETED", "Done: R-1", 1)
