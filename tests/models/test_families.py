"""Small models of many families, saved and loaded again: none is refused, and in each a missing tensor is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.loading import check_model, load_pretrained
from smaug_eval.models.quantised import Use

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "conv_dim", "lru_width"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "block_ff_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "vocab_size", "vocab_size_per_layer_input"), 64),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "rotary_dim"), 8),
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "state_size": 8,
    "time_step_rank": 4,
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_expand": 2,
    "n_groups": 1,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "laurel_rank": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = (
    *(
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "gemma2",
        "gemma3_text",
        "gemma3n_text",
    ),
    *("gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "gpt_oss", "opt", "bloom", "mpt", "phi3", "phimoe"),
    *("deepseek_v2", "deepseek_v3", "glm4", "glm4_moe", "cohere2", "olmo2", "olmoe", "granitemoe", "stablelm"),
    *(
        "minimax_m2",
        "jamba",
        "falcon_mamba",
        "rwkv",
        "recurrent_gemma",
        "lfm2",
        "bitnet",
        "llama4_text",
        "ernie4_5_moe",
    ),
)


def small(family: str) -> PreTrainedConfig:
    """A configuration of that family for a model of a few thousand weights."""
    kind = CONFIG_MAPPING[family]
    known = kind()
    settings = {name: value for name, value in SIZES.items() if hasattr(known, name)}
    if family == "gpt_neo":
        settings["attention_types"] = [[["global", "local"], 1]]
    return kind(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_saves_is_taken_and_what_is_lost_is_noticed(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small(family))
    assert sum(weight.numel() for weight in model.parameters()) < 2_000_000
    model.save_pretrained(tmp_path)
    check_model(family, tmp_path, [Use.TRAINING, Use.VLLM])
    loaded = load_pretrained(tmp_path, Use.TRAINING, local_files_only=True)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, atol=0, rtol=0)

    tensors = load_file(tmp_path / "model.safetensors")
    inner = [name for name, tensor in tensors.items() if ".1." in name and tensor.numel() > 1]
    lost = inner[len(inner) // 2]
    save_file({n: t for n, t in tensors.items() if n != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    for look in (
        lambda: check_model(family, tmp_path, [Use.TRAINING]),
        lambda: load_pretrained(tmp_path, Use.TRAINING, local_files_only=True),
    ):
        with pytest.raises(SmaugError, match="missing"):
            look()
