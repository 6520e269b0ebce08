"""What a LoRA adapter adapts: counted by hand and by the shapes of its weights, printed, recorded and reported."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.adapters import with_adapter
from smaug_eval.trainers.base_model import load_model
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import LoraConfig
from smaug_eval.trainers.coverage import LoraCoverage, coverage_line
from smaug_eval.trainers.model_parts import measured_coverage, towers

Run = Callable[..., TrainingResult]
Sums = Callable[..., list[dict[str, str]]]
HIDDEN, INNER, VOCABULARY, LAYERS, EXPERTS = 32, 64, 257, 2, 4
ATTENTION = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * HIDDEN // 2  # two heads of keys and values for four of queries
MLP = 3 * HIDDEN * INNER
EMBEDDINGS = 2 * VOCABULARY * HIDDEN
NORMS = (2 * LAYERS + 1) * HIDDEN
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
MIXTURE = {
    "num_local_experts": EXPERTS,
    "num_experts": EXPERTS,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": INNER,
}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def model_of(kind: str, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(transformers.CONFIG_MAPPING[kind](**settings))
    return made


def gemma3() -> PreTrainedModel:
    """A language model beside a vision tower and a projector."""
    vision = {**VISION, "image_size": 16, "patch_size": 8}
    return model_of("gemma3", text_config=TEXT, vision_config=vision, mm_tokens_per_image=4)


def covered(model: PreTrainedModel, **lora: Any) -> LoraCoverage:
    return measured_coverage(with_adapter(model, LoraConfig(r=2, **lora), 0))


def adapted_by_shape(model: PreTrainedModel, **lora: Any) -> int:
    """Weights of all products B A: an oracle that knows the adapter only."""
    policy = with_adapter(model, LoraConfig(r=2, **lora), 0)
    shapes = {name: tuple(weight.shape) for name, weight in policy.named_parameters() if ".lora_" in name}
    return sum(
        shapes[name.replace("lora_A", "lora_B")][0] * shape[1] for name, shape in shapes.items() if "lora_A" in name
    )


def test_a_dense_model_is_counted() -> None:
    found = covered(model_of("llama", **TEXT))
    assert found.adapted_weights == LAYERS * (ATTENTION + MLP) == adapted_by_shape(model_of("llama", **TEXT))
    assert found.all_weights == found.adapted_weights + EMBEDDINGS + NORMS
    assert found.describe() == "LoRA adapts 18,432 of 35,040 weights (53%); experts: none; vision tower: none"
    assert found.warnings() == []
    tied = covered(model_of("llama", **{**TEXT, "tie_word_embeddings": True}), target_modules=["q_proj"])
    assert tied.all_weights == found.all_weights - EMBEDDINGS // 2
    assert tied.adapted_weights == LAYERS * HIDDEN * HIDDEN


@pytest.mark.parametrize(
    ("kind", "expert_weights", "router"),
    [
        ("gpt_oss", LAYERS * EXPERTS * (MLP + 2 * INNER + HIDDEN), "left out"),  # with a bias each
        ("qwen2_moe", LAYERS * EXPERTS * MLP, "left out"),
        ("granitemoe", LAYERS * EXPERTS * MLP, "left out"),
        ("phimoe", LAYERS * EXPERTS * MLP, "adapted"),
    ],
)
def test_experts_without_an_adapter_are_said(kind: str, expert_weights: int, router: str) -> None:
    settings = {**TEXT, **MIXTURE, "shared_expert_intermediate_size": INNER}
    found = covered(model_of(kind, **settings))
    assert (found.experts, found.expert_weights, found.fused_experts) == ("left out", expert_weights, True)
    share = f"{expert_weights / found.all_weights:.0%}"
    assert f"experts: left out ({share} of the weights)" in found.describe()
    (warning,) = found.warnings()
    assert (
        warning == f"LoRA leaves out the experts, {share} of the weights: they are fused parameters, not linear layers"
    )
    assert found.router == router
    assert ("router adapted" in found.describe()) == (router == "adapted")


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "olmoe"])
def test_experts_with_an_adapter_are_said(kind: str) -> None:
    found = covered(model_of(kind, **TEXT, **MIXTURE))
    assert (found.experts, found.router, found.warnings()) == ("adapted", "adapted", [])
    assert found.expert_weights == LAYERS * EXPERTS * MLP
    assert found.adapted_weights == LAYERS * (ATTENTION + EXPERTS * MLP + EXPERTS * HIDDEN)
    few = covered(model_of(kind, **TEXT, **MIXTURE), target_modules=["q_proj", "down_proj"])
    assert few.experts == ("left out" if kind == "mixtral" else "partly adapted")  # Mixtral's is called w2
    assert len(few.warnings()) == 1


def test_all_linear_leaves_out_a_vision_tower() -> None:
    model = gemma3()
    assert towers(model) == {"model.vision_tower": "vision", "model.multi_modal_projector": "vision"}
    policy = with_adapter(model, LoraConfig(r=2), 0)
    adapters = [name for name, _ in policy.named_parameters() if ".lora_" in name]
    assert len(adapters) == LAYERS * 7 * 2
    assert not [name for name in adapters if "vision" in name or "projector" in name]
    found = measured_coverage(policy)
    assert (found.vision, found.adapted_weights) == ("left out", LAYERS * (ATTENTION + MLP))
    assert found.excluded == ("model.multi_modal_projector", "model.vision_tower")
    assert found.warnings() == []
    assert "vision tower: left out" in found.describe()


def test_named_modules_of_a_vision_tower_are_said() -> None:
    found = covered(gemma3(), target_modules=["q_proj"])
    assert found.vision == "partly adapted"
    assert (
        found.adapted_weights == LAYERS * (HIDDEN**2 + 16**2) == adapted_by_shape(gemma3(), target_modules=["q_proj"])
    )
    (warning,) = found.warnings()
    assert warning.startswith("LoRA adapts the vision tower, which text does not train")


def test_sound_and_towers_within_the_language_model() -> None:
    audio = {"hidden_size": 16, "intermediate_size": 16, "num_blocks": 1, "num_attention_heads": 2, "input_size": 8}
    audio |= {"nemo_conv_channels": 8, "ext_pw_out_channel": 16, "depthwise_separable_out_channel": 16}
    model = model_of("phi4_multimodal", **TEXT, vision_config={**VISION, "crop_size": 16}, audio_config=audio)
    found = covered(model)
    assert (found.vision, found.audio, found.experts) == ("left out", "left out", "none")
    assert found.adapted_weights == LAYERS * (ATTENTION + MLP)
    assert found.describe().endswith("; audio tower: left out")


def test_a_model_for_text_has_no_tower_and_its_adapter_s_settings_stay(model_path: Path) -> None:
    for kind in ("llama", "gpt2", "gpt_oss", "gemma3_text"):
        assert towers(model_of(kind, **TEXT, **MIXTURE)) == {}
    model, _ = load_model(model_path, dtype="float32", keep_dtype=True)
    assert with_adapter(model, LoraConfig(r=2), 0).peft_config["default"].exclude_modules is None


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_quantised_weights_are_counted_as_what_they_stand_for(tmp_path: Path, model_path: Path) -> None:
    wide = {**TEXT, "hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    model_of("llama", **wide).save_pretrained(tmp_path)
    PreTrainedTokenizerFast.from_pretrained(model_path).save_pretrained(tmp_path)
    plain, packed = (
        measured_coverage(
            with_adapter(
                load_model(tmp_path, dtype="float32", keep_dtype=True, quantize=quantize)[0], LoraConfig(r=2), 0
            )
        )
        for quantize in (None, "nf4")
    )
    assert plain == packed


def test_dropout_that_fused_experts_do_not_take_is_named() -> None:
    with pytest.raises(SmaugError, match="dropout") as caught:
        covered(model_of("mixtral", **TEXT, **MIXTURE), dropout=0.1)
    assert caught.value.fix == "set lora.dropout to 0"


@pytest.mark.parametrize(
    "found",
    [None, [], {}, {"adapted_weights": "1"}, {"adapted_weights": 1, "all_weights": 2, "expert_weights": -1}]
    + [{"adapted_weights": 1, "all_weights": 2, "expert_weights": 0, "experts": state} for state in (["x"], "<b>", 1)]
    + [{"adapted_weights": 10**30, "all_weights": 2, "expert_weights": 0}],
)
def test_a_strange_summary_has_no_line(found: object) -> None:
    assert coverage_line(found) is None


def test_the_line_of_a_summary_is_the_one_that_was_printed() -> None:
    found = LoraCoverage(10, 40, experts="left out", expert_weights=20, vision="left out", excluded=("a",))
    assert coverage_line(json.loads(json.dumps(found.as_dict()))) == found.describe()


@pytest.mark.slow
def test_a_training_says_records_and_reports_what_its_adapter_leaves_out(
    model_path: Path, tmp_path: Path, sums: Sums, page: Callable[..., Any]
) -> None:
    base = tmp_path / "mixture"
    model_of("qwen2_moe", **TEXT, **MIXTURE, shared_expert_intermediate_size=INNER).save_pretrained(base)
    PreTrainedTokenizerFast.from_pretrained(model_path).save_pretrained(base)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(f"{json.dumps(row)}\n" for row in sums(12)))
    settings = {"steps": 1, "batch_size": 2, "gradient_cosine_pairs": 0}
    result = smaug_eval.train(
        base, pairs, loss="dpo", runs=tmp_path, name="moe", pair_settings={"holdout": 0}, lora={"r": 2}, **settings
    )
    summary = json.loads((result.path / "train/dpo/summary.json").read_text())
    experts = LAYERS * EXPERTS * MLP
    assert (summary["lora"]["experts"], summary["lora"]["expert_weights"]) == ("left out", experts)
    share = f"{experts / summary['lora']['all_weights']:.0%}"
    assert any(f"LoRA leaves out the experts, {share} of the weights" in text for text in summary["warnings"])
    shown = page(result.path)
    assert f"dpo: LoRA leaves out the experts, {share} of the weights" in shown.text
    assert f"LoRA adapts {summary['lora']['adapted_weights']:,} of" in shown.text
    # the training's folder alone tells the same
    assert f"dpo: LoRA leaves out the experts, {share}" in page(result.path / "train/dpo").text


@pytest.mark.slow
def test_a_vision_language_model_is_trained_without_its_tower(
    run: Run, model_path: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    base = tmp_path / "gemma3"
    gemma3().save_pretrained(base)
    tokenizer.save_pretrained(base)
    notes: list[str] = []
    result = run("vl", config={"steps": 2, "lora": {"r": 2}}, model_path=base, on_note=notes.append)
    assert [note for note in notes if note.startswith("LoRA adapts 18,432 of") and "vision tower: left out" in note]
    assert result.lora is not None
    assert result.lora["excluded"] == ["model.multi_modal_projector", "model.vision_tower"]
    with safe_open(tmp_path / "vl/adapter/adapter_model.safetensors", framework="pt") as weights:
        names = list(weights.keys())
    assert len(names) == LAYERS * 7 * 2
    assert not [name for name in names if "vision" in name]
    assert "vision_tower" in json.loads((tmp_path / "vl/adapter/adapter_config.json").read_text())["exclude_modules"]


@pytest.mark.slow
def test_a_full_training_leaves_the_tower_for_pictures_as_it_is(
    run: Callable[..., TrainingResult], tmp_path: Path, model_path: Path
) -> None:
    """Of a vision-language model that has a class of language models the text part learns; the rest is copied."""
    text = {"vocab_size": 257, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 16}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "eos_token_id": 0, "bos_token_id": None}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    base = tmp_path / "gemma"
    Gemma3ForConditionalGeneration(config).save_pretrained(base)
    for file in model_path.glob("tokenizer*"):
        (base / file.name).write_bytes(file.read_bytes())
    (base / "preprocessor_config.json").write_text('{"image_processor_type": "Gemma3ImageProcessor"}')
    run("pictured", model_path=base, config={"steps": 2, "learning_rate": 1e-2, "weight_decay": 0.1})
    checkpoint = tmp_path / "pictured" / "checkpoint"
    before, after = (load_file(folder / "model.safetensors") for folder in (base, checkpoint))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    towers = {name for name in before if "vision" in name or "projector" in name}
    assert towers
    assert not moved & towers
    assert any("self_attn" in name for name in moved)
    assert (checkpoint / "preprocessor_config.json").read_bytes() == (base / "preprocessor_config.json").read_bytes()
