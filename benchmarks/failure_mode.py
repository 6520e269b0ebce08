"""Measure what each loss does to the likelihood of held-out preferred answers, from one model, on the same pairs.

    python -m benchmarks.failure_mode [--model PATH] [--data-root DIR] [--losses ...] [--steps N] [--json] ...

The finding of arXiv 2402.13228 in small: on pairs that differ in one number, DPO lowers the likelihood of the tokens
after the edit in the *preferred* answer. By default on the embedded demo model with the pairs of recipes/demo.yaml;
with ``--data-root`` on pairs made from GSM8K's training solutions, without solved examples. A model that has not seen
such text is first fine-tuned on the preferred answers with ``--sft-steps``; that model then is the reference.

Every loss starts from the same weights and sees the same pairs in the same order, with the same number of steps and
the same learning rate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from smaug_eval.common.embedded import embedded_path
from smaug_eval.models.checkpoint import locate
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.config import MetaMathPairs
from smaug_eval.trainers.spec import TrainingSpec
from smaug_eval.trainers.train import train

BETA = 0.3
LOSSES: dict[str, dict[str, Any]] = {
    "dpo": {"loss": "dpo", "beta": BETA},
    "dpop-5": {"loss": "dpop", "beta": BETA, "lambda": 5},
    "dpop-50": {"loss": "dpop", "beta": BETA, "lambda": 50},
    "dpop-500": {"loss": "dpop", "beta": BETA, "lambda": 500},
    "dpop_v1_misprint-50": {"loss": "dpop_v1_misprint", "beta": BETA, "lambda": 50},
    "ipo": {"loss": "ipo", "beta": BETA},
    "ipo_averaged": {"loss": "ipo_averaged", "beta": BETA},
    "hinge": {"loss": "hinge", "beta": BETA},
    "slic": {"loss": "slic"},
    "sft": {"loss": "sft"},
}
COLUMNS = {
    "log_ratios/chosen": "chosen",
    "log_ratios/rejected": "rejected",
    "log_ratios/chosen_below": "chosen below ref.",
    "rewards/accuracies": "accuracy",
    "change/chosen_before": "before",
    "change/chosen_at": "at",
    "change/chosen_after": "after",
    "change/chosen_before_sum": "before (pair)",
    "change/chosen_at_sum": "at (pair)",
    "change/chosen_after_sum": "after (pair)",
}
GSM8K = {"path": "openai/gsm8k", "config": "main", "split": "train"}
SEED = 42


@dataclass(frozen=True)
class FailurePlan:
    """Hold what is the same for every loss.

    Attributes:
        model: Folder, Hub id or ``embedded:demo-model``.
        data_root: Mirror that holds GSM8K; None for the demo's pairs.
        pairs: Training pairs.
        held_out: Held-out pairs.
        steps: Optimiser steps.
        batch_size: Pairs a step.
        learning_rate: Peak learning rate of AdamW.
        sft_steps: Steps of fine-tuning on the preferred answers before, which is not compared; 0 for none.
        sft_learning_rate: Its peak learning rate.
        lora: Whether to train a LoRA adapter instead of all weights.
    """

    model: str
    data_root: Path | None
    pairs: int
    held_out: int
    steps: int
    batch_size: int
    learning_rate: float
    sft_steps: int
    sft_learning_rate: float
    lora: bool


def measure(plan: FailurePlan, losses: list[str]) -> list[dict[str, Any]]:
    """Train with each loss from the same start; the last means over held-out pairs, one row a loss."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_pairs(_pair_set(plan), data_root=plan.data_root, out_dir=folder / "pairs")
        start = locate(plan.model).path
        if plan.sft_steps:
            sft = {"loss": "sft", "steps": plan.sft_steps, "learning_rate": plan.sft_learning_rate}
            print(f"{plan.sft_steps} steps of fine-tuning on the preferred answers", file=sys.stderr)
            _train(plan, "start", sft, start, folder)
            start = folder / "start" / "checkpoint"
        return [_row(plan, label, start, folder) for label in losses]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| loss | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for row in rows:
        cells = (_cell(name, row[name]) for name in COLUMNS)
        lines.append(f"| {row['loss']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pair_set(plan: FailurePlan) -> MetaMathPairs:
    demo = plan.data_root is None
    place = {"path": str(embedded_path("embedded:demo-arithmetic"))} if demo else GSM8K
    shots = (0, 2) if demo else (0, 0)
    return MetaMathPairs.model_validate(
        {"source": "metamath", **place, "shots": shots, "limit": plan.pairs, "holdout": plan.held_out, "seed": SEED}
    )


def _train(plan: FailurePlan, label: str, settings: dict[str, Any], start: Path, folder: Path) -> Any:
    every = {
        "steps": plan.steps,
        "learning_rate": plan.learning_rate,
        "batch_size": plan.batch_size,
        "max_length": 512,
        "long_prompts": "drop",
        "eval_every": None,
        "save_every": None,
        "log_every": plan.steps,
        "gradient_cosine_pairs": 0,
        "lora": {} if plan.lora and label != "start" else None,
    }
    spec = TrainingSpec(
        config=TrainingConfig.model_validate(every | settings),
        name=label,
        model_path=start,
        dtype="float32",
        train_file=folder / "pairs" / "train.jsonl",
        eval_file=folder / "pairs" / "eval.jsonl",
        out_dir=folder / label,
        seed=SEED,
        model_sha256=locate(str(start)).sha256,
        reference_dir=folder / "reference",
    )
    return train(spec, should_stop=lambda: False)


def _row(plan: FailurePlan, label: str, start: Path, folder: Path) -> dict[str, Any]:
    began = time.monotonic()
    result = _train(plan, label, LOSSES[label], start, folder)
    after = result.diagnostics["profile"]["after_edit"]
    seconds = round(time.monotonic() - began, 1)
    print(f"{label}: {seconds} s", file=sys.stderr)
    return {
        "loss": label,
        "pairs": result.pairs,
        "eval_pairs": result.eval_pairs,
        "dropped": result.dropped,
        "truncated": result.truncated,
        **{name: result.final[name] for name in ("log_ratios/chosen_se", *COLUMNS)},
        "after_edit": {"reference": after["reference"], "policy": after["policy"]},
        "seconds": seconds,
    }


def _cell(name: str, value: float) -> str:
    return f"{value:.0%}" if name in ("log_ratios/chosen_below", "rewards/accuracies") else f"{value:+.3f}"


def main() -> None:
    """Print the table, or JSON with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:demo-model", help="folder, Hub id or embedded:demo-model")
    parser.add_argument("--data-root", type=Path, help="offline mirror with GSM8K; the demo's pairs if left out")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS")
    parser.add_argument("--pairs", type=int, default=192, help="training pairs")
    parser.add_argument("--held-out", type=int, default=48, help="held-out pairs")
    parser.add_argument("--steps", type=int, default=24, help="optimiser steps of each loss")
    parser.add_argument("--batch-size", type=int, default=8, help="pairs a step")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="the same for every loss")
    parser.add_argument("--sft-steps", type=int, default=0, help="steps of fine-tuning on the preferred answers before")
    parser.add_argument("--sft-learning-rate", type=float, default=1e-3, help="learning rate of that")
    parser.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of all weights")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = vars(parser.parse_args())
    losses, as_json = options.pop("losses"), options.pop("json")
    torch.set_num_threads(1)
    plan = FailurePlan(**options)
    rows = measure(plan, losses)
    context = {
        "command": "python -m benchmarks.failure_mode " + " ".join(sys.argv[1:]),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one torch thread, torch {torch.__version__}",
    }
    if as_json:
        print(json.dumps({**context, "seed": SEED, "rows": rows}, indent=2))
        return
    first = rows[0]
    print(f"{context['command']}\n{context['date']}; {context['machine']}")
    print(f"{first['pairs']} pairs, {first['eval_pairs']} held out, left out {first['dropped'] or 'none'}")
    print(f"preferred tokens after the edit under the reference: {first['after_edit']['reference']:.3f} nats each\n")
    print(table(rows))


if __name__ == "__main__":
    main()
