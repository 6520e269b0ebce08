"""Checkpoints: those to resume from, and the finished one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import peft
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from smaug_eval.files import write_text
from trainers.models import DTYPES

CHECKPOINT_FILES = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth")


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training left behind; the same values are in ``summary.json``.

    Attributes:
        name: Name of the training in the recipe.
        loss: ``dpo`` or ``dpop``.
        formula: The loss of a pair.
        beta: As trained.
        lambda_: As trained, None for losses without it.
        steps: Optimiser steps taken.
        pairs: Pairs trained on.
        eval_pairs: Held-out pairs scored.
        dropped: Pairs left out when encoding, by reason (training and held-out together).
        truncated: Training pairs that were cut to ``max_length``.
        max_length: Limit in tokens that was applied.
        seed: Seed of the order of the pairs.
        dtype: Type of the saved weights.
        model_sha256: Digest of the base model's weights, as given.
        train_sha256: Digest of the pair file.
        seconds: Time spent training, interruptions not counted.
        final: Last means over held-out pairs, or over the last training steps where none are held out.
        warnings: What a reader of the numbers should know.
    """

    name: str
    loss: str
    formula: str
    beta: float
    lambda_: float | None
    steps: int
    pairs: int
    eval_pairs: int
    dropped: dict[str, int]
    truncated: int
    max_length: int
    seed: int
    dtype: str
    model_sha256: str
    train_sha256: str
    seconds: float
    final: dict[str, float]
    warnings: list[str]

    def summary(self) -> dict[str, Any]:
        """The result as JSON, with ``lambda`` under its own name."""
        return {name.rstrip("_"): value for name, value in asdict(self).items()}


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step that was written completely; incomplete ones are removed.

    The trainer writes ``trainer_state.json`` last, so a checkpoint is complete if that file is.
    """
    complete: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        step = checkpoint_step(checkpoint)
        if step is None:
            shutil.rmtree(checkpoint)
        else:
            complete[step] = checkpoint
    return complete[max(complete)] if complete else None


def checkpoint_step(checkpoint: Path) -> int | None:
    """The step of a complete checkpoint, None for an incomplete one."""
    if not all((checkpoint / name).is_file() for name in CHECKPOINT_FILES):
        return None
    try:
        return int(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return None


def save_result(
    policy: PreTrainedModel | peft.PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    base_config: PreTrainedConfig,
    model_path: Path,
    out_dir: Path,
    result: TrainingResult,
) -> None:
    """Write ``checkpoint/``, a model that loads by itself, and for LoRA ``adapter/``; each is complete or absent.

    Args:
        policy: The trained model; an adapter is merged into its base, so the policy is of no further use.
        tokenizer: Saved beside the weights, with its chat template.
        base_config: The base model's configuration, which the checkpoint keeps.
        model_path: Folder of the base model, for its generation settings.
        out_dir: Where the folders go.
        result: What the model card states.
    """
    model = policy
    if isinstance(policy, peft.PeftModel):
        with _replacing(out_dir / "adapter") as folder:
            policy.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            write_text(folder / "README.md", _model_card(result, adapter=True))
        model = policy.merge_and_unload()
    # The trainer changed use_cache and the like; the checkpoint keeps the base model's configuration.
    model.config = base_config
    model.to(DTYPES[result.dtype])
    with _replacing(out_dir / "checkpoint") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        if (model_path / "generation_config.json").is_file():
            shutil.copyfile(model_path / "generation_config.json", folder / "generation_config.json")
        write_text(folder / "README.md", _model_card(result, adapter=False))


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of ``folder`` once it is complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _model_card(result: TrainingResult, *, adapter: bool) -> str:
    facts: Mapping[str, object] = {
        "loss": f"{result.loss}: `{result.formula}`",
        "beta": result.beta,
        **({} if result.lambda_ is None else {"lambda": result.lambda_}),
        "steps": result.steps,
        "pairs": result.pairs,
        "seed": result.seed,
        "weights": result.dtype,
        "base model (SHA-256 of the weights)": f"`{result.model_sha256}`",
        "pairs (SHA-256 of the file)": f"`{result.train_sha256}`",
    }
    what = "LoRA adapter" if adapter else "model"
    lines = [
        "---",
        f"library_name: {'peft' if adapter else 'transformers'}",
        "pipeline_tag: text-generation",
        f"tags: [{result.loss}, preference-optimization, smaug-eval]",
        "---",
        f"# {result.name}",
        "",
        f"A {what} trained on preference pairs with smaug-eval. `rho_w` and `rho_l` are the log-ratios of policy to",
        "base model for the chosen and the rejected completion, summed over tokens.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"
