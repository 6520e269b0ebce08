"""Which lengths configurations name, and that a trial with shorter ones leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from benchmarks.tiny_models import tiny_model
from smaug_eval.prefix.lengths import Length, context_length, named_lengths, shortened

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 4096,
    "short_factor": [1.0] * 48,
    "long_factor": [2.0] * 48,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (hf.LlamaConfig(), []),
        (hf.LlamaConfig(rope_parameters=LLAMA_3, max_position_embeddings=131072), []),  # the same at every length
        (hf.Qwen2Config(use_sliding_window=False, sliding_window=4096), []),
        (hf.Qwen3MoeConfig(num_experts=128, num_experts_per_tok=8), []),  # a top-k of experts, not of tokens
        (hf.MistralConfig(sliding_window=4096, max_position_embeddings=32768), [("sliding_window", 4096, True)]),
        (hf.Lfm2Config(conv_L_cache=3), [("conv_L_cache", 3, True)]),
        (hf.GPTNeoConfig(window_size=256), [("window_size", 256, True)]),
        (
            hf.Llama4TextConfig(attention_chunk_size=8192, floor_scale=8000),
            [("floor_scale", 8000, True), ("attention_chunk_size", 8192, True)],
        ),
        (hf.DeepseekV32Config(index_topk=2048), [("index_topk", 2048, False)]),
        (hf.DogeConfig(keep_window_size=2048), [("keep_window_size", 2048, False)]),
        (
            hf.Phi3Config(rope_parameters=LONG_ROPE, max_position_embeddings=131072, sliding_window=262144),
            [("original_max_position_embeddings", 4096, False), ("sliding_window", 262144, True)],
        ),
        (
            hf.LlamaConfig(
                rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0},
                max_position_embeddings=4096,
            ),
            [("max_position_embeddings", 4096, False)],
        ),
        # So many blocks of so many tokens.
        (
            hf.CONFIG_MAPPING["minimax_m3_vl_text"](index_topk_blocks=16, index_block_size=128),
            [("index_block_size", 128, True), ("index_topk_blocks", 2048, False)],
        ),
        # Of a part that reads images or sound nothing is said here.
        (hf.CONFIG_MAPPING["gemma3"](text_config={"sliding_window": 512}), [("sliding_window", 512, True)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, hf.PreTrainedConfig) else "",
)
def test_lengths_of_configurations(config: hf.PreTrainedConfig, expected: list[tuple[str, int, bool]]) -> None:
    assert [(length.name, length.tokens, length.can_be_tried) for length in named_lengths(config)] == expected


def test_lengths_in_lists_and_dictionaries_of_a_model_with_code_of_its_own() -> None:
    config = hf.LlamaConfig()
    config.attention_windows = [64, 128, -1]
    config.sparse = {"block_size": 16, "experts_topk": 2}
    assert [(length.name, length.tokens) for length in named_lengths(config)] == [
        ("block_size", 16),
        ("attention_windows", 64),
        ("attention_windows", 128),
    ]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (hf.LlamaConfig(max_position_embeddings=77), 77),
        (hf.GPT2Config(n_positions=88), 88),
        (hf.MambaConfig(), None),
    ],
)
def test_context(config: hf.PreTrainedConfig, expected: int | None) -> None:
    assert context_length(config) == expected


def answers(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, use_cache=False).logits
    return found


@pytest.mark.parametrize(
    ("family", "settings", "name", "tokens"),
    [
        ("mistral", {"sliding_window": 300}, "sliding_window", 300),
        ("gemma3_text", {"sliding_window": 300}, "sliding_window", 300),
        ("llama4_text", {"attention_chunk_size": 300}, "attention_chunk_size", 300),
        ("deepseek_v32", {"index_topk": 300}, "index_topk", 300),
        ("deepseek_v4", {"sliding_window": 300}, "sliding_window", 300),
    ],
)
def test_a_shorter_length_is_that_of_a_model_made_with_it_and_leaves_no_trace(
    family: str, settings: dict[str, int], name: str, tokens: int
) -> None:
    model = tiny_model(family, **settings)
    short = tiny_model(family, **{name: 4})  # the same weights
    ids = torch.randint(0, 97, (1, 40), generator=torch.Generator().manual_seed(0))
    before = answers(model, ids)
    state = {key: dict(vars(module)) for key, module in model.named_modules()}
    config = model.config.to_json_string()
    with shortened(model, [Length(name, tokens)], 4):
        torch.testing.assert_close(answers(model, ids), answers(short, ids), atol=1e-5, rtol=0)
        assert (answers(model, ids) - before).abs().max() > 0.01
    assert model.config.to_json_string() == config
    assert state == {key: dict(vars(module)) for key, module in model.named_modules()}
    assert torch.equal(answers(model, ids), before)


def test_the_frequencies_of_a_long_rope_are_put_back() -> None:
    rope = LONG_ROPE | {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 100}
    model = tiny_model("phi3", rope_parameters=rope, original_max_position_embeddings=100)
    (length,) = named_lengths(model.config)
    ids = torch.randint(0, 97, (1, 40), generator=torch.Generator().manual_seed(0))
    before, rotary = answers(model, ids), model.model.rotary_emb.inv_freq.clone()
    with shortened(model, [length], 4):
        assert (answers(model, ids) - before).abs().max() > 0.01
        assert not torch.equal(model.model.rotary_emb.inv_freq, rotary)
    assert torch.equal(model.model.rotary_emb.inv_freq, rotary)
    assert torch.equal(answers(model, ids), before)


def test_a_length_that_is_worked_into_a_buffer_stays_as_it_is() -> None:
    model = tiny_model("gpt_neo", window_size=30)
    ids = torch.randint(0, 97, (1, 40), generator=torch.Generator().manual_seed(0))
    before = answers(model, ids)
    with shortened(model, named_lengths(model.config), 4):
        assert model.config.window_size == 4
        assert torch.equal(answers(model, ids), before)
    assert model.config.window_size == 30
