"""Describe IFEval: prompts with instructions whose following a program can check.

Source: ``tasks/leaderboard/ifeval`` of the second leaderboard's fork of lm-evaluation-harness at commit b569ab01
(2025-03-18). The column is the mean of strict accuracy by prompt and by instruction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from smaug_eval.leaderboard.benchmark import Benchmark, ModernTask, Sample, same_rule
from smaug_eval.leaderboard.forms import Document, Form, Row
from smaug_eval.leaderboard.instructions import check
from smaug_eval.leaderboard.protocol import DataSplit, GenerationLimits, TaskSpec
from smaug_eval.leaderboard.scores import number
from smaug_eval.leaderboard.v2_packages import check_packages

STRICT = "strict_acc"
INSTRUCTIONS, PROMPTS = "inst_level_strict_acc", "prompt_level_strict_acc"
LOOSE_INSTRUCTIONS, LOOSE_PROMPTS = "inst_level_loose_acc", "prompt_level_loose_acc"
BOTH = f"{PROMPTS}+{INSTRUCTIONS}"
"""What ``strict_acc`` is made of, document by document."""
METRICS = (PROMPTS, INSTRUCTIONS, LOOSE_PROMPTS, LOOSE_INSTRUCTIONS)

_CLUSTERED = 1.1
"""The instructions of a prompt stand or fall together at worst: then their mean has the standard error of so many
fewer prompts. Over IFEval's 541 prompts with 834 instructions, sqrt(541 * sum(m^2)) / sum(m) is 1.09."""


def shot(row: Row) -> str:
    """Return a prompt; there is no solved example of one."""
    raise ValueError(f"IFEval has no shots: nothing answers {row['key']}")


def document(row: Row, preamble: str) -> Document:
    """Return a prompt that is to be answered, with its instructions and their settings."""
    fields: dict[str, Any] = {name: row[name] for name in ("key", "prompt", "instruction_id_list", "kwargs")}
    if len(row["instruction_id_list"]) != len(row["kwargs"]):
        raise ValueError(f"{len(row['instruction_id_list'])} instructions and {len(row['kwargs'])} kwargs")
    return {"query": row["prompt"], "ctx": preamble + row["prompt"], **fields}


def metrics(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Check one answer, as lm-eval's ``process_results``; see :func:`smaug_eval.leaderboard.instructions.check`."""
    return check(doc, results[0])


def instruction_accuracy(items: Sequence[Sequence[bool]]) -> float:
    """Return the share of all prompts' instructions that were followed."""
    followed = [bool(each) for instructions in items for each in instructions]
    return sum(followed) / len(followed)


def measure(sample: Sample, _stops: Sequence[str]) -> dict[str, float]:
    """Read how a logged answer was checked when it was generated.

    Returns:
        Accuracy by prompt, 0 or 1, and the share of its instructions that were followed, strict and loose. The column
        has no value of a single prompt, since prompts with more instructions weigh more.
    """
    found = {name: float(sample[name]) for name in (PROMPTS, LOOSE_PROMPTS) if name in sample}
    for name in (INSTRUCTIONS, LOOSE_INSTRUCTIONS):
        if sample.get(name):
            found[name] = sum(map(bool, sample[name])) / len(sample[name])
    return found


def entry(results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return IFEval's column as one metric, the mean of strict accuracy by instruction and by prompt.

    lm-eval gives no standard error by instruction. It gets the one that it had if the instructions of a prompt were all
    followed or none, which is an upper bound.

    Args:
        results: lm-eval's ``results`` of the task.

    Returns:
        ``strict_acc,none`` and its standard error; None where one of the two is missing.
    """
    by_instruction, by_prompt = number(results.get(f"{INSTRUCTIONS},none")), number(results.get(f"{PROMPTS},none"))
    if by_instruction is None or by_prompt is None:
        return None
    found: dict[str, Any] = {f"{STRICT},none": (by_instruction + by_prompt) / 2}
    error, n = number(results.get(f"{PROMPTS}_stderr,none")), results.get("sample_len")
    if error is not None and isinstance(n, int) and n > 1 and 0 <= by_instruction <= 1:
        other = _CLUSTERED * math.sqrt(by_instruction * (1 - by_instruction) / (n - 1))
        found[f"{STRICT}_stderr,none"] = (error + other) / 2  # as if they varied together
    return found


def example(row: Row) -> str:
    """Return the text that the contamination check shows a model."""
    return str(row["prompt"])


def identity(row: Row) -> tuple[list[str], str]:
    """Return what identifies a row in training pairs: its wording; there is no right answer."""
    return [row["prompt"]], ""


FORM = Form(
    "ifeval", ("key", "prompt", "instruction_id_list", "kwargs"), shot, document, example=example, identity=identity
)
TASK = TaskSpec(
    name="open_llm_v2_ifeval",
    form=FORM,
    evaluated=DataSplit("wis-k/instruction-following-eval", "default", "train", title="IFEval"),
    is_shuffled=False,
    generation=GenerationLimits(stops=(), max_new_tokens=1280),
    official_rows=541,
)
BENCHMARK = Benchmark(
    title="IFEval",
    metric=STRICT,
    tasks=(TASK,),
    measure=measure,
    reported={STRICT: (f"{STRICT},none",), **{name: (f"{name},none",) for name in METRICS}},
    modern=ModernTask("leaderboard_ifeval", STRICT, same_rule),
    check=check_packages,
)
