"""Describe MuSR: long stories with two to five choices of text, in three tasks, without shots.

Source: ``tasks/leaderboard/musr`` of the second leaderboard's fork of lm-evaluation-harness at commit b569ab01
(2025-03-18).
"""

from __future__ import annotations

import ast

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask, unnormalised_rule
from smaug_eval.leaderboard.forms import Document, Form, Row, answered_document, solved
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure, logged_gold

_CHOICES = {"murder_mysteries": (2, 250), "object_placements": (5, 256), "team_allocation": (3, 250)}
"""Task to the choices that the normalisation counts with, and to its documents."""


def choices(row: Row) -> list[str]:
    """Return the choices, which the data have as the text of a Python list.

    Raises:
        ValueError: the text is no list of texts.
    """
    try:
        found = ast.literal_eval(row["choices"])  # reads literals and runs nothing
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"choices is no list: {error}") from error
    if not isinstance(found, list) or not all(isinstance(choice, str) for choice in found):
        raise ValueError("choices is no list of texts")
    return found


def query(row: Row) -> str:
    """Return a story, its question and the numbered choices."""
    numbered = "".join(f"{number} - {choice}\n" for number, choice in enumerate(choices(row), start=1))
    return f"{row['narrative']}\n\n{row['question']}\n\n{numbered}\nAnswer:"


def shot(row: Row) -> str:
    """Return a solved question; the leaderboard showed none."""
    return solved(query(row), choices(row), choices(row).index(row["answer_choice"]))


def document(row: Row, preamble: str) -> Document:
    """Return a question whose choices are to be scored by their texts."""
    return answered_document(query(row), choices(row), row["answer_choice"], preamble)


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model."""
    return f"{row['narrative']} {row['question']} {row['answer_choice']}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: the story, which has one question, and the right answer."""
    return [row["narrative"]], row["answer_choice"]


FORM = Form(
    "musr", ("narrative", "question", "choices", "answer_choice"), shot, document, example=example, identity=identity
)
TASKS = tuple(
    TaskSpec(
        name=f"open_llm_v2_musr_{name}",
        form=FORM,
        evaluated=DataSplit("TAUR-Lab/MuSR", "default", name, title="MuSR"),
        is_shuffled=False,
        official_rows=rows,
    )
    for name, (_, rows) in _CHOICES.items()
)
BENCHMARK = Benchmark(
    title="MuSR",
    metric="acc_norm",
    tasks=TASKS,
    measure=choice_measure(logged_gold, by_length=True),
    reported={"acc_norm": ("acc_norm,none",), "acc": ("acc,none",)},
    modern=ModernTask("leaderboard_musr", "acc_norm", unnormalised_rule, weighted_by_size=True),
    group="open_llm_v2_musr",
    floors=tuple(1 / number for number, _ in _CHOICES.values()),
)
