"""Defaults of the field: learning rates for full and LoRA training apart, beta by loss, and a note on far rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.learning_rates import rate_note
from smaug_eval.trainers.losses import LOSSES


def test_rates_for_full_and_lora_training() -> None:
    def rate(**settings: Any) -> float:
        return TrainingConfig.model_validate({"loss": "dpo", **settings}).learning_rate

    assert rate() == 1e-6
    assert rate(lora=None) == 1e-6
    assert rate(lora={}) == 5e-6
    assert rate(lora={}, learning_rate=3e-4) == 3e-4
    whole = TrainingConfig.model_validate({"loss": "dpo", "lora": {}}).model_dump(by_alias=True)
    assert TrainingConfig.model_validate(whole).learning_rate == 5e-6


def test_betas_by_loss() -> None:
    """0.3 where the paper's loss is meant, 0.1 elsewhere; two losses of averages have their papers' own."""
    betas = {name: loss.weights["beta"] for name, loss in LOSSES.items() if "beta" in loss.weights}
    assert {name for name, beta in betas.items() if beta == 0.3} == {"dpop", "dpop_v1_misprint"}
    assert {name: beta for name, beta in betas.items() if beta not in (0.1, 0.3)} == {"dpo_norm": 5.0, "simpo": 2.0}
    assert [name for name in betas if not LOSSES[name].default_source("beta")] == []
    described = TrainingConfig.model_fields["beta"].description or ""
    assert "0.1 for dpo, " in described
    assert "0.3 for dpop, dpop_v1_misprint (third-party notes" in described


@pytest.mark.parametrize(
    ("rate", "loss", "lora", "expected"),
    [
        (1e-5, "dpo", False, None),
        (1.1e-5, "dpo", False, "learning_rate 1.1e-05 is 11 times what is usual"),
        (4e-8, "dpo", False, "learning_rate 4e-08 is 1/12 of what is usual"),
        (5e-5, "dpop", True, None),
        (3e-4, "dpop", True, "is 60 times what is usual for preference training of LoRA (5e-06)"),
        (2e-5, "sft", False, None),
    ],
)
def test_rates_far_off_are_noted(rate: float, loss: str, lora: bool, expected: str | None) -> None:
    found = rate_note(rate, loss, lora=lora)
    assert found is None if expected is None else expected in (found or "")


def test_the_note_is_told(run: Callable[..., TrainingResult]) -> None:
    notes: list[str] = []
    run("fast", config={"loss": "dpo", "learning_rate": 1e-3, "steps": 1}, on_note=notes.append)
    assert any("1,000 times what is usual" in note for note in notes)
