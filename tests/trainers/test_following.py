"""Which weights a training keeps, when it ends early, and the answers it shows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.keeping import best_row, without_improvement
from smaug_eval.trainers.training_log import read_log

Run = Callable[..., TrainingResult]
# Much too fast: the held-out loss soon grows again.
CONFIG = {"loss": "dpo", "steps": 12, "eval_every": 2, "learning_rate": 3e-2, "warmup_steps": 0, "beta": 1.0}
LORA = {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def held_out(folder: Path) -> dict[int, dict[str, Any]]:
    return {row["step"]: row for row in read_log(folder / "log.jsonl") if row["split"] == "eval"}


def rows_of(*losses: float) -> list[dict[str, Any]]:
    return [{"split": "eval", "step": step, "loss": loss} for step, loss in enumerate(losses)]


def test_the_best_row_and_what_has_passed_since() -> None:
    rows = rows_of(0.1, 0.6, 0.4, 0.4, 0.5)  # step 0 is the model before training
    best = best_row(rows, "loss")
    assert best is not None
    assert best["step"] == 2
    assert without_improvement(rows, "loss") == 2
    assert best_row(rows[:1], "loss") is None
    assert without_improvement(rows[:1], "loss") == 0
    margins = [{"split": "eval", "step": n, "rewards/margins": value} for n, value in enumerate((9, 1, 3, 2))]
    assert (best_row(margins, "rewards/margins") or {})["step"] == 2


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_the_best_weights_are_kept(run: Run, tmp_path: Path, lora: dict[str, Any] | None) -> None:
    """They are those that a training kept of that step."""
    run("all", config={**CONFIG, "keep": "all", "lora": lora})
    losses = {step: row["loss"] for step, row in held_out(tmp_path / "all").items() if step}
    best = min(losses, key=lambda step: losses[step])
    assert 0 < best < 12
    kept = tmp_path / "all" / "checkpoints"
    assert sorted(path.name for path in kept.iterdir()) == sorted(f"step-{step}" for step in range(2, 12, 2))
    result = run("best", config={**CONFIG, "keep": "best", "lora": lora})
    assert result.kept_step == best
    assert result.steps == 12
    assert result.final["loss"] == losses[best]
    assert result.diagnostics is not None
    assert result.diagnostics["step"] == best
    name = "adapter/adapter_model.safetensors" if lora else "checkpoint/model.safetensors"
    assert same(load_file(tmp_path / "best" / name), load_file(kept / f"step-{best}" / Path(name).name))
    lines = (tmp_path / "best" / "held_out.jsonl").read_text().splitlines()
    mean = math.fsum(json.loads(line)["chosen"] for line in lines) / len(lines)
    assert mean == pytest.approx(result.final["log_ratios/chosen"], abs=1e-6)
    assert not (tmp_path / "best" / "resume").exists()
    if not lora:
        AutoModelForCausalLM.from_pretrained(kept / "step-2")


def test_patience_ends_a_training(run: Run, tmp_path: Path) -> None:
    notes: list[str] = []
    result = run("short", config={**CONFIG, "steps": 40, "patience": 2, "keep": "best"}, on_note=notes.append)
    rows = held_out(tmp_path / "short")
    assert result.steps == max(rows) < 40
    assert result.kept_step == result.steps - 4  # two evaluations of two steps each
    assert any("2 evaluations without a better loss" in note for note in notes)
    assert (tmp_path / "short" / "finished.json").is_file()
    train_rows = [row["step"] for row in read_log(tmp_path / "short" / "log.jsonl") if row["split"] == "train"]
    assert train_rows == list(range(1, result.steps + 1))


@pytest.mark.slow
def test_a_stop_does_not_change_what_is_best(run: Run, tmp_path: Path) -> None:
    config = {**CONFIG, "keep": "best", "save_every": 5}
    whole = run("whole", config=config)
    seen = [0]
    with pytest.raises(Interrupted):
        run(
            "parts",
            config=config,
            on_progress=lambda done, total, row: seen.append(row.get("step", 0)),
            should_stop=lambda: max(seen) >= 8,
        )
    found = run("parts", config=config)
    assert found.kept_step == whole.kept_step
    assert same(weights(tmp_path / "parts" / "checkpoint"), weights(tmp_path / "whole" / "checkpoint"))


def test_checkpoints_are_kept_by_number(run: Run, tmp_path: Path) -> None:
    run("two", config={**CONFIG, "keep": "all", "keep_checkpoints": 2, "steps": 8})
    assert {path.name for path in (tmp_path / "two" / "checkpoints").iterdir()} == {"step-4", "step-6"}


def test_held_out_prompts_are_answered(run: Run, tmp_path: Path, model_path: Path) -> None:
    run("told", config={**CONFIG, "steps": 2, "sample_prompts": 2, "sample_tokens": 5})
    rows = [json.loads(line) for line in (tmp_path / "told" / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 0, 2, 2]
    first = json.loads((tmp_path / "eval.jsonl").read_text().splitlines()[0])
    assert rows[0]["prompt"] == first["prompt"]
    assert rows[0]["chosen"].startswith(first["chosen"])
    from transformers import AutoTokenizer

    for place, folder in ((0, model_path), (2, tmp_path / "told" / "checkpoint")):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        ids = torch.tensor([tokenizer(first["prompt"])["input_ids"]])
        answer = model.generate(input_ids=ids, max_new_tokens=5, do_sample=False, pad_token_id=0)
        assert rows[place]["answer"] == tokenizer.decode(answer[0, ids.shape[1] :])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"keep": "best", "eval_every": None}, "keep: best uses evaluations: give eval_every"),
        ({"patience": 2, "eval_every": None}, "patience uses evaluations"),
        ({"keep_checkpoints": 2}, "keep_checkpoints is for keep: all"),
        ({"keep_metric": "accuracy"}, "keep_metric"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TrainingConfig.model_validate({"loss": "dpo", **settings})


@pytest.mark.parametrize("settings", [{"keep": "best"}, {"patience": 1}, {"sample_prompts": 1}])
def test_they_need_held_out_pairs(run: Run, settings: dict[str, Any]) -> None:
    with pytest.raises(SmaugError, match="uses held-out pairs, and there are none"):
        run("none", config={**CONFIG, **settings}, eval_file=None)
