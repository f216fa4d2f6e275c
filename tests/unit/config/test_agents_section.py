"""Section [agents]: what a binding may set for its agents, and what a mistake in one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from outcrop.config import PER_AGENT, Binding, BudgetSettings, ConfigMistake, TurnSettings, choices, load


@pytest.fixture
def agents(tmp_path: Path):
    def read(text: str) -> tuple[Binding, ...]:
        path = tmp_path / "outcrop.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, {}).agents

    return read


def test_a_binding_sets_what_it_wants_in_the_order_of_the_file(agents) -> None:
    found = agents("""
        [agents."support-*"]
        busy_session = "enqueue"
        uncertain = "fail"
        call_deadline_s = 0
        at_call_deadline = "stop"
        max_seconds = 60
        max_step_seconds = 10
        max_iterations = 5
        budget = { turn_tokens = 50_000, session_usd = 2, agent_seconds = 3600, period = "month", at_limit = "pause" }

        [agents."*"]
    """)

    assert [binding.pattern for binding in found] == ["support-*", "*"]
    budget = {"turn_tokens": 50_000, "session_usd": 2.0, "agent_seconds": 3600.0}
    assert found[0].settings == {
        "busy_session": "enqueue",
        "uncertain": "fail",
        "call_deadline_s": 0.0,
        "at_call_deadline": "stop",
        "max_seconds": 60.0,
        "max_step_seconds": 10.0,
        "max_iterations": 5,
        "budget": {**budget, "period": "month", "at_limit": "pause"},
    }
    assert set(found[0].settings) == {*PER_AGENT, "budget"}
    assert isinstance(found[0].settings["max_seconds"], float)
    assert isinstance(found[0].settings["budget"]["session_usd"], float)
    assert found[1].settings == {}


def test_without_the_section_no_agent_is_special(agents) -> None:
    assert agents("") == ()


MISTAKES = [
    ("busy_sesion = 'reject'", "unknown key 'busy_sesion'; did you mean 'busy_session'?"),
    ("preamble_hold_chars = 1", "unknown key 'preamble_hold_chars'; "),
    ("turn_tokens = 1", "unknown key 'turn_tokens'; "),
    ("busy_session = 'queue'", "busy_session: 'queue' is none of reject, enqueue, interrupt; did you mean 'enqueue'?"),
    ("busy_session = 1", "busy_session: 1 is none of reject, enqueue, interrupt"),
    ("uncertain = ['ask']", "uncertain: ['ask'] is none of ask, fail, not_done"),
    ("at_call_deadline = ''", "at_call_deadline: '' is none of go_on, stop"),
    ("call_deadline_s = -1", "call_deadline_s: -1.0 is no number of at least 0"),
    ("call_deadline_s = inf", "call_deadline_s: inf is no number of at least 0"),
    ("max_seconds = 0", "max_seconds: 0.0 is no number above 0"),
    ("max_step_seconds = 'long'", "max_step_seconds: 'long' is no float"),
    ("max_iterations = 0", "max_iterations: 0 is no number of at least 1"),
    ("max_iterations = 2.5", "max_iterations: 2.5 is no int"),
    ("budget = 5000", "budget is not a table"),
    ("budget = { turn_token = 1 }", "budget: unknown key 'turn_token'; did you mean 'turn_tokens'?"),
    ("budget = { turn_tokens = 0 }", "budget turn_tokens: 0 is no number of at least 1"),
    ("budget = { turn_tokens = 0.5 }", "budget turn_tokens: 0.5 is no int"),
    ("budget = { agent_usd = 0 }", "budget agent_usd: 0.0 is no number above 0"),
    ("budget = { agent_usd = nan }", "budget agent_usd: nan is no number above 0"),
    ("budget = { session_seconds = true }", "budget session_seconds: True is no float"),
    ("budget = { period = 'week' }", "budget period: 'week' is none of day, month, ever"),
    ("budget = { at_limit = 'paused' }", "budget at_limit: 'paused' is none of pause, fail; did you mean 'pause'?"),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_a_mistake_is_told_with_its_glob_and_its_key(agents, text: str, told: str) -> None:
    with pytest.raises(ConfigMistake) as caught:
        agents(f"[agents.'*']\nmax_seconds = 1\n[agents.'support-*']\n{text}\n")

    said = str(caught.value)
    assert said.startswith(f"[agents] 'support-*'{':' if told.startswith('unknown') else ''} {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agents = 1", r"^\[agents\] is not a table$"),
        ("[agents]\n'support-*' = 'enqueue'", r"^\[agents\] 'support-\*' is not a table of settings$"),
        ("[agent]\n'*' = {}", "unknown key 'agent'; did you mean 'agents'"),
    ],
)
def test_what_is_no_binding(agents, text: str, told: str) -> None:
    with pytest.raises(ConfigMistake, match=told):
        agents(text)


def test_every_limit_of_a_budget_may_be_set_alone(agents) -> None:
    names = [
        f"{whose}_{what}" for whose in ("turn", "session", "agent") for what in ("tokens", "usd", "steps", "seconds")
    ]
    for name in names:
        (found,) = agents(f"[agents.'*']\nbudget = {{ {name} = 1 }}\n")
        assert found.settings["budget"] == {name: 1}
        assert getattr(BudgetSettings(), name) is None
    assert choices(BudgetSettings) == {
        **dict.fromkeys(names, ()),
        "period": ("day", "month", "ever"),
        "at_limit": ("pause", "fail"),
    }


def test_the_environment_sets_what_holds_for_all_agents() -> None:
    environ = {
        "OUTCROP_TURNS_BUSY_SESSION": "interrupt",
        "OUTCROP_TURNS_UNCERTAIN": "not_done",
        "OUTCROP_TURNS_CALL_DEADLINE_S": "0",
        "OUTCROP_TURNS_AT_CALL_DEADLINE": "stop",
        "OUTCROP_TURNS_MAX_STEP_SECONDS": "1.5",
    }
    assert load(environ=environ).turns == TurnSettings(
        busy_session="interrupt",
        uncertain="not_done",
        call_deadline_s=0.0,
        at_call_deadline="stop",
        max_step_seconds=1.5,
    )


def test_a_choice_of_the_environment_that_there_is_not() -> None:
    with pytest.raises(ConfigMistake) as caught:
        load(environ={"OUTCROP_TURNS_BUSY_SESSION": "rejected"})
    assert str(caught.value) == (
        "OUTCROP_TURNS_BUSY_SESSION: 'rejected' is none of reject, enqueue, interrupt; did you mean 'reject'?"
    )


def test_every_choice_is_on_the_settings_page() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for name, allowed in (choices(TurnSettings) | choices(BudgetSettings)).items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert all(f"`{choice}`" in line for choice in allowed)
