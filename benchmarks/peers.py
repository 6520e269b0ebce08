"""TRL's DPOTrainer on pairs that are tokenized already: an oracle for tests and a peer for measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from trainers.tokenization import EncodedPair


class TokenizedDPOTrainer(DPOTrainer):
    """TRL's trainer on rows of ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, which it makes of text itself."""

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
    """TRL's trainer with the reference's log-probabilities computed beforehand.

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
