"""Define BBH: 24 subtasks of BIG-Bench Hard as choices, with three fixed shots and no chain of thought.

Source: ``tasks/leaderboard/bbh_mc`` of the second leaderboard's fork of lm-evaluation-harness at commit b569ab01
(2025-03-18); descriptions, choices and shots are in ``tasks/open_llm_v2/bbh_prompts.json``.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from smaug_eval.common.embedded import TASKS_FOLDER
from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask, unnormalised_rule
from smaug_eval.leaderboard.forms import Document, Form, Row, answered_document, solved
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure, logged_gold

PROMPTS: dict[str, dict[str, Any]] = json.loads(
    (TASKS_FOLDER / "open_llm_v2" / "bbh_prompts.json").read_text(encoding="utf-8")
)
"""Subtask to its ``description``, the text before the shots without a separator; ``choices``; ``shots``."""
_DOCUMENTS = {"causal_judgement": 187, "penguins_in_a_table": 146, "snarks": 178}


def query(row: Row) -> str:
    """Return a question, which brings its options along where it has any."""
    return f"Q: {row['input']}\nA:"


def shot(choices: tuple[str, ...], row: Row) -> str:
    """Return a solved question."""
    return solved(query(row), choices, choices.index(row["target"]))


def document(choices: tuple[str, ...], row: Row, preamble: str) -> Document:
    """Return a question whose choices are to be scored; three rows of the data have an answer that is none of them."""
    return answered_document(query(row), choices, row["target"], preamble)


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model."""
    return f"{row['input']} {row['target']}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wording, and the right answer."""
    return [row["input"]], row["target"]


def _task(name: str, prompts: dict[str, Any]) -> TaskSpec:
    choices = tuple(prompts["choices"])
    return TaskSpec(
        name=f"open_llm_v2_bbh_{name}",
        form=Form(
            "bbh", ("input", "target"), partial(shot, choices), partial(document, choices),
            example=example, identity=identity,
        ),
        evaluated=DataSplit("SaylorTwift/bbh", name, "test", title=f"BBH {name}"),
        num_fewshot=3,
        samples=tuple(prompts["shots"]),
        draws_shots=False,
        is_shuffled=False,
        header=prompts["description"],
        official_rows=_DOCUMENTS.get(name, 250),
    )  # fmt: skip


TASKS = tuple(_task(name, prompts) for name, prompts in PROMPTS.items())
BENCHMARK = Benchmark(
    title="BBH",
    metric="acc_norm",
    tasks=TASKS,
    measure=choice_measure(logged_gold, by_length=True),
    reported={"acc_norm": ("acc_norm,none",), "acc": ("acc,none",)},
    modern=ModernTask("leaderboard_bbh", "acc_norm", unnormalised_rule, weighted_by_size=True),
    group="open_llm_v2_bbh",
    floors=tuple(1 / len(prompts["choices"]) for prompts in PROMPTS.values()),
)
