"""Optimisers, schedules, further settings of LoRA, the routers' loss, and trials of a few steps."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import Adafactor, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast

from smaug_eval.common.errors import SmaugError
from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.adapters import with_adapter
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import LoraConfig, TrainingConfig
from smaug_eval.trainers.log_probs import pair_layout
from smaug_eval.trainers.losses import preference_loss
from smaug_eval.trainers.metrics import pair_scores
from smaug_eval.trainers.optimisers import check_libraries
from smaug_eval.trainers.reference import load_reference, score_pairs
from smaug_eval.trainers.router_loss import RouterLoss
from smaug_eval.trainers.tokenization import PairEncoder
from smaug_eval.trainers.training_log import read_log
from tests.trainers.conftest import byte_tokenizer, make_sums, write_rows

Run = Callable[..., TrainingResult]
SHORT = {"loss": "dpo", "steps": 10, "eval_every": None, "warmup_steps": 0, "batch_size": 2}


def rates(folder: Path) -> list[float]:
    return [row["learning_rate"] for row in read_log(folder / "log.jsonl") if row["split"] == "train"]


def test_cosine_ends_at_its_share(run: Run, tmp_path: Path) -> None:
    run("cosine", config={**SHORT, "lr_scheduler": "cosine", "min_learning_rate_ratio": 0.2, "learning_rate": 1e-3})
    # 0.2 + 0.8 * (1 + cos(pi * t)) / 2
    expected = [1e-3 * (0.2 + 0.4 * (1 + math.cos(math.pi * step / 10))) for step in range(10)]
    assert rates(tmp_path / "cosine") == pytest.approx(expected, rel=1e-6)


def test_wsd_is_stable_and_falls_at_the_end(run: Run, tmp_path: Path) -> None:
    config = {**SHORT, "lr_scheduler": "wsd", "decay_ratio": 0.4, "min_learning_rate_ratio": 0.1, "warmup_steps": 2}
    run("wsd", config={**config, "learning_rate": 1e-3})
    found = rates(tmp_path / "wsd")
    assert found[:7] == pytest.approx([1e-4, 5.5e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])  # warm-up starts at the minimum
    assert found[7] == pytest.approx(1e-3 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2), rel=1e-3)
    assert found[6:] == sorted(found[6:], reverse=True)


def test_adafactor_takes_the_steps_of_transformers_own(run: Run, tmp_path: Path, model_path: Path) -> None:
    """One step on one batch, against the optimiser called by hand."""
    file = write_rows(tmp_path / "two.jsonl", make_sums(2))
    config = {**SHORT, "steps": 1, "optimizer": "adafactor", "learning_rate": 1e-2, "beta": 0.1, "max_grad_norm": 1e9}
    run("ours", config=config, train_file=file, eval_file=None)
    model = LlamaForCausalLM.from_pretrained(model_path, attention_dropout=0.0)
    pairs = PairEncoder(byte_tokenizer(), 256).encode(make_sums(2)).pairs  # type: ignore[arg-type]
    optimizer = Adafactor(model.parameters(), lr=1e-2, scale_parameter=False, relative_step=False)
    ratios = []
    for pair in pairs:
        sums = []
        for side in (pair.chosen, pair.rejected):
            ids = torch.tensor([*pair.prompt.tolist(), *side.tolist()])[None]
            logits = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
            sums.append(logits[torch.arange(ids.shape[1] - 1), ids[0, 1:]][len(pair.prompt) - 1 :].sum())
        lead = sums[0] - sums[1]
        ratios.append(lead - lead.detach())
    (-torch.nn.functional.logsigmoid(0.1 * torch.stack(ratios)).mean()).backward()
    optimizer.step()
    ours = load_file(tmp_path / "ours" / "checkpoint" / "model.safetensors")
    base = load_file(model_path / "model.safetensors")
    for name, value in model.state_dict().items():
        # The update is about the sign of the gradient: where that is noise, so is it.
        step, mine = value - base[name], ours[name] - base[name]
        close = torch.isclose(step, mine, atol=1e-4)
        assert close.float().mean() > 0.99, name
    assert float((ours["lm_head.weight"] - base["lm_head.weight"]).abs().max()) > 1e-3


def test_betas_reach_adamw(run: Run, tmp_path: Path) -> None:
    run("usual", config={**SHORT, "steps": 3})
    run("other", config={**SHORT, "steps": 3, "betas": [0.5, 0.95]})
    one, other = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("usual", "other"))
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
def test_optimisers_of_bitsandbytes_take_steps(run: Run, name: str) -> None:
    result = run(name, config={**SHORT, "steps": 4, "optimizer": name, "eval_every": 2, "learning_rate": 1e-3})
    assert result.final["rewards/margins"] != 0


def test_optimisers_of_bitsandbytes_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SmaugError, match="optimizer is paged_adamw, and bitsandbytes is not installed"):
        check_libraries(TrainingConfig(loss="dpo", optimizer="paged_adamw"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"optimizer": "adafactor", "betas": [0.8, 0.9]}, "betas are AdamW's"),
        ({"min_learning_rate_ratio": 0.1}, "no meaning for lr_scheduler linear"),
        ({"decay_ratio": 0.2}, "decay_ratio is for lr_scheduler: wsd"),
        ({"betas": [0.9, 1.0]}, "less than 1"),
        ({"optimizer": "sgd"}, "optimizer"),
    ],
)
def test_settings_of_optimisers_that_do_not_fit(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        TrainingConfig.model_validate({"loss": "dpo", **settings})


LORA = {"r": 2, "alpha": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize(
    ("further", "trained"),
    [
        ({"rslora": True}, "lora_"),
        ({"dora": True}, "lora_magnitude"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"trainable_tokens": [5, "a"]}, "trainable_tokens"),
    ],
    ids=["rslora", "dora", "modules_to_save", "trainable_tokens"],
)
def test_settings_of_lora_train_and_merge(run: Run, tmp_path: Path, further: dict[str, Any], trained: str) -> None:
    """The checkpoint is what was trained: saving compares it with base and adapter."""
    config = {**SHORT, "steps": 4, "learning_rate": 1e-2, "lora": {**LORA, **further}, "eval_every": 4}
    result = run("lora", config=config)
    saved = load_file(tmp_path / "lora" / "adapter" / "adapter_model.safetensors")
    assert any(trained in name for name in saved)
    settings = peft.PeftConfig.from_pretrained(tmp_path / "lora" / "adapter")
    if "trainable_tokens" in further:
        ids = byte_tokenizer().get_vocab()
        assert settings.trainable_token_indices == sorted([5, ids["a"]])
    more = run("more", config=config, start_adapter=tmp_path / "lora" / "adapter", model_sha256="adapter")
    first = read_log(tmp_path / "more" / "log.jsonl")[0]
    assert first["logps/chosen"] == pytest.approx(result.final["logps/chosen"], abs=1e-4)
    assert not [text for text in (*result.warnings, *more.warnings) if "before the first update" in text]


def test_rank_stabilised_scale(model: LlamaForCausalLM) -> None:
    policy = with_adapter(model, LoraConfig(r=4, alpha=8, rslora=True, target_modules=["q_proj"]), 0)
    assert policy.base_model.model.model.layers[0].self_attn.q_proj.scaling["default"] == 8 / 2


def mixtral() -> MixtralForCausalLM:
    torch.manual_seed(0)
    return MixtralForCausalLM(
        MixtralConfig(
            vocab_size=257,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_local_experts=4,
            num_experts_per_tok=2,
        )
    )


def test_fused_experts_are_adapted_by_parameter_and_modules_are_left_out() -> None:
    lora = LoraConfig(r=2, target_parameters=["mlp.experts.gate_up_proj"], exclude_modules=["k_proj", "gate"])
    policy = with_adapter(mixtral(), lora, 0)
    names = [name for name, weight in policy.named_parameters() if weight.requires_grad]
    assert any("experts" in name for name in names)
    assert not any("k_proj" in name for name in names)
    assert any("q_proj" in name for name in names)


@pytest.mark.parametrize(
    ("lora", "match"),
    [
        ({"exclude_modules": ["q_porj"]}, "exclude_modules: the model has no 'q_porj'; did you mean 'q_proj'"),
        ({"modules_to_save": ["head"]}, "modules_to_save: the model has no 'head'"),
        ({"target_parameters": ["experts.w"]}, "target_parameters: the model has no 'experts.w'"),
        ({"trainable_tokens": [9999]}, "the model has no token 9999"),
        ({"trainable_tokens": ["no such"]}, "the tokenizer has no token 'no such'"),
    ],
)
def test_names_that_the_model_lacks(model: LlamaForCausalLM, lora: dict[str, Any], match: str) -> None:
    with pytest.raises(SmaugError, match=match):
        with_adapter(model, LoraConfig.model_validate(lora), 0, byte_tokenizer())


@pytest.mark.parametrize("share", [True, False], ids=["packed", "padded"])
def test_the_routers_loss_is_that_of_transformers(tokenizer: PreTrainedTokenizerFast, share: bool) -> None:
    """Of padded rows exactly its own over the same texts; of packed rows with each shared token once."""
    model = mixtral()
    pairs = PairEncoder(tokenizer, 256).encode(make_sums(3)).pairs  # type: ignore[arg-type]
    own = copy.deepcopy(model)
    texts = []
    for pair in pairs:
        if share:
            common = pair.common
            texts.append([*pair.prompt, *pair.chosen, *pair.rejected[common:]])
        else:
            texts += [[*pair.prompt, *side] for side in (pair.chosen, pair.rejected)]
    with scoring(model, share=share) as scorer:
        layout = pair_layout(scorer, pairs)
        router = RouterLoss(model)
        with router.collecting():
            scorer.log_probs(model, layout.input)
        found = router.loss(layout.input)
    found.backward()
    assert float(model.model.layers[0].mlp.gate.weight.grad.abs().max()) > 0
    if not share:
        width = max(map(len, texts)) - 1  # the last token predicts nothing
        ids = torch.tensor([[*map(int, text[:-1]), *[0] * (width - len(text) + 1)] for text in texts])
        mask = torch.tensor([[1] * (len(text) - 1) + [0] * (width - len(text) + 1) for text in texts])
        with torch.no_grad():
            expected = own(input_ids=ids, attention_mask=mask, output_router_logits=True).aux_loss
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    else:
        assert 1.9 < float(found) < 2.5  # 2 where the load is even: tokens choose two experts


def test_the_routers_loss_pulls(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "moe"
    mixtral().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    norms = {}
    for coefficient in (None, 10.0):
        config = {**SHORT, "steps": 1, "router_aux_loss_coef": coefficient}
        run(str(coefficient), config=config, model_path=folder, eval_file=None)
        row = read_log(tmp_path / str(coefficient) / "log.jsonl")[-1]
        assert row["loss"] == pytest.approx(math.log(2), abs=1e-5)  # the log shows the loss of pairs
        norms[coefficient] = row["grad_norm"]
    assert abs(norms[10.0] - norms[None]) > 1e-3


def test_a_dense_model_has_no_routers(run: Run) -> None:
    with pytest.raises(SmaugError, match="LlamaForCausalLM has no router whose loss transformers computes"):
        run("dense", config={**SHORT, "router_aux_loss_coef": 0.1})


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_trial_scores_the_pairs_that_it_sees(run: Run, tmp_path: Path, accumulation: int) -> None:
    """The steps are those of a training whose reference is scored as a whole."""
    config = {**SHORT, "steps": 2, "batch_size": 2, "gradient_accumulation": accumulation, "learning_rate": 1e-3}
    references = tmp_path / "references"
    run("trial", config=config, eval_file=None, reference_dir=references)
    (file,) = references.glob("reference-*.safetensors")
    scored = load_reference(file)
    assert scored is not None
    assert len(scored.chosen) == 4 * accumulation
    run("whole", config={**config, "steps": 20}, eval_file=None, reference_dir=references)
    assert len(list(references.glob("reference-*.safetensors"))) == 2
    again = run("again", config=config, eval_file=None, reference_dir=references)  # finds the scores of all
    assert again.warnings == []
    losses = {
        name: [row["loss"] for row in read_log(tmp_path / name / "log.jsonl") if row["split"] == "train"]
        for name in ("trial", "again")
    }
    assert losses["trial"] == pytest.approx(losses["again"], abs=1e-6)
    one, other = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in losses)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_scores_of_unseen_pairs_are_no_numbers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    from smaug_eval.trainers.trial import spread

    pairs = PairEncoder(tokenizer, 256).encode(make_sums(4)).pairs  # type: ignore[arg-type]
    with scoring(model) as scorer:
        whole = score_pairs(scorer, model, pairs, row_tokens=512, autocast=None)
        few = score_pairs(scorer, model, [pairs[1], pairs[3]], row_tokens=512, autocast=None)
    found = spread(few, [1, 3], pairs)
    config = TrainingConfig(loss="dpo")
    losses = preference_loss("dpo", config.weights, pair_scores(whole, found))
    assert torch.isfinite(losses).tolist() == [False, True, False, True]
