"""Define the demo suite: six small tasks in the leaderboard's six forms, with data that ship with the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from smaug_eval.common.embedded import TASKS_FOLDER
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.benchmarks import arc, gsm8k, hellaswag, mmlu, truthfulqa, winogrande
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.forms import SHOT_SEPARATOR, Form, Row
from smaug_eval.leaderboard.protocol import DataSplit, GenerationLimits, TaskSpec
from smaug_eval.leaderboard.suite import Reader, Suite

NAME = "demo"
FOLDER = TASKS_FOLDER / NAME
GENERATION = GenerationLimits(stops=(":", "Question:", "Question"), max_new_tokens=96)


@lru_cache
def demo_suite(data: Path = FOLDER / "data", *, arithmetic_split: str = "test") -> Suite:
    """Build the demo suite over the files in ``data``.

    Args:
        data: Holds ``<task>/<split>.jsonl`` in the Hub's columns of the task's form, and
            ``demo_truth/preamble.txt``: the questions and answers before every question of that task.
        arithmetic_split: The problems that are asked: ``test``, or ``development``, on which settings are chosen.

    Raises:
        SmaugError: the preamble or the subjects cannot be read.
    """
    read = jsonl_reader(data)
    facts = _drawn("demo_facts", arc.FORM, 10)
    endings = _drawn("demo_endings", hellaswag.FORM, 5)
    truth = TaskSpec("demo_truth", truthfulqa.FORM, _split("demo_truth", "test"), header=_preamble(data))
    pronouns = _drawn("demo_pronouns", winogrande.FORM, 5)
    arithmetic = _drawn("demo_arithmetic", gsm8k.FORM, 5, GENERATION, tested=arithmetic_split)
    return Suite(
        name=NAME,
        columns=(
            Column("Facts", facts.name, arc.BENCHMARK.metric, (facts,)),
            Column("Endings", endings.name, hellaswag.BENCHMARK.metric, (endings,)),
            Column("Subjects", "demo_subjects", mmlu.BENCHMARK.metric, _subjects(read)),
            Column("Truth", truth.name, truthfulqa.BENCHMARK.metric, (truth,)),
            Column("Pronouns", pronouns.name, winogrande.BENCHMARK.metric, (pronouns,)),
            Column("Arithmetic", arithmetic.name, gsm8k.BENCHMARK.metric, (arithmetic,)),
        ),
        folder=FOLDER,
        read=read,
        on_hub=False,
    )


def jsonl_reader(folder: Path) -> Reader:
    """Make a reader of ``<folder>/<hub id>/<split>.jsonl``; the data root it is given makes no difference."""

    def read(split: DataSplit, columns: tuple[str, ...], data_root: Path | None = None) -> Sequence[Row]:
        path = folder / split.hub_id / f"{split.name}.jsonl"
        lines = _read_text(path).strip("\n").split("\n")  # splitlines also splits inside strings, at U+2028
        return [_parsed(line, columns, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]

    return read


def _parsed(line: str, columns: tuple[str, ...], where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        return {column: row[column] for column in columns}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise SmaugError(
            f"{where} is not a JSON object with {', '.join(columns)}: {error!r}",
            fix="write the demo's data again (python -m smaug_eval.demo.write_data)",
        ) from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SmaugError(
            f"{path} cannot be read: {error}",
            fix="install the package again, or write the demo's data (python -m smaug_eval.demo.write_data)",
        ) from error


def _split(task: str, split: str) -> DataSplit:
    return DataSplit(task, "default", split)


def _drawn(
    name: str, form: Form, num_fewshot: int, generation: GenerationLimits | None = None, tested: str = "test"
) -> TaskSpec:
    return TaskSpec(name, form, _split(name, tested), num_fewshot, shots=_split(name, "train"), generation=generation)


def _preamble(data: Path) -> str:
    return _read_text(data / "demo_truth" / "preamble.txt").strip() + SHOT_SEPARATOR


def _subjects(read: Reader) -> tuple[TaskSpec, ...]:
    dev = _split("demo_subjects", "dev")
    subjects = dict.fromkeys(row["subject"] for row in read(dev, ("subject",), None))
    return tuple(
        TaskSpec(
            name=f"demo_subjects_{subject}",
            form=mmlu.FORM,
            evaluated=_split("demo_subjects", "test"),
            num_fewshot=5,
            shots=dev,
            draws_shots=False,
            header=mmlu.header(subject),
            subject=subject,
        )
        for subject in subjects
    )
