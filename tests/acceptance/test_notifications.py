"""Notification targets over boto3, and what real receivers are told: each rest of a turn, signed, whatever dies."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import CHECK, World, collect, functions_group
from botocore.exceptions import ClientError, EventStreamError
from receiver import Receiver, until
from serving import Served

from outcrop.config import Binding, Config, JobSettings, ServerSettings
from outcrop.models.base import ModelThrottled
from outcrop.notifications.signing import NotGenuine, verify
from outcrop.testing import LocalServer, RecordedFunctions, ScriptedModel, call

SERVER = ServerSettings(database="sqlite:memory", allow_private_notifications=True)
QUICK = JobSettings(notification_first_wait_s=0.01, notification_most_wait_s=0.02, poll_s=0.02)
ASK = [call("desk__check", {"sku": "A"})]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Scene:
    """A server that may tell receivers on this machine, and our own API."""

    def __init__(self, world: World) -> None:
        self.world, self.model = world, world.model
        self.api = world.server.client("outcrop")

    def target(self, receiver: Receiver, **members: Any) -> dict[str, Any]:
        """A webhook target of all events."""
        webhook = {"url": receiver.url, "allowPrivate": True, **members.pop("webhook", {})}
        return self.api.create_notification_target(
            **{"name": "orders", "kind": "WEBHOOK", "webhook": webhook, **members}
        )

    def turn(self, turn_id: str) -> dict[str, Any]:
        """What GetTurn answers, as JSON has it."""
        answer = self.api.get_turn(turnId=turn_id)
        del answer["ResponseMetadata"]
        return json.loads(json.dumps(answer, default=str))

    def deliveries(self, target: dict[str, Any], status: str = "", count: int = 1) -> list[dict[str, Any]]:
        """The deliveries to a target, once so many have a status."""
        given = {"status": status} if status else {}

        def found() -> list[dict[str, Any]] | None:
            answer = self.api.list_notification_deliveries(targetId=target["targetId"], **given)
            return answer["deliveries"] if len(answer["deliveries"]) >= count else None

        return until(found)


@contextmanager
def scene(
    *replies: Any, server: ServerSettings = SERVER, jobs: JobSettings = QUICK, **sections: Any
) -> Iterator[Scene]:
    model, functions = ScriptedModel(replies), RecordedFunctions()
    with LocalServer(model, functions, config=Config(server=server, jobs=jobs, **sections)) as local:
        yield Scene(World(local, model, functions))
    model.assert_finished()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def brought(asked: Any) -> dict[str, Any]:
    """What a caller brings for a check that it was asked for."""
    result = {"actionGroup": "desk", "function": "check", "responseBody": {"TEXT": {"body": "42"}}}
    return {
        "invocationId": asked["invocationId"],
        "returnControlInvocationResults": [{"functionResult": result}],
    }


# what is told ------------------------------------------------------------------------------------


def test_a_completed_turn_is_told_once_signed_and_as_get_turn_answers_it(receiver: Receiver) -> None:
    with scene("There are 42 units.") as here:
        target = here.target(receiver)
        here.world.ask(here.world.agent(), "How many?")
        [taken] = receiver.wait(1)

        message = verify(taken.headers, taken.body, target["webhook"]["secret"])
        assert message["type"] == "turn.completed"
        assert message["id"] == taken.headers["webhook-id"]
        turn_id, _, _ = message["id"].partition(":")
        assert (message["data"]["turnId"], message["data"]["status"]) == (turn_id, "COMPLETED")
        assert (message["data"]["inputText"], message["data"]["answer"]) == ("How many?", "There are 42 units.")
        told = here.turn(turn_id)
        for instant in ("createdAt", "startedAt", "endedAt"):
            assert told.pop(instant)
            assert message["data"].pop(instant).endswith("Z")
        assert message["data"] == told

        [delivery] = here.deliveries(target, "DELIVERED")
        assert (delivery["noticeId"], delivery["event"]) == (message["id"], "TURN_COMPLETED")
        assert (delivery["turnId"], delivery["attempts"]) == (turn_id, 1)
        assert delivery["deliveredAt"] >= delivery["createdAt"]
        with pytest.raises(NotGenuine):
            verify(taken.headers, taken.body, SECRET)


def test_a_failed_turn_is_told_with_the_exception_of_its_caller(receiver: Receiver) -> None:
    with scene(*[ModelThrottled("slow down")] * 10) as here:
        here.target(receiver, events=["TURN_FAILED"])
        ids = here.world.agent()
        with pytest.raises(EventStreamError) as caught:
            here.world.ask(ids, "Hello")
        here.model._next = 10  # however often the engine tried

        [taken] = receiver.wait(1)
        failed = taken.message
        assert (failed["type"], failed["data"]["status"]) == ("turn.failed", "FAILED")
        assert failed["data"]["failure"]["code"] == "ThrottlingException"
        assert failed["data"]["failure"]["message"] in str(caught.value)
        assert failed["data"]["statusReason"]


def test_a_turn_that_waits_and_goes_on_is_told_twice_in_its_order(receiver: Receiver) -> None:
    with scene(ASK, "42 units.") as here:
        here.target(receiver)
        ids = here.world.agent(functions_group(CHECK, name="desk", control=True))
        asked = here.world.ask(ids, "Check A")
        [waiting] = receiver.wait(1)
        here.world.ask(ids, sessionState=brought(asked.control))
        _, completed = receiver.wait(2)

        assert [waiting.message["type"], completed.message["type"]] == ["turn.waiting_for_input", "turn.completed"]
        data = waiting.message["data"]
        assert data["status"] == "WAITING_FOR_INPUT"
        assert data["returnControl"]["invocationId"] == asked.control["invocationId"]
        assert data["returnControl"]["invocationInputs"] == asked.control["invocationInputs"]
        assert completed.message["data"]["answer"] == "42 units."
        first, last = (int(taken.id.partition(":")[2]) for taken in (waiting, completed))
        assert first < last
        assert data["usage"]["modelCalls"] == 1
        assert (completed.message["data"]["usage"]["modelCalls"], "returnControl" in completed.message["data"]) == (
            2,
            False,
        )


def test_a_notice_that_comes_late_tells_of_the_turn_as_it_was(receiver: Receiver) -> None:
    with scene(ASK, "42 units.") as here:
        receiver.answers += [503] * 3
        target = here.target(receiver, events=["TURN_WAITING_FOR_INPUT"])
        ids = here.world.agent(functions_group(CHECK, name="desk", control=True))
        asked = here.world.ask(ids, "Check A")
        receiver.wait(1)
        here.world.ask(ids, sessionState=brought(asked.control))
        here.deliveries(target, "DELIVERED")

        taken = receiver.wait(4)
        assert len({one.body for one in taken}) == 1
        assert taken[-1].message["data"]["status"] == "WAITING_FOR_INPUT"
        assert "endedAt" not in taken[-1].message["data"]
        assert taken[-1].message["data"]["usage"]["modelCalls"] == 1


def test_a_turn_that_is_cancelled_while_it_waits_is_told_with_the_reason(receiver: Receiver) -> None:
    with scene(ASK) as here:
        here.target(receiver)
        here.world.ask(here.world.agent(functions_group(CHECK, name="desk", control=True)), "Check A")
        [waiting] = receiver.wait(1)
        here.api.cancel_turn(turnId=waiting.message["data"]["turnId"], reason="The customer has left.")
        _, cancelled = receiver.wait(2)

        assert (cancelled.message["type"], cancelled.message["data"]["status"]) == ("turn.cancelled", "CANCELLED")
        assert cancelled.message["data"]["statusReason"] == "The customer has left."


def test_a_turn_that_its_caller_leaves_for_another_is_told_as_cancelled(receiver: Receiver) -> None:
    with scene(ASK, "Hello.") as here:
        here.target(receiver, events=["TURN_CANCELLED", "TURN_COMPLETED"])
        ids = here.world.agent(functions_group(CHECK, name="desk", control=True))
        here.world.ask(ids, "Check A")
        here.world.ask(ids, "Never mind")
        taken = receiver.wait(2)

        assert {one.message["type"] for one in taken} == {"turn.cancelled", "turn.completed"}


def test_a_turn_that_reaches_its_budget_is_told_as_paused_and_again_at_its_next_pause(receiver: Receiver) -> None:
    budget = {"budget": {"turn_steps": 1, "at_limit": "pause"}}
    check = [call("inventory__check", {"sku": "A"})]
    with scene(check, agents=(Binding("*", budget),)) as here:
        here.target(receiver)
        here.world.functions.add("inventory", "42")
        with pytest.raises(EventStreamError):
            here.world.ask(here.world.agent(functions_group(CHECK)), "Check A")
        [first] = receiver.wait(1)
        turn_id = first.message["data"]["turnId"]
        here.api.resume_turn(turnId=turn_id)
        _, second = receiver.wait(2)

        assert [first.id, second.id] == [f"{turn_id}:p1", f"{turn_id}:p2"]
        for paused in (first.message, second.message):
            assert (paused["type"], paused["data"]["status"]) == ("turn.paused", "PAUSED")
            assert paused["data"]["statusReason"].startswith("BUDGET_EXCEEDED: The turn reached its budget of 1 step")
            assert paused["data"]["usage"]["modelCalls"] == 1


def test_a_turn_in_the_background_is_told_to_those_who_want_its_agents_turns(receiver: Receiver) -> None:
    with scene("One.", "Two.") as here:
        here.target(receiver, agents=["order-*"])
        for name, session in (("stock", "session-1"), ("order-desk", "session-2")):
            agent, alias = here.world.agent(name=name)
            started = here.api.start_turn(agentId=agent, agentAliasId=alias, sessionId=session, inputText="Hello")
            until(lambda turn=started["turnId"]: here.turn(turn)["status"] == "COMPLETED")

        assert [taken.message["data"]["sessionId"] for taken in receiver.wait(1)] == ["session-2"]


def test_on_postgresql_turns_are_told_once_and_their_deliveries_listed(postgresql_url: str, receiver: Receiver) -> None:
    server = ServerSettings(database=postgresql_url, allow_private_notifications=True)
    with scene(ASK, "42 units.", server=server) as here:
        receiver.answers += [500]
        target = here.target(receiver)
        ids = here.world.agent(functions_group(CHECK, name="desk", control=True))
        asked = here.world.ask(ids, "Check A")
        here.deliveries(target, "DELIVERED")
        here.world.ask(ids, sessionState=brought(asked.control))
        completed, waiting = here.deliveries(target, "DELIVERED", 2)

        assert [completed["event"], waiting["event"]] == ["TURN_COMPLETED", "TURN_WAITING_FOR_INPUT"]
        assert receiver.ids == [waiting["noticeId"]] * 2 + [completed["noticeId"]]
        kept = here.world.server.run(here.world.server.engine.journal.find(completed["turnId"]))
        assert kept.announced == -1


def test_without_targets_nothing_is_written_and_no_jobs_are_launched() -> None:
    with scene("Hello.") as here:
        here.world.ask(here.world.agent(), "Hello")
        [turn] = here.api.list_turns()["turnSummaries"]
        kept = here.world.server.run(here.world.server.engine.journal.find(turn["turnId"]))

        assert kept.announced == -1
        assert here.world.server.engine.jobs.launched is False


def test_an_event_bus_gets_the_turn_as_the_detail_of_an_event() -> None:
    taken = json.dumps({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}).encode()
    with Receiver(taken) as bus, scene("There are 42 units.") as here:
        target = here.api.create_notification_target(
            name="bus",
            kind="EVENT_BRIDGE",
            eventBridge={"endpointUrl": bus.url, "eventBusName": "turns", "allowPrivate": True},
        )
        here.world.ask(here.world.agent(), "How many?")
        [put] = bus.wait(1)
        [delivery] = here.deliveries(target, "DELIVERED")

    assert put.headers["X-Amz-Target"] == "AWSEvents.PutEvents"
    assert "/us-east-1/events/aws4_request" in put.headers["Authorization"]
    [entry] = put.message["Entries"]
    assert (entry["EventBusName"], entry["Source"]) == ("turns", "outcrop")
    assert entry["DetailType"] == "Outcrop Turn Completed"
    detail = json.loads(entry["Detail"])
    assert (detail["noticeId"], detail["answer"]) == (delivery["noticeId"], "There are 42 units.")


# attempts ----------------------------------------------------------------------------------------


def test_a_receiver_that_fails_is_asked_again_with_the_same_notice(receiver: Receiver) -> None:
    with scene("Hello.") as here:
        receiver.answers += [500, 500]
        target = here.target(receiver)
        here.world.ask(here.world.agent(), "Hello")
        taken = receiver.wait(3)
        [delivery] = here.deliveries(target, "DELIVERED")

        assert len({one.body for one in taken}) == 1
        assert delivery["attempts"] == 3
        assert delivery["lastError"].endswith("answered 500")
        assert "nextAttemptAt" not in delivery


def test_a_delivery_that_waits_says_until_when(receiver: Receiver) -> None:
    with scene("Hello.", jobs=JobSettings(notification_first_wait_s=600, poll_s=0.02)) as here:
        receiver.answers += [503]
        target = here.target(receiver)
        here.world.ask(here.world.agent(), "Hello")
        [waits] = until(lambda: [one for one in here.deliveries(target, "PENDING") if "nextAttemptAt" in one])

        assert 290 < (waits["nextAttemptAt"] - waits["createdAt"]).total_seconds() < 610
        assert waits["attempts"] == 1
        here.api.delete_notification_target(targetId=target["targetId"])
        jobs = here.world.server.engine.jobs
        [dropped] = here.world.server.run(jobs.listed("notification", target["targetId"]))
        assert dropped.state == "cancelled"


def test_a_receiver_that_is_gone_is_told_nothing_more(receiver: Receiver) -> None:
    with scene("One.", "Two.") as here:
        receiver.answers += [410]
        target = here.target(receiver)
        ids = here.world.agent()
        here.world.ask(ids, "First")
        [dead] = here.deliveries(target, "DEAD")
        here.world.ask(ids, "Second")
        [second, _] = here.api.list_turns()["turnSummaries"]

        assert (dead["attempts"], dead["lastError"].endswith("answered 410")) == (1, True)
        assert here.api.get_notification_target(targetId=target["targetId"])["status"] == "DISABLED"
        assert here.world.server.run(here.world.server.engine.journal.find(second["turnId"])).announced == -1
        assert len(receiver.taken) == 1


def test_a_dead_delivery_is_listed_and_can_be_sent_once_more(receiver: Receiver) -> None:
    with scene("Hello.", jobs=JobSettings(notification_attempts=1, poll_s=0.02)) as here:
        receiver.answers += [500]
        target = here.target(receiver)
        here.world.ask(here.world.agent(), "Hello")
        [dead] = here.deliveries(target, "DEAD")
        assert (dead["attempts"], dead["lastError"].endswith("answered 500")) == (1, True)

        named = {"targetId": target["targetId"], "noticeId": dead["noticeId"]}
        assert here.api.redrive_notification_delivery(**named)["status"] in ("PENDING", "DELIVERED")
        [delivered] = here.deliveries(target, "DELIVERED")
        assert (delivered["noticeId"], delivered["attempts"]) == (dead["noticeId"], 1)
        assert receiver.ids == [dead["noticeId"]] * 2
        with pytest.raises(ClientError, match="is not DEAD") as caught:
            here.api.redrive_notification_delivery(**named)
        assert caught.value.response["Error"]["Code"] == "ConflictException"
        with pytest.raises(ClientError, match="has no delivery") as caught:
            here.api.redrive_notification_delivery(**{**named, "noticeId": "t:9"})
        assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_disabled_target_gets_what_was_not_delivered_once_it_is_enabled_and_asked_for(receiver: Receiver) -> None:
    with scene("Hello.") as here:
        receiver.answers += [500] * 50
        target = here.target(receiver)
        settings = {"webhook": {"url": receiver.url, "allowPrivate": True}, "name": "orders"}
        here.world.ask(here.world.agent(), "Hello")
        receiver.wait(1)
        here.api.update_notification_target(targetId=target["targetId"], status="DISABLED", **settings)
        [dead] = here.deliveries(target, "DEAD")
        assert dead["lastError"] == "the target is disabled"

        receiver.answers.clear()
        here.api.update_notification_target(targetId=target["targetId"], **settings)
        here.api.redrive_notification_delivery(targetId=target["targetId"], noticeId=dead["noticeId"])
        here.deliveries(target, "DELIVERED")
        verify(receiver.taken[-1].headers, receiver.taken[-1].body, target["webhook"]["secret"])


def test_deliveries_come_in_pages(receiver: Receiver) -> None:
    with scene(*[f"{n}." for n in range(5)]) as here:
        target = here.target(receiver)
        ids = here.world.agent()
        for number in range(5):
            here.world.ask(ids, f"Question {number}")
        here.deliveries(target, "DELIVERED", 5)

        pages = here.api.get_paginator("list_notification_deliveries").paginate(
            targetId=target["targetId"], PaginationConfig={"PageSize": 2}
        )
        listed = [[one["noticeId"] for one in page["deliveries"]] for page in pages]
        assert [len(page) for page in listed] == [2, 2, 1]
        assert {one for page in listed for one in page} == set(receiver.ids)
        with pytest.raises(ClientError, match="nextToken"):
            here.api.list_notification_deliveries(targetId=target["targetId"], nextToken="bm90aGluZw==")


# what dies ---------------------------------------------------------------------------------------


def test_a_killed_server_tells_after_its_restart_what_is_missing_and_nothing_else(
    tmp_path: Path, receiver: Receiver
) -> None:
    config = tmp_path / "outcrop.toml"
    config.write_text("[server]\nallow_private_notifications = true\n")
    data = tmp_path / "data"
    with Served(data, config=config) as server:
        api, control = server.client("outcrop"), server.client("bedrock-agent")
        api.create_notification_target(
            name="orders", kind="WEBHOOK", webhook={"url": receiver.url, "allowPrivate": True}
        )
        control.create_agent(
            agentName="stock",
            foundationModel="m",
            instruction="x" * 40,
            agentResourceRoleArn="arn:aws:iam::123456789012:role/r",
        )
        control.prepare_agent(agentId="stock")
        runtime = server.client("bedrock-agent-runtime")

        def ask(session: str) -> None:
            named = {"agentId": "stock", "agentAliasId": "TSTALIASID", "sessionId": session}
            collect(runtime.invoke_agent(**named, inputText="Hello"))

        ask("delivered")
        [delivered] = receiver.wait(1)
        until(lambda: api.list_turns()["turnSummaries"] and _announced(data) == [-1])
        receiver.answers.append(None)
        ask("under-way")
        _, under_way = receiver.wait(2)
        receiver.answers.append(None)
        ask("ended")
        _, _, ended = receiver.wait(3)
        until(lambda: _announced(data) == [-1, -1, -1])
        server.kill()
    turns = [taken.id.partition(":")[0] for taken in (delivered, ended)]
    with closing(sqlite3.connect(data / "outcrop.db")) as database:
        # As if it had been killed after the jobs were submitted, and before; both before the turn said so.
        database.execute("update turns set announced = 0 where id in (?, ?)", turns)
        database.commit()
    with closing(sqlite3.connect(data / "outcrop-jobs.db")) as database:
        database.execute("delete from workflow_status where workflow_uuid like ?", [f"%{ended.id}"])
        database.execute("delete from workflow_input where workflow_uuid like ?", [f"%{ended.id}"])
        database.commit()

    with Served(data, config=config):
        receiver.wait(5)
        until(lambda: _announced(data) == [-1, -1, -1])

    assert sorted(receiver.ids[3:]) == sorted([under_way.id, ended.id])
    bodies = {taken.id: taken.body for taken in (under_way, ended)}
    assert {taken.id: taken.body for taken in receiver.taken[3:]} == bodies


def _announced(data: Path) -> list[int]:
    with closing(sqlite3.connect(data / "outcrop.db")) as database:
        return [row[0] for row in database.execute("select announced from turns order by id")]


# targets -----------------------------------------------------------------------------------------


@pytest.fixture
def targets() -> Iterator[Any]:
    with scene() as here:
        yield here.api


def _webhook(**members: Any) -> dict[str, Any]:
    return {"name": "orders", "kind": "WEBHOOK", "webhook": {"url": "https://hooks.example.com/turns", **members}}


def test_the_secret_is_in_the_answer_to_the_creation_and_in_no_other(targets: Any) -> None:
    made = targets.create_notification_target(**_webhook())
    named = {"targetId": made["targetId"]}

    assert made["webhook"]["secret"].startswith("whsec_")
    assert (made["status"], made["agents"], len(made["events"])) == ("ACTIVE", ["*"], 5)
    [listed] = targets.list_notification_targets()["notificationTargets"]
    updated = targets.update_notification_target(**named, name="bills", webhook={"url": "https://b.example.com/"})
    found = targets.get_notification_target(**named)
    for shown in (listed, updated, found):
        assert set(shown["webhook"]) == {"url"}
    assert (found["name"], found["webhook"]["url"]) == ("bills", "https://b.example.com/")
    given = targets.create_notification_target(**_webhook(secret=SECRET, previousSecret=SECRET))
    assert given["webhook"] == {"url": "https://hooks.example.com/turns", "secret": SECRET}


def test_an_update_keeps_the_secret_until_it_names_another(receiver: Receiver) -> None:
    other = "whsec_" + "QUJD" * 8
    with scene("One.", "Two.", "Three.") as here:
        target = here.target(receiver, webhook={"secret": SECRET})
        named = {"targetId": target["targetId"], "name": "orders"}
        ids, address = here.world.agent(), {"url": receiver.url, "allowPrivate": True}
        here.api.update_notification_target(**named, webhook=address)
        here.world.ask(ids, "One")
        receiver.wait(1)
        here.api.update_notification_target(**named, webhook={**address, "secret": other, "previousSecret": SECRET})
        here.world.ask(ids, "Two")
        receiver.wait(2)
        here.api.update_notification_target(**named, webhook=address)
        here.world.ask(ids, "Three")
        first, both, last = receiver.wait(3)

    assert [verify(one.headers, one.body, SECRET)["id"] for one in (first, both)] == [first.id, both.id]
    assert [verify(one.headers, one.body, other)["id"] for one in (both, last)] == [both.id, last.id]
    with pytest.raises(NotGenuine):
        verify(last.headers, last.body, SECRET)


def test_a_target_that_is_deleted_is_gone(targets: Any) -> None:
    made = targets.create_notification_target(**_webhook())
    targets.delete_notification_target(targetId=made["targetId"])

    assert targets.list_notification_targets()["notificationTargets"] == []
    for ask in ("get_notification_target", "delete_notification_target", "list_notification_deliveries"):
        with pytest.raises(ClientError, match="There is no notification target") as caught:
            getattr(targets, ask)(targetId=made["targetId"])
        assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_name_is_taken_once_and_a_token_makes_one_target(targets: Any) -> None:
    first = targets.create_notification_target(**_webhook(), clientToken="order-1")
    again = targets.create_notification_target(**_webhook(), clientToken="order-1")
    assert (again["targetId"], again["webhook"]) == (first["targetId"], first["webhook"])
    second = targets.create_notification_target(**{**_webhook(), "name": "bills"})
    with pytest.raises(ClientError, match="orders already exists") as caught:
        targets.create_notification_target(**_webhook())
    assert caught.value.response["Error"]["Code"] == "ConflictException"
    with pytest.raises(ClientError, match="orders already exists"):
        targets.update_notification_target(
            targetId=second["targetId"], name="orders", webhook={"url": "https://a.example.com/"}
        )


def test_targets_come_in_pages_the_last_changed_first(targets: Any) -> None:
    for number in range(3):
        targets.create_notification_target(**{**_webhook(), "name": f"t{number}"})

    pages = targets.get_paginator("list_notification_targets").paginate(PaginationConfig={"PageSize": 2})
    assert [[one["name"] for one in page["notificationTargets"]] for page in pages] == [["t2", "t1"], ["t0"]]


@pytest.mark.parametrize(
    ("members", "member", "message"),
    [
        ({"webhook": {"url": "https://10.0.0.1/"}}, "webhook", "url is on a private network"),
        ({"webhook": {"url": "https://2130706433/"}}, "webhook", "url is on a private network"),
        ({"webhook": {"url": "https://127.1/"}}, "webhook", "url is on a private network"),
        ({"webhook": {"url": "https://a.example.com/", "secretEnv": "NOWHERE_SET"}}, "webhook.secretEnv", "no environ"),
        (
            {"webhook": {"url": "https://a.example.com/", "secretEnv": "PATH"}},
            "webhook.secretEnv",
            "that holds a secret",
        ),
        ({"webhook": {"url": "https://me:pw@hooks.example.com/"}}, "webhook", "user name"),
        ({"webhook": {"url": "https://a.example.com/", "secret": SECRET, "secretEnv": "A"}}, "webhook", "not both"),
        ({"webhook": {"url": "https://a.example.com/", "secret": "A" * 33}}, "webhook", "24 to 64 bytes"),
        ({"webhook": None}, "webhook", "webhook is required"),
        ({"eventBridge": {}}, "eventBridge", "eventBridge is not for a target of kind WEBHOOK"),
        ({"kind": "EVENT_BRIDGE"}, "webhook", "webhook is not for a target of kind EVENT_BRIDGE"),
        ({"kind": "EVENT_BRIDGE", "webhook": None, "eventBridge": {"source": "aws.x"}}, "eventBridge", "source begins"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(
    targets: Any, members: dict[str, Any], member: str, message: str
) -> None:
    given = {name: value for name, value in {**_webhook(), **members}.items() if value is not None}
    with pytest.raises(ClientError, match=message) as caught:
        targets.create_notification_target(**given)

    answer = caught.value.response
    assert answer["Error"]["Code"] == "ValidationException"
    assert answer["fieldList"][0]["name"] == member
    assert targets.list_notification_targets()["notificationTargets"] == []
    assert "pw" not in str(caught.value)


def test_receivers_inside_are_refused_unless_the_servers_owner_allows_them() -> None:
    with scene(server=ServerSettings(database="sqlite:memory")) as here:
        with pytest.raises(ClientError, match=r"\[server\] allow_private_notifications = true") as caught:
            here.api.create_notification_target(**_webhook(allowPrivate=True))
        made = here.api.create_notification_target(**_webhook())
        with pytest.raises(ClientError, match="allow_private_notifications"):
            here.api.update_notification_target(
                targetId=made["targetId"], name="orders", webhook={"url": "http://10.0.0.1/", "allowPrivate": True}
            )
    assert caught.value.response["fieldList"][0]["name"] == "webhook.allowPrivate"


def test_amazon_eventbridge_needs_no_address(targets: Any) -> None:
    made = targets.create_notification_target(
        name="bus", kind="EVENT_BRIDGE", eventBridge={"region": "eu-central-1", "eventBusName": "turns"}
    )
    assert made["eventBridge"] == {"region": "eu-central-1", "eventBusName": "turns"}


def test_an_account_has_so_many_targets_and_no_more(targets: Any) -> None:
    for number in range(100):
        targets.create_notification_target(**{**_webhook(), "name": f"t{number}"})
    with pytest.raises(ClientError, match="at most 100 notification targets") as caught:
        targets.create_notification_target(**_webhook())
    assert caught.value.response["Error"]["Code"] == "ServiceQuotaExceededException"
