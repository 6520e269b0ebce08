"""Compare a plan's memory and time with training steps of small models on this CPU.

    OMP_NUM_THREADS=1 python -m benchmarks.planning

Memory is the most that a process of its own holds beyond what it held before the model was made, after a step of a
tiny model has loaded all libraries: weights, gradients, AdamW's moments and activations of two steps. Time is that of
a step in steps of the first case, taken turn by turn in one process (the median over the rounds, which other work on
the machine disturbs least), predicted from the operations of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from benchmarks.memory import forget_peak, held, peak
from smaug_eval.planning.activations import PairLengths
from smaug_eval.planning.memory import MemorySetting, Sharing, training_memory
from smaug_eval.planning.shapes import ModelShape, shape_of
from smaug_eval.planning.work import training_flops
from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.adapters import with_adapter
from smaug_eval.trainers.config import LoraConfig, TrainingConfig
from smaug_eval.trainers.reference import score_pairs
from smaug_eval.trainers.tokenization import EncodedPair
from smaug_eval.trainers.trainer import PairTrainer, ScoredPairs

ROUNDS = 7


@dataclass(frozen=True)
class PlanningCase:
    """Describe a small model and a batch.

    Attributes:
        name: Name of the case.
        hidden: Width of the model.
        layers: Decoder layers.
        key_heads: Of 8 heads.
        vocabulary: Tokens that the head distinguishes.
        pair: Lengths of each pair.
        batch: Pairs of a step.
        share: Whether prefixes are shared.
        checkpointing: Whether activations are computed again.
        lora: Whether an adapter is trained.
    """

    name: str
    hidden: int
    layers: int
    key_heads: int
    vocabulary: int
    pair: PairLengths
    batch: int
    share: bool = True
    checkpointing: bool = False
    lora: bool = False

    @property
    def config(self) -> TrainingConfig:
        """Return the training."""
        return TrainingConfig.model_validate(
            {
                "loss": "dpop",
                "batch_size": self.batch,
                "share_prefix": self.share,
                "row_tokens": 2**20,
                "max_length": 4096,
                "gradient_checkpointing": self.checkpointing,
                "lora": LoraConfig(r=8) if self.lora else None,
            }
        )

    @property
    def shape(self) -> ModelShape:
        """Return the model's sizes."""
        fields = {key: value for key, value in self.model_config().to_diff_dict().items() if key != "architectures"}
        return shape_of({**fields, "model_type": "llama"}, self.name, "benchmark")

    @property
    def setting(self) -> MemorySetting:
        """Return the training on one CPU."""
        return MemorySetting(self.config, "float32", Sharing.SINGLE, 1, 1, self.pair, on_gpu=False)

    def model_config(self) -> LlamaConfig:
        """Return the model's configuration."""
        return LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.hidden * 11 // 4,
            num_hidden_layers=self.layers,
            num_attention_heads=8,
            num_key_value_heads=self.key_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=4096,
        )


LONG_PROMPT = PairLengths(210, 30, 30, 30)
SHORT_TAILS = PairLengths(100, 1, 15, 15)
CASES = (
    PlanningCase("calibration", 256, 4, 8, 4096, LONG_PROMPT, 4),
    PlanningCase("larger batch", 256, 4, 8, 4096, LONG_PROMPT, 8),
    PlanningCase("padded rows", 256, 4, 8, 4096, LONG_PROMPT, 4, share=False),
    PlanningCase("checkpointing", 256, 4, 8, 4096, LONG_PROMPT, 8, checkpointing=True),
    PlanningCase("wider, fewer key heads", 512, 3, 2, 4096, SHORT_TAILS, 8),
    PlanningCase("large vocabulary", 256, 3, 8, 32000, LONG_PROMPT, 4),
    PlanningCase("LoRA", 512, 4, 8, 4096, LONG_PROMPT, 4, lora=True),
)


class Stepper:
    """Step a case's training by hand."""

    def __init__(self, case: PlanningCase, folder: Path) -> None:
        torch.manual_seed(0)
        pairs = _pairs(case)
        model: Any = LlamaForCausalLM(case.model_config())
        config = case.config
        self._context = scoring(model, share=case.share)
        scorer = self._context.__enter__()
        self._scored = ScoredPairs(pairs, score_pairs(scorer, model, pairs, row_tokens=4096, autocast=None))
        self._model = with_adapter(model, config.lora, 0) if config.lora else model
        self._trainer = PairTrainer(
            self._model,
            TrainingArguments(
                output_dir=str(folder),
                per_device_train_batch_size=case.batch,
                max_steps=1000,
                use_cpu=True,
                report_to="none",
                disable_tqdm=True,
            ),
            config=config,
            scorer=scorer,
            train_pairs=self._scored,
            eval_pairs=None,
            autocast=None,
            callbacks=[],
        )
        if case.checkpointing:
            self._model.gradient_checkpointing_enable({"use_reentrant": False})
        self._trainer.create_optimizer()
        self._trainer.current_gradient_accumulation_steps = 1

    def step(self) -> float:
        """Return the seconds of one optimiser step."""
        started = time.perf_counter()
        batch = self._trainer.data_collator([self._scored[index] for index in range(len(self._scored))])
        self._trainer.training_step(self._model, batch, len(self._scored))
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._trainer.optimizer.step()
        self._model.zero_grad(set_to_none=True)
        return time.perf_counter() - started

    def close(self) -> None:
        """Leave the model as it was."""
        self._context.__exit__(None, None, None)


def _pairs(case: PlanningCase) -> list[EncodedPair]:
    rng, pair, found = np.random.default_rng(0), case.pair, []
    for _ in range(case.batch):
        common = rng.integers(1, case.vocabulary, pair.common, dtype=np.int32)
        tails = [rng.integers(1, case.vocabulary, size, dtype=np.int32) for size in (pair.chosen, pair.rejected)]
        tails[1][0] = tails[0][0] % (case.vocabulary - 1) + 1  # another token, so that nothing more is shared
        prompt = rng.integers(1, case.vocabulary, pair.prompt, dtype=np.int32)
        found.append(EncodedPair(prompt, np.concatenate([common, tails[0]]), np.concatenate([common, tails[1]])))
    return found


def measured_memory(case: PlanningCase) -> float:
    """Return the bytes that a case's training holds at most, in this process; call it for one case only."""
    tiny = PlanningCase("tiny", 64, 1, 8, 128, PairLengths(8, 2, 4, 4), 2, case.share, case.checkpointing, case.lora)
    with tempfile.TemporaryDirectory() as folder:
        warm = Stepper(tiny, Path(folder))
        warm.step()
        warm.close()
        forget_peak("cpu")
        before = held("cpu")
        stepper = Stepper(case, Path(folder))
        stepper.step()
        stepper.step()
        most = peak("cpu") - before
        stepper.close()
    return float(most)


def measured_steps(case: PlanningCase, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return how many steps of the first case one of ``case`` takes, and the median seconds of one of the first."""
    with tempfile.TemporaryDirectory() as folder:
        unit, stepper = Stepper(CASES[0], Path(folder)), Stepper(case, Path(folder))
        unit.step()
        stepper.step()
        times = [(unit.step(), stepper.step()) for _ in range(rounds)]
        stepper.close()
        unit.close()
    return statistics.median(its / units for units, its in times), statistics.median(units for units, _ in times)


def flops(case: PlanningCase) -> float:
    """Return the operations of a step, as a plan counts them."""
    return case.batch * training_flops(case.shape, case.config, case.pair, case.share, case.batch)


def _memory_of(case: PlanningCase) -> float:
    command = [sys.executable, "-m", "benchmarks.planning", "--memory-of", case.name]
    # Freed tensors go back to the system at once, or fragments of the heap would be counted.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    return float(found.stdout.splitlines()[-1])


def compare(cases: Sequence[PlanningCase], rounds: int) -> dict[str, Any]:
    """Compare predicted and measured memory and time of each case; the first one calibrates the time."""
    found = {}
    for case in cases:
        memory, (steps, unit_seconds) = _memory_of(case), measured_steps(case, rounds)
        predicted_memory = training_memory(case.shape, case.setting).total
        predicted_steps = flops(case) / flops(cases[0])
        found[case.name] = {
            "parameters": case.shape.parameters,
            "memory_mib": {"predicted": round(predicted_memory / 2**20, 1), "measured": round(memory / 2**20, 1)},
            "memory_ratio": round(predicted_memory / memory, 3),
            "calibration_steps": {"predicted": round(predicted_steps, 3), "measured": round(steps, 3)},
            "time_ratio": round(predicted_steps / steps, 3),
            "gflops_per_second": round(flops(cases[0]) / unit_seconds / 1e9, 1),
        }
    return {"threads": torch.get_num_threads(), "rounds": rounds, "cases": found}


def main() -> None:
    """Print the comparison as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="besides the calibration")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--memory-of", choices=[case.name for case in CASES], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    by_name = {case.name: case for case in CASES}
    if arguments.memory_of:
        print(measured_memory(by_name[arguments.memory_of]))
        return
    chosen = [CASES[0], *(case for case in CASES[1:] if not arguments.cases or case.name in arguments.cases)]
    print(json.dumps(compare(chosen, arguments.rounds), indent=2))


if __name__ == "__main__":
    main()
