"""A checkpoint is the model that was trained: tied weights, rounding, stored quantisation, and the files beside it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
)

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers import fidelity, saving
from smaug_eval.trainers.checkpoints import TrainingResult, evaluated_adapter, finished_result, mark_finished
from smaug_eval.trainers.fidelity import PAIRS, Fidelity, chosen_pairs
from smaug_eval.trainers.tokenization import EncodedPair

Run = Callable[..., TrainingResult]
TEXT = "Question: 12 + 30\nAnswer: 42"

QUICK = {"loss": "dpo", "eval_every": None, "gradient_cosine_pairs": 0, "warmup_steps": 0}

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(
        vocab_size=257,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=0,
        tie_word_embeddings=True,
    ),
    "gpt2": GPT2Config(vocab_size=257, n_positions=256, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0),
    "gemma2": Gemma2Config(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        eos_token_id=0,
        pad_token_id=0,
    ),
}


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Callable[..., Path]:
    """Tiny models with tied embeddings, in float32 or bfloat16, with the byte tokenizer."""
    made: dict[str, Path] = {}

    def base(family: str, dtype: torch.dtype = torch.float32) -> Path:
        name = f"{family}-{dtype}"
        if name not in made:
            torch.manual_seed(0)
            made[name] = tmp_path_factory.mktemp("tied") / family
            AutoModelForCausalLM.from_config(CONFIGS[family]).to(dtype).save_pretrained(made[name])
            AutoTokenizer.from_pretrained(model_path).save_pretrained(made[name])
        return made[name]

    return base


def logits(model: Any, folder: Path) -> torch.Tensor:
    ids = torch.tensor(AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"])[None]
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=ids).logits
    return found


def with_peft(base: Path, adapter: Path) -> torch.Tensor:
    """Oracle: base and adapter side by side, by transformers and PEFT alone."""
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter), base)


# Tied weights

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama: head": ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    "llama: embedding": ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    "llama: both": ("llama", {"target_modules": ["lm_head", "embed_tokens"]}),
    "llama: both, tied": ("llama", {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}),
    "llama: a copy of the head": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "llama: a copy of the embedding": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "llama: rows of tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 40, 52]}),
    "gpt2: head": ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
    "gpt2: embedding": ("gpt2", {"target_modules": ["wte"]}),
    "gemma2: head": ("gemma2", {"target_modules": ["lm_head"]}),
    "gemma2: embedding": ("gemma2", {"target_modules": ["embed_tokens", "down_proj"]}),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_a_foreign_adapter_of_tied_weights_is_merged_as_it_is(
    bases: Callable[..., Path], tmp_path: Path, case: str
) -> None:
    family, settings = ADAPTERS[case]
    base, adapter = bases(family), tmp_path / "adapter"
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", r=4, **settings)
    )
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(adapter)
    out = smaug_eval.merge(adapter, tmp_path / "merged", base=str(base))
    expected = with_peft(base, adapter)
    assert (expected - logits(AutoModelForCausalLM.from_pretrained(base), base)).abs().max() > 0.05
    merged = AutoModelForCausalLM.from_pretrained(out)
    torch.testing.assert_close(logits(merged, out), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["q_proj", "embed_tokens"], ["embed_tokens", "lm_head"]])
def test_what_was_trained_on_tied_weights_is_in_the_checkpoint(
    run: Run, bases: Callable[..., Path], tmp_path: Path, targets: list[str]
) -> None:
    base, notes = bases("llama"), list[str]()
    run(
        model_path=base,
        config=QUICK | {"steps": 3, "learning_rate": 1e-2, "lora": {"r": 4, "target_modules": targets}},
        on_note=notes.append,
    )
    folder = tmp_path / "run"
    found = logits(AutoModelForCausalLM.from_pretrained(folder / "checkpoint"), base)
    torch.testing.assert_close(found, with_peft(base, folder / "adapter"), atol=1e-4, rtol=0)
    assert json.loads((folder / "checkpoint" / "config.json").read_text())["tie_word_embeddings"] is False
    assert any("a matrix for each, not a tied one" in note for note in notes)


def test_an_adapter_on_other_modules_leaves_the_ties(bases: Callable[..., Path], tmp_path: Path) -> None:
    base, adapter = bases("llama"), tmp_path / "adapter"
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(adapter)
    out = smaug_eval.merge(adapter, tmp_path / "merged", base=str(base))
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True
    assert "lm_head.weight" not in load_file(out / "model.safetensors")


# A merge that went wrong

LORA = QUICK | {"steps": 1, "learning_rate": 1e-2, "lora": {"r": 4}}


def test_a_merged_model_that_is_another_stops_the_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = fidelity.merge

    def wrong(*arguments: Any) -> Any:
        model = original(*arguments)
        with torch.no_grad():
            model.get_output_embeddings().weight[3] += 1.0
        return model

    monkeypatch.setattr(fidelity, "merge", wrong)
    with pytest.raises(
        SmaugError, match=r"gives another model: log-probabilities of a token differ by up to"
    ) as caught:
        run(config=LORA)
    assert "use the adapter as it is" in str(caught.value.fix)
    folder = tmp_path / "run"
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert not (folder / "checkpoint").exists()
    assert not (folder / "finished.json").exists()
    assert not list(folder.glob(".*.partial"))


@pytest.mark.parametrize("damage", ["a number", "a tensor of its own"])
def test_a_saved_model_that_is_another_stops_the_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    original = saving.write_model

    def wrong(model: Any, tokenizer: Any, base: Path, folder: Path, **options: Any) -> None:
        original(model, tokenizer, base, folder, **options)
        tensors = load_file(folder / "model.safetensors")
        if damage == "a number":
            tensors["model.norm.weight"][0] += 1e-3
        else:
            settings = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
            (folder / "config.json").write_text(json.dumps(settings))
            del tensors["lm_head.weight"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(saving, "write_model", wrong)
    with pytest.raises(SmaugError, match=r"another model than the one that was saved: (model\.norm|lm_head)\.weight"):
        run(config=LORA)
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "run" / "checkpoint").exists()


# Rounding


def margin(model: Any, base: Any, pairs: Path) -> float:
    """Oracle: mean of ``rho_w - rho_l``, one text at a time through transformers' own forward, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(pairs.parent / "base")
    found = []
    for line in pairs.read_text().splitlines():
        row = json.loads(line)
        prompt = tokenizer(row["prompt"])["input_ids"]
        ratios = []
        for side in ("chosen", "rejected"):
            ids = torch.tensor([*prompt, *tokenizer(row[side])["input_ids"], 0])[None]
            sums = []
            for each in (model, base):
                with torch.no_grad():
                    scores = torch.log_softmax(each.eval()(input_ids=ids).logits[0].double(), -1)
                sums.append(sum(scores[t - 1, ids[0, t]].item() for t in range(len(prompt), ids.shape[1])))
            ratios.append(sums[0] - sums[1])
        found.append(ratios[0] - ratios[1])
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "evaluated"), [(5e-6, "adapter"), (5e-3, "checkpoint")])
def test_what_rounding_took_of_an_adapter_is_measured_and_told(
    run: Run, bases: Callable[..., Path], tmp_path: Path, rate: float, evaluated: str
) -> None:
    base, notes = bases("llama", torch.bfloat16), list[str]()
    (tmp_path / "base").symlink_to(base)
    config = QUICK | {"steps": 8, "learning_rate": rate, "lora": {"r": 16}}
    result = run(model_path=base, dtype="bfloat16", config=config, on_note=notes.append)
    folder = tmp_path / "run"
    plain, again, saved = (
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
        for place in (base, base, folder / "checkpoint")
    )
    rounding = result.rounding
    assert rounding is not None
    trained = margin(PeftModel.from_pretrained(again, folder / "adapter"), plain, tmp_path / "eval.jsonl")
    kept = margin(saved, plain, tmp_path / "eval.jsonl")
    assert rounding["margin"] == pytest.approx(trained, abs=2e-5)
    assert rounding["saved_margin"] == pytest.approx(kept, abs=2e-5)
    assert rounding["lost"] == pytest.approx(1 - kept / trained, abs=0.05)
    assert rounding["text"] in notes
    assert json.loads((folder / "summary.json").read_text())["rounding"] == rounding
    assert rounding["text"] in (folder / "checkpoint" / "README.md").read_text()
    assert result.evaluated == evaluated
    adapter, text = evaluated_adapter(folder)
    warned = [warning for warning in result.warnings if "of the trained margin" in warning]
    if evaluated == "adapter":
        assert rounding["off"] > 0.1 * rounding["moved"]
        assert (adapter, text) == (folder / "adapter", rounding["text"])
        assert warned == [f"{text}; evaluations use the adapter beside its base"]
    else:
        assert rounding["off"] < 0.1 * rounding["moved"]
        assert (adapter, warned) == (None, [])


@pytest.mark.slow
def test_what_rounding_took_of_a_full_training_is_measured_and_told(
    run: Run, bases: Callable[..., Path], tmp_path: Path
) -> None:
    """Weights that start on the grid of bfloat16 fall back to where they were after small steps."""
    base = bases("llama", torch.bfloat16)
    (tmp_path / "base").symlink_to(base)
    config = QUICK | {"steps": 8, "learning_rate": 2e-6}
    result = run(model_path=base, dtype="bfloat16", config=config)
    plain, saved = (
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
        for place in (base, tmp_path / "run" / "checkpoint")
    )
    assert result.rounding is not None
    assert result.rounding["saved_margin"] == pytest.approx(margin(saved, plain, tmp_path / "eval.jsonl"), abs=2e-5)
    assert result.rounding["off"] > 0.5 * result.rounding["moved"]
    assert any("rounding the weights to bfloat16" in text and "float32 keeps it" in text for text in result.warnings)
    assert result.evaluated == "checkpoint"


@pytest.mark.parametrize(
    ("numbers", "much"),
    [
        ({"margin": 0.0013, "saved_margin": 0.0005, "moved": 0.002, "off": 0.0008}, True),  # at a rate of 5e-6
        ({"margin": 0.0124, "saved_margin": 0.0120, "moved": 0.014, "off": 0.0009}, False),  # at 5e-5
        ({"margin": 0.0957, "saved_margin": 0.0958, "moved": 0.06, "off": 0.0005}, False),  # at 5e-4
        ({"margin": 0.001, "saved_margin": -0.001, "moved": 1.0, "off": 0.002}, False),  # a margin by chance
        ({"margin": 1e-7, "saved_margin": 0.0, "moved": 1e-7, "off": 1e-7}, False),  # nothing was trained
        ({"margin": 0.001, "saved_margin": 0.0, "moved": 0.002, "off": 0.001, "dtype": "float32"}, False),
    ],
)
def test_what_is_much(numbers: dict[str, Any], much: bool) -> None:
    assert Fidelity(**{"pairs": 8, "dtype": "bfloat16"} | numbers).is_much is much


def test_a_loss_is_told_in_numbers() -> None:
    found = Fidelity(pairs=8, dtype="bfloat16", margin=0.0013, saved_margin=0.0005, moved=0.002, off=0.0008)
    assert found.describe() == (
        "rounding the weights to bfloat16 took 62% of the trained margin: +0.0013 nats as trained, +0.0005 in the "
        "checkpoint (mean over 8 pairs)"
    )


def test_few_pairs_are_compared_with_a_large_model() -> None:
    ids = np.zeros(100, np.int32)
    pairs = [EncodedPair(ids, ids, ids)] * 100
    assert len(chosen_pairs(pairs, 1_000_000)) == 8192 // 400
    assert len(chosen_pairs(pairs, 70_000_000_000)) == 1024 // 400
    assert len(chosen_pairs([EncodedPair(ids[:2], ids[:2], ids[:2])] * 100, 10)) == PAIRS
    assert len(chosen_pairs([EncodedPair(np.zeros(9000, np.int32), ids, ids)], 10)) == 1


def test_a_training_that_was_finished_before_still_counts(run: Run, tmp_path: Path) -> None:
    """Its summary knows nothing of rounding."""
    result = run(config=QUICK | {"steps": 1})
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    for name in ("stored", "rounding", "evaluated"):
        del summary[name]
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    identity = json.loads((tmp_path / "run" / "finished.json").read_text())["identity"]
    mark_finished(tmp_path / "run", identity)
    assert finished_result(tmp_path / "run", identity) == result
    assert evaluated_adapter(tmp_path / "run") == (None, "")


# A base that is stored quantised


@needs_bitsandbytes
@pytest.mark.slow
def test_a_base_stored_in_4_bits_trains_an_adapter(run: Run, bases: Callable[..., Path], tmp_path: Path) -> None:
    plain = bases("llama")
    base = tmp_path / "nf4"
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=how, device_map={"": "cpu"}).save_pretrained(base)
    AutoTokenizer.from_pretrained(plain).save_pretrained(base)
    with pytest.raises(SmaugError, match=r"holds 4-bit bitsandbytes \(nf4\) weights, which a full training cannot"):
        run("full", model_path=base, config={"loss": "dpo"})
    with pytest.raises(SmaugError, match=r"lora\.quantize is int8, but .* holds 4-bit bitsandbytes"):
        run("twice", model_path=base, config={"loss": "dpo", "lora": {"r": 4, "quantize": "int8"}})
    result = run(model_path=base, config=QUICK | {"steps": 3, "learning_rate": 1e-2, "lora": {"r": 4}})
    assert result.stored == "4-bit bitsandbytes (nf4)"
    assert result.warnings == [] or all("margin" not in text for text in result.warnings)
    folder = tmp_path / "run"
    # Oracle: PEFT beside the 4-bit weights, which is what was trained.
    expected = with_peft(base, folder / "adapter")
    checkpoint = AutoModelForCausalLM.from_pretrained(folder / "checkpoint")
    assert "quantization_config" not in json.loads((folder / "checkpoint" / "config.json").read_text())
    torch.testing.assert_close(logits(checkpoint, base), expected, atol=2e-3, rtol=0)
    assert (expected - logits(AutoModelForCausalLM.from_pretrained(base), base)).abs().max() > 0.05
    assert "4-bit bitsandbytes (nf4); here they are dequantised" in (folder / "checkpoint" / "README.md").read_text()
    by_hand = smaug_eval.merge(folder / "adapter", tmp_path / "merged", base=str(base))
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(by_hand), base), logits(checkpoint, base), atol=1e-6, rtol=0
    )


# What lies beside the weights


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_the_base_s_other_files_are_carried_over(
    run: Run, model_path: Path, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    base = tmp_path / "whole"
    base.mkdir()
    for file in model_path.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": False, "legacy": True}))
    others = {
        "tokenizer.model": b"sentencepiece",
        "special_tokens_map.json": b'{"eos_token": "<|endoftext|>"}',
        "added_tokens.json": b"{}",
        "preprocessor_config.json": b'{"image_size": 8}',
        "LICENSE": b"as you like",
    }
    for name, content in others.items():
        (base / name).write_bytes(content)
    (base / "README.md").write_text("the base's own")
    (base / "pytorch_model.bin").write_bytes(b"a pickle")
    run(model_path=base, config=QUICK | {"steps": 1, "lora": lora})
    folder = tmp_path / "run" / "checkpoint"
    for name in (*others, "tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes(), name
    assert "smaug-eval" in (folder / "README.md").read_text()
    assert not (folder / "pytorch_model.bin").exists()
    assert (
        AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]
        == AutoTokenizer.from_pretrained(base)(TEXT)["input_ids"]
    )
