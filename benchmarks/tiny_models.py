"""Make tiny models with random weights, one of every causal language model family that transformers knows.

    model = tiny_model("mixtral")

A configuration is made by rule: every size in the family's default configuration is made small by its name, and every
window, chunk and top-k becomes 8 tokens. Where the rules build no model, the family has settings of its own in ``OWN``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

FAMILIES: tuple[str, ...] = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
"""Model types that ``AutoModelForCausalLM`` builds."""

VOCABULARY = 97
WINDOW = 8
PLACEHOLDER = 2
"""Id of the end of a text, and of tokens that stand for images and sound."""
CONTEXT = 512
GAIN = 4.0
"""Factor of freshly initialised matrices: attention is then as far from uniform as that of a trained model."""

# The first pattern that matches the whole name of a setting gives its value; None leaves it alone.
RULES: tuple[tuple[str, int | None], ...] = (
    (r"pad_token_id", 0),
    (r"bos_token_id|decoder_start_token_id", 1),
    (r"(.*_)?token_id|(image|boi|eoi)_token_index", PLACEHOLDER),
    (r"seed|chunk_size_feed_forward|.*_idx|.*_index|pretraining_tp|num_logits_to_keep", None),
    (r"(.*_)?vocab_size|n_vocab|vocab_size_per_layer_input", VOCABULARY),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|model_max_length|max_target_positions", CONTEXT),
    (r"context_length|max_source_positions", CONTEXT),
    (r"(sliding|attention|keep)_window(_size)?|sliding_window_size|window_size|keep_window_size", WINDOW),
    (r"attention_chunk_size|index_topk|local_attention|floor_scale|rel_extent", WINDOW),
    (r"(mamba_)?chunk_size|block_size|index_block_size|l(ocal|sh)_attn_chunk_length", WINDOW),
    (r"index_topk_blocks|num_random_blocks", 2),
    (r"(num_|n_)?(local_|routed_)?experts|moe_num_experts|zero_expert_num", 4),
    (r"num_experts_per_tok(en)?|moe_k|moe_topk|moe_top_k", 2),
    (r"n_shared_experts|num_shared_experts|moe_num_shared_experts", 1),
    (r"(n_group|topk_group|num_expert_group|n_groups|mamba_n_?groups|o_groups)", 1),
    (r"first_k_dense_replace|num_dense_layers|moe_layer_start_index", 1),
    (r"(num_|n_|encoder_|decoder_)(hidden_|encoder_|decoder_)?layers?|num_blocks", 4),
    (r"num_nextn_predict_layers", 0),
    (r"(num_|n_)(key_value|kv)_heads|kv_n_heads|num_query_groups|linear_num_(key_)?heads", 2),
    (r"linear_num_value_heads|index_n_heads|mamba_(n|num)_heads|n_mamba_heads", 4),
    (r"(num_|n_|encoder_|decoder_|num_encoder_|num_decoder_)?(attention_)?heads?|n_heads?", 4),
    (r"hidden_size_per_layer_input|embedding_size|input_embedding_size|output_embedding_size", 32),
    (r"hidden_size|d_model|n_embd|emb_dim|embedding_dim|word_embed_proj_dim|lru_width", 32),
    (r"mamba_d_ssm|mamba_d_state|state_size|ssm_state_size|mamba_dt_rank|time_step_rank", 16),
    (
        r"qk_rope_head_dim|qk_nope_head_dim|v_head_dim|head_dim|kv_channels|attention_head_dim|dim_head|d_head|rotary_dim",
        8,
    ),
    (r"(linear_(key_|value_)?|mamba_)head_?dim|mamba_d_head|index_head_dim|attention_head_size", 16),
    (r".*lora_rank|.*_rank", 8),
    (r"(.*_)?(intermediate_size|ffn_dim|ffn_hidden_size|feed_forward_size|dim_ff|dff|d_inner)(_mlp)?", 64),
)

LATENT: Mapping[str, Any] = {"num_key_value_heads": 4}  # latent attention has as many keys as queries
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_QWEN4 = {
    "num_key_value_heads": 2,
    "linear_num_key_heads": 4,
    "indexer_n_heads": 4,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
    "hc_lowrank": 8,
    "ngram_vocab_size_base": 97,
    "split_ngram_parts": 1,
}
OWN: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"), LATENT),
    **dict.fromkeys(("glm_moe_dsa", "minicpm3", "longcat_flash", "youtu"), LATENT),
    "blt": {
        "encoder_hash_byte_group_vocab": 97,
        "encoder_config": {"hidden_size": 32, "hidden_size_global": 64, "num_attention_heads": 4, "vocab_size": 97},
        "decoder_config": {
            "hidden_size": 32,
            "hidden_size_global": 64,
            "num_attention_heads": 4,
            "vocab_size": 97,
            "num_hidden_layers": 2,
            "intermediate_size": 64,
        },
        "global_config": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64},
    },
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {**_ROPE, "mrope_section": [2, 1, 1]} for kind in ("sliding_attention", "full_attention")
        },
    },
    "dbrx": {
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
    },
    "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "deepseek_v4": {"compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8}},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "max_window_layers": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    },
    "got_ocr2": {
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": 97,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        "image_token_index": 2,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "inkling_text": {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp_text": _QWEN4,
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 6, "attention_head_dim": 16, "attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "attention_head_dim": 16},
}


SHARING = ("last twice", "first is last", "mlp", "attention", "index", "loop")
"""Models whose last layer runs twice, or whose first layer has its MLP, its attention, or its index in the cache."""


def tiny_config(family: str, **settings: Any) -> PreTrainedConfig:
    """Return a small configuration of a family, with some settings of one's own.

    Raises:
        Exception: whatever the family's class raises where these settings make none.
    """
    kind = CONFIG_MAPPING[family]
    wanted = _small(_defaults(kind)) | dict(OWN.get(family, {})) | settings
    for name, sub in getattr(kind, "sub_configs", {}).items():
        if name not in wanted and hasattr(sub, "model_type"):
            wanted[name] = _small(_defaults(sub)) | dict(OWN.get(sub.model_type, {}))
    return kind(**wanted)


def tiny_model(family: str, *, attention: str | None = None, **settings: Any) -> PreTrainedModel:
    """Return a model of a family in evaluation mode, float32, the same at every call.

    Args:
        family: Model type, one of :data:`FAMILIES`.
        attention: transformers' name of its attention; the family's default if None.
        **settings: As of :func:`tiny_config`.
    """
    config = tiny_config(family, **settings)
    torch.manual_seed(0)
    arguments = {} if attention is None else {"attn_implementation": attention}
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **arguments).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(GAIN)
            else:  # no norm is exactly 1, no bias or sink exactly 0
                weight.add_(0.1 * torch.randn_like(weight))
    return model


class _LoopedLayer(LlamaDecoderLayer):
    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        once: torch.Tensor = super().forward(hidden_states, **kwargs)
        twice: torch.Tensor = super().forward(once, **kwargs)
        return twice


def sharing_model(kind: str, **settings: Any) -> PreTrainedModel:
    """Return a Llama of three layers that have something in common with the last one.

    Args:
        kind: One of :data:`SHARING`.
        **settings: As of :func:`tiny_config`.
    """
    model: Any = tiny_model("llama", num_hidden_layers=3, **settings)
    first, middle, last = model.model.layers
    if kind == "last twice":
        model.model.layers = nn.ModuleList([first, last, last])
    elif kind == "first is last":
        model.model.layers = nn.ModuleList([last, middle, last])
    elif kind == "mlp":
        first.mlp = last.mlp
    elif kind == "attention":
        first.self_attn = last.self_attn
    elif kind == "index":
        first.self_attn.layer_idx = last.self_attn.layer_idx
    elif kind == "loop":
        last.__class__ = _LoopedLayer
    else:
        raise ValueError(f"no kind {kind}")
    return model


def _defaults(kind: type[PreTrainedConfig]) -> dict[str, Any]:
    return kind().to_dict()


def _small(defaults: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in defaults.items():
        if isinstance(value, bool) or not isinstance(value, int) or value <= 1:
            continue
        small = next((small for pattern, small in RULES if re.fullmatch(pattern, name)), None)
        if small is not None:
            found[name] = small
    return found
