"""A benchmark: which of two colours a thing has."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask
from smaug_eval.leaderboard.demo import jsonl_reader
from smaug_eval.leaderboard.forms import Document, Form, Row, choice_document, solved
from smaug_eval.leaderboard.harness import document_set
from smaug_eval.leaderboard.protocol import DataSplit, TaskSpec
from smaug_eval.leaderboard.samples import choice_measure
from smaug_eval.leaderboard.suite import Suite

FOLDER = Path(__file__).parent


def gold(row: Row) -> int:
    """Return the index of the right colour."""
    return int(row["right"])


def query(row: Row) -> str:
    """Return the question."""
    return f"What colour is the {row['thing']}?"


def shot(row: Row) -> str:
    """Return a solved question."""
    return solved(query(row), row["colours"], gold(row))


def document(row: Row, preamble: str) -> Document:
    """Return a question to score."""
    return choice_document(query(row), row["colours"], gold(row), preamble)


FORM = Form(
    "colours",
    ("thing", "colours", "right"),
    shot,
    document,
    example=shot,
    identity=lambda row: ([row["thing"]], row["colours"][gold(row)]),
    gold=gold,
)
TASK = TaskSpec(
    "colours_things", FORM, DataSplit("things", "default", "test"), 1, shots=DataSplit("things", "default", "train")
)
BENCHMARK = Benchmark(
    title="Colours",
    metric="acc",
    tasks=(TASK,),
    measure=choice_measure(gold),
    reported={"acc": ("acc,none", "acc")},
    modern=ModernTask("things", "acc"),
)


def suite() -> Suite:
    """Return the suite, whose task is in the folder beside this module."""
    return Suite(
        "colours", (BENCHMARK.column,), folder=FOLDER / "tasks", read=jsonl_reader(FOLDER / "data"), on_hub=False
    )


def documents(task_name: str, **_metadata: object) -> dict[str, Dataset]:
    """Return lm-eval's ``custom_dataset``."""
    return document_set(suite(), task_name)
