"""List the benchmarks, one file each: data, shots, text, scoring, and what the contamination check looks for."""

from __future__ import annotations

from smaug_eval.common.tables import Table
from smaug_eval.leaderboard.benchmark import Benchmark
from smaug_eval.leaderboard.benchmarks import (
    arc,
    bbh,
    gpqa,
    gsm8k,
    hellaswag,
    ifeval,
    math_hard,
    mmlu,
    mmlu_pro,
    musr,
    truthfulqa,
    winogrande,
)
from smaug_eval.leaderboard.forms import Form
from smaug_eval.leaderboard.protocol import TaskSpec

OPEN_LLM_V1 = tuple(module.BENCHMARK for module in (arc, hellaswag, mmlu, truthfulqa, winogrande, gsm8k))
"""The six of the first Open LLM Leaderboard, in the order of its table."""

OPEN_LLM_V2 = tuple(module.BENCHMARK for module in (ifeval, bbh, math_hard, gpqa, musr, mmlu_pro))
"""The six of the second Open LLM Leaderboard, in the order of its table."""

BENCHMARKS = Table(
    "benchmarks", Benchmark, {benchmark.form.name: benchmark for benchmark in (*OPEN_LLM_V1, *OPEN_LLM_V2)}
)
"""Every benchmark by the name of its form; one more is one more entry."""


def benchmark_of(form: Form) -> Benchmark:
    """Return the benchmark whose rules score a task in this form.

    Raises:
        KeyError: the form's benchmark is not in ``BENCHMARKS``.
    """
    return BENCHMARKS[form.name]


def named_task(name: str) -> tuple[Benchmark, TaskSpec] | None:
    """Return the benchmark and its task that results of any program call ``name``; None where there is none."""
    for benchmark in BENCHMARKS.values():
        if (spec := benchmark.task(name)) is not None:
            return benchmark, spec
    return None
