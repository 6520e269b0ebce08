"""Check the losses before the first update: there the policy equals its reference, and they are known."""

from __future__ import annotations

from collections.abc import Mapping

from smaug_eval.trainers.losses import preference_loss
from smaug_eval.trainers.metrics import pair_scores
from smaug_eval.trainers.settled import SettledTraining
from smaug_eval.trainers.trainer import ScoredPairs
from smaug_eval.trainers.training_log import Row
from smaug_eval.trainers.unpaired import with_labels

# Largest log-ratio in nats that rounding explains while the policy equals its reference.
START_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}


def start_losses(training: SettledTraining, held_out: ScoredPairs | None) -> dict[tuple[str, int], float]:
    """Return what the losses before the first update must be, by split and step: a closed form where there is one.

    Nothing is known of a policy that starts elsewhere than at its reference.
    """
    expected: dict[tuple[str, int], float] = {}
    config = training.config
    if training.spec.reference is not None:
        return expected
    if held_out is not None:
        untrained = pair_scores(held_out.reference, held_out.reference)
        if config.entry.unpaired:
            untrained = with_labels(untrained, [pair.label for pair in held_out.pairs])
        expected["eval", 0] = float(preference_loss(config.loss, config.weights, untrained).mean())
    # Dropout within an adapter that was trained before changes what it says; a fresh one says nothing yet.
    drops_out = training.spec.start_adapter is not None and bool(config.lora and config.lora.dropout)
    at_start = None if config.entry.at_start is None else config.entry.at_start(config.weights)
    if at_start is not None and not drops_out:
        expected["train", 1] = at_start
    return expected


def start_tolerance(training: SettledTraining) -> float:
    """Return the difference of losses that rounding explains; DPO-Positive's penalty magnifies it."""
    quantised = training.stored is not None or training.quantize is not None
    return START_TOLERANCE["bfloat16" if quantised else training.spec.dtype] * (
        1 + training.config.weights.get("lambda", 0.0)
    )


def start_warnings(rows: list[Row], expected: Mapping[tuple[str, int], float], tolerance: float) -> list[str]:
    """Compare the losses taken before the first update with those of a policy that equals its reference.

    Args:
        rows: The training log.
        expected: The loss where every log-ratio is 0, by split and step: of the held-out pairs at step 0, of the first
            batch at step 1.
        tolerance: Largest difference that rounding explains.
    """
    names = {"eval": "held-out pairs", "train": "the first batch"}
    return [
        f"before the first update the loss on {names[row['split']]} was {row['loss']:.4f}, not {value:.4f}: "
        "the reference log-probabilities do not match the base model"
        for row in rows
        if (value := expected.get((row["split"], row["step"]))) is not None and abs(row["loss"] - value) > tolerance
    ]
