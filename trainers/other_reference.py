"""Score the pairs with a reference that is another model than the training starts from."""

from __future__ import annotations

import itertools
from contextlib import ExitStack

from transformers import PreTrainedTokenizerBase, TrainingArguments

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.adapters import attach
from smaug_eval.models.quantised import Use
from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.base_model import check_ids, fitting_length, load_model, no_dropout
from smaug_eval.trainers.encoded_sets import EncodedSets
from smaug_eval.trainers.processes import weights_are_sharded
from smaug_eval.trainers.randomness import without_noise
from smaug_eval.trainers.reference_scoring import ReferenceScoring
from smaug_eval.trainers.settled import SettledTraining
from smaug_eval.trainers.spec import ReferenceModel


def score_other_reference(
    training: SettledTraining,
    arguments: TrainingArguments,
    tokenizer: PreTrainedTokenizerBase,
    pairs: EncodedSets,
    max_length: int,
) -> None:
    """Load the reference, score all pairs, and let it go; the scores are kept where the training finds them.

    Args:
        training: The training.
        arguments: The trainer's.
        tokenizer: That of the start, which encoded the pairs.
        pairs: What to score.
        max_length: Tokens of the longest text.

    Raises:
        SmaugError: the reference has another tokenizer or a shorter context, or weights are sharded.
    """
    spec, reference = training.spec, training.spec.reference
    if reference is None:
        return
    if weights_are_sharded():
        raise SmaugError(
            f"reference {reference.name} cannot be scored where FSDP or DeepSpeed shards the weights",
            fix="launch it with recipes/accelerate/ddp.yaml once, which keeps the scores, or leave reference out",
        )
    model, own_tokenizer = load_model(
        reference.path,
        dtype=spec.dtype,
        keep_dtype=training.config.lora is not None,
        use=Use.ADAPTER,
        quantize=training.quantize,
        device=arguments.device,
        trust_remote_code=spec.trust_remote_code,
    )
    _check_same_ids(reference, tokenizer, own_tokenizer)
    if (context := fitting_length(max_length, model)) < max_length:
        raise SmaugError(
            f"reference {reference.name} takes {context} tokens, and max_length is {max_length}",
            fix=f"set max_length to {context}",
        )
    check_ids(itertools.chain(pairs.train.pairs, pairs.eval.pairs), model, reference.path)
    scores = ReferenceScoring(training)
    training.listeners.on_note(f"the reference is {reference.name}")
    with ExitStack() as still:
        still.enter_context(no_dropout(model))
        scorer = still.enter_context(scoring(model, share=training.config.share_prefix))
        still.enter_context(without_noise(model, scorer))
        if reference.adapter is not None:
            attach(model, reference.adapter)
        for each in (pairs.train, pairs.eval):
            if each.pairs:
                scores.score(scorer, model, each)


def _check_same_ids(
    reference: ReferenceModel, tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> None:
    """Refuse a reference for which an id stands for another piece of text."""
    ours, theirs = tokenizer.get_vocab(), other.get_vocab()
    if ours != theirs:
        different = next((token for token in ours if theirs.get(token) != ours[token]), None)
        example = (
            "" if different is None else f": {different!r} is {ours[different]} here and {theirs.get(different)} there"
        )
        raise SmaugError(
            f"reference {reference.name} has another tokenizer than the model that is trained{example}",
            fix="give a reference of the same tokenizer; log-probabilities of other tokens do not compare",
        )
