"""Count tokens and floating-point operations of each stage of a recipe.

A product with a weight matrix takes 2 operations for each weight and token; attention takes 4 for each head's width,
token and token looked at. A backward pass takes as much as the forward pass for the inputs and, of what is trained, as
much again for the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from smaug_eval.planning.activations import PairLengths
from smaug_eval.planning.shapes import ModelShape
from smaug_eval.prefix.head import HEAD_LOGITS
from smaug_eval.trainers.config import TrainingConfig


@dataclass(frozen=True)
class TextWork:
    """Describe a benchmark's documents, as the leaderboard's protocol formats them.

    Attributes:
        documents: How many there are.
        shared: Mean tokens of a document where its context is computed once.
        whole: Mean tokens of all its requests.
        written: Mean tokens that a model writes: an assumption.
    """

    documents: int
    shared: int
    whole: int
    written: int = 0


LEADERBOARD = {
    "ARC": TextWork(1_172, 1_012, 3_902),
    "HellaSwag": TextWork(10_042, 1_146, 4_260),
    "MMLU": TextWork(14_042, 618, 2_459),
    "TruthfulQA": TextWork(817, 291, 2_186),
    "Winogrande": TextWork(1_267, 167, 287),
    "GSM8K": TextWork(1_319, 832, 832, 120),
}
"""Means over the first 12 documents of each task in protocol order, in tokens of Pythia's tokenizer."""
LEADERBOARD_V2 = {
    "IFEval": TextWork(541, 52, 52, 300),
    "BBH": TextWork(5_761, 452, 2_600),
    "MATH Lvl 5": TextWork(1_324, 726, 726, 300),
    "GPQA": TextWork(1_192, 254, 1_000),
    "MuSR": TextWork(756, 1_100, 3_600),
    "MMLU-Pro": TextWork(12_032, 840, 8_242),
}
"""The same of the second leaderboard (``benchmarks.document_lengths``); GPQA's and MuSR's lengths are assumptions."""
COUNTED_SUITES = {"open_llm_v1": LEADERBOARD, "lm_eval_0413": LEADERBOARD, "open_llm_v2": LEADERBOARD_V2}
DIALOGUES, TURNS, QUESTION_TOKENS, ANSWER_TOKENS = 80, 2, 120, 300
"""MT-Bench, and our assumption on the length of its questions and answers in tokens."""


def adapter_of(shape: ModelShape, config: TrainingConfig) -> int:
    """Return the weights of a training's adapter; 0 where all weights are trained."""
    return 0 if config.lora is None else shape.adapter_weights(config.lora.r, config.lora.target_modules)


def forward_flops(shape: ModelShape, tokens: float, length: float, scored: float) -> float:
    """Return the operations of a forward pass.

    Args:
        shape: The model.
        tokens: Tokens that are computed.
        length: Tokens of a text: each looks at half of them on average.
        scored: Tokens that go through the output head.
    """
    return _body(shape, tokens, length) + 2.0 * shape.head * scored


def pair_tokens(pair: PairLengths, share: bool) -> float:
    """Return the tokens that a pair takes."""
    return pair.shared_tokens if share else pair.padded_tokens


def pair_flops(shape: ModelShape, pair: PairLengths, share: bool) -> float:
    """Return the operations of scoring a pair."""
    return forward_flops(shape, pair_tokens(pair, share), _length(pair), pair.scored_tokens(share))


def training_flops(
    shape: ModelShape, config: TrainingConfig, pair: PairLengths, share: bool, pairs_at_a_time: int
) -> float:
    """Return the operations of a forward and backward pass for one pair.

    Args:
        shape: The base model.
        config: The training.
        pair: The pair.
        share: Whether prefixes are shared.
        pairs_at_a_time: Pairs of a forward pass: where they need several chunks of logits, those are computed twice.
    """
    tokens, scored = pair_tokens(pair, share), pair.scored_tokens(share)
    body = _body(shape, tokens, _length(pair))
    attention = body - 2.0 * shape.matrix_weights * tokens
    head = 2.0 * shape.head * scored
    # Attention has no weights, but two inputs to each of its products: its backward pass takes twice its forward.
    again = body if config.gradient_checkpointing else 0.0
    head_again = head if scored * pairs_at_a_time > HEAD_LOGITS // shape.vocabulary else 0.0
    backward = body + attention + head
    if config.lora is None:
        return body + head + again + head_again + backward + (body - attention) + head
    adapter = 2.0 * adapter_of(shape, config) * tokens
    return body + head + again + head_again + backward + (4 if config.gradient_checkpointing else 3) * adapter


def steps_of(config: TrainingConfig, pairs: int, processes: int) -> int:
    """Return the optimiser steps of a training on so many pairs."""
    if config.steps is not None:
        return config.steps
    batches = ceil(pairs / (config.batch_size * processes))
    return ceil((config.epochs or 1.0) * max(1, ceil(batches / config.gradient_accumulation)))


def pairs_seen(config: TrainingConfig, pairs: int, processes: int) -> int:
    """Return the pairs that the steps of a training on so many pairs compute, one that comes again counted again.

    An epoch's last batch holds what is left; several processes fill theirs up with pairs from the epoch's beginning.
    """
    batch = config.batch_size * processes
    batches = ceil(pairs / batch)
    epoch = pairs if processes == 1 else batches * batch
    epochs, rest = divmod(steps_of(config, pairs, processes), ceil(batches / config.gradient_accumulation))
    return epochs * epoch + min(epoch, rest * batch * config.gradient_accumulation)


def _length(pair: PairLengths) -> int:
    return pair.prompt + pair.common + max(pair.chosen, pair.rejected)


def _body(shape: ModelShape, tokens: float, length: float) -> float:
    attention = 4.0 * shape.layers * shape.heads * shape.head_size * length / 2
    return tokens * (2.0 * shape.matrix_weights + attention)
