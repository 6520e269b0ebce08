"""A checkpoint that smaug-eval trained, in vLLM and in transformers; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from smaug_eval.embedded import embedded_path
from trainers.config import TrainingConfig
from trainers.train import train

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TEXTS = ["Question: Anna has 3 apples and buys 4 more. How many are there?\nAnswer: 3 + 4 = 7", "One two three."]


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_prompt_log_probs_agree(tmp_path: Path, lora: dict[str, int] | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from vllm import LLM, SamplingParams

    rows = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": f" {n + 2}"} for n in range(8)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(
        TrainingConfig(loss="dpo", steps=2, batch_size=4, learning_rate=1e-3, lora=lora, warmup_steps=0),
        name="two-steps",
        model_path=embedded_path("demo-model"),
        dtype="float32",
        train_file=tmp_path / "train.jsonl",
        eval_file=None,
        out_dir=tmp_path / "out",
        seed=0,
        model_sha256="demo",
        should_stop=lambda: False,
    )
    checkpoint = tmp_path / "out" / "checkpoint"
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    engine = LLM(str(checkpoint), dtype="float32", enforce_eager=True, max_model_len=512)
    asked = [{"prompt_token_ids": tokenizer(text)["input_ids"]} for text in TEXTS]
    outputs = engine.generate(asked, SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0))
    for output in outputs:
        ids = output.prompt_token_ids
        with torch.no_grad():
            log_probs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1)
        expected = [float(log_probs[place - 1, ids[place]]) for place in range(1, len(ids))]
        found = [output.prompt_logprobs[place][ids[place]].logprob for place in range(1, len(ids))]
        assert found == pytest.approx(expected, abs=1e-3)
