"""The system prompt, default and overridden."""

from __future__ import annotations

import pytest

from outcrop.prompts.library import TemplateMistake, orchestration_system, overridden_system


def test_without_tools_the_instruction_is_the_whole_prompt() -> None:
    assert orchestration_system("Be kind.", has_tools=False, may_ask=False) == "Be kind."


@pytest.mark.parametrize("may_ask", [True, False])
def test_with_tools_it_says_where_thoughts_go_and_whether_to_ask(may_ask: bool) -> None:
    told = orchestration_system("Be kind.", has_tools=True, may_ask=may_ask)
    assert told.startswith("Be kind.\n")
    assert "<thinking>" in told
    assert ("user__askuser" in told) == may_ask


def test_placeholders_are_filled_and_escaped() -> None:
    template = '{"system": "$instruction$ Q: $question$", "messages": [{"role": "user", "content": "$question$"}]}'
    values = {"instruction": 'Say "hi"\n', "question": "a\\b"}
    assert overridden_system(template, values) == 'Say "hi"\n Q: a\\b'


def test_guidelines_we_lack_are_empty_and_unknown_names_stay() -> None:
    assert overridden_system('{"system": "[$memory_content$] $nonsense$"}', {}) == "[] $nonsense$"


def test_a_system_of_blocks_is_joined_and_none_is_empty() -> None:
    assert overridden_system('{"system": [{"text": "a"}, {"text": "b"}, {"cachePoint": {}}]}', {}) == "ab"
    assert overridden_system('{"messages": []}', {}) == ""


@pytest.mark.parametrize("template", ["not json", '{"system": "unclosed}', "[1]"])
def test_a_template_that_is_no_json_object(template: str) -> None:
    with pytest.raises(TemplateMistake):
        overridden_system(template, {})
