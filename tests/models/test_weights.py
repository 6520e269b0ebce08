"""Weights that are not the checkpoint's: refused by the headers alone and by the loading; what is right is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    DeepseekV3Config,
    GPT2Config,
    MixtralConfig,
    PreTrainedConfig,
)

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.loading import check_model, load_pretrained
from smaug_eval.models.quantised import Use
from smaug_eval.models.weights import check_weights

Tensors = dict[str, Tensor]
Make = Callable[..., Path]
DROPPED = ("layers.1.mlp", "layers.0.self_attn.q_proj")


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: part for name, part in tensors.items() if not any(each in name for each in parts)}


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): part for name, part in tensors.items()}


def joined(more: Mapping[str, Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | dict(more)


WRONG = {
    "half an upload": (without(*DROPPED), {}, r"4 of 21 tensors are missing \(model\.layers\.0\.self_attn\.q_proj"),
    "no embedding": (without("embed_tokens"), {}, r"missing \(lm_head\.weight, model\.embed_tokens\.weight\)"),
    "another prefix": (renamed("module.{}".format), {}, "21 of 21 tensors are missing"),
    "a longer vocabulary": (lambda t: t, {"vocab_size": 50}, r"embed_tokens\.weight is \[48, 32\], not \[50, 32\]"),
    "fewer layers": (lambda t: t, {"num_hidden_layers": 1}, r"9 tensors have no place.*model\.layers\.1\."),
    "more layers": (lambda t: t, {"num_hidden_layers": 3, "layer_types": None}, r"9 of 30 tensors are missing"),
    "a bias that is not read": (
        joined({"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}),
        {},
        r"1 tensors have no place.*q_proj\.bias",
    ),
    "a norm that is not read": (
        joined({"model.layers.0.self_attn.q_norm.weight": torch.ones(8)}),
        {},
        r"1 tensors have no place.*q_norm",
    ),
    "integers without a scale": (
        lambda t: t | {"model.layers.1.mlp.up_proj.weight": torch.ones(64, 32, dtype=torch.int8)},
        {},
        r"1 matrices hold integers \(model\.layers\.1\.mlp\.up_proj\.weight\).*no quantization_config",
    ),
    "another architecture": (
        lambda t: t,
        {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
        r"6 of 27 tensors are missing \(model\.layers\.0\.self_attn\.k_proj\.bias",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_would_be_random_or_left_out_is_refused(make: Make, case: str) -> None:
    change, config, message = WRONG[case]
    folder = make(change, config)
    for look in (
        lambda: check_weights("given", folder),
        lambda: load_pretrained(folder, Use.TORCH, source="given", local_files_only=True),
    ):
        with pytest.raises(SmaugError, match=rf"model 'given': .*{message}") as caught:
            look()
        assert caught.value.fix


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        (renamed("module.{}".format), "the names begin with 'module.'"),
        (renamed("base_model.model.{}".format), "the names begin with 'base_model.model.'"),
        (renamed(lambda name: name.replace("q_proj.", "q_proj.base_layer.")), "after PEFT's merge_and_unload"),
        (renamed(lambda name: name.replace("model.layers.", "model.h.")), "describes another architecture"),
        (lambda tensors: renamed(lambda name: name.replace("proj.weight", "proj.qweight"))(tensors), "are quantised"),
        (without("norm"), "fetch the weights again"),
    ],
)
def test_the_fix_follows_the_names(make: Make, change: Callable[[Tensors], Tensors], fix: str) -> None:
    with pytest.raises(SmaugError) as caught:
        check_weights("given", make(change))
    assert fix in str(caught.value.fix)


def test_no_weight_is_read_for_the_comparison(make: Make) -> None:
    """The numbers of a whole checkpoint can be anything: a file of holes with the right header is read as fast."""
    folder = make()
    file = folder / "model.safetensors"
    header = int.from_bytes(file.read_bytes()[:8], "little")
    content = file.read_bytes()
    file.write_bytes(content[: 8 + header] + b"\xff" * (len(content) - 8 - header))
    check_weights("given", folder)


def settings(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "config.json").read_text())
    return found


def right_logits(folder: Path) -> Tensor:
    """Of transformers' own loading of a whole checkpoint."""
    with torch.no_grad():
        logits: Tensor = AutoModelForCausalLM.from_pretrained(folder)(input_ids=torch.arange(12)[None]).logits
    return logits


HARMLESS = {
    "old rotary buffers": joined({f"model.layers.{n}.self_attn.rotary_emb.inv_freq": torch.ones(4) for n in (0, 1)}),
    "a vision tower": joined(
        {"model.vision_tower.layers.0.weight": torch.ones(3), "visual.merger.bias": torch.ones(1)}
    ),
    "a value head": joined({"v_head.summary.weight": torch.ones(1, 32)}),
    "layers for further tokens": joined({"mtp.layers.0.mlp.up_proj.weight": torch.ones(2)}),
    "scales of an 8-bit cache": joined({"model.layers.0.self_attn.k_scale": torch.ones(1)}),
    "the head beside tying": lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]},
    "the head instead of the embedding": lambda tensors: {
        ("lm_head.weight" if name == "model.embed_tokens.weight" else name): part for name, part in tensors.items()
    },
    "a head for classes": joined({"score.weight": torch.ones(2, 32)}),
    "its prefix twice": renamed("model.{}".format),
    "no prefix": renamed(lambda name: name.removeprefix("model.")),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_changes_no_number_is_taken(make: Make, case: str) -> None:
    expected = right_logits(make(name="plain"))
    folder = make(HARMLESS[case])
    check_model("given", folder, [Use.TORCH, Use.VLLM])
    model = load_pretrained(folder, Use.TORCH, local_files_only=True)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=torch.arange(12)[None]).logits, expected, atol=0, rtol=0)


def test_a_head_of_its_own_is_not_tied_again_when_saved(make: Make, tmp_path: Path) -> None:
    """config.json ties, the checkpoint has another head: transformers does not tie, and neither may a copy be."""
    folder = make(lambda tensors: tensors | {"lm_head.weight": -tensors["model.embed_tokens.weight"]})
    expected = right_logits(folder)
    model = load_pretrained(folder, Use.TORCH, local_files_only=True)
    assert model.config.tie_word_embeddings is False
    model.save_pretrained(tmp_path / "copy")
    torch.testing.assert_close(right_logits(tmp_path / "copy"), expected, atol=0, rtol=0)
    check_weights("given", folder)
    with pytest.raises(SmaugError, match=r"ties lm_head\.weight to model\.embed_tokens\.weight.*vLLM"):
        check_weights("given", folder, for_vllm=True)


def test_older_forms_of_gpt2_are_taken(tmp_path: Path) -> None:
    """As published: without the body's prefix and head, and with the masks of attention among the weights."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=48, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32) for layer in (0, 1)}
    assert "wte.weight" in tensors
    save_file(tensors | masks, tmp_path / "model.safetensors", {"format": "pt"})
    check_model("gpt2", tmp_path, [Use.TORCH])
    load_pretrained(tmp_path, Use.TORCH, local_files_only=True)


def tiny(config_class: type[PreTrainedConfig], folder: Path, **more: object) -> Tensors:
    """A small mixture of experts, saved as it is published: every expert by itself."""
    torch.manual_seed(0)
    config = config_class(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        **more,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_one_matrix_of_one_expert_is_missed(tmp_path: Path) -> None:
    tensors = tiny(MixtralConfig, tmp_path, num_local_experts=4)
    check_weights("moe", tmp_path)
    lost = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    save_file({n: t for n, t in tensors.items() if n != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    for look in (
        lambda: check_weights("moe", tmp_path),
        lambda: load_pretrained(tmp_path, Use.TORCH, source="moe", local_files_only=True),
    ):
        with pytest.raises(SmaugError, match=rf"model 'moe': 1 tensors of experts are missing \({lost}\)"):
            look()


def test_layers_that_predict_further_tokens_are_no_layers_of_the_model(tmp_path: Path) -> None:
    """DeepSeek-V3 and GLM-4.5 keep them behind the last layer, and their configurations count them."""
    sizes = {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
    }
    tensors = tiny(DeepseekV3Config, tmp_path, **sizes)
    further = {n.replace("layers.1.", "layers.2."): t.clone() for n, t in tensors.items() if "layers.1." in n}
    save_file(tensors | further, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(settings(tmp_path) | {"num_nextn_predict_layers": 1}))
    check_weights("deepseek", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(settings(tmp_path) | {"num_nextn_predict_layers": 0}))
    with pytest.raises(SmaugError, match="have no place in the model"):
        check_weights("deepseek", tmp_path)


def test_a_sharded_checkpoint_is_read_by_its_index(make: Make, tmp_path: Path) -> None:
    folder = make()
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shards = tmp_path / "shards"
    assert len(list(shards.glob("*.safetensors"))) > 1
    check_weights("shards", shards)
    # A file beside those of the index is none of the model's.
    save_file({"consolidated": torch.ones(1)}, shards / "consolidated.safetensors", {"format": "pt"})
    check_weights("shards", shards)
    index = json.loads((shards / "model.safetensors.index.json").read_text())
    gone = sorted(set(index["weight_map"].values()))[0]
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file != gone}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SmaugError, match="tensors are missing"):
        check_weights("shards", shards)


def test_one_copy_of_the_weights_is_read(make: Make, tmp_path: Path) -> None:
    """A folder with one file and shards: transformers reads the file, vLLM the shards."""
    folder = make()
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    for file in (tmp_path / "shards").glob("model*"):
        shutil.copy(file, folder)
    save_file(without("layers.1.mlp")(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(SmaugError, match=r"3 of 21 tensors are missing"):
        check_model("given", folder, [Use.TORCH])
    for uses in ([Use.VLLM], [Use.LM_EVAL_VLLM, Use.HF]):
        with pytest.raises(SmaugError):
            check_model("given", folder, uses)
    with pytest.raises(SmaugError, match=r"in model\.safetensors and in the shards.*vLLM the others"):
        check_model("given", folder, [Use.VLLM])
    (folder / "model.safetensors").unlink()
    check_model("given", folder, [Use.VLLM, Use.TORCH])


def test_a_variant_beside_the_weights_is_not_read_by_vllm(make: Make) -> None:
    """Without an index it would read every file, and keep of two tensors of one name the last."""
    folder = make()
    save_file(load_file(folder / "model.safetensors"), folder / "model.fp16.safetensors")
    check_model("given", folder, [Use.TORCH])
    with pytest.raises(
        SmaugError, match=r"model\.fp16\.safetensors and model\.safetensors both hold .*vLLM reads both"
    ):
        check_model("given", folder, [Use.VLLM])
    (folder / "model.fp16.safetensors").rename(folder / "consolidated.safetensors")  # Mistral's own form
    check_model("given", folder, [Use.VLLM])


def test_an_adapter_in_the_same_folder_is_refused(make: Make) -> None:
    """transformers would load it, too, and then tell what it found of the adapter alone."""
    folder = make()
    settings = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings).save_pretrained(folder)
    with pytest.raises(SmaugError, match="beside whole weights, and transformers would load both as one model"):
        load_pretrained(folder, Use.TORCH, local_files_only=True)


def test_damaged_and_unreadable_checkpoints_end_in_our_error(make: Make) -> None:
    folder = make(config={"model_type": "no-such-model"})
    check_weights("given", folder)  # a kind that only vLLM may know
    with pytest.raises(SmaugError, match="cannot be loaded"):
        load_pretrained(folder, Use.TORCH, local_files_only=True)
    (folder / "config.json").write_text(json.dumps(settings(folder) | {"model_type": "llama", "hidden_size": 33}))
    with pytest.raises(SmaugError, match="cannot be loaded"):
        load_pretrained(folder, Use.TORCH, local_files_only=True)
    (folder / "config.json").write_text("[]")
    with pytest.raises(SmaugError, match="is no JSON object"):
        check_weights("given", folder)
    folder = make(name="bad-dtype")
    with pytest.raises(SmaugError, match="cannot be loaded"):
        load_pretrained(folder, Use.TORCH, local_files_only=True, dtype="float17")
