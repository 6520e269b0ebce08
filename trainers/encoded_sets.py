"""Encode the training pairs and the held-out pairs of a training as token ids."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.pair_store import PairStore
from smaug_eval.trainers.pairs.pair import LABEL_COLUMN, reasons_of
from smaug_eval.trainers.pairs.read import first_pair, stream_pairs
from smaug_eval.trainers.remarks import Remark, remarks
from smaug_eval.trainers.tokenization import FIX_UNPAIRED, EncodedPair, EncodedPairs, PairEncoder
from smaug_eval.trainers.unpaired import (
    Mismatched,
    Rejoined,
    check_unpaired,
    label_remarks,
    order_of,
    unpaired_rows,
)

_LABELS_OF = {"rewards/margins": {True, False}, "log_ratios/chosen": {True}, "logps/chosen": {True}}
"""Labels of completions that a column of the log is the mean of."""


@dataclass(frozen=True)
class EncodedSets:
    """Hold what a training trains on and is evaluated on.

    Attributes:
        train: Training pairs, at least one.
        eval: Held-out pairs.
        remarks: What is worth saying of their encoding.
        rejoined: Of a loss of unpaired completions the held-out pairs that were split into these; None for others.
    """

    train: EncodedPairs
    eval: EncodedPairs
    remarks: tuple[Remark, ...]
    rejoined: Rejoined | None = None

    def digests(self) -> dict[str, str]:
        """Return digests of all ids, by split."""
        return {"train": self.train.sha256(), "eval": self.eval.sha256()}


def check_row_form(config: TrainingConfig, train_file: Path) -> None:
    """Refuse unpaired rows for a loss of pairs by the first row, before a model is loaded.

    Raises:
        SmaugError: the file cannot be read, or has such a row.
    """
    if not config.entry.unpaired and first_pair(train_file).label is not None:
        raise SmaugError(
            f"{train_file} holds unpaired rows (prompt, completion, label), and {config.loss} compares the two "
            "completions of a pair",
            fix=FIX_UNPAIRED,
        )


def encode_sets(
    config: TrainingConfig,
    tokenizer: PreTrainedTokenizerBase,
    train_file: Path,
    eval_file: Path | None,
    *,
    max_length: int,
    date: datetime.date,
    seed: int = 0,
    folder: Path | None = None,
) -> EncodedSets:
    """Encode the pair files of a training.

    For a loss of unpaired completions, pairs become two of these each, in a random order.

    Args:
        config: How.
        tokenizer: The base model's.
        train_file: Training pairs, as :func:`smaug_eval.trainers.pairs.read.read_pairs` reads them.
        eval_file: Held-out pairs; None for none.
        max_length: Tokens of a pair: the configuration's, or fewer where the model's context is shorter.
        date: The day that chat templates take for today.
        seed: Of the order of unpaired completions.
        folder: Where the ids go, in a file that is mapped into memory; None to keep them in memory.

    Raises:
        SmaugError: a row cannot be encoded, or no training pair is left.
    """
    encoder = PairEncoder(
        tokenizer,
        max_length,
        max_prompt_length=config.max_prompt_length,
        append_eos=config.append_eos,
        long_prompts=config.long_prompts,
        max_completion_length=config.max_completion_length,
        truncation_mode=config.truncation_mode,
        template_settings=config.chat_template_kwargs,
        date=date,
        system_prompt=config.system_prompt,
    )
    unpaired = config.entry.unpaired
    train = _encoded(encoder, train_file, unpaired=unpaired, folder=folder)
    if not train.pairs:
        raise SmaugError(
            f"{train_file}: no pair is left to train on ({reasons_of(train.dropped)})",
            fix="raise max_length, or give pairs whose completions differ",
        )
    held_out = EncodedPairs() if eval_file is None else _encoded(encoder, eval_file, unpaired=unpaired, folder=folder)
    sets = {"training": train, "held-out": held_out}
    said = [
        remark
        for what, pairs in sets.items()
        for remark in remarks(
            pairs, f"{what} {'completions' if unpaired else 'pairs'}", asked=config.max_length, used=max_length
        )
    ]
    rejoined = None
    if unpaired:
        check_unpaired(train.pairs, str(train_file))
        check_unpaired(held_out.pairs, str(eval_file))
        for what, pairs in sets.items():
            found = set_beside_others(
                pairs,
                config.weights,
                f"{what} completions",
                batch_size=config.batch_size,
                max_length=max_length,
                seed=seed,
            )
            said += [Remark(text, is_warning=what == "training") for text in found]
        _check_kept(config, held_out.pairs)
        split = (row for row in (stream_pairs(eval_file) if eval_file else ()) if LABEL_COLUMN not in row)
        rejoined = Rejoined(encoder.encode(split).pairs, held_out.pairs)
        if rejoined.lost:
            text = f"{rejoined.lost:,} held-out pairs are encoded otherwise than their completions: they have no margin"
            said.append(Remark(text, is_warning=False))
    return EncodedSets(train, held_out, tuple(said), rejoined)


def set_beside_others(
    pairs: EncodedPairs, weights: Mapping[str, float], what: str, *, batch_size: int, max_length: int, seed: int | None
) -> list[str]:
    """Set the completions of a set beside those of other prompts, in place; returns what is worth saying of labels.

    Args:
        pairs: The set.
        weights: Of the loss.
        what: What to call its completions.
        batch_size: Completions of a batch.
        max_length: Most tokens of a prompt and a completion.
        seed: Of their order; None for that of the rows.
    """
    labels = [pair.label for pair in pairs.pairs]
    order = None if seed is None else order_of(len(labels), seed)
    pairs.pairs = Mismatched(pairs.pairs, batch_size, max_length, order)
    return label_remarks(labels, weights, what) if labels else []


def _check_kept(config: TrainingConfig, held_out: Sequence[EncodedPair]) -> None:
    """Refuse to go by a column that the held-out completions do not have."""
    labels = {pair.label for pair in held_out}
    needed = _LABELS_OF.get(config.keep_metric, set())
    if held_out and (config.keep == "best" or config.patience is not None) and not needed <= labels:
        raise SmaugError(
            f"keep_metric {config.keep_metric} needs held-out completions of "
            f"{'both labels' if len(needed) > 1 else 'the label true'}, and there are none",
            fix="set keep_metric: loss",
        )


def _encoded(encoder: PairEncoder, path: Path, *, unpaired: bool, folder: Path | None) -> EncodedPairs:
    rows: Iterable[Mapping[str, Any]] = stream_pairs(path)
    store = None if folder is None else PairStore(folder)
    try:
        return encoder.encode(unpaired_rows(rows) if unpaired else rows, labelled=unpaired, into=store)
    except SmaugError as error:
        # What a row itself has wrong names the file already.
        message = error.message if error.message.startswith(str(path)) else f"{path}, {error.message}"
        raise SmaugError(message, fix=error.fix) from error
    finally:
        if store is not None:
            store.discard()
