"""Log-probabilities and the saved reference against one unpadded forward pass after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.errors import Interrupted
from trainers.log_probs import pair_batch, token_log_probs
from trainers.reference import load_reference, reference_key, reference_log_probs, save_reference
from trainers.tokenization import EncodedPair, PairEncoder

CPU = torch.device("cpu")


@pytest.fixture
def pairs(tokenizer: PreTrainedTokenizerFast, sums: Callable[..., list[dict[str, str]]]) -> list[EncodedPair]:
    return PairEncoder(tokenizer, max_length=200).encode(sums(7)).pairs


def naive(model: LlamaForCausalLM, prompt: np.ndarray, completion: np.ndarray) -> Tensor:
    """Token by token from the full softmax of one sequence in double precision."""
    ids = torch.from_numpy(np.concatenate([prompt, completion])).long()
    with torch.no_grad():
        probabilities = torch.softmax(model(input_ids=ids[None]).logits[0].double(), dim=-1)
    return torch.stack([probabilities[t - 1, ids[t]].log() for t in range(len(prompt), len(ids))])


def test_every_token_equals_an_unpadded_forward_pass(model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    batch = pair_batch(pairs)
    tokens = token_log_probs(model, batch)
    assert tokens.dtype == torch.float32
    assert tokens.shape == (14, batch.input_ids.shape[1] - 1)
    for row, (pair, name) in enumerate([(p, "chosen") for p in pairs] + [(p, "rejected") for p in pairs]):
        completion = getattr(pair, name)
        expected = torch.zeros(tokens.shape[1], dtype=torch.float64)
        start = len(pair.prompt) - 1
        expected[start : start + len(completion)] = naive(model, pair.prompt, completion)
        torch.testing.assert_close(tokens[row].double(), expected, atol=2e-5, rtol=0)


def test_gradients_reach_the_model(model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    """The gradient of the summed log-probabilities is minus that of the library's own summed cross-entropy."""
    pair = pairs[0]
    token_log_probs(model, pair_batch([pair]))[0].sum().backward()
    weight = model.model.layers[0].mlp.up_proj.weight
    assert weight.grad is not None
    ours = weight.grad.clone()
    model.zero_grad()
    ids = torch.from_numpy(np.concatenate([pair.prompt, pair.chosen])).long()[None]
    labels = ids.clone()
    labels[:, : len(pair.prompt)] = -100
    (-model(input_ids=ids, labels=labels).loss * len(pair.chosen)).backward()
    assert weight.grad is not None
    torch.testing.assert_close(ours, weight.grad, atol=1e-5, rtol=1e-4)


def test_a_model_that_always_gives_all_logits(model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    class AllLogits(torch.nn.Module):
        def forward(self, input_ids: Tensor, use_cache: bool) -> object:
            return model(input_ids=input_ids, use_cache=use_cache)

    batch = pair_batch(pairs)
    torch.testing.assert_close(token_log_probs(AllLogits(), batch), token_log_probs(model, batch), atol=1e-6, rtol=0)


def test_only_the_positions_that_predict_completions_reach_the_head(
    model: LlamaForCausalLM, pairs: list[EncodedPair]
) -> None:
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    pair = pairs[0]
    token_log_probs(model, pair_batch([pair]))
    assert seen == [max(len(pair.chosen), len(pair.rejected))]


def test_autocast_computes_in_half_precision(model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    batch = pair_batch(pairs)
    exact, half = token_log_probs(model, batch), token_log_probs(model, batch, autocast=torch.bfloat16)
    assert half.dtype == torch.float32
    assert 1e-4 < (exact - half).abs().max() < 0.1


def test_the_reference_of_each_pair(model: LlamaForCausalLM, pairs: list[EncodedPair]) -> None:
    model.train()
    reference = reference_log_probs(model, pairs, batch_size=3, device=CPU, autocast=None)
    assert model.training
    for name in ("chosen", "rejected"):
        tokens = [naive(model.eval(), pair.prompt, getattr(pair, name)) for pair in pairs]
        np.testing.assert_allclose(getattr(reference, name), [t.sum().item() for t in tokens], atol=1e-4)
        np.testing.assert_allclose(getattr(reference, f"{name}_tokens"), torch.cat(tokens).numpy(), atol=2e-5)


def test_the_reference_is_scored_without_dropout_and_stops_on_request(
    model: LlamaForCausalLM, pairs: list[EncodedPair]
) -> None:
    calls = []

    def before_batch(done: int, total: int) -> None:
        calls.append((model.training, done, total))
        if len(calls) == 2:
            raise Interrupted("stop")

    model.train()
    with pytest.raises(Interrupted):
        reference_log_probs(model, pairs, batch_size=3, device=CPU, autocast=None, before_batch=before_batch)
    assert calls == [(False, 0, len(pairs)), (False, 3, len(pairs))]


def test_a_saved_reference_is_the_same_and_a_damaged_one_is_none(
    model: LlamaForCausalLM, pairs: list[EncodedPair], tmp_path: Path
) -> None:
    path = tmp_path / "reference.safetensors"
    assert load_reference(path) is None
    reference = reference_log_probs(model, pairs, batch_size=4, device=CPU, autocast=None)
    save_reference(reference, path)
    loaded = load_reference(path)
    assert loaded is not None
    for name, values in vars(reference).items():
        np.testing.assert_array_equal(getattr(loaded, name), values)
    path.write_bytes(path.read_bytes()[:-10])
    assert load_reference(path) is None


def test_the_key_changes_with_everything_that_matters() -> None:
    base = {"model_sha256": "m", "pairs_sha256": "p", "precision": "float32"}
    keys = {reference_key(**base), *(reference_key(**(base | {name: "other"})) for name in base)}
    assert len(keys) == 4
