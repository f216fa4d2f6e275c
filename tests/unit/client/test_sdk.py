"""boto3 knows our own API: from a session made for it, or because AWS_DATA_PATH says where the model is."""

from __future__ import annotations

import boto3
import botocore.session
import pytest
from botocore.exceptions import EndpointResolutionError, ParamValidationError

from outcrop.client import sdk_path, sdk_session
from outcrop.wire.services import OWN_MODELS

SERVER = "http://127.0.0.1:8700"


def test_a_session_knows_our_service_beside_those_of_aws() -> None:
    session = sdk_session(region_name="eu-central-1")

    outcrop = session.client("outcrop", endpoint_url=SERVER)

    assert outcrop.meta.endpoint_url == SERVER
    assert outcrop.meta.region_name == "eu-central-1"
    assert outcrop.meta.method_to_api_mapping["start_turn"] == "StartTurn"
    assert {"outcrop", "bedrock-agent", "bedrock-agent-runtime"} <= set(session.get_available_services())


def test_a_session_that_is_there_is_extended() -> None:
    mine = botocore.session.get_session()
    mine.set_config_variable("region", "eu-north-1")

    client = sdk_session(botocore_session=mine).client("outcrop", endpoint_url=SERVER)

    assert client.meta.region_name == "eu-north-1"
    assert "outcrop" in mine.get_available_services()


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(sdk_path()))
    monkeypatch.setenv("AWS_ENDPOINT_URL_OUTCROP", SERVER)

    assert boto3.Session().client("outcrop").meta.endpoint_url == SERVER


def test_the_models_that_a_user_has_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "mine" / "2026-01-01").mkdir(parents=True)
    (tmp_path / "mine" / "2026-01-01" / "service-2.json").write_text("{}")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))

    assert {"mine", "outcrop"} <= set(sdk_session().get_available_services())


def test_without_an_address_nothing_is_sent_anywhere() -> None:
    client = sdk_session().client("outcrop")

    with pytest.raises(EndpointResolutionError, match="endpoint_url or AWS_ENDPOINT_URL_OUTCROP"):
        client.get_turn(turnId="0190")


def test_a_mistake_is_found_before_it_is_sent() -> None:
    client = sdk_session().client("outcrop", endpoint_url=SERVER)

    with pytest.raises(ParamValidationError, match='Unknown parameter in input: "input"'):
        client.start_turn(agentId="AX123", agentAliasId="PROD", sessionId="s-1", input="Hello")


def test_the_folder_is_the_one_that_the_server_reads() -> None:
    assert sdk_path() == OWN_MODELS
