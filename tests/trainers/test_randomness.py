"""A policy in training mode is its reference before the first update, whatever is random in the model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import MixtralConfig, MixtralForCausalLM, PhimoeConfig, PhimoeForCausalLM, PreTrainedModel
from transformers.models.llama import modeling_llama

from benchmarks.tiny_models import VOCABULARY, tiny_model
from smaug_eval.prefix.layout import PrefixGroup
from smaug_eval.prefix.scorer import Scorer, scoring
from smaug_eval.trainers.base_model import no_dropout
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.randomness import without_noise
from smaug_eval.trainers.training_log import read_log
from tests.trainers.conftest import byte_tokenizer

Run = Callable[..., TrainingResult]
SIZE: dict[str, Any] = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 0,
}


def texts() -> list[PrefixGroup]:
    rng = np.random.default_rng(5)
    ids = [rng.integers(0, VOCABULARY, 40, dtype=np.int32) for _ in range(3)]
    return [PrefixGroup(ids[0], (ids[1], ids[2]), 1)]


def passes(model: PreTrainedModel, scorer: Scorer) -> tuple[Tensor, Tensor, Tensor]:
    """One in evaluation mode, two in training mode."""
    layout = scorer.layout(texts())
    model.eval()
    evaluated = scorer.log_probs(model, layout).detach()
    model.train()
    return evaluated, *(scorer.log_probs(model, layout).detach() for _ in range(2))


def flags(model: PreTrainedModel) -> dict[str, tuple[bool, bool]]:
    return {name: (module.training, "train" in vars(module)) for name, module in model.named_modules()}


@pytest.mark.parametrize(
    ("family", "settings", "stilled"),
    [
        ("phimoe", {}, ("PhimoeTopKRouter",)),
        ("phimoe", {"input_jitter_noise": 0.1}, ("input_jitter_noise", "PhimoeTopKRouter")),
        ("mixtral", {"router_jitter_noise": 0.1}, ("jitter_noise", "router_jitter_noise")),
        ("minimax_m2", {"router_jitter_noise": 0.1}, ("jitter_noise", "router_jitter_noise")),
        ("gpt2", {}, ()),  # dropout of 0.1, which no_dropout has switched off
        ("xglm", {}, ()),
    ],
)
def test_routing_noise_is_switched_off(family: str, settings: dict[str, float], stilled: tuple[str, ...]) -> None:
    model = tiny_model(family, **settings)
    before = flags(model)
    with no_dropout(model), scoring(model) as scorer:
        if stilled:
            evaluated, first, second = passes(model, scorer)
            assert (first - second).abs().max() > 0.01
            model.eval()
        with without_noise(model, scorer) as noise:
            assert (noise.stilled, noise.left, noise.warning()) == (stilled, None, None)
            evaluated, first, second = passes(model, scorer)
            assert torch.equal(first, second)
            torch.testing.assert_close(first, evaluated, atol=1e-5, rtol=0)
            model.eval()
        if stilled:
            line = noise.note()
            assert line == f"noise in training is switched off: {', '.join(stilled)}"
            evaluated, first, second = passes(model, scorer)
            assert (first - second).abs().max() > 0.01  # all is as it was
            model.eval()
    assert flags(model) == before


def test_a_jitter_that_evaluation_uses_too_stays() -> None:
    """PhiMoE's router_jitter_noise is a threshold in both modes: 0 would give the reference other experts."""
    model = tiny_model("phimoe")
    with scoring(model) as scorer, torch.no_grad():
        layout = scorer.layout(texts())
        expected = scorer.log_probs(model, layout)
        with without_noise(model, scorer):
            assert model.config.router_jitter_noise == 0.01
            assert {
                module.router_jitter_noise
                for module in model.modules()
                if hasattr(module, "top_k") and hasattr(module, "router_jitter_noise")
            } == {0.01}
            assert torch.equal(scorer.log_probs(model, layout), expected)


def test_a_jitter_of_dbrx_in_a_configuration_inside_the_configuration() -> None:
    ffn = {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2, "moe_jitter_eps": 0.2}
    model = tiny_model("dbrx", ffn_config=ffn)
    with scoring(model) as scorer:
        with without_noise(model, scorer) as noise:
            assert noise.stilled == ("moe_jitter_eps", "DbrxRouter")
            assert model.config.ffn_config.moe_jitter_eps == 0.0
            _, first, second = passes(model, scorer)
            assert torch.equal(first, second)
        assert model.config.ffn_config.moe_jitter_eps == 0.2


class Shaken(nn.Module):
    """An MLP of an unknown model: random in training mode under no name that says so."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden: Tensor) -> Tensor:
        found: Tensor = self.inner(hidden)
        return found * (1 + 0.3 * torch.randn(())) if self.training else found


def test_a_source_without_a_name_is_found_by_trial() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.mlp = Shaken(layer.mlp)
    with scoring(model) as scorer, without_noise(model, scorer) as noise:
        assert noise.stilled == ("Shaken",)
        assert noise.left is None
        _, first, second = passes(model, scorer)
        assert torch.equal(first, second)
        # What is inside goes on in training mode, and a later call does not change that.
        assert all(layer.mlp.inner.training and not layer.mlp.training for layer in model.model.layers)


def test_noise_that_cannot_be_switched_off_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    original = modeling_llama.LlamaMLP.forward

    def shaken(self: Any, hidden: Tensor) -> Tensor:
        found: Tensor = original(self, hidden)
        return found * (1 + 0.3 * torch.randn(())) if torch.is_grad_enabled() else found

    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", shaken)
    model = tiny_model("llama")
    with scoring(model) as scorer, without_noise(model, scorer) as noise:
        assert noise.left is not None
        assert noise.left > 0.01
        assert noise.warning() == (
            f"in training mode the model gives other log-probabilities than in evaluation mode (by {noise.left:.2g} "
            "nats), so that the policy differs from its reference before the first update"
        )


def test_a_training_mode_that_differs_without_being_random_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    original = modeling_llama.LlamaAttention.forward

    def other(self: Any, *args: Any, **kwargs: Any) -> Any:
        found, weights = original(self, *args, **kwargs)
        return (1.5 * found if self.training else found), weights

    monkeypatch.setattr(modeling_llama.LlamaAttention, "forward", other)
    model = tiny_model("llama")
    with scoring(model) as scorer, without_noise(model, scorer) as noise:
        assert noise.warning() is not None


def test_a_trial_takes_nothing_from_the_generator() -> None:
    model = tiny_model("phimoe")
    with scoring(model) as scorer:
        state = torch.get_rng_state()
        with without_noise(model, scorer):
            assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("kind", "config", "lora"),
    [
        (PhimoeForCausalLM, PhimoeConfig(**SIZE), {}),
        (MixtralForCausalLM, MixtralConfig(**SIZE, router_jitter_noise=0.2), {"lora": {"target_modules": ["q_proj"]}}),
    ],
    ids=["phimoe", "mixtral-lora"],
)
def test_a_training_starts_at_its_reference(
    run: Run, tmp_path: Path, kind: Any, config: Any, lora: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    kind(config).save_pretrained(tmp_path / "base")
    byte_tokenizer().save_pretrained(tmp_path / "base")
    notes: list[str] = []
    result = run(config={"loss": "dpo", **lora}, model_path=tmp_path / "base", on_note=notes.append)
    assert any("noise in training is switched off" in note for note in notes)
    assert [warning for warning in result.warnings if "leaves out the experts" not in warning] == []
    for row in read_log(tmp_path / "run" / "log.jsonl")[:2]:
        assert row["loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert abs(row["log_ratios/chosen"]) < 1e-5


def test_noise_that_is_left_is_a_warning_of_the_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = modeling_llama.LlamaMLP.forward

    def shaken(self: Any, hidden: Tensor) -> Tensor:
        found: Tensor = original(self, hidden)
        return found * (1 + torch.randn(())) if torch.is_grad_enabled() else found

    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", shaken)
    result = run()
    assert len(result.warnings) >= 1
    assert result.warnings[0].startswith("in training mode the model gives other log-probabilities than in evaluation")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"] == result.warnings
