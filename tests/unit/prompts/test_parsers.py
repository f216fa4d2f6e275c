"""Thinking and answer, whole and while they stream: both ways must say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.prompts.parsers import AnswerStream, split

REPLIES = [
    ("The answer.", "", "The answer."),
    ("<thinking>why</thinking> The answer.", "why", "The answer."),
    ("<thinking>why</thinking><answer>The answer.</answer>", "why", "The answer."),
    ("<thinking>why</thinking>\n<answer>The answer.", "why", "The answer."),
    ("Preamble <answer>The answer.</answer> and more", "", "The answer."),
    ("<thinking>only thinking", "only thinking", ""),
    ("<thinking>a</thinking>one <thinking>b</thinking>two", "a\nb", "one two"),
    ("a < b and <b>bold</b>", "", "a < b and <b>bold</b>"),
    ("", "", ""),
    ("<answer></answer>", "", ""),
]


@pytest.mark.parametrize(("text", "thinking", "answer"), REPLIES)
def test_a_whole_reply(text: str, thinking: str, answer: str) -> None:
    spoken = split(text)
    assert (spoken.thinking, spoken.answer) == (thinking, answer)


def stream(pieces: list[str], hold: int) -> tuple[list[str], str]:
    """What came out piece by piece, and what came out at the end."""
    gate = AnswerStream(hold)
    return [gate.feed(piece) for piece in pieces], gate.end()


@pytest.mark.parametrize(("text", "_thinking", "answer"), REPLIES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_streamed_reply_is_the_whole_one(text: str, _thinking: str, answer: str, size: int) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    out, rest = stream(pieces, hold=1000)
    assert ("".join(out) + rest).strip() == answer


WORDS = st.lists(st.sampled_from(["<", "word ", "\n", "é", "</b>", "a<b"]), max_size=6).map("".join)
THOUGHTS = st.lists(WORDS.map(lambda words: f"<thinking>{words}</thinking>"), max_size=2).map("".join)


@given(THOUGHTS, WORDS, st.booleans(), st.integers(0, 20), st.data())
def test_however_a_reply_is_cut_the_answer_comes_out_whole(
    thoughts: str, words: str, tagged: bool, hold: int, data: st.DataObject
) -> None:
    text = whole = thoughts + (f"<answer>{words}</answer>" if tagged else words)
    pieces: list[str] = []
    while text:
        cut = data.draw(st.integers(1, len(text)))
        pieces.append(text[:cut])
        text = text[cut:]
    out, rest = stream(pieces, hold)
    assert ("".join(out) + rest).strip() == split(whole).answer


def test_text_is_held_until_it_is_surely_an_answer() -> None:
    out, rest = stream(["Let me look.", " I am looking"], hold=40)
    assert (out, rest) == (["", ""], "Let me look. I am looking")

    out, rest = stream(["Let me look.", " I am looking", " and what I found is long"], hold=40)
    assert out == ["", "", "Let me look. I am looking and what I found is long"]
    assert rest == ""


def test_once_out_everything_follows_at_once() -> None:
    out, rest = stream(["Answer", " goes", " on"], hold=0)
    assert (out, rest) == (["Answer", " goes", " on"], "")


def test_a_tag_that_is_cut_waits_for_its_rest() -> None:
    out, rest = stream(["<thin", "king>no</thin", "king>Yes"], hold=0)
    assert ("".join(out), rest) == ("Yes", "")
