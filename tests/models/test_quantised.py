"""Quantised checkpoints: named, refused before anything is loaded where they cannot be used, and used rightly else."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GptOssConfig, LlamaConfig, LlamaForCausalLM

from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import check_uses, locate
from smaug_eval.models.loading import check_model, load_pretrained
from smaug_eval.models.quantised import Use, check_quantisation, quantisation
from smaug_eval.models.weights import check_weights

Tensors = dict[str, Tensor]
Make = Callable[..., Path]

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quantization_config": GPTQ}, "4-bit GPTQ"),
        ({"quantization_config": AWQ}, "4-bit AWQ"),
        ({"quantization_config": NF4}, "4-bit bitsandbytes (nf4)"),
        ({"quantization_config": {"load_in_8bit": True}}, "8-bit bitsandbytes (int8)"),
        ({"quantization_config": {"quant_method": "fp8"}}, "8-bit FP8"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "4-bit MXFP4"),
        ({"text_config": {"quantization_config": {"quant_method": "hqq"}}}, "HQQ"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization_config": {"bits": 4}}, "4-bit unknown"),
    ],
)
def test_the_method_is_named(config: dict[str, Any], name: str) -> None:
    found = quantisation(config)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"quantization_config": {}}])
def test_plain_weights_are_not_quantised(config: dict[str, Any]) -> None:
    assert quantisation(config) is None
    assert check_quantisation("model", config, list(Use)) is None


@pytest.mark.parametrize("section", [GPTQ, AWQ, {"quant_method": "fp8"}, {"quant_method": "mxfp4"}, {"bits": 4}])
@pytest.mark.parametrize("use", [Use.TRAINING, Use.ADAPTER, Use.MERGE, Use.DIAGNOSIS, Use.SCORING])
def test_training_on_them_is_refused_by_name(section: dict[str, Any], use: Use) -> None:
    found = quantisation({"quantization_config": section})
    assert found is not None
    with pytest.raises(SmaugError, match=rf"model 'org/model' holds {found.name} weights") as caught:
        check_quantisation("org/model", {"quantization_config": section}, [use])
    assert "quantised from" in str(caught.value.fix)


def test_bitsandbytes_takes_an_adapter_and_no_full_training() -> None:
    config = {"quantization_config": NF4}
    with pytest.raises(SmaugError, match="a full training cannot change") as caught:
        check_quantisation("org/model", config, [Use.ADAPTER, Use.TRAINING])
    assert "train a LoRA adapter" in str(caught.value.fix)
    with pytest.raises(SmaugError, match="no gradients") as caught:
        check_quantisation("org/model", config, [Use.DIAGNOSIS])
    assert "--gradient-pairs 0" in str(caught.value.fix)


def test_what_vllm_can_read_is_vllm_s_to_say() -> None:
    for section in (GPTQ, AWQ, NF4, {"quant_method": "modelopt"}):
        check_quantisation("org/model", {"quantization_config": section}, [Use.VLLM, Use.LM_EVAL_VLLM])


@pytest.mark.parametrize("section", [{"quant_method": "modelopt"}, {"quant_method": "of-their-own"}, {"bits": 4}])
def test_what_transformers_does_not_know_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(SmaugError, match="engine torch cannot load here") as caught:
        check_quantisation("org/model", {"quantization_config": section}, [Use.TORCH])
    assert len(str(caught.value)) < 500


@pytest.mark.skipif(importlib.util.find_spec("optimum") is not None, reason="GPTQ can be loaded here")
def test_gptq_is_refused_before_anything_is_loaded(make: Make) -> None:
    """With its section dropped, as before, it would be loaded with random projections."""
    folder = make(gptq, {"quantization_config": GPTQ})
    for look in (
        lambda: locate(str(folder), uses=[Use.TORCH]),
        lambda: check_uses(str(folder), [Use.TORCH]),
        lambda: load_pretrained(folder, Use.TORCH, quantization_config=None, local_files_only=True),
    ):
        with pytest.raises(SmaugError, match=r"holds 4-bit GPTQ weights, which engine torch cannot load here.*optimum"):
            look()
    assert locate(str(folder), uses=[Use.VLLM]).describe()["quantised"] == "4-bit GPTQ"


def gptq(tensors: Tensors) -> Tensors:
    """The names and shapes that GPTQ gives the projections of a layer, with the biases of zeros that AutoGPTQ adds."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if "_proj" not in stem or kind != "weight":
            found[name] = tensor
            continue
        outputs, inputs = tensor.shape
        found |= {
            f"{stem}.qweight": torch.zeros(inputs // 8, outputs, dtype=torch.int32),
            f"{stem}.qzeros": torch.zeros(1, outputs // 8, dtype=torch.int32),
            f"{stem}.scales": torch.ones(1, outputs, dtype=torch.float16),
            f"{stem}.g_idx": torch.zeros(inputs, dtype=torch.int32),
            f"{stem}.bias": torch.zeros(outputs, dtype=torch.float16),
        }
    return found


def test_names_and_shapes_of_gptq_are_compared_for_vllm(make: Make) -> None:
    check_model("given", make(gptq, {"quantization_config": GPTQ}), [Use.VLLM])
    fewer = make(
        lambda tensors: {n: t for n, t in gptq(tensors).items() if "layers.1.mlp" not in n},
        {"quantization_config": GPTQ},
        name="fewer",
    )
    with pytest.raises(SmaugError, match=r"3 of 21 tensors are missing \(model\.layers\.1\.mlp\.down_proj\.weight"):
        check_model("given", fewer, [Use.VLLM])
    with pytest.raises(SmaugError, match=r"\[32, 32\], not \[40, 32\]|\[32, 64\], not \[40, 64\]"):
        check_weights(
            "given", make(gptq, {"quantization_config": GPTQ, "hidden_size": 32, "head_dim": 10}, name="other")
        )


SCALED = ({"quant_method": "fp8", "activation_scheme": "dynamic"}, {"quant_method": "mxfp4"})


@pytest.mark.parametrize("section", [NF4, {"quant_method": "bitsandbytes", "load_in_8bit": True}, GPTQ, *SCALED])
def test_plain_weights_called_quantised_are_refused(make: Make, section: dict[str, Any]) -> None:
    folder = make(config={"quantization_config": section})
    with pytest.raises(SmaugError, match=r"config\.json says that the weights are .*, but no tensor is"):
        check_weights("given", folder)


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_bitsandbytes_checkpoints_are_loaded_as_they_are(make: Make, tmp_path: Path, kind: str) -> None:
    """Oracle: transformers' own loading, without the arguments that take the checkpoint's section away."""
    plain = make()
    how = {"load_in_8bit": True} if kind == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    model = AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=BitsAndBytesConfig(**how), device_map={"": "cpu"}
    )
    folder = tmp_path / kind
    model.save_pretrained(folder)
    assert locate_name(folder) == ("4-bit bitsandbytes (nf4)" if kind == "nf4" else "8-bit bitsandbytes (int8)")
    check_model("given", folder, [Use.TORCH, Use.HF, Use.ADAPTER])
    ids = torch.arange(12)[None]
    loaded = load_pretrained(folder, Use.TORCH, quantization_config=None, local_files_only=True)
    expected = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected(input_ids=ids).logits, atol=0, rtol=0)
    # Without its scales a matrix is not what it was.
    tensors = load_file(folder / "model.safetensors")
    mark = "down_proj.SCB" if kind == "int8" else "down_proj.weight."
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1" not in name or mark not in name}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SmaugError, match=r"missing|cannot be loaded"):
        load_pretrained(folder, Use.TORCH, local_files_only=True)


def locate_name(folder: Path) -> str:
    found = quantisation(json.loads((folder / "config.json").read_text()))
    assert found is not None
    return found.name


def test_fp8_is_loaded_with_its_scales(tmp_path: Path) -> None:
    """Oracle: the same numbers, multiplied out here. Without a GPU transformers dequantises them."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=48, hidden_size=128, intermediate_size=128, num_hidden_layers=1, num_attention_heads=1, head_dim=128
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    exact = dict(tensors)
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = tensors[name].float().abs().amax() / 448
        tensors[name] = (tensors[name].float() / scale).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale[None, None]
        exact[name] = (tensors[name].float() * scale).to(torch.bfloat16)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    section = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    settings = json.loads((tmp_path / "config.json").read_text()) | {"quantization_config": section}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    check_model("given", tmp_path, [Use.TORCH, Use.VLLM])
    loaded = load_pretrained(tmp_path, Use.TORCH, local_files_only=True)
    model.load_state_dict(exact, strict=False)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(input_ids=ids).logits.float(), model(input_ids=ids).logits.float(), atol=0.02, rtol=0
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU transformers may keep them packed")
def test_mxfp4_is_loaded_with_its_scales(tmp_path: Path) -> None:
    """Oracle: the format's sixteen numbers and powers of two, multiplied out here (OCP Microscaling, MXFP4)."""
    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=48,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        max_position_embeddings=64,
        initial_context_length=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    exact = dict(tensors)
    half = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([half, -half])
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(118, 124, (experts, outputs, inputs // 32), dtype=torch.uint8)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        pairs = torch.stack([values[(blocks & 15).long()], values[(blocks >> 4).long()]], dim=-1)
        numbers = pairs.reshape(experts, outputs, inputs // 32, 32) * torch.exp2(scales.float() - 127)[..., None]
        exact[name] = numbers.reshape(experts, outputs, inputs).transpose(1, 2).contiguous().to(torch.bfloat16)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    section = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    settings = json.loads((tmp_path / "config.json").read_text()) | {"quantization_config": section}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    check_model("given", tmp_path, [Use.TORCH])
    loaded = load_pretrained(tmp_path, Use.TORCH, local_files_only=True)
    model.load_state_dict(exact)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        found, expected = loaded(input_ids=ids).logits.float(), model(input_ids=ids).logits.float()
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
