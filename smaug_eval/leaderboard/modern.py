"""lm-eval 0.4.13's own tasks with the leaderboard's numbers of shots, as a suite to run beside the leaderboard's.

Everything but the data's place is lm-eval's: its draw of shots, its prompts, its filters, its document-weighted MMLU.
"""

from __future__ import annotations

from dataclasses import replace

from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.suite import Column, Suite

NAME = "lm_eval_0413"


def _task(spec: TaskSpec, name: str) -> TaskSpec:
    return replace(spec, name=name)


ARC = _task(v1.ARC, "arc_challenge")
HELLASWAG = _task(v1.HELLASWAG, "hellaswag")
MMLU = tuple(_task(spec, f"mmlu_{spec.subject}") for spec in v1.MMLU)
TRUTHFULQA = _task(v1.TRUTHFULQA, "truthfulqa_mc2")
WINOGRANDE = _task(v1.WINOGRANDE, "winogrande")
GSM8K = _task(v1.GSM8K, "gsm8k")

SUITE = Suite(
    name=NAME,
    columns=(
        Column("ARC", ARC.name, "acc_norm", (ARC,)),
        Column("HellaSwag", HELLASWAG.name, "acc_norm", (HELLASWAG,)),
        Column("MMLU", "mmlu", "acc", MMLU, weighted_by_size=True),
        Column("TruthfulQA", TRUTHFULQA.name, "acc", (TRUTHFULQA,)),
        Column("Winogrande", WINOGRANDE.name, "acc", (WINOGRANDE,)),
        Column("GSM8K", GSM8K.name, "exact_match,strict-match", (GSM8K,)),
    ),
    folder=None,
    read=v1.read_rows,
)
