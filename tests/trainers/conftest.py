"""A tiny world: a byte-level tokenizer, a two-layer Llama, and pairs of sums of which one is false."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.spec import TrainingSpec
from smaug_eval.trainers.train import train

END = "<|endoftext|>"
LISTENERS = ("should_stop", "on_progress", "on_note", "on_warning")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, id 0 for the end of a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={END: 0} | {c: i + 1 for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with dropout in its configuration, saved with its tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        attention_dropout=0.25,
        bos_token_id=None,
        eos_token_id=0,
    )
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def model(model_path: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()


def make_sums(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Pairs ``a + b = c`` against a false ``c``, of varied lengths."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        a, b = rng.randrange(1, 500), rng.randrange(1, 500)
        tail = " so it is." * rng.randrange(3)
        rows.append(
            {
                "prompt": f"Question: {a} + {b}\nAnswer:",
                "chosen": f" {a + b}{tail}",
                "rejected": f" {a + b + rng.randrange(1, 9)}{tail}",
            }
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def sums() -> Callable[..., list[dict[str, str]]]:
    return make_sums


@pytest.fixture
def run(model_path: Path, tmp_path: Path) -> Callable[..., TrainingResult]:
    """Train into ``tmp_path / name`` on a few sums; settings and arguments can be replaced."""
    train_file = write_rows(tmp_path / "train.jsonl", make_sums(20))
    eval_file = write_rows(tmp_path / "eval.jsonl", make_sums(6, seed=1))

    def start(name: str = "run", *, config: dict[str, Any] | None = None, **replaced: Any) -> TrainingResult:
        settings = {"loss": "dpop", "steps": 6, "batch_size": 4, "learning_rate": 1e-3, "eval_every": 3} | (
            {"row_tokens": 128} | (config or {})
        )
        arguments: dict[str, Any] = {
            "name": name,
            "model_path": model_path,
            "dtype": "float32",
            "train_file": train_file,
            "eval_file": eval_file,
            "out_dir": tmp_path / name,
            "seed": 3,
            "model_sha256": "base",
            "config": TrainingConfig.model_validate(settings),
        }
        told = {key: replaced.pop(key) for key in LISTENERS if key in replaced}
        return train(TrainingSpec(**(arguments | replaced)), **({"should_stop": lambda: False} | told))

    return start
