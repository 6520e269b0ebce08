"""Describe MMLU-Pro: up to ten lettered choices, behind the same five shots for every subject.

Source: ``tasks/leaderboard/mmlu_pro`` of the second leaderboard's fork of lm-evaluation-harness at commit b569ab01
(2025-03-18).
"""

from __future__ import annotations

from string import ascii_uppercase

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask, unnormalised_rule
from smaug_eval.leaderboard.forms import Document, Form, Row, answered_document, solved
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure, logged_gold

_HUB_ID = "TIGER-Lab/MMLU-Pro"


def letters(row: Row) -> str:
    """Return the letters of a row's options."""
    return ascii_uppercase[: len(row["options"])]


def query(row: Row) -> str:
    """Return a question with its lettered options."""
    options = "".join(f"{letter}. {option}\n" for letter, option in zip(letters(row), row["options"], strict=True))
    return f"{row['question']}\n{options}Answer:"


def right_option(row: Row) -> str:
    """Return the text of the right option."""
    return str(row["options"][letters(row).index(row["answer"])])


def shot(row: Row) -> str:
    """Return a solved question."""
    return solved(query(row), letters(row), letters(row).index(row["answer"]))


def document(row: Row, preamble: str) -> Document:
    """Return a question whose letters are to be scored."""
    return answered_document(query(row), letters(row), row["answer"], preamble)


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model."""
    return f"{row['question']} {right_option(row)}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wording, and the right answer."""
    return [row["question"]], right_option(row)


FORM = Form("mmlu_pro", ("question", "options", "answer"), shot, document, example=example, identity=identity)
TASK = TaskSpec(
    name="open_llm_v2_mmlu_pro",
    form=FORM,
    evaluated=DataSplit(_HUB_ID, "default", "test", title="MMLU-Pro"),
    num_fewshot=5,
    shots=DataSplit(_HUB_ID, "default", "validation", title="MMLU-Pro"),
    draws_shots=False,
    is_shuffled=False,
    official_rows=12_032,
    official_shot_rows=70,
)
BENCHMARK = Benchmark(
    title="MMLU-Pro",
    metric="acc",
    tasks=(TASK,),
    measure=choice_measure(logged_gold),
    reported={"acc": ("acc,none",)},
    modern=ModernTask("leaderboard_mmlu_pro", "acc", unnormalised_rule),
    floors=(1 / 10,),
)
