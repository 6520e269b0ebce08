"""What a training is held against: another model, an adapter's start, and a reference that moves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.moving_reference import MovingReference
from smaug_eval.trainers.spec import ReferenceModel
from smaug_eval.trainers.training_log import read_log
from tests.trainers.conftest import byte_tokenizer

Run = Callable[..., TrainingResult]
LORA = {"r": 2, "alpha": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def other(model_path: Path, tmp_path: Path) -> Path:
    """The base with its output head doubled: a model that is surer of everything."""
    folder = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(model_path)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def log(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_log(folder / "log.jsonl")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


def test_another_reference_is_scored_by_that_model(run: Run, tmp_path: Path, other: Path) -> None:
    """Its log-ratios are the difference of two trainings' log-probabilities at step 0."""
    config = {"steps": 1, "loss": "dpo"}
    run("from_other", config=config, model_path=other, model_sha256="other")
    expected = log(tmp_path / "from_other")[0]
    found = run("against", config=config, reference=ReferenceModel(name="other", path=other, sha256="other"))
    row = log(tmp_path / "against")[0]
    assert row["log_ratios/chosen"] == pytest.approx(row["logps/chosen"] - expected["logps/chosen"], abs=1e-5)
    assert abs(row["log_ratios/chosen"]) > 0.1
    assert found.reference == "other"
    assert found.warnings == []  # the loss at the start is not ln 2, and need not be


def test_a_reference_of_another_tokenizer_is_refused(run: Run, other: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(other)
    with pytest.raises(SmaugError, match="has another tokenizer"):
        run("against", reference=ReferenceModel(name="other", path=other, sha256="other"))


def test_an_adapter_is_trained_further_and_is_its_own_reference(run: Run, tmp_path: Path, model_path: Path) -> None:
    run("sft", config={"loss": "sft", "lora": LORA, "learning_rate": 1e-2})
    before = log(tmp_path / "sft")[-1]
    adapter = tmp_path / "sft" / "adapter"
    result = run("dpo", config={"loss": "dpo", "lora": LORA}, start_adapter=adapter, model_sha256="with adapter")
    first, last = log(tmp_path / "dpo")[0], log(tmp_path / "dpo")[-1]
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-5)
    assert first["logps/chosen"] == pytest.approx(before["logps/chosen"], abs=1e-4)
    assert last["log_ratios/chosen"] != 0
    assert result.warnings == []
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "dpo" / "checkpoint")
    base = AutoModelForCausalLM.from_pretrained(model_path)
    assert not torch.equal(merged.model.layers[0].self_attn.q_proj.weight, base.model.layers[0].self_attn.q_proj.weight)
    assert torch.equal(merged.lm_head.weight, base.lm_head.weight)


def test_the_base_is_the_reference_of_an_adapter_trained_further(run: Run, tmp_path: Path, model_path: Path) -> None:
    run("sft", config={"loss": "sft", "lora": LORA, "learning_rate": 1e-2})
    ratios = log(tmp_path / "sft")[-1]["log_ratios/chosen"]
    run(
        "dpo",
        config={"loss": "dpo", "lora": LORA},
        start_adapter=tmp_path / "sft" / "adapter",
        reference=ReferenceModel(name="base", path=model_path, sha256="base"),
    )
    assert log(tmp_path / "dpo")[0]["log_ratios/chosen"] == pytest.approx(ratios, abs=1e-4)
    assert abs(ratios) > 1e-3


@pytest.mark.parametrize(
    ("lora", "match"), [({**LORA, "r": 3}, "lora.r is 3.*has 2"), ({**LORA, "alpha": 5}, "lora.alpha is 5")]
)
def test_an_adapter_of_other_settings_is_refused(run: Run, tmp_path: Path, lora: dict[str, object], match: str) -> None:
    run("sft", config={"loss": "sft", "lora": LORA, "steps": 1})
    with pytest.raises(SmaugError, match=match):
        run("dpo", config={"loss": "dpo", "lora": lora}, start_adapter=tmp_path / "sft" / "adapter")


def test_the_reference_moves_by_its_share(model: LlamaForCausalLM) -> None:
    moving = MovingReference(model, every=2, weight=0.25)
    start = model.lm_head.weight.detach().clone()
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    state = type("State", (), {"global_step": 1})()
    moving.on_step_end(None, state, None)  # type: ignore[arg-type]
    assert not moving.has_moved
    state.global_step = 2
    moving.on_step_end(None, state, None)  # type: ignore[arg-type]
    with moving.in_place():
        torch.testing.assert_close(model.lm_head.weight, start + 0.25)
        assert not model.training
    torch.testing.assert_close(model.lm_head.weight.detach(), start + 1.0)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_right_after_a_hard_update_the_loss_is_that_of_the_start(
    run: Run, tmp_path: Path, lora: dict[str, object] | None
) -> None:
    """TR-DPO with weight 1: in the step after each move policy and reference are the same model again."""
    config = {
        "loss": "dpo",
        "steps": 5,
        "lora": lora,
        "warmup_steps": 0,
        "reference_sync_every": 2,
        "learning_rate": 1e-2,
    }
    run("moved", config={**config, "reference_sync_weight": 1.0, "eval_every": None})
    losses = {row["step"]: row["loss"] for row in log(tmp_path / "moved") if row["split"] == "train"}
    for step in (1, 3, 5):
        assert losses[step] == pytest.approx(0.6931472, abs=1e-5)
    for step in (2, 4):
        assert abs(losses[step] - 0.6931472) > 1e-5


@pytest.mark.slow
def test_a_moving_reference_survives_a_stop(run: Run, tmp_path: Path) -> None:
    config = {"loss": "dpo", "steps": 6, "reference_sync_every": 2, "eval_every": None, "save_every": None}
    run("whole", config=config)
    seen = [0]
    with pytest.raises(Interrupted):
        run(
            "parts",
            config=config,
            on_progress=lambda done, total, row: seen.append(row.get("step", 0)),
            should_stop=lambda: max(seen) >= 3,
        )
    step = int(next((tmp_path / "parts" / "resume").glob("checkpoint-*")).name.rpartition("-")[2])
    assert 2 < step < 6
    run("parts", config=config)
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    without = {**config, "reference_sync_every": None}
    run("still", config=without)
    assert any(not torch.equal(value, weights(tmp_path / "still")[name]) for name, value in expected.items())
    shutil.rmtree(tmp_path / "whole")


def test_a_reference_cannot_move_where_there_is_none() -> None:
    from smaug_eval.trainers.config import TrainingConfig

    for settings, match in (
        ({"loss": "simpo", "reference_sync_every": 2}, "reads no reference"),
        ({"loss": "dpo", "reference_sync_every": 2, "reference": "base"}, "leave reference out"),
        ({"loss": "dpo", "reference_sync_weight": 0.5}, "without reference_sync_every"),
    ):
        with pytest.raises(ValueError, match=match):
            TrainingConfig.model_validate(settings)
