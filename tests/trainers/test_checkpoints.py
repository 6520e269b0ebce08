"""What a finished training leaves: a checkpoint that loads elsewhere, with everything beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import smaug_eval
from smaug_eval.common.digests import sha256_of_file
from smaug_eval.common.files import write_json
from smaug_eval.trainers.checkpoints import TrainingResult, checkpoint_step, newest_checkpoint, seal

Run = Callable[..., TrainingResult]
TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


@pytest.fixture
def chat_model(model_path: Path, tmp_path: Path) -> Path:
    """The tiny base with tied embeddings, a chat template and generation settings that transformers finds odd."""
    torch.manual_seed(0)
    settings = json.loads((model_path / "config.json").read_text()) | {"tie_word_embeddings": True}
    folder = tmp_path / "chatty"
    LlamaForCausalLM(LlamaConfig.from_dict(settings)).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.7, "max_new_tokens": 9}')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_everything_lies_beside_the_weights(
    run: Run, chat_model: Path, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    run(model_path=chat_model, config={"loss": "dpop", "beta": 0.2, "lambda": 5, "lora": lora}, base="maker/chatty")
    folder = tmp_path / "run" / "checkpoint"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model) is LlamaForCausalLM
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    config, base = (json.loads((place / "config.json").read_text()) for place in (folder, chat_model))
    assert config == base  # nothing that training set, such as use_cache, stays
    assert AutoTokenizer.from_pretrained(folder).chat_template == TEMPLATE
    assert (folder / "generation_config.json").read_text() == (chat_model / "generation_config.json").read_text()
    card = (folder / "README.md").read_text()
    for stated in (
        "dpop: `-log sigmoid(beta * (rho_w - rho_l - lambda * max(0, -rho_w)))`",
        "| beta | 0.2 |",
        "| lambda | 5.0 |",
        "| log-probabilities | summed over the tokens of a completion |",
        "| base model | maker/chatty, SHA-256 of the weights `base` |",
        f"| pairs (SHA-256 of the file) | `{sha256_of_file(tmp_path / 'train.jsonl')}` |",
        f"| smaug-eval version | {smaug_eval.__version__} |",
        f"| torch version | {torch.__version__} |",
        f"| transformers version | {transformers.__version__} |",
        f"| peft version | {peft.__version__} |",
    ):
        assert stated in card
    assert str(tmp_path) not in card


def saved_by(folder: Path, processes: int, step: int) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    for name in ("scheduler.pt", *states):
        (checkpoint / name).touch()
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    seal(checkpoint)
    write_json(folder / "processes.json", {"processes": processes})
    return checkpoint


@pytest.mark.parametrize("processes", [1, 3])
def test_a_checkpoint_is_complete_once_every_process_has_written(tmp_path: Path, processes: int) -> None:
    saved_by(tmp_path, processes, 4)
    newest = saved_by(tmp_path, processes, 10)
    assert newest_checkpoint(tmp_path) == newest
    last = newest / ("rng_state.pth" if processes == 1 else "rng_state_2.pth")
    last.unlink()
    assert checkpoint_step(newest) is None
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert newest.is_dir()
    newest_checkpoint(tmp_path, remove_incomplete=True)
    assert not newest.exists()


def test_a_damaged_state_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoint = saved_by(tmp_path, 1, 4)
    for text in ("{", "[]", '{"global_step": "x"}', "{}"):
        (checkpoint / "trainer_state.json").write_text(text)
        seal(checkpoint)
        assert checkpoint_step(checkpoint) is None
    shutil.rmtree(checkpoint)
    assert newest_checkpoint(tmp_path) is None
