"""Packed rows against plain forward passes, for the families of models that people train."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from smaug_eval.prefix import attention, head
from smaug_eval.prefix import scorer as scorer_module
from smaug_eval.prefix.attention import ATTENTION
from smaug_eval.prefix.layout import PrefixGroup
from smaug_eval.prefix.scorer import Scorer, Way, scoring

VOCABULARY = 97
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = SIZE | {"num_key_value_heads": 2}

# Sliding windows shorter than the texts, Gemma's soft caps and Granite's and Cohere's scaled logits included.
PACKED: dict[str, PreTrainedConfig] = {
    "llama": hf.LlamaConfig(**GROUPED),
    "mistral": hf.MistralConfig(**GROUPED, sliding_window=8),
    "qwen2": hf.Qwen2Config(**GROUPED),
    "qwen3": hf.Qwen3Config(**GROUPED, head_dim=16),
    "gpt2": hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2
    ),
    "gpt_neox": hf.GPTNeoXConfig(**SIZE),
    "gemma": hf.GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": hf.Gemma2Config(**GROUPED, head_dim=8, sliding_window=8, attn_logit_softcapping=2.0),
    "gemma3": hf.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=8),
    "cohere": hf.CohereConfig(**SIZE),
    "granite": hf.GraniteConfig(**SIZE, logits_scaling=4.0),
    "phi3": hf.Phi3Config(**SIZE),
    "mixtral": hf.MixtralConfig(**GROUPED, num_local_experts=2),
}
NOT_PACKED: dict[str, PreTrainedConfig] = {
    "bloom": hf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),  # ALiBi
    "mamba": hf.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4),
    "lfm2": hf.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"]),  # convolutions over the row
    "gpt_oss": hf.GptOssConfig(  # attention sinks
        **GROUPED | {"hidden_size": 64}, head_dim=16, num_local_experts=2, num_experts_per_tok=1
    ),
}
_models: dict[str, PreTrainedModel] = {}


def model_of(name: str) -> PreTrainedModel:
    """A random model with weights large enough that its attention is far from uniform."""
    if name not in _models:
        torch.manual_seed(0)
        # Only eager attention knows soft caps.
        arguments = {"attn_implementation": "eager"} if name == "gemma2" else {}
        model = AutoModelForCausalLM.from_config((PACKED | NOT_PACKED)[name], **arguments).eval()
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.data.mul_(4)
        _models[name] = model
    return _models[name]


def plain(model: PreTrainedModel, group: PrefixGroup) -> list[Tensor]:
    """Log-probabilities of each text's scored tokens, from the logits of one forward pass for each text."""
    found = []
    for tail in group.tails:
        ids = torch.from_numpy(np.concatenate([group.prefix, tail])).long()[None]
        log_probs = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
        found.append(log_probs[:-1].gather(1, ids[0, 1:, None]).squeeze(1)[group.scored_from - 1 :])
    return found


def texts(groups: list[PrefixGroup], parts: tuple[Tensor, ...]) -> list[Tensor]:
    """The same from the parts of a packed layout."""
    remaining = iter(parts)
    found = []
    for group in groups:
        shared = next(remaining)
        found += [torch.cat([shared, next(remaining)]) for _ in group.tails]
    return found


def ids(low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    tokens = st.integers(0, VOCABULARY - 1)
    return st.lists(tokens, min_size=low, max_size=high).map(lambda values: np.array(values, np.int32))


@st.composite
def groups(draw: st.DrawFn) -> PrefixGroup:
    start = draw(ids(1, 14))
    tails = draw(st.lists(ids(0, 12), min_size=1, max_size=4).filter(lambda found: any(map(len, found))))
    return PrefixGroup(start, tuple(tails), draw(st.integers(1, len(start))))


def packed_by_mask(
    module: Any, query: Tensor, key: Tensor, value: Tensor, block_mask: Any, *, scaling: float | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """What FlexAttention computes, from its mask made dense."""
    groups = query.shape[1] // key.shape[1]
    length = query.shape[2]
    places = torch.arange(length)
    mask = block_mask.mask_mod(torch.tensor(0), torch.tensor(0), places[:, None], places[None, :])
    keys, values = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    out = torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
    return out.transpose(1, 2), None


@pytest.mark.parametrize("name", list(PACKED))
@settings(max_examples=12)
@given(drawn=st.lists(groups(), min_size=1, max_size=5))
def test_packed_rows_give_the_numbers_of_plain_passes(name: str, drawn: list[PrefixGroup]) -> None:
    model = model_of(name)
    with torch.no_grad(), scoring(model) as scorer:
        assert scorer.way is Way.PACKED
        layout = scorer.layout(drawn)
        found = texts(drawn, layout.parts(scorer.log_probs(model, layout)))
        assert layout.computed == sum(group.packed_length for group in drawn)
    expected = [tokens for group in drawn for tokens in plain(model, group)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2", "gemma2"])
def test_packed_gradients_are_those_of_plain_passes(name: str) -> None:
    model = model_of(name)
    rng = np.random.default_rng(3)
    sizes = [(9, (5, 7), 4), (3, (0, 2), 2), (12, (1, 1), 12)]
    drawn = [
        PrefixGroup(_ids(rng, size), tuple(_ids(rng, length) for length in tails), scored_from)
        for size, tails, scored_from in sizes
    ]
    weights = torch.linspace(-1, 1, 6)
    with scoring(model) as scorer:
        layout = scorer.layout(drawn)
        found = texts(drawn, layout.parts(scorer.log_probs(model, layout)))
        sum(weight * tokens.sum() for weight, tokens in zip(weights, found, strict=True)).backward()
    packed = {key: weight.grad.clone() for key, weight in model.named_parameters()}
    model.zero_grad()
    expected = [tokens for group in drawn for tokens in plain(model, group)]
    sum(weight * tokens.sum() for weight, tokens in zip(weights, expected, strict=True)).backward()
    for key, weight in model.named_parameters():
        scale = weight.grad.abs().max().item()
        torch.testing.assert_close(packed[key], weight.grad, atol=1e-4 * max(scale, 1e-3), rtol=0)
    model.zero_grad()


@pytest.mark.parametrize("name", list(NOT_PACKED))
def test_models_that_cannot_be_packed_get_padded_rows_and_say_so(name: str) -> None:
    model = model_of(name)
    rng = np.random.default_rng(5)
    drawn = [PrefixGroup(_ids(rng, 9), (_ids(rng, 5), _ids(rng, 3)), 4)]
    with torch.no_grad(), scoring(model) as scorer:
        assert scorer.way is not Way.PACKED
        assert type(model).__name__ in scorer.describe()
        layout = scorer.layout(drawn)
        found = layout.parts(scorer.log_probs(model, layout))
    for one, other in zip(found, plain(model, drawn[0]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_the_last_layer_is_computed_only_where_something_is_scored(name: str, autocast: torch.dtype | None) -> None:
    model = model_of(name)
    rng = np.random.default_rng(6)
    drawn = [PrefixGroup(_ids(rng, 20), (_ids(rng, 3), _ids(rng, 4)), 20)]
    sizes: list[int] = []
    (*_, last) = [module for key, module in model.named_modules() if key.endswith("mlp")]
    hook = last.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[1]))
    with scoring(model) as scorer:
        layout = scorer.layout(drawn)
        sizes.clear()
        plainly = scorer.log_probs(model, layout, autocast=autocast)
        with torch.no_grad():
            found = scorer.log_probs(model, layout, autocast=autocast)
    hook.remove()
    # The module is called with the whole row, and its forward with what is scored: 3 + 4 tokens, of which the first
    # of each tail have the same predictor.
    assert sizes == [layout.computed, layout.computed]
    torch.testing.assert_close(found, plainly, atol=1e-5 if autocast is None else 0.05, rtol=0)
    fed: list[int] = []
    original = last.forward
    last.forward = lambda hidden: (fed.append(hidden.shape[1]), original(hidden))[1]
    with scoring(model, known=scorer), torch.no_grad():
        scorer.log_probs(model, layout, autocast=autocast)
    assert fed == [6]


def test_sharing_can_be_switched_off() -> None:
    model = model_of("llama")
    with scoring(model, share=False) as scorer:
        assert scorer.way is Way.PADDED
        assert scorer.describe() == "padded rows, one for each text: sharing is switched off"


def test_the_model_is_left_as_it_was() -> None:
    model = model_of("llama")
    before = model.config._attn_implementation
    with scoring(model):
        assert model.config._attn_implementation == ATTENTION
        assert "forward" in vars(model)
    assert model.config._attn_implementation == before
    assert "forward" not in vars(model)


def test_the_head_in_chunks_gives_the_same_numbers_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen2")
    rng = np.random.default_rng(7)
    drawn = [PrefixGroup(_ids(rng, 9), (_ids(rng, 5), _ids(rng, 8)), 4)]

    def run() -> tuple[Tensor, Tensor]:
        model.zero_grad()
        with scoring(model) as scorer:
            found = scorer.log_probs(model, scorer.layout(drawn))
        found.sum().backward()
        head = model.get_output_embeddings().weight.grad
        assert head is not None
        return found.detach(), head.clone()

    whole, whole_gradient = run()
    monkeypatch.setattr(head, "HEAD_LOGITS", 4 * VOCABULARY)  # 18 scored tokens in five chunks
    seen: list[int] = []
    hook = model.get_output_embeddings().register_forward_hook(lambda module, inputs, out: seen.append(len(out)))
    chunked, chunked_gradient = run()
    hook.remove()
    assert max(seen) <= 4 < len(whole)
    torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(chunked_gradient, whole_gradient, atol=1e-5, rtol=1e-5)


def test_half_precision_weights_are_taken_too() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(PACKED["llama"], dtype=torch.bfloat16).eval()
    with torch.no_grad(), scoring(model) as scorer:
        assert scorer.way is Way.PACKED
        rng = np.random.default_rng(5)
        layout = scorer.layout([PrefixGroup(_ids(rng, 9), (_ids(rng, 5), _ids(rng, 3)), 4)])
        assert scorer.log_probs(model, layout).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="FlexAttention on a CPU needs a C++ compiler (g++)")
def test_flex_attention_gives_the_same_numbers() -> None:
    """The GPU's kernel, which PyTorch can also compile for a CPU, on rows of several 128-token blocks."""
    torch.manual_seed(0)
    large = GROUPED | {"hidden_size": 64, "max_position_embeddings": 512}
    model = AutoModelForCausalLM.from_config(hf.LlamaConfig(**large)).eval()
    rng = np.random.default_rng(1)
    drawn = [
        PrefixGroup(_ids(rng, prefix), tuple(_ids(rng, tail) for tail in tails), 2)
        for prefix, tails in [(90, (60, 31)), (7, (0, 12)), (140, (3, 1, 50)), (33, (80, 80))]
    ]
    with torch.no_grad(), scoring(model) as scorer:
        layout = scorer.layout(drawn)
        expected = scorer.log_probs(model, layout)
        found = Scorer(Way.PACKED, flex=True).log_probs(model, layout)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "works"),
    [
        (packed_by_mask, True),
        (lambda *args, **kwargs: (_ for _ in ()).throw(RuntimeError("no compiler")), False),
        (lambda module, query, *args, **kwargs: (torch.zeros_like(query).transpose(1, 2), None), False),
    ],
    ids=["right", "fails", "wrong"],
)
def test_flex_attention_is_tried_before_it_is_used(
    kernel: Callable[..., Any], works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer_module, "_on_one_gpu", lambda core: True)
    monkeypatch.setattr(attention, "flex_attention_forward", kernel)
    with scoring(model_of("llama")) as scorer:
        assert scorer.way is Way.PACKED
        assert scorer.flex is works


def _ids(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, VOCABULARY, count, dtype=np.int32)
