"""Describe GPQA: four choices in three overlapping sets of questions, without shots.

Source: ``tasks/leaderboard/gpqa`` of the second leaderboard's fork of lm-evaluation-harness at commit b569ab01
(2025-03-18). There the options were shuffled by the global random state while the data were prepared, so that nobody
can say which order a published row saw. Here the text of the question decides, the same for every model and run.
"""

from __future__ import annotations

import random
import re

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask, unnormalised_rule
from smaug_eval.leaderboard.forms import LETTERS, Document, Form, Row, answered_document, solved
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure, logged_gold

_DOCUMENTS = {"main": 448, "extended": 546, "diamond": 198}
_ANSWERS = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3", "Correct Answer")
_OPTIONS = tuple(f"({letter})" for letter in LETTERS)
_BRACKETS = re.compile(r"\[.*?\]")


def cleaned(text: str | None) -> str:
    """Return an answer as the harness shows it: ``[...]`` is left out, which takes some numbers with it."""
    if text is None:
        return " "
    return _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def answers(row: Row) -> tuple[list[str], int]:
    """Return the four answers in the order that the question's text decides, and the index of the right one.

    Of answers that are equal the first counts as the right one, as in the harness.
    """
    found = [cleaned(row[name]) for name in _ANSWERS]
    right = found[-1]
    random.Random(row["Question"]).shuffle(found)
    return found, found.index(right)


def query(row: Row) -> str:
    """Return a question with its lettered answers."""
    lines = "\n".join(f"{option} {answer}" for option, answer in zip(_OPTIONS, answers(row)[0], strict=True))
    return f"What is the correct answer to this question:{row['Question']}\nChoices:\n{lines}\nAnswer: "


def shot(row: Row) -> str:
    """Return a solved question; the leaderboard showed none."""
    return solved(query(row), _OPTIONS, answers(row)[1])


def document(row: Row, preamble: str) -> Document:
    """Return a question whose letters are to be scored."""
    return answered_document(query(row), _OPTIONS, _OPTIONS[answers(row)[1]], preamble)


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model."""
    return f"{row['Question']} {row['Correct Answer']}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wording, and the right answer."""
    return [row["Question"]], row["Correct Answer"]


FORM = Form("gpqa", ("Question", *_ANSWERS), shot, document, example=example, identity=identity)
TASKS = tuple(
    TaskSpec(
        name=f"open_llm_v2_gpqa_{name}",
        form=FORM,
        evaluated=DataSplit("Idavidrein/gpqa", f"gpqa_{name}", "train", title=f"GPQA {name}"),
        is_shuffled=False,
        official_rows=rows,
    )
    for name, rows in _DOCUMENTS.items()
)
BENCHMARK = Benchmark(
    title="GPQA",
    metric="acc_norm",
    tasks=TASKS,
    measure=choice_measure(logged_gold, by_length=True),
    reported={"acc_norm": ("acc_norm,none",), "acc": ("acc,none",)},
    modern=ModernTask("leaderboard_gpqa", "acc_norm", unnormalised_rule, weighted_by_size=True),
    group="open_llm_v2_gpqa",
    weighted_by_size=True,
    floor=1 / 4,
)
