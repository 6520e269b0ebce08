"""Loss curves and gradients against TRL's DPOTrainer on the same pairs, in the same order, from the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.scorer import scoring
from trainers.checkpoints import TrainingResult
from trainers.config import TrainingConfig
from trainers.journal import read_log
from trainers.log_probs import pair_layout, pair_log_probs
from trainers.losses import PairScores, preference_loss
from trainers.models import no_dropout
from trainers.tokenization import EncodedPair, PairEncoder

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
    torch.manual_seed(3)  # the adapter's first weights, as trainers.models.with_adapter seeds them
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


@pytest.mark.parametrize("share", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("loss", list(NAMES))
def test_the_gradient_is_trls(
    tmp_path: Path,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    encoded: list[EncodedPair],
    loss: str,
    share: bool,
) -> None:
    """Away from the reference: the reference's log-probabilities are moved by known amounts."""
    pairs = encoded[:6]
    twin = copy.deepcopy(model)
    trainer = trl_trainer(
        twin,
        tokenizer,
        pairs,
        tmp_path,
        loss_type=[NAMES[loss]],
        beta=0.3,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=6,
    )
    rows = [trainer.train_dataset[index] for index in range(6)]
    moved = [
        row
        | {
            "ref_chosen_logps": row["ref_chosen_logps"] - 0.3 * n,
            "ref_rejected_logps": row["ref_rejected_logps"] + 0.2 * n,
        }
        for n, row in enumerate(rows)
    ]
    twin.train()
    with no_dropout(twin):
        trainer.compute_loss(twin, trainer.data_collator(moved)).backward()
    config = TrainingConfig.model_validate({"loss": loss, "beta": 0.3})
    with no_dropout(model), scoring(model, share=share) as scorer:
        found = pair_log_probs(scorer, model, pair_layout(scorer, pairs))
        sums = found.sums()
        references = (torch.tensor([row[name] for row in moved]) for name in ("ref_chosen_logps", "ref_rejected_logps"))
        counts = (torch.tensor([len(tokens) for tokens in side]) for side in (found.chosen, found.rejected))
        preference_loss(config, PairScores(*sums, *references, *counts)).mean().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for name, weight in twin.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, atol=1e-6, rtol=1e-4)
