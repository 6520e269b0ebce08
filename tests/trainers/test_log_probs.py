"""Log-probabilities and the saved reference against one unpadded forward pass after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.tiny_models import sharing_model
from smaug_eval.common.errors import Interrupted
from smaug_eval.prefix.scorer import Scorer, Way, scoring
from smaug_eval.trainers.log_probs import pair_layout, pair_log_probs, scoring_batches
from smaug_eval.trainers.reference import load_reference, reference_key, save_reference, score_pairs
from smaug_eval.trainers.tokenization import EncodedPair, PairEncoder


@pytest.fixture
def pairs(tokenizer: PreTrainedTokenizerFast, sums: Callable[..., list[dict[str, str]]]) -> list[EncodedPair]:
    return PairEncoder(tokenizer, max_length=200).encode(sums(7)).pairs


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def scorer(model: LlamaForCausalLM, request: pytest.FixtureRequest) -> Iterator[Scorer]:
    with scoring(model, share=request.param) as scorer:
        assert scorer.way is (Way.PACKED if request.param else Way.PADDED)
        yield scorer


def naive(model: LlamaForCausalLM, prompt: np.ndarray, completion: np.ndarray) -> Tensor:
    """Token by token from the full softmax of one sequence in double precision."""
    ids = torch.from_numpy(np.concatenate([prompt, completion])).long()
    with torch.no_grad():
        probabilities = torch.softmax(model(input_ids=ids[None], use_cache=False).logits[0].double(), dim=-1)
    return torch.stack([probabilities[t - 1, ids[t]].log() for t in range(len(prompt), len(ids))])


def test_every_token_equals_an_unpadded_forward_pass(
    scorer: Scorer, model: LlamaForCausalLM, pairs: list[EncodedPair]
) -> None:
    found = pair_log_probs(scorer, model, pair_layout(scorer, pairs))
    for name in ("chosen", "rejected"):
        for pair, tokens in zip(pairs, getattr(found, name), strict=True):
            expected = naive(model, pair.prompt, getattr(pair, name))
            assert tokens.dtype == torch.float32
            torch.testing.assert_close(tokens.double(), expected, atol=2e-5, rtol=0)
    chosen, rejected = found.sums()
    assert chosen.dtype == torch.float64
    assert chosen[2].item() == pytest.approx(naive(model, pairs[2].prompt, pairs[2].chosen).sum().item(), abs=1e-4)
    assert rejected.shape == (7,)


def test_gradients_reach_the_model(scorer: Scorer, model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    """The gradient of the summed log-probabilities is minus that of the library's own summed cross-entropy."""
    found = pair_log_probs(scorer, model, pair_layout(scorer, pairs))
    (found.chosen[3].sum() - 2 * found.rejected[3].sum()).backward()
    weight = model.model.layers[0].mlp.up_proj.weight
    assert weight.grad is not None
    ours = weight.grad.clone()
    model.zero_grad()
    for completion, factor in ((pairs[3].chosen, -1), (pairs[3].rejected, 2)):
        ids = torch.from_numpy(np.concatenate([pairs[3].prompt, completion])).long()[None]
        labels = ids.clone()
        labels[:, : len(pairs[3].prompt)] = -100
        (model(input_ids=ids, labels=labels).loss * len(completion) * factor).backward()
    assert weight.grad is not None
    torch.testing.assert_close(ours, weight.grad, atol=1e-5, rtol=1e-4)


def test_shared_tokens_are_computed_and_scored_once(model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0]))
    pair = next(pair for pair in pairs if pair.common)
    with scoring(model) as scorer:
        layout = pair_layout(scorer, [pair])
        seen.clear()
        pair_log_probs(scorer, model, layout)
    scored = len(pair.chosen) + len(pair.rejected) - pair.common
    assert seen == [scored]
    # Neither completion's last token is fed to the model.
    assert layout.input.computed == len(pair.prompt) + scored - 2


def test_autocast_computes_in_half_precision(scorer: Scorer, model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    layout = pair_layout(scorer, pairs)
    exact, half = (scorer.log_probs(model, layout.input, autocast=dtype) for dtype in (None, torch.bfloat16))
    assert half.dtype == torch.float32
    assert 1e-4 < (exact - half).abs().max() < 0.1


def test_batches_hold_every_pair_once_within_the_budget(scorer: Scorer, pairs: list[EncodedPair]) -> None:
    batches = scoring_batches(scorer, pairs, 150)
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    sizes = [
        sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) - 2 for p in map(pairs.__getitem__, b)) for b in batches
    ]
    if scorer.way is Way.PACKED:
        sizes = [pair_layout(scorer, [pairs[index] for index in batch]).input.computed for batch in batches]
    assert all(size <= 150 or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))
    assert [pairs[index].length for batch in batches for index in batch] == sorted(
        (pair.length for pair in pairs), reverse=True
    )


def test_the_reference_of_each_pair(scorer: Scorer, model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    model.train()
    reference = score_pairs(scorer, model, pairs, row_tokens=128, autocast=None)
    assert model.training
    for side, name in enumerate(("chosen", "rejected")):
        tokens = [naive(model.eval(), pair.prompt, getattr(pair, name)) for pair in pairs]
        np.testing.assert_allclose(reference.sums[side], [t.sum().item() for t in tokens], atol=1e-4)
        found = np.concatenate(getattr(reference, name))
        np.testing.assert_allclose(found, torch.cat(tokens).numpy(), atol=2e-5)


def test_the_reference_of_a_model_whose_first_layer_is_its_last(
    tokenizer: PreTrainedTokenizerFast, pairs: list[EncodedPair]
) -> None:
    model: Any = sharing_model("first is last", vocab_size=len(tokenizer))
    with scoring(model) as scorer:
        assert scorer.way is Way.PACKED
        reference = score_pairs(scorer, model, pairs, row_tokens=128, autocast=None)
    for name in ("chosen", "rejected"):
        tokens = [naive(model, pair.prompt, getattr(pair, name)) for pair in pairs]
        np.testing.assert_allclose(np.concatenate(getattr(reference, name)), torch.cat(tokens).numpy(), atol=2e-5)


def test_the_reference_is_scored_without_dropout_and_stops_on_request(
    scorer: Scorer, model: LlamaForCausalLM, pairs: list[EncodedPair]
) -> None:
    calls = []

    def before_batch(done: int, total: int) -> None:
        calls.append((model.training, done, total))
        if len(calls) == 2:
            raise Interrupted("stop")

    model.train()
    with pytest.raises(Interrupted):
        score_pairs(scorer, model, pairs, row_tokens=128, autocast=None, before_batch=before_batch)
    first = len(scoring_batches(scorer, pairs, 128)[0])
    assert calls == [(False, 0, len(pairs)), (False, first, len(pairs))]


def test_a_saved_reference_is_the_same_and_a_damaged_one_is_none(
    scorer: Scorer, model: LlamaForCausalLM, pairs: list[EncodedPair], tmp_path: Path
) -> None:
    path = tmp_path / "reference.safetensors"
    assert load_reference(path) is None
    reference = score_pairs(scorer, model, pairs, row_tokens=512, autocast=None)
    save_reference(reference, path)
    loaded = load_reference(path)
    assert loaded is not None
    for name in ("chosen", "rejected"):
        for one, other in zip(getattr(loaded, name), getattr(reference, name), strict=True):
            np.testing.assert_array_equal(one, other)
    path.write_bytes(path.read_bytes()[:-10])
    assert load_reference(path) is None


def test_the_key_changes_with_everything_that_matters() -> None:
    base = {"model_sha256": "m", "pairs_sha256": "p", "precision": "float32"}
    keys = {reference_key(**base), *(reference_key(**(base | {name: "other"})) for name in base)}
    assert len(keys) == 4
