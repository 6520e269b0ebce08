"""Every engine loads through one loader: none scores weights that are made up, and an adapter stays beside its base."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.build import build_engine, takes_adapter
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.models.loading import load_pretrained
from smaug_eval.models.quantised import Use

ENGINES = ("torch", "hf", "vllm", "lm-eval-vllm")
SETTINGS: dict[str, Any] = {"dtype": "float32", "batch_size": 2, "device": "cpu", "engine_args": {}}
TEXTS = [("Anna has 3 apples.", " She buys 4 more."), ("One two", " three")]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    shutil.copytree(embedded_path("demo-model"), folder)
    return folder


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_refuses_a_checkpoint_without_some_of_its_weights(base: Path, engine: str) -> None:
    """vLLM's names are compared before it is started, or even imported."""
    tensors = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1.mlp" not in name}
    assert len(kept) == len(tensors) - 3
    save_file(kept, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(SmaugError, match=r"3 of \d+ tensors are missing \(model\.layers\.1\.mlp\.down_proj\.weight"):
        build_engine(EngineSpec(engine, base, **SETTINGS))


@pytest.mark.parametrize("engine", ["torch", "hf"])
def test_an_engine_refuses_quantised_weights_that_it_cannot_load(base: Path, engine: str) -> None:
    settings = json.loads((base / "config.json").read_text())
    section = {"quant_method": "no-such-method", "bits": 4}
    (base / "config.json").write_text(json.dumps(settings | {"quantization_config": section}))
    with pytest.raises(SmaugError, match=f"holds 4-bit no-such-method weights, which engine {engine} cannot load here"):
        build_engine(EngineSpec(engine, base, **SETTINGS))


def trained(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter with weights that matter."""
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(folder)
    return folder


def log_likelihoods(lm: Any) -> list[float]:
    requests = [Instance("loglikelihood", {}, text, number) for number, text in enumerate(TEXTS)]
    return [found[0] for found in lm.loglikelihood(requests, disable_tqdm=True)]


def expected(base: Path, adapter: Path) -> list[float]:
    """Oracle: base and adapter by transformers and PEFT alone."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = []
    for context, continuation in TEXTS:
        before = tokenizer(context)["input_ids"]
        ids = torch.tensor(tokenizer(context + continuation)["input_ids"])[None]
        with torch.no_grad():
            scores = torch.log_softmax(model(input_ids=ids).logits[0], -1)
        found.append(sum(scores[t - 1, ids[0, t]].item() for t in range(len(before), ids.shape[1])))
    return found


@pytest.mark.parametrize("engine", ["torch", "hf"])
@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], ["lm_head"]])
def test_an_adapter_beside_its_base_is_scored_as_peft_does(
    base: Path, tmp_path: Path, engine: str, targets: list[str]
) -> None:
    adapter = trained(base, tmp_path / "adapter", r=4, target_modules=targets)
    pool = EnginePool()
    plain = log_likelihoods(pool.get(EngineSpec(engine, base, **SETTINGS)).watch.lm)
    loaded = pool.get(EngineSpec(engine, base, adapter=adapter, **SETTINGS))
    assert loaded.arguments["peft"] == str(adapter)
    found = log_likelihoods(loaded.watch.lm)
    assert found == pytest.approx(expected(base, adapter), abs=2e-3)
    assert max(abs(one - other) for one, other in zip(found, plain, strict=True)) > 0.1
    assert (
        log_likelihoods(pool.get(EngineSpec(engine, base, **SETTINGS)).watch.lm) == plain
    )  # another model than the one before


def test_the_journal_tells_an_adapter_from_its_base(base: Path, tmp_path: Path) -> None:
    scopes = []
    for adapter in (None, trained(base, tmp_path / "adapter", r=4, target_modules=["q_proj"])):
        lm: Any = build_engine(EngineSpec("torch", base, adapter=adapter, **SETTINGS))
        scopes.append(lm.journal_scope()["weights"])
    assert scopes[0] != scopes[1]


@pytest.mark.parametrize("engine", ["torch", "hf"])
def test_a_token_without_a_row_in_the_embedding_is_named(base: Path, engine: str) -> None:
    """A longer tokenizer is taken, as it may never give such a token; one that it gives is no traceback."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = len(tokenizer)
    tokenizer.add_tokens(["apples"])
    tokenizer.save_pretrained(base)
    lm = build_engine(EngineSpec(engine, base, **SETTINGS))
    assert lm.loglikelihood([Instance("loglikelihood", {}, TEXTS[1], 0)], disable_tqdm=True)
    with pytest.raises(SmaugError, match=f"the tokenizer gives id {rows}, but the model has only {rows} embeddings"):
        lm.loglikelihood([Instance("loglikelihood", {}, TEXTS[0], 0)], disable_tqdm=True)


LACKING: dict[str, tuple[str, dict[str, Any]]] = {
    # What of an adapter's file is taken away, and of which adapter.
    "a matrix": ("layers.2.self_attn.q_proj.lora_B", {}),
    "a module saved whole": ("lm_head.weight", {"modules_to_save": ["lm_head"]}),
    "a norm saved whole": ("layers.1.input_layernorm.weight", {"modules_to_save": ["norm", "input_layernorm"]}),
    "rows of tokens": ("trainable_tokens_delta", {"trainable_token_indices": [5, 40]}),
    "magnitudes of DoRA": ("layers.0.self_attn.q_proj.lora_magnitude_vector", {"use_dora": True}),
    "a bias of the base": ("layers.1.self_attn.q_proj.base_layer.bias", {"bias": "lora_only"}),
}


@pytest.mark.parametrize("case", LACKING)
def test_an_adapter_without_a_part_of_itself_is_refused(base: Path, tmp_path: Path, case: str) -> None:
    """PEFT would keep the base's part, or a fresh one, with a warning at most."""
    part, settings = LACKING[case]
    if settings.get("bias"):
        config = Qwen2Config(
            vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
        )
        AutoModelForCausalLM.from_config(config).save_pretrained(base)
    folder = trained(base, tmp_path / "adapter", r=4, target_modules=["q_proj"], **settings)
    load_pretrained(base, Use.TORCH, adapter=folder, local_files_only=True)
    weights = load_file(folder / "adapter_model.safetensors")
    (lost,) = [name for name in weights if part in name]
    del weights[lost]
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(SmaugError, match="does not fit the base model: it has no weights for .*" + re.escape(part)):
        load_pretrained(base, Use.TORCH, adapter=folder, local_files_only=True)


@pytest.mark.parametrize("engine", ["torch", "hf"])
def test_an_adapter_that_does_not_fit_is_refused(base: Path, tmp_path: Path, engine: str) -> None:
    adapter = trained(base, tmp_path / "adapter", r=4, target_modules=["q_proj"])
    weights = load_file(adapter / "adapter_model.safetensors")
    shorter = {name: weight[..., :-1].contiguous() for name, weight in weights.items()}
    save_file(shorter, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(SmaugError, match="does not fit the base model"):
        build_engine(EngineSpec(engine, base, adapter=adapter, **SETTINGS))


@pytest.mark.parametrize(
    ("changed", "taken"),
    [
        ({}, True),
        ({"rank_pattern": {"q_proj": 128}}, True),
        ({"r": 1024}, False),
        ({"target_modules": ["q_proj", "lm_head"]}, False),
        ({"modules_to_save": ["lm_head"]}, False),
        ({"use_dora": True}, False),
        ({"peft_type": "LOHA"}, False),
    ],
)
def test_vllm_takes_plain_adapters_only(base: Path, tmp_path: Path, changed: dict[str, Any], taken: bool) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(settings | changed))
    save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")
    assert takes_adapter("vllm", folder, base) is taken
    assert takes_adapter("lm-eval-vllm", folder, base) is taken
    assert takes_adapter("torch", folder, base)
    assert takes_adapter("hf", folder, base)


@pytest.mark.parametrize("engine", ["torch", "hf"])
def test_unmerged_equals_merged(base: Path, tmp_path: Path, engine: str) -> None:
    adapter = trained(base, tmp_path / "adapter", r=4, target_modules="all-linear")
    merged = tmp_path / "merged"
    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    whole.merge_and_unload().save_pretrained(merged)
    AutoTokenizer.from_pretrained(base).save_pretrained(merged)
    unmerged = log_likelihoods(build_engine(EngineSpec(engine, base, adapter=adapter, **SETTINGS)))
    assert unmerged == pytest.approx(log_likelihoods(build_engine(EngineSpec(engine, merged, **SETTINGS))), abs=1e-4)


@pytest.mark.parametrize("engine", ["torch", "hf"])
@pytest.mark.parametrize("case", ["untrained", "alora"])
def test_an_adapter_without_effect_stops_before_anything_is_scored(
    base: Path, tmp_path: Path, engine: str, case: str
) -> None:
    """Zeros as before the first step; one that acts in PEFT's own forward pass alone."""
    if case == "untrained":
        settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"])
        get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / "adapter")
    else:
        trained(base, tmp_path / "adapter", r=4, target_modules=["q_proj"], alora_invocation_tokens=[5, 6])
    with pytest.raises(
        SmaugError, match=r"has no effect: the log-probabilities of 3[135] tokens are those of its base"
    ):
        build_engine(EngineSpec(engine, base, adapter=tmp_path / "adapter", **SETTINGS))


def test_an_adapter_of_one_token_has_an_effect(base: Path, tmp_path: Path) -> None:
    """The tokens whose rows it trained are among those that it is tried on."""
    settings = LoraConfig(
        task_type="CAUSAL_LM", r=1, target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [123]}
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    for name, weight in model.named_parameters():
        if "trainable_tokens_delta" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(tmp_path / "adapter")
    build_engine(EngineSpec("torch", base, adapter=tmp_path / "adapter", **SETTINGS))


def test_vllm_keeps_one_base_for_adapters_of_like_rank(base: Path, tmp_path: Path) -> None:
    specs = {
        r: EngineSpec("vllm", base, adapter=trained(base, tmp_path / f"r{r}", r=r, target_modules=["q_proj"]))
        for r in (2, 8, 12)
    }
    assert specs[2].key == specs[8].key != specs[12].key
    roomy = {
        r: EngineSpec("vllm", base, adapter=spec.adapter, engine_args={"max_lora_rank": 64})
        for r, spec in specs.items()
    }
    assert roomy[2].key == roomy[12].key != EngineSpec("vllm", base, engine_args={"max_lora_rank": 64}).key
    (tmp_path / "r8" / "tokenizer_config.json").write_text('{"chat_template": "own"}')
    assert specs[2].key != specs[8].key  # a tokenizer belongs to what is loaded


def test_an_adapter_brings_its_own_chat_template(base: Path, tmp_path: Path) -> None:
    adapter = trained(base, tmp_path / "adapter", r=4, target_modules=["q_proj"])
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{{ messages[0].content }}!"
    tokenizer.save_pretrained(adapter)
    for engine in ("torch", "hf"):
        lm: Any = build_engine(EngineSpec(engine, base, adapter=adapter, **SETTINGS))
        assert lm.apply_chat_template([{"role": "user", "content": "Hi"}]) == "Hi!"
