"""Where thinking ends and the answer begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.thinking import opens_thinking, split_thinking

CHANNELS = "<|channel|>analysis<|message|>Hm, 3?<|end|><|start|>assistant<|channel|>final<|message|>It is 4.<|return|>"


@pytest.mark.parametrize(
    ("text", "thoughts", "answer", "finished"),
    [
        ("<think>Hm, 3?</think> It is 4.", "Hm, 3?", "It is 4.", True),
        ("\n<think>\nHm\n</think>\n\nIt is 4.\n", "Hm", "It is 4.", True),
        ("<think></think>It is 4.", "", "It is 4.", True),
        ("Hm, 3?\n</think>\nIt is 4.", "Hm, 3?", "It is 4.", True),
        ("<think>Hm, and so on", "Hm, and so on", "", False),
        ("<thinking>a</thinking>b<think>c</think>d", "a\nc", "bd", True),
        ("<seed:think>a</seed:think>b", "a", "b", True),
        ("[THINK]a[/THINK]b", "a", "b", True),
        ("◁think▷a◁/think▷b", "a", "b", True),
        (CHANNELS, "Hm, 3?", "It is 4.", True),
        ("<|channel|>analysis<|message|>Hm, and so on", "Hm, and so on", "", False),
    ],
)
def test_thinking_and_answer(text: str, thoughts: str, answer: str, finished: bool) -> None:
    found = split_thinking(text)
    assert (found.thoughts, found.answer, found.found, found.finished) == (thoughts, answer, True, finished)


@pytest.mark.parametrize(
    "text",
    [
        "It is 4.",
        "Write `<think>` before and `</think>` behind. [[5]]",
        'The answer holds a "<think>" tag. [[5]]',
        "It says <think> in the middle. [[5]]",
        " spaces stay \n",
    ],
)
def test_texts_without_thinking_stay_as_they_are(text: str) -> None:
    found = split_thinking(text)
    assert (found.answer, found.found, found.thoughts) == (text, False, "")


def test_a_prompt_may_have_opened_the_thinking() -> None:
    assert opens_thinking("<|assistant|><think>\n")
    assert not opens_thinking("<|assistant|><think>\n\n</think>\n\n")
    assert not opens_thinking("<|assistant|>")
    cut = split_thinking("Hm, and so on", opened=True)
    assert (cut.thoughts, cut.answer, cut.finished) == ("Hm, and so on", "", False)
    assert split_thinking("Hm</think>4", opened=True).answer == "4"


@given(st.text(alphabet=st.sampled_from('<>/`think \n"[]|channel'), max_size=60))
def test_any_text_is_split_without_an_error_and_nothing_is_invented(text: str) -> None:
    found = split_thinking(text)
    assert set(found.answer) | set(found.thoughts) <= set(text) | {"\n"}
    if not found.found:
        assert found.answer == text
