"""Plans of quantised bases: said to be that, and refused as a run would refuse them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError
from smaug_eval.planning.memory import NF4_BYTES, SCALES, base_bytes, serving_memory
from smaug_eval.planning.shapes import model_shape, shape_of
from smaug_eval.trainers.config import LoraConfig

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "dtype": "bfloat16",
}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
GPTQ = {"quant_method": "gptq", "bits": 4}


def test_the_bytes_of_quantised_weights() -> None:
    plain, nf4, gptq = (
        shape_of(LLAMA | ({"quantization_config": section} if section else {}), "small", "a test")
        for section in (None, NF4, GPTQ)
    )
    assert plain.stored is None
    assert nf4.parameters == gptq.parameters == plain.parameters
    matrices, rest = plain.matrix_weights, plain.parameters - plain.matrix_weights
    assert base_bytes(nf4, LoraConfig(), "bfloat16") == NF4_BYTES * matrices + 4 * rest
    assert base_bytes(plain, LoraConfig(), "bfloat16") == 2 * plain.parameters
    assert serving_memory(gptq, "bfloat16", 1, 0, quantised=True) == (0.5 + SCALES) * matrices + 2 * rest
    assert serving_memory(gptq, "bfloat16", 1, 0) == 2 * plain.parameters  # a checkpoint that was trained from it


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    """Run ``plan`` for a base of that configuration."""

    def plan(config: dict[str, Any], lora: dict[str, int] | None) -> Any:
        (tmp_path / "base").mkdir(exist_ok=True)
        (tmp_path / "base" / "config.json").write_text(json.dumps(config))
        rows = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": " 0"} for n in range(8)]
        (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = {
            "name": "q",
            "model": str(tmp_path / "base"),
            "pairs": {"p": {"source": "rows", "path": str(tmp_path / "p.jsonl"), "holdout": 1}},
            "trainings": {"t": {"loss": "dpo", "steps": 1, "lora": lora}},
            "evaluations": {"e": {"suite": "open_llm_v1", "tasks": ["arc"]}},
        }
        (tmp_path / "r.yaml").write_text(json.dumps(recipe))
        return CliRunner().invoke(app, ["plan", str(tmp_path / "r.yaml"), "--gpu", "H100-80"])

    return plan


def test_a_plan_says_how_the_base_is_stored(planned: Any) -> None:
    result = planned(LLAMA | {"quantization_config": NF4}, {"r": 4})
    assert result.exit_code == 0, result.output
    assert "stored as 4-bit bitsandbytes (nf4)" in result.output
    plain = planned(LLAMA, {"r": 4})
    assert plain.exit_code == 0
    assert "stored as" not in plain.output


@pytest.mark.parametrize(
    ("section", "lora", "message"),
    [
        (NF4, None, "holds 4-bit bitsandbytes (nf4) weights, which a full training cannot change"),
        (GPTQ, {"r": 4}, "holds 4-bit GPTQ weights; a LoRA training takes plain ones"),
    ],
)
def test_a_plan_refuses_what_a_run_would(planned: Any, section: Any, lora: Any, message: str) -> None:
    result = planned(LLAMA | {"quantization_config": section}, lora)
    assert result.exit_code != 0
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "is an encoder"),
        ({"model_type": "qwen2_5_vl"}, "is a vision-language model"),
        ({"model_type": "llama", "hidden_size": 10, "num_attention_heads": 3}, "describes no causal language model"),
    ],
)
def test_other_kinds_are_refused_in_one_line(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SmaugError, match=message) as caught:
        model_shape(str(tmp_path))
    assert len(caught.value.message) < 500
