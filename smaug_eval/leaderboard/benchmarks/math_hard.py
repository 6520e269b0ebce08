"""Define MATH Lvl 5: the hardest problems of MATH in seven subjects, generated behind four fixed shots.

Source: ``tasks/leaderboard/math`` of the second leaderboard's fork of lm-evaluation-harness at commit b569ab01
(2025-03-18); the shots are those of Minerva, in ``tasks/open_llm_v2/math_shots.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from smaug_eval.common.embedded import TASKS_FOLDER
from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask, Sample, same_rule
from smaug_eval.leaderboard.forms import Document, Form, Row
from smaug_eval.leaderboard.math_rules import RULES, boxed_answer, score
from smaug_eval.leaderboard.protocol import DataSplit, GenerationLimits, TaskSpec
from smaug_eval.leaderboard.v2_packages import check_packages

SHOTS: tuple[Row, ...] = tuple(
    json.loads((TASKS_FOLDER / "open_llm_v2" / "math_shots.json").read_text(encoding="utf-8"))
)
_SUBJECTS = {
    "algebra": ("algebra", 307),
    "counting_and_prob": ("counting_and_probability", 123),
    "geometry": ("geometry", 132),
    "intermediate_algebra": ("intermediate_algebra", 280),
    "num_theory": ("number_theory", 154),
    "prealgebra": ("prealgebra", 193),
    "precalculus": ("precalculus", 135),
}
"""Task to the configuration of its data, and to its documents."""


def query(row: Row) -> str:
    """Return a problem."""
    return f"Problem:\n{row['problem']}\n\nSolution:"


def shot(row: Row) -> str:
    """Return a problem with its worked solution."""
    return f"{query(row)} {row['solution']}"


def document(row: Row, preamble: str) -> Document:
    """Return a problem whose solution is to be generated; ``answer`` is what its worked solution puts into a box."""
    asked = query(row)
    answer = boxed_answer(row["solution"])
    return {"query": asked, "ctx": preamble + asked, "solution": row["solution"], "answer": answer}


def metrics(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score one generated solution by all rules, as lm-eval's ``process_results``."""
    return score(doc["solution"], doc["answer"], results[0])


def measure(sample: Sample, _stops: Sequence[str]) -> dict[str, float]:
    """Read how a logged solution was scored when it was generated, by each rule that was applied.

    The rules need packages beyond this program's own, and their versions decide borderline answers: what the run found
    is not computed again.
    """
    return {rule: float(sample[rule]) for rule in RULES if rule in sample}


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model."""
    return f"{row['problem']} {row['solution']}"


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wording, and the right answer."""
    return [row["problem"]], boxed_answer(row["solution"])


FORM = Form("math_hard", ("problem", "level", "solution"), shot, document, example=example, identity=identity)
TASKS = tuple(
    TaskSpec(
        name=f"open_llm_v2_math_{name}_hard",
        form=FORM,
        evaluated=DataSplit("DigitalLearningGmbH/MATH-lighteval", config, "test", title=f"MATH {config}"),
        num_fewshot=4,
        samples=SHOTS,
        draws_shots=False,
        is_shuffled=False,
        keeps=("level", "Level 5"),
        generation=GenerationLimits(stops=("Problem:",), max_new_tokens=1024),
        official_rows=rows,
    )
    for name, (config, rows) in _SUBJECTS.items()
)
BENCHMARK = Benchmark(
    title="MATH Lvl 5",
    metric="exact_match",
    tasks=TASKS,
    measure=measure,
    reported={rule: (f"{rule},none",) for rule in RULES},
    modern=ModernTask("leaderboard_math_hard", "exact_match", same_rule, weighted_by_size=True),
    group="open_llm_v2_math_hard",
    weighted_by_size=True,
    check=check_packages,
)
