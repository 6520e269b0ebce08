"""A step's gradient does not depend on how its pairs are cut into batches and parts, whatever the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainingArguments

from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.base_model import no_dropout
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.losses import LOSSES
from smaug_eval.trainers.reference import score_pairs
from smaug_eval.trainers.tokenization import PairEncoder
from smaug_eval.trainers.trainer import Collator, PairTrainer, ScoredPairs
from smaug_eval.trainers.unpaired import Mismatched

SUM = "dpo + 0.2*sft"


@pytest.mark.parametrize("loss", [*LOSSES, SUM])
def test_parts_and_accumulated_batches_give_the_gradient_of_one(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, sums: Callable[..., list[dict[str, str]]],
    tmp_path: Path, loss: str,
) -> None:  # fmt: skip
    """Four pairs of different weights at once, in parts of one pair, in two batches, and in another order.

    KTO's divergence is that of a batch, so that its batches are not cut; it is estimated over all parts.
    """
    config = TrainingConfig.model_validate({"loss": loss, "batch_size": 4})
    encoded = list(PairEncoder(tokenizer, 256).encode(sums(4)).pairs)
    weights = (1.0, 0.5, 2.0, 1.5)
    labels = (True, False, False, True) if config.entry.unpaired else (None,) * 4
    pairs: Sequence = [
        replace(pair, weight=weight, label=label) for pair, weight, label in zip(encoded, weights, labels, strict=True)
    ]
    pairs = list(Mismatched(pairs, 4, 256)) if config.entry.unpaired else pairs
    with no_dropout(model), scoring(model) as scorer:
        reference = score_pairs(scorer, model, pairs, row_tokens=4096, autocast=None)
        scored = ScoredPairs(pairs, reference)
        with torch.no_grad():  # a policy that is no longer its reference
            torch.manual_seed(1)
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True, max_steps=4)
        trainer = PairTrainer(
            model, arguments, config=config, scorer=scorer, train_pairs=scored, eval_pairs=None, autocast=None,
            callbacks=[],
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        items = [scored[number] for number in range(4)]

        def gradient(*batches: Sequence[int], row_tokens: int = 4096) -> torch.Tensor:
            model.zero_grad()
            collator = Collator(scorer, row_tokens)
            for batch in batches:
                trainer.training_step(model, collator([items[number] for number in batch]), 4)
            return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])

        whole = gradient([0, 1, 2, 3])
        others = [gradient([0, 1, 2, 3], row_tokens=1), gradient([2, 0, 3, 1])]
        if not config.entry.unpaired:
            others.append(gradient([0, 1], [2, 3]))
    assert float(whole.abs().max()) > 1e-6
    for other in others:
        torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-5 * max(1.0, float(whole.abs().max())))
