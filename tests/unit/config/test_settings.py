"""Settings out of a file and the environment: names, types and ranges, and what a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from outcrop.config import Config, ConfigMistake, ServerSettings, TurnSettings, load


def written(folder: Path, text: str) -> Path:
    path = folder / "outcrop.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_environment_is_stronger_than_the_file_and_the_file_than_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "[server]\nport = 1\nhost = '::1'\n[turns]\nmax_seconds = 3\n")

    config = load(path, {"OUTCROP_SERVER_PORT": "2", "OUTCROP_TURNS_MAX_ITERATIONS": "7"})

    assert config == Config(
        ServerSettings(port=2, host="::1"), TurnSettings(max_seconds=3.0, max_iterations=7), root=tmp_path
    )
    assert isinstance(config.turns.max_seconds, float)


@pytest.mark.parametrize(("written_as", "meant"), [("true", True), ("false", False)])
def test_a_switch_of_the_environment(written_as: str, meant: bool) -> None:
    config = load(environ={"OUTCROP_SERVER_ALLOW_PRIVATE_NOTIFICATIONS": written_as})
    assert config.server.allow_private_notifications is meant


@pytest.mark.parametrize("written_as", ["1", "yes", "True", ""])
def test_a_switch_that_is_neither_on_nor_off(written_as: str) -> None:
    with pytest.raises(ConfigMistake, match=f"{written_as!r} is neither true nor false"):
        load(environ={"OUTCROP_SERVER_ALLOW_PRIVATE_NOTIFICATIONS": written_as})


def test_an_empty_environment_is_not_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_SERVER_PORT", "1")
    assert load(environ={}).server.port == 8700
    assert load().server.port == 1


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("OUTCROP_SERVER_PROT", "environment: unknown key 'OUTCROP_SERVER_PROT'; did you mean 'OUTCROP_SERVER_PORT'?"),
        ("OUTCROP_TURNS_MAX_SECOND", "did you mean 'OUTCROP_TURNS_MAX_SECONDS'?"),
        ("OUTCROP_SERVER_", "unknown key 'OUTCROP_SERVER_'"),
    ],
)
def test_a_variable_of_a_setting_that_there_is_not(variable: str, told: str) -> None:
    with pytest.raises(ConfigMistake) as caught:
        load(environ={variable: "1"})
    assert told in str(caught.value)


@pytest.mark.parametrize("variable", ["OUTCROP_HOME", "OUTCROP_SERVERS", "OUTCROP_MODELS_X", "AWS_REGION"])
def test_variables_of_others_are_theirs(variable: str) -> None:
    assert load(environ={variable: "1"}).server == ServerSettings()


OUT_OF_RANGE = [
    ("server", "port", "-1", "of at least 0 and of at most 65535"),
    ("server", "port", "65536", "of at least 0 and of at most 65535"),
    ("server", "max_body_bytes", "0", "of at least 1"),
    ("server", "stop_grace_s", "-0.1", "of at least 0"),
    ("server", "stop_grace_s", "nan", "of at least 0"),
    ("turns", "max_iterations", "0", "of at least 1"),
    ("turns", "max_seconds", "0.0", "above 0"),
    ("turns", "max_seconds", "inf", "above 0"),
    ("turns", "preamble_hold_chars", "-1", "of at least 0"),
]


@pytest.mark.parametrize(("section", "setting", "value", "range_"), OUT_OF_RANGE)
def test_a_value_out_of_its_range(tmp_path: Path, section: str, setting: str, value: str, range_: str) -> None:
    variable = f"OUTCROP_{section}_{setting}".upper()
    with pytest.raises(ConfigMistake, match=f"^{variable}: {value} is no number {range_}$"):
        load(environ={variable: value})
    with pytest.raises(ConfigMistake, match=rf"^\[{section}\] {setting}: {value} is no number {range_}$"):
        load(written(tmp_path, f"[{section}]\n{setting} = {value}\n"), {})


@pytest.mark.parametrize(
    ("section", "setting", "value"),
    [
        ("server", "port", 0),
        ("server", "port", 65535),
        ("server", "max_body_bytes", 1),
        ("server", "stop_grace_s", 0.0),
        ("turns", "max_iterations", 1),
        ("turns", "max_seconds", 0.001),
        ("turns", "preamble_hold_chars", 0),
    ],
)
def test_a_value_at_the_end_of_its_range(section: str, setting: str, value: float) -> None:
    config = load(environ={f"OUTCROP_{section}_{setting}".upper(): str(value)})
    assert getattr(getattr(config, section), setting) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nprot = 1", r"\[server\]: unknown key 'prot'; did you mean 'port'\?"),
        ("[sevrer]\nport = 1", "unknown key 'sevrer'; did you mean 'server'?"),
        ("[server]\nport = true", r"\[server\] port: True is no int"),
        ("[turns]\nmax_seconds = 'long'", r"\[turns\] max_seconds: 'long' is no float"),
        ("server = 1", r"\[server\] is not a table"),
        ("[models]\n'*' = 'offline'", r"\[models\] '\*' is not a table of settings"),
        ("[server", "outcrop.toml: "),
    ],
)
def test_a_mistake_in_the_file(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigMistake, match=told):
        load(written(tmp_path, text), {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigMistake, match="No such file"):
        load(tmp_path / "outcrop.toml", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nbeat_s = 2\nlease_s = 5.9", "[server] lease_s: 5.9 is less than 3 times beat_s, which is 2;"),
        ("[server]\nbeat_s = 2", "[server] lease_s: 5 is less than 3 times beat_s, which is 2;"),
        ("[server]\nhost = ''", "[server] host is empty"),
        ("[server]\nhost = ' '", "[server] host is empty"),
        ("[server]\naccount_id = '1234'", "[server] account_id: '1234' is not twelve digits"),
        ("[server]\naccount_id = '12345678901x'", "[server] account_id: '12345678901x' is not twelve digits"),
        ("[server]\nregion = 'EU West'", "[server] region: 'EU West' is no region"),
        ("[server]\nregion = ''", "[server] region: '' is no region"),
        (
            "[jobs]\nnotification_first_wait_s = 9\nnotification_most_wait_s = 8",
            "[jobs] notification_first_wait_s: 9 is above notification_most_wait_s, 8",
        ),
    ],
)
def test_settings_that_cannot_be_used_or_not_together(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigMistake) as caught:
        load(written(tmp_path, text), {})
    assert str(caught.value).startswith(told)


def test_a_lease_of_exactly_three_beats_will_do() -> None:
    server = load(environ={"OUTCROP_SERVER_BEAT_S": "0.2", "OUTCROP_SERVER_LEASE_S": "0.6"}).server
    assert (server.beat_s, server.lease_s) == (0.2, 0.6)


OF_KUBERNETES = {
    "PORT": "tcp://10.0.0.1:8700",
    "SERVICE_HOST": "10.0.0.1",
    "SERVICE_PORT": "8700",
    "SERVICE_PORT_HTTP": "8700",
    "PORT_8700_TCP": "tcp://10.0.0.1:8700",
    "PORT_8700_TCP_PROTO": "tcp",
    "PORT_8700_TCP_PORT": "8700",
    "PORT_8700_TCP_ADDR": "10.0.0.1",
}


@pytest.mark.parametrize("service", ["OUTCROP_SERVER", "OUTCROP_JOBS", "OUTCROP_SERVER_METRICS"])
def test_what_kubernetes_says_of_a_service_named_like_a_section_is_not_ours(service: str) -> None:
    config = load(environ={f"{service}_{name}": value for name, value in OF_KUBERNETES.items()})
    assert config.server == ServerSettings()


@pytest.mark.parametrize("variable", ["PORT_TCP", "SERVICE", "PORT_8700_TCP_PROT", "XPORT_1_TCP"])
def test_what_only_looks_like_it_is_a_mistake(variable: str) -> None:
    with pytest.raises(ConfigMistake, match="unknown key"):
        load(environ={f"OUTCROP_SERVER_{variable}": "1"})
