"""Which targets are told of a notice, what is wrong with a record, and what of it may be shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outcrop.config import ConfigMistake
from outcrop.notifications.base import KINDS, event_name, notice_id
from outcrop.notifications.records import check, matching, member_of, shown
from outcrop.notifications.signing import new_secret

EVERYTHING = [event_name(kind) for kind in KINDS]


def a_record(name: str = "ops", **members) -> dict:
    record = {
        "targetId": f"id-of-{name}",
        "name": name,
        "kind": "WEBHOOK",
        "webhook": {"url": "https://hooks.example.com/", "secret": new_secret()},
        "events": EVERYTHING,
        "agents": ["*"],
        "status": "ACTIVE",
    }
    return {name: value for name, value in (record | members).items() if value is not None}


def told(notice, *records: dict) -> list[str]:
    return [record["name"] for record in matching(records, notice)]


def test_active_targets_of_the_event_and_the_agent_are_told(notice) -> None:
    records = [
        a_record("all"),
        a_record("off", status="DISABLED"),
        a_record("failures", events=["TURN_FAILED"]),
        a_record("ends", events=["TURN_FAILED", "TURN_COMPLETED"]),
        a_record("by name", agents=["ware*"]),
        a_record("by id", agents=["other", "AGENT00001"]),
        a_record("by arn", agents=["arn:aws:bedrock:us-east-1:*:agent/AGENT00001"]),
        a_record("others", agents=["other-*", "WAREHOUSE"]),
    ]
    assert told(notice, *records) == ["all", "ends", "by name", "by id", "by arn"]


def test_a_list_left_out_stands_for_all(notice) -> None:
    assert told(notice, a_record("old", events=None, agents=None, status=None)) == ["old"]


def test_an_agent_without_a_name_matches_everybodys_targets_only(notice) -> None:
    nameless = replace(notice, agent=())
    assert told(nameless, a_record("all"), a_record("one", agents=["AGENT*"])) == ["all"]


def test_kinds_are_the_apis_events() -> None:
    assert EVERYTHING == [
        "TURN_COMPLETED",
        "TURN_FAILED",
        "TURN_CANCELLED",
        "TURN_WAITING_FOR_INPUT",
        "TURN_PAUSED",
    ]


def test_an_id_is_a_path_segment_and_has_no_full_stop() -> None:
    assert notice_id("019a1b2c3d4e", 7) == "019a1b2c3d4e:7"


def test_a_good_record_is_one() -> None:
    check(a_record())
    check(a_record(kind="EVENT_BRIDGE", webhook=None, eventBridge={"endpointUrl": "https://events.example.com"}))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"webhook": None}, "webhook is missing"),
        ({"webhook": "https://hooks.example.com/"}, "webhook is missing"),
        ({"webhook": {"secret": "x"}}, "webhook: url is missing"),
        ({"kind": "EVENT_BRIDGE"}, "eventBridge is missing"),
        ({"kind": "CARRIER_PIGEON", "carrierPigeon": {}}, "has no 'carrier_pigeon'; it has event_bridge, webhook"),
        ({"kind": "../WEBHOOK", "../webhook": {}}, "has no '../webhook'"),
    ],
)
def test_a_bad_record_is_refused_by_what_is_wrong(members: dict, says: str) -> None:
    with pytest.raises(ConfigMistake) as caught:
        check(a_record(**members))
    assert says in str(caught.value)


def test_members_are_named_after_kinds() -> None:
    assert [member_of(kind) for kind in ("WEBHOOK", "EVENT_BRIDGE")] == ["webhook", "eventBridge"]


def test_no_secret_is_shown() -> None:
    secret, previous = new_secret(), new_secret()
    settings = {"url": "https://hooks.example.com/", "secret": secret, "previousSecret": previous, "secretEnv": "HOOK"}
    record = a_record(webhook=settings, createdAt=1.0)
    assert shown(record) == record | {"webhook": {"url": "https://hooks.example.com/", "secretEnv": "HOOK"}}
    assert secret not in str(shown(record))
    assert record["webhook"]["secret"] == secret


def test_a_record_without_settings_is_shown_as_it_is() -> None:
    assert shown({"targetId": "x"}) == {"targetId": "x"}
