"""Run TRL's trainers on pairs that are tokenized already: oracles for tests and peers for measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from smaug_eval.trainers.tokenization import EncodedPair


class TokenizedDPOTrainer(DPOTrainer):
    """Train with TRL on rows of ``prompt_ids``, ``chosen_ids`` and ``rejected_ids`` instead of text."""

    def _prepare_dataset(self, dataset: Dataset, *arguments: Any) -> Dataset:
        return dataset


def trl_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[EncodedPair],
    out_dir: Path,
    *,
    peft_config: Any = None,
    **arguments: Any,
) -> DPOTrainer:
    """Return TRL's trainer with the reference's log-probabilities computed beforehand.

    Args:
        model: The policy, equal to the reference.
        tokenizer: The model's tokenizer; it must have a padding token.
        pairs: What to train on.
        out_dir: For TRL's files.
        peft_config: Adapter to add, as of ``peft``.
        **arguments: Of TRL's ``DPOConfig``.
    """
    rows = [
        {"prompt_ids": pair.prompt.tolist(), "chosen_ids": pair.chosen.tolist(), "rejected_ids": pair.rejected.tolist()}
        for pair in pairs
    ]
    settings = DPOConfig(
        output_dir=str(out_dir),
        precompute_ref_log_probs=True,
        max_length=None,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **arguments,
    )
    return TokenizedDPOTrainer(
        model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=peft_config
    )


def trl_peer(
    loss: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[EncodedPair],
    out_dir: Path,
    **arguments: Any,
) -> Any:
    """Return TRL's trainer of a loss, at our default weights but for ``beta`` of ``dpo``.

    Args:
        loss: ``dpo``; ``dpo_nll``, which is DPOTrainer's ``sigmoid`` and ``sft``; ``simpo``, of its experimental
            CPOTrainer; or ``orpo``, of its experimental ORPOTrainer.
        model: The policy, equal to the reference where there is one.
        tokenizer: The model's tokenizer; it must have a padding token.
        pairs: What to train on.
        out_dir: For TRL's files.
        **arguments: Of TRL's configurations; ``beta`` is for ``dpo`` alone.

    Raises:
        ValueError: TRL has no such loss.
    """
    beta = arguments.pop("beta", 0.1)
    if loss == "dpo":
        return trl_trainer(model, tokenizer, pairs, out_dir, loss_type=["sigmoid"], beta=beta, **arguments)
    if loss == "dpo_nll":
        mixed = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 1.0], "beta": 0.1}
        return trl_trainer(model, tokenizer, pairs, out_dir, **mixed, **arguments)
    if loss == "simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        own = {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 1.0}
        return _without_reference(CPOTrainer, CPOConfig, own, model, tokenizer, pairs, out_dir, arguments)
    if loss == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return _without_reference(ORPOTrainer, ORPOConfig, {"beta": 0.1}, model, tokenizer, pairs, out_dir, arguments)
    raise ValueError(f"TRL has no trainer of {loss}")


def _without_reference(
    base: Any,
    config: Any,
    own: dict[str, Any],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[EncodedPair],
    out_dir: Path,
    arguments: dict[str, Any],
) -> Any:
    """One of TRL's trainers that tokenise row by row, given the ids instead."""

    class Tokenized(base):
        def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
            prompt = feature["prompt_ids"]
            found = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
            for side in ("chosen", "rejected"):
                ids = [*prompt, *feature[f"{side}_ids"]]
                found |= {f"{side}_input_ids": ids, f"{side}_attention_mask": [1] * len(ids)}
                found[f"{side}_labels"] = [-100] * len(prompt) + ids[len(prompt) :]
            return found

    rows = [
        {
            **dict.fromkeys(("prompt", "chosen", "rejected"), ""),
            **{f"{side}_ids": getattr(pair, side).tolist() for side in ("prompt", "chosen", "rejected")},
        }
        for pair in pairs
    ]
    longest = max(pair.length for pair in pairs)
    settings = config(
        output_dir=str(out_dir),
        max_length=longest,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        bf16=arguments.pop("bf16", False),
        **own,
        **arguments,
    )
    torch.manual_seed(0)
    return Tokenized(model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
