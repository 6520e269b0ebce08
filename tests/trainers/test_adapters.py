"""Adapters: merging them, quantised bases, and gradients through activation checkpointing."""

from __future__ import annotations

import importlib.util
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.prefix.scorer import scoring
from smaug_eval.trainers.adapters import with_adapter
from smaug_eval.trainers.base_model import load_model, no_dropout
from smaug_eval.trainers.checkpoints import TrainingResult
from smaug_eval.trainers.config import LoraConfig
from smaug_eval.trainers.log_probs import pair_layout, pair_log_probs
from smaug_eval.trainers.reference import load_reference, score_pairs
from smaug_eval.trainers.tokenization import PairEncoder
from smaug_eval.trainers.training_log import read_log

Run = Callable[..., TrainingResult]
LN2 = math.log(2)
TEXT = "Question: 12 + 30\nAnswer: 42"

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.fixture(scope="module")
def wide_model_path(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama with rows as long as a block of nf4 weights."""
    torch.manual_seed(0)
    settings = json.loads((model_path / "config.json").read_text())
    settings |= {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    folder = tmp_path_factory.mktemp("wide")
    LlamaForCausalLM(LlamaConfig.from_dict(settings)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path).save_pretrained(folder)
    return folder


def logits(model: Any, folder: Path) -> torch.Tensor:
    ids = torch.tensor(AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"])[None]
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


@pytest.fixture
def adapter(model_path: Path, tmp_path: Path) -> Path:
    """An adapter by PEFT alone, with weights that matter, on some modules and with a rank of its own for one."""
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    settings = PeftLoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=16,
        target_modules=["q_proj", "down_proj", "lm_head"],
        rank_pattern={"down_proj": 2},
        use_rslora=True,
    )
    model = get_peft_model(base, settings)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_merged_logits_are_the_adapters(adapter: Path, model_path: Path, tmp_path: Path) -> None:
    out = smaug_eval.merge(adapter, tmp_path / "merged")  # the base's name is in adapter_config.json
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    plain = logits(base, out)
    expected = logits(PeftModel.from_pretrained(base, adapter), out)
    assert (expected - plain).abs().max() > 0.1
    merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert type(merged) is LlamaForCausalLM
    torch.testing.assert_close(logits(merged, out), expected, atol=1e-5, rtol=0)
    card = (out / "README.md").read_text()
    assert "LORA adapter merged" in card
    assert f"{model_path.name}, SHA-256" in card
    assert str(model_path) not in card


def test_the_adapters_tokenizer_and_chat_template_are_kept(adapter: Path, model_path: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.chat_template = "{{ messages[0].content }}!"
    tokenizer.save_pretrained(adapter)
    out = smaug_eval.merge(adapter, tmp_path / "merged", base=str(model_path), dtype="bfloat16")
    assert AutoTokenizer.from_pretrained(out).chat_template == "{{ messages[0].content }}!"
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert {weight.dtype for weight in load_file(out / "model.safetensors").values()} == {torch.bfloat16}


def test_a_pickled_adapter_is_refused_with_the_conversion(adapter: Path, tmp_path: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    torch.save(weights, adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(SmaugError, match="pickled") as caught:
        smaug_eval.merge(adapter, tmp_path / "merged")
    command = shlex.split(str(caught.value.fix).partition(": ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    converted = load_file(adapter / "adapter_model.safetensors")
    assert all(torch.equal(converted[name], weight) for name, weight in weights.items())


def reshaped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight[..., :-1].contiguous() for name, weight in weights.items()}


def fewer(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    first = next(name for name in weights if "lora_A" in name)
    return {name: weight for name, weight in weights.items() if name != first}


def further(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return weights | {"base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)}


@pytest.mark.parametrize("change", [reshaped, fewer, further])
def test_an_adapter_of_another_model_is_refused(
    adapter: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(change(weights), adapter / "adapter_model.safetensors")
    with pytest.raises(SmaugError, match="does not fit the base model"):
        smaug_eval.merge(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_merging_says_what_is_wrong(adapter: Path, model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match=r"no adapter_config\.json"):
        smaug_eval.merge(model_path, tmp_path / "merged")
    with pytest.raises(SmaugError, match="exists already"):
        smaug_eval.merge(adapter, model_path)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(SmaugError, match="names no base model"):
        smaug_eval.merge(adapter, tmp_path / "merged")
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["no_such_module"]}))
    with pytest.raises(SmaugError, match="does not fit the base model"):
        smaug_eval.merge(adapter, tmp_path / "merged")
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({n: w * float("nan") for n, w in weights.items()}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(SmaugError, match="not finite"):
        smaug_eval.merge(adapter, tmp_path / "merged")


def test_the_merge_verb(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from smaug_eval.cli import app

    result = CliRunner().invoke(app, ["merge", str(adapter), "--out", str(tmp_path / "merged")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "merged" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_trained_adapter_merged_by_hand_is_the_checkpoint(run: Run, tmp_path: Path, model_path: Path) -> None:
    run(config={"lora": {"r": 4}, "loss": "dpo"})
    folder = tmp_path / "run"
    out = smaug_eval.merge(folder / "adapter", tmp_path / "merged", base=str(model_path))
    one, other = (load_file(place / "model.safetensors") for place in (out, folder / "checkpoint"))
    assert one.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


@needs_bitsandbytes
@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_qlora_trains_an_adapter_on_a_frozen_quantised_base(
    run: Run, tmp_path: Path, wide_model_path: Path, quantize: str
) -> None:
    settings = {"loss": "dpo", "lora": {"r": 8, "quantize": quantize}, "steps": 20, "learning_rate": 1e-2}
    result = run(config=settings, model_path=wide_model_path)
    folder = tmp_path / "run"
    held_out = [row["loss"] for row in read_log(folder / "log.jsonl") if row["split"] == "eval"]
    assert held_out[0] == pytest.approx(
        LN2, abs=1e-6
    )  # the reference is the quantised base, the adapter adding nothing
    assert held_out[-1] < LN2 - 0.01
    assert result.quantize == quantize
    assert any("merged into the base as it was given" in warning for warning in result.warnings)
    # What is saved: the adapter alone, and its merge into the base that was never quantised.
    assert all("lora_" in name for name in load_file(folder / "adapter" / "adapter_model.safetensors"))
    base = AutoModelForCausalLM.from_pretrained(wide_model_path, dtype=torch.float32)
    expected = logits(PeftModel.from_pretrained(base, folder / "adapter"), wide_model_path)
    merged = AutoModelForCausalLM.from_pretrained(folder / "checkpoint")
    torch.testing.assert_close(logits(merged, wide_model_path), expected, atol=1e-5, rtol=0)
    card = (folder / "checkpoint" / "README.md").read_text()
    assert f"a base of {quantize} weights" in card
    assert "merged into the unquantised base" in card


@needs_bitsandbytes
@pytest.mark.slow
def test_the_reference_of_qlora_is_the_quantised_base(run: Run, tmp_path: Path, wide_model_path: Path) -> None:
    run(
        "quantised", config={"loss": "dpo", "steps": 1, "lora": {"r": 4, "quantize": "nf4"}}, model_path=wide_model_path
    )
    run("plain", config={"loss": "dpo", "steps": 1, "lora": {"r": 4}}, model_path=wide_model_path)
    rows = {name: read_log(tmp_path / name / "log.jsonl")[0] for name in ("quantised", "plain")}
    assert abs(rows["quantised"]["logps/chosen"] - rows["plain"]["logps/chosen"]) > 1e-3
    model, tokenizer = load_model(wide_model_path, dtype="float32", keep_dtype=True, quantize="nf4")
    policy = with_adapter(model, LoraConfig(r=4, quantize="nf4"), seed=0)
    trained = {name for name, weight in policy.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    stored = {type(m).__name__ for m in policy.modules() if "4bit" in type(m).__name__}
    assert "Linear4bit" in stored
    packed = [w for n, w in policy.named_parameters() if n.endswith("q_proj.base_layer.weight")]
    assert all(weight.dtype is torch.uint8 for weight in packed)
    row = json.loads((tmp_path / "eval.jsonl").read_text().splitlines()[0])
    ids = tokenizer(row["prompt"])["input_ids"]
    whole = torch.tensor([*ids, *tokenizer(row["chosen"])["input_ids"], 0])[None]
    with torch.no_grad(), no_dropout(model), policy.disable_adapter():
        scores = torch.log_softmax(policy.eval()(input_ids=whole).logits[0], -1)
    expected = sum(scores[t - 1, whole[0, t]].item() for t in range(len(ids), whole.shape[1]))
    kept = [load_reference(file) for file in (tmp_path / "quantised").glob("reference-*.safetensors")]
    (held_out,) = [reference for reference in kept if reference and len(reference.chosen) == 6]
    assert held_out.sums[0][0] == pytest.approx(expected, abs=2e-3)


@needs_bitsandbytes
def test_gradients_through_quantised_weights_are_those_through_the_same_weights(
    wide_model_path: Path, sums: Callable[..., list[dict[str, str]]]
) -> None:
    """Oracle: a plain model with the dequantised weights, and the same adapter."""
    from bitsandbytes.functional import dequantize_4bit

    quantised, tokenizer = load_model(wide_model_path, dtype="float32", keep_dtype=True, quantize="nf4")
    plain, _ = load_model(wide_model_path, dtype="float32", keep_dtype=True)
    for name, module in quantised.named_modules():
        if type(module).__name__ == "Linear4bit":
            weight = plain.get_submodule(name).weight
            weight.data = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
    pairs = PairEncoder(tokenizer, 256, None, True, "truncate").encode(sums(4)).pairs
    gradients = []
    for model in (quantised, plain):
        with no_dropout(model), scoring(model) as scorer:  # scores the model in evaluation mode first, as training does
            policy = with_adapter(model, LoraConfig(r=4), seed=0)
            for name, weight in policy.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(len(name)))
            layout = pair_layout(scorer, pairs)
            score_pairs(scorer, policy, pairs, row_tokens=512, autocast=None)
            policy.train()
            chosen, rejected = pair_log_probs(scorer, policy, layout).sums()
            (chosen - 2 * rejected).sum().backward()
        gradients.append({n: w.grad for n, w in policy.named_parameters() if w.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[1].items():
        scale = float(gradient.abs().max())
        assert scale > 0.0
        torch.testing.assert_close(gradients[0][name], gradient, atol=1e-4 * scale, rtol=0)


def test_without_bitsandbytes_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a)
    )
    with pytest.raises(SmaugError, match="bitsandbytes is not installed") as caught:
        run(config={"lora": {"quantize": "nf4"}})
    assert caught.value.fix == "pip install 'smaug-eval[qlora]'"


def test_quantised_weights_are_not_sharded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("smaug_eval.trainers.base_model.weights_are_sharded", lambda: True)
    with pytest.raises(SmaugError, match="cannot shard quantised weights"):
        run(config={"lora": {"quantize": "nf4"}})


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_activation_checkpointing_leaves_gradients_as_they_are(
    model_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    sums: Callable[..., list[dict[str, str]]],
    lora: bool,
) -> None:
    pairs = PairEncoder(tokenizer, 256, None, True, "truncate").encode(sums(4)).pairs

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        model, _ = load_model(model_path, dtype="float32", keep_dtype=True)
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        with no_dropout(model), scoring(model) as scorer:
            policy: Any = with_adapter(model, LoraConfig(r=4), seed=0) if lora else model
            for name, weight in policy.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(len(name)))
            if checkpointing:
                policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            policy.train()
            model.get_decoder().layers[0].mlp.register_forward_pre_hook(count)
            tokens = pair_log_probs(scorer, policy, pair_layout(scorer, pairs))
            chosen, rejected = tokens.sums()
            (chosen - 2 * rejected).sum().backward()
        assert calls == 1 + checkpointing
        return {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}

    plain, recomputed = gradients(False), gradients(True)
    assert plain
    assert plain.keys() == recomputed.keys()
    assert max(float(gradient.abs().max()) for gradient in plain.values()) > 0.1
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_training_with_activation_checkpointing_is_the_same(
    run: Run, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    settings = {"loss": "dpo", "steps": 3, "lora": lora}
    run("plain", config=settings)
    run("recomputed", config=settings | {"gradient_checkpointing": True})
    one, other = (load_file(tmp_path / n / "checkpoint" / "model.safetensors") for n in ("plain", "recomputed"))
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=1e-6, rtol=1e-6)


def test_a_bfloat16_training_keeps_its_weights_in_float32(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def look(policy: Any, weights: dict[str, torch.Tensor], *arguments: Any, **options: Any) -> None:
        seen["types"] = {weight.dtype for weight in weights.values()}
        return original(policy, weights, *arguments, **options)

    import smaug_eval.trainers.train as module

    original = module.save_result
    monkeypatch.setattr(module, "save_result", look)
    result = run(config={"loss": "dpo", "learning_rate": 1e-5, "steps": 2}, dtype="bfloat16")
    assert seen["types"] == {torch.float32}
    first = next(row for row in read_log(tmp_path / "run" / "log.jsonl") if row["split"] == "eval")
    assert first["loss"] == pytest.approx(LN2, abs=0.02)
    assert result.warnings == []
    saved = load_file(tmp_path / "run" / "checkpoint" / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"lora": {"r": 2, "modules_to_save": ["nope"]}},
            "training run: lora.modules_to_save: the model has no 'nope'",
        ),
        ({"lora": {"r": 2, "target_modules": ["q_proj", "nope"]}}, "lora.target_modules: the model has no 'nope'"),
        ({"lora": {"r": 2, "target_parameters": ["nope"]}}, "lora.target_parameters: the model has no 'nope'"),
        ({"lora": {"r": 2, "trainable_tokens": ["<nope>"]}}, "trainable_tokens: the tokenizer has no token '<nope>'"),
        ({"lora": {"r": 2, "trainable_tokens": [999_999]}}, "trainable_tokens: the model has no token 999999"),
        ({"router_aux_loss_coef": 0.1}, "router_aux_loss_coef: LlamaForCausalLM has no router"),
    ],
)
def test_what_a_model_does_not_have_is_named_before_the_pairs_are_scored(
    run: Callable[..., TrainingResult], tmp_path: Path, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SmaugError) as refused:
        run(config=settings)
    assert expected in str(refused.value.message)
    assert refused.value.fix
    assert "there is ," not in str(refused.value.message)
    assert not list((tmp_path / "run").rglob("*reference*"))
