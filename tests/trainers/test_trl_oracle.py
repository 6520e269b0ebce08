"""Loss curves and gradients against TRL's DPOTrainer on the same pairs, in the same order, from the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.base_model import no_dropout
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.log_probs import pair_layout, pair_log_probs
from smaug_eval.trainers.losses import PairScores, cpo, orpo, preference_loss, simpo
from smaug_eval.trainers.tokenization import EncodedPair, PairEncoder
from smaug_eval.trainers.training_log import read_log

pytest.importorskip("trl", reason="TRL, the oracle, is not installed here")
from benchmarks.peers import trl_trainer

STEPS = 20
# TRL's names of our losses.
NAMES = {"dpo": "sigmoid", "ipo_averaged": "ipo", "hinge": "hinge"}
LORA = {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture
def encoded(
    tokenizer: PreTrainedTokenizerFast, sums: Callable[..., list[dict[str, str]]], tmp_path: Path
) -> list[EncodedPair]:
    return PairEncoder(tokenizer, max_length=1024).encode(sums(20)).pairs


def trl_losses(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    pairs: list[EncodedPair],
    folder: Path,
    *,
    loss: str,
    lora: dict[str, Any] | None,
) -> list[float]:
    adapter = None
    if lora is not None:
        adapter = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=lora["r"],
            lora_alpha=lora["alpha"],
            target_modules=lora["target_modules"],
            lora_dropout=0.0,
        )
    torch.manual_seed(3)  # the adapter's first weights, as smaug_eval.trainers.adapters.with_adapter seeds them
    trainer = trl_trainer(
        model,
        tokenizer,
        pairs,
        folder,
        peft_config=adapter,
        loss_type=[NAMES[loss]],
        beta=0.3,
        learning_rate=1e-3,
        max_steps=STEPS,
        per_device_train_batch_size=4,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        max_grad_norm=1.0,
        weight_decay=0.0,
        logging_steps=1,
        seed=3,
        data_seed=3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_nan_inf_filter=False,
    )
    losses: list[float] = []

    original = trainer.compute_loss  # TRL rounds the losses that it logs

    def recorded(*arguments: Any, **keywords: Any) -> Any:
        value = original(*arguments, **keywords)
        losses.append(float(value.detach()))
        return value

    trainer.compute_loss = recorded
    with no_dropout(model):
        trainer.train()
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("share", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("loss", list(NAMES))
def test_the_loss_curve_is_trls(
    run: Callable[..., TrainingResult],
    tmp_path: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    encoded: list[EncodedPair],
    loss: str,
    lora: dict[str, Any] | None,
    share: bool,
) -> None:
    settings = {"loss": loss, "beta": 0.3, "steps": STEPS, "lora": lora, "share_prefix": share, "eval_every": None}
    run("ours", config=settings)
    ours = [row["loss"] for row in read_log(tmp_path / "ours" / "log.jsonl") if row["split"] == "train"]
    theirs = trl_losses(model, tokenizer, encoded, tmp_path / "trl", loss=loss, lora=lora)
    assert len(ours) == len(theirs) == STEPS
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert abs(ours[-1] - ours[0]) > 0.005  # it moved


# TRL's settings of our losses, the pairs of a batch (TRL averages a likelihood over the tokens of a batch, we over
# those of a pair), and our further weights.
GRADIENTS: dict[str, tuple[dict[str, Any], int, dict[str, float]]] = {
    **{ours: ({"loss_type": [theirs]}, 6, {}) for ours, theirs in NAMES.items()},
    **{name: ({"loss_type": [name]}, 6, {}) for name in ("apo_zero", "apo_down", "sppo_hard")},
    "nca": ({"loss_type": ["nca_pair"]}, 6, {}),
    "dpo_norm": ({"loss_type": ["sigmoid_norm"]}, 6, {}),
    "robust": ({"loss_type": ["robust"], "label_smoothing": 0.2}, 6, {"label_smoothing": 0.2}),
    "ld_dpo": ({"loss_type": ["sigmoid"], "ld_alpha": 0.3}, 6, {"tail_weight": 0.3}),
    "dpo_nll": ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]}, 1, {"alpha": 0.7}),
    "dpo + 0.4*nca": ({"loss_type": ["sigmoid", "nca_pair"], "loss_weights": [1.0, 0.4]}, 6, {}),
}


@pytest.mark.parametrize("share", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("loss", list(GRADIENTS))
def test_the_gradient_is_trls(
    tmp_path: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    encoded: list[EncodedPair],
    loss: str,
    share: bool,
) -> None:
    """Away from the reference: the reference's log-probabilities are moved by known amounts."""
    theirs, count, weights = GRADIENTS[loss]
    pairs = encoded[1 : 1 + count] if count == 1 else encoded[:count]
    twin = copy.deepcopy(model)
    trainer = trl_trainer(
        twin,
        tokenizer,
        pairs,
        tmp_path,
        **theirs,
        beta=0.3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=count,
    )
    rows = [trainer.train_dataset[index] for index in range(count)]
    moved = [
        row
        | {
            "ref_chosen_logps": row["ref_chosen_logps"] - 0.3 * n,
            "ref_rejected_logps": row["ref_rejected_logps"] + 0.2 * n,
        }
        for n, row in enumerate(rows, start=1)
    ]
    twin.train()
    with no_dropout(twin):
        trainer.compute_loss(twin, trainer.data_collator(moved)).backward()
    config = TrainingConfig.model_validate({"loss": loss, "beta": 0.3, **weights})
    with no_dropout(model), scoring(model, share=share) as scorer:
        found = pair_log_probs(scorer, model, pair_layout(scorer, pairs))
        sums = found.sums()
        references = (torch.tensor([row[name] for row in moved]) for name in ("ref_chosen_logps", "ref_rejected_logps"))
        counts = (torch.tensor([len(tokens) for tokens in side]) for side in (found.chosen, found.rejected))
        reference_chosen, reference_rejected = references
        chosen_tokens, rejected_tokens = counts
        # Under the reference all tokens beyond the shorter completion have probability 1.
        heads = (*found.heads(), reference_chosen, reference_rejected)
        scored = PairScores(*sums, reference_chosen, reference_rejected, chosen_tokens, rejected_tokens, heads=heads)
        preference_loss(config.loss, config.weights, scored).mean().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    # TRL adds up log-probabilities in float32, and a squared loss's slope is that sum itself.
    tolerance = 1e-4 if loss == "sppo_hard" else 1e-6
    for name, weight in twin.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("loss", ["simpo", "cpo", "orpo"])
def test_losses_without_a_reference_are_those_of_trls_trainers(loss: str) -> None:
    """Their formulas alone: TRL takes the likelihood terms beside them over other tokens."""
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    torch.manual_seed(0)
    chosen, rejected = -20 * torch.rand(2, 8) - 1
    tokens, other_tokens = torch.randint(3, 9, (2, 8))
    means = chosen / tokens, rejected / other_tokens
    here = SimpleNamespace(device="cpu")
    if loss == "orpo":
        ratio = ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=0.3, accelerator=here), *means)[0]
        expected = -means[0] - ratio
        ours = orpo(chosen, rejected, tokens, other_tokens, odds_weight=0.3)
    else:
        settings = SimpleNamespace(
            alpha=0.0, beta=0.7, simpo_gamma=0.4, label_smoothing=0.0, accelerator=here,
            loss_type="simpo" if loss == "simpo" else "sigmoid",
        )  # fmt: skip
        scored = means if loss == "simpo" else (chosen, rejected)
        expected = CPOTrainer.cpo_loss(settings, *scored)[0]
        if loss == "simpo":
            ours = simpo(chosen, rejected, tokens, other_tokens, beta=0.7, gamma=0.4)
        else:
            ours = cpo(chosen, rejected, tokens, beta=0.7, alpha=0.5)
            expected = expected - 0.5 * means[0]
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-6)
