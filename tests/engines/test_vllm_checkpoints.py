"""Adapters beside their base in vLLM and in transformers; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

import torch
from lm_eval.api.instance import Instance
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from tests.engines.trained import train_two_steps

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TEXT = "Question: Anna has 3 apples and buys 4 more. How many are there?\nAnswer: 3 + 4 = 7"
ARGUMENTS = {"max_model_len": 256, "gpu_memory_utilization": 0.1}


def write_adapter(folder: Path, scale: float) -> Path:
    base = AutoModelForCausalLM.from_pretrained(embedded_path("demo-model"), dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    torch.manual_seed(1)
    for part, weight in model.named_parameters():
        if "lora_" in part:
            torch.nn.init.normal_(weight, std=scale)
    model.save_pretrained(folder)
    return folder


def score(loaded: Any) -> float:
    (found,) = loaded.watch.lm.loglikelihood([Instance("loglikelihood", {}, (TEXT[:20], TEXT[20:40]), 0)], True)
    return float(found[0])


def test_several_adapters_share_one_loaded_base(tmp_path: Path) -> None:
    """Each request names its adapter; each is tried before anything is scored, and one without effect is refused.

    The first was trained here. Beside its base it scores as by transformers, and as its merged checkpoint.
    """
    trained = train_two_steps(tmp_path, lora={"r": 4}, learning_rate=0.01)
    folders: dict[str, Path | None] = {"trained": trained / "adapter", "base": None}
    folders |= {name: write_adapter(tmp_path / name, scale) for name, scale in (("other", 0.1), ("untrained", 0.0))}

    def spec(engine: str, which: str) -> EngineSpec:
        told, device = (ARGUMENTS, None) if engine == "vllm" else ({}, "cpu")
        return EngineSpec(engine, embedded_path("demo-model"), "float32", 2, device, told, adapter=folders[which])

    pool, found, lms = EnginePool(), {}, []
    for which in ("trained", "other", "trained"):
        loaded = pool.get(spec("vllm", which), journal=tmp_path / "journal")
        found[which] = score(loaded)
        lms.append(loaded.watch.lm)
        assert loaded.arguments["peft"] == str(folders[which])
    assert lms[0] is lms[1] is lms[2]
    with pytest.raises(SmaugError, match="has no effect"):
        pool.get(spec("vllm", "untrained"))
    pool.close()
    expected = {which: score(EnginePool().get(spec("torch", which))) for which in ("trained", "other", "base")}
    assert found["trained"] == pytest.approx(expected["trained"], abs=5e-3)
    assert found["other"] == pytest.approx(expected["other"], abs=5e-3)
    assert abs(found["trained"] - found["other"]) > 0.1
    assert abs(found["trained"] - expected["base"]) > 0.1
    merged = EnginePool()
    whole = score(merged.get(EngineSpec("vllm", trained / "checkpoint", "float32", engine_args=ARGUMENTS)))
    merged.close()
    assert found["trained"] == pytest.approx(whole, abs=1e-4)  # unmerged equals merged
