"""Tiny checkpoints, changed in the ways that make weights go missing in silence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Tensors = dict[str, Tensor]
Make = Callable[..., Path]

END = "<end>"
SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": 0,
}


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each of a few letters."""
    vocabulary = {END: 0} | {letter: number for number, letter in enumerate("abcdefgh ", 1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


@pytest.fixture
def make(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> Make:
    """Write a tiny Llama whose tensors and configuration are changed."""

    def write(
        change: Callable[[Tensors], Mapping[str, Tensor]] = lambda tensors: tensors,
        config: Mapping[str, Any] | None = None,
        *,
        name: str = "model",
        tied: bool = True,
    ) -> Path:
        torch.manual_seed(0)
        folder = tmp_path / name
        LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied)).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        tensors = change(load_file(folder / "model.safetensors"))
        save_file({key: part.clone() for key, part in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | dict(config or {})))
        return folder

    return write
