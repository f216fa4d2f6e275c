"""Journals written by earlier releases: their turns go on to the right end, and nothing is done again.

Each recording is a database that a killed server has left; `record.py` makes those of a new release.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import Answer, collect
from botocore.exceptions import ClientError

from outcrop.clock import StillClock
from outcrop.config import Config, ServerSettings
from outcrop.messages import text_of
from outcrop.orchestration.encoding import UNCERTAIN
from outcrop.storage.migrate import migrate
from outcrop.storage.sqlite import SqliteDatabase
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel

RECORDINGS = Path(__file__).parent / "recordings"
RELEASES = sorted(folder.name for folder in RECORDINGS.iterdir() if folder.is_dir())
RECEIPT_7 = '{"receipt": "R-INV-7"}'


class Replayed:
    """The server of this release on a recording, with a model and functions of the test's own."""

    def __init__(self, folder: Path, server: LocalServer, model: ScriptedModel, functions: RecordedFunctions) -> None:
        self.folder, self.server, self.model, self.functions = folder, server, model, functions
        [(key,)] = self.rows("SELECT key FROM sessions")
        self.agent = key.split("/")[1]
        self.runtime = server.client("bedrock-agent-runtime")

    def ask(self, text: str = "", **members: Any) -> Answer:
        given = {"inputText": text, "sessionState": {"sessionAttributes": {"user": "ada"}}} if text else {}
        asked = self.runtime.invoke_agent(
            agentId=self.agent, agentAliasId="TSTALIASID", sessionId="session-1", enableTrace=True, **given, **members
        )
        return collect(asked)

    def bring(self, invocation: str, *results: dict[str, Any]) -> Answer:
        """What the caller was asked for."""
        members = [{"functionResult": result} for result in results]
        return self.ask(sessionState={"invocationId": invocation, "returnControlInvocationResults": members})

    def told(self) -> list[str]:
        """The results that the model was last told of."""
        blocks = [block for message in self.model.requests[-1].messages for block in message["content"]]
        return [block["toolResult"]["content"][0]["text"] for block in blocks if "toolResult" in block]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return rows(self.folder, query)


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "outcrop.db")) as database:
        return database.execute(query).fetchall()


@contextmanager
def replayed(folder: Path, *says: Any, idempotent: bool = False) -> Iterator[Replayed]:
    """The server on the recording in a folder, shortly after it was killed, until all turns rest."""
    [(at,)] = rows(folder, "SELECT max(last_used_at) FROM sessions")
    model, functions = ScriptedModel(list(says)), RecordedFunctions(idempotent=idempotent)
    functions.add("inventory", lambda event: f"paid {event['parameters'][0]['value']}")
    config = Config(server=ServerSettings(data_dir=str(folder)))
    with LocalServer(model, functions, config=config, clock=StillClock(at + 10)) as server:
        yield Replayed(folder, server, model, functions)
    model.assert_finished()


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return request.param


def load(release: str, state: str, folder: Path) -> Path:
    """A data folder that holds a recording."""
    with closing(sqlite3.connect(folder / "outcrop.db")) as database:
        database.executescript((RECORDINGS / release / f"{state}.sql").read_text(encoding="utf-8"))
    return folder


@pytest.mark.parametrize("release", RELEASES)
def test_every_state_of_a_release_is_recorded(release: str) -> None:
    assert {path.stem for path in (RECORDINGS / release).glob("*.sql")} == {
        "first_model_call", "tool_call", "next_model_call", "one_of_two_tools", "awaiting_control",
        "awaiting_control_beside_a_tool", "awaiting_confirmation", "ended_unheard", "finished",
    }  # fmt: skip


# interrupted ----------------------------------------------------------------------------------------


def test_killed_at_the_first_model_call(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "first_model_call", tmp_path), "Hello.") as world:
        assert world.ask("Pay INV-7").text == "Hello."

        assert [text_of(message) for message in world.model.requests[0].messages] == ["Pay INV-7"]
        assert world.functions.events == []
    assert rows(tmp_path, "SELECT state, lease > 0 FROM turns") == [("done", 1)]


def test_killed_while_an_action_was_under_way(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "tool_call", tmp_path), "It must be checked.") as world:
        answer = world.ask("Pay INV-7")

        assert answer.text == "It must be checked."
        assert world.functions.events == []
        assert world.told() == [UNCERTAIN]
    assert rows(tmp_path, "SELECT state FROM steps WHERE kind = 'CallTools'") == [("uncertain",)]


def test_killed_while_an_action_was_under_way_that_may_be_repeated(release: str, tmp_path: Path) -> None:
    load(release, "tool_call", tmp_path)
    [(turn, ordinal)] = rows(tmp_path, "SELECT turn_id, ordinal FROM steps WHERE kind = 'CallTools'")
    with replayed(tmp_path, "Paid.", idempotent=True) as world:
        assert world.ask("Pay INV-7").text == "Paid."

        assert world.functions.keys == [f"{turn}/{ordinal}/0"], "the key that the first release called it with"
        assert world.told() == ["paid INV-7"]


def test_killed_after_an_action_before_the_model_had_answered(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "next_model_call", tmp_path), "Paid.", "Bye.") as world:
        answer = world.ask("Pay INV-7")

        assert answer.text == "Paid."
        assert "o.obs ACTION_GROUP(0)" in answer.kinds, "it is told from its start"
        assert world.functions.events == []
        assert world.told() == [RECEIPT_7]
        world.ask("Thanks")
        assert text_of(world.model.requests[-1].messages[-2]) == "Paid."


def test_killed_with_one_of_two_actions_done(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "one_of_two_tools", tmp_path), "One of them.") as world:
        assert world.ask("Pay INV-7 and INV-8").text == "One of them."

        assert world.functions.events == []
        assert world.told() == [RECEIPT_7, UNCERTAIN]


def test_an_interrupted_turn_ends_by_itself(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "next_model_call", tmp_path), "Paid.") as world:
        [(turn,)] = world.rows("SELECT id FROM turns")
        assert world.server.run(world.server.engine.turns.ended(turn, 30))

    assert rows(tmp_path, "SELECT state FROM turns") == [("done",)]


# waiting for the caller -----------------------------------------------------------------------------


def pending(folder: Path) -> str:
    [(invocation,)] = rows(folder, "SELECT invocation_id FROM turns")
    assert invocation
    return invocation


def result(group: str, function: str, body: str = "", **members: Any) -> dict[str, Any]:
    told = {"responseBody": {"TEXT": {"body": body}}} if body else {}
    return {"actionGroup": group, "function": function, **told, **members}


def test_a_turn_that_waits_for_its_caller_takes_the_results(release: str, tmp_path: Path) -> None:
    load(release, "awaiting_control", tmp_path)
    with replayed(tmp_path, "The desk has paid.") as world:
        answer = world.bring(pending(tmp_path), result("desk", "pay", "D-9"))

        assert answer.text == "The desk has paid."
        assert world.told() == ["D-9"]


def test_a_turn_that_waits_keeps_what_was_done_beside_it(release: str, tmp_path: Path) -> None:
    load(release, "awaiting_control_beside_a_tool", tmp_path)
    with replayed(tmp_path, "Both are paid.") as world:
        assert world.bring(pending(tmp_path), result("desk", "pay", "D-9")).text == "Both are paid."

        assert world.functions.events == []
        assert world.told() == [RECEIPT_7, "D-9"]


@pytest.mark.parametrize("decision", ["CONFIRM", "DENY"])
def test_a_turn_that_waits_for_a_confirmation_takes_it(release: str, tmp_path: Path, decision: str) -> None:
    load(release, "awaiting_confirmation", tmp_path)
    with replayed(tmp_path, "As you wish.") as world:
        answer = world.bring(pending(tmp_path), result("billing", "refund", confirmationState=decision))

        assert answer.text == "As you wish."
        assert [event["function"] for _, event in world.functions.events] == ["refund"] * (decision == "CONFIRM")


def test_results_for_another_invocation_are_refused(release: str, tmp_path: Path) -> None:
    load(release, "awaiting_control", tmp_path)
    with replayed(tmp_path) as world, pytest.raises(ClientError, match="is not the pending invocation"):
        world.bring("00000000-0000-4000-8000-000000000000", result("desk", "pay", "D-9"))


def test_a_turn_that_waits_is_left_for_other_words(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "awaiting_control", tmp_path), "All right.") as world:
        assert world.ask("Never mind").text == "All right."
        assert "cancelled" in world.told()[0]
    assert rows(tmp_path, "SELECT state FROM turns ORDER BY id") == [("abandoned",), ("done",)]


# over -----------------------------------------------------------------------------------------------


def test_an_answer_that_nobody_heard_is_told_again(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "ended_unheard", tmp_path), "Again?") as world:
        assert world.ask("Pay INV-7").text == f"Done: {RECEIPT_7}"
        assert world.model.requests == []
        assert world.ask("Pay INV-7").text == "Again?", "once it was heard, the same words are a new turn"


def test_a_finished_conversation_goes_on(release: str, tmp_path: Path) -> None:
    with replayed(load(release, "finished", tmp_path), "You paid it.") as world:
        assert world.ask("What did we do?").text == "You paid it."

        told = [text_of(message) for message in world.model.requests[0].messages]
        assert told[0] == "Pay INV-7"
        assert told[-3:] == ["Thanks", "You said: Thanks", "What did we do?"]


# newer than this release ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["first_model_call", "awaiting_control", "ended_unheard"])
def test_a_journal_that_is_too_new_is_refused_and_left_as_it_is(tmp_path: Path, state: str) -> None:
    """Given a turn of a release to come, when it is asked for, then the answer says why not, and nothing is changed."""
    load(RELEASES[0], state, tmp_path)
    database = SqliteDatabase(f"sqlite:///{tmp_path / 'outcrop.db'}")
    migrate(database)
    database.once(lambda connection: connection.exec_driver_sql("UPDATE turns SET format = 99"))
    database.stop()
    tables = ("turns", "steps", "sessions", "history")
    kept = {table: rows(tmp_path, f"SELECT * FROM {table}") for table in tables}

    with replayed(tmp_path) as world:
        for _ in range(2):
            brought = [pending(tmp_path), result("desk", "pay", "D-9")] if state == "awaiting_control" else []
            with pytest.raises(ClientError, match="journal format 99, this release reads up to") as caught:
                world.bring(*brought) if brought else world.ask("Pay INV-7")
            assert caught.value.response["Error"]["Code"] == "InternalServerException"

    assert {table: rows(tmp_path, f"SELECT * FROM {table}") for table in tables} == kept
