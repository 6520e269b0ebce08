"""A checkpoint that smaug-eval trained, in vLLM and in transformers; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from smaug_eval.common.embedded import embedded_path
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.spec import TrainingSpec
from smaug_eval.trainers.train import train

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

TEXTS = ["Question: Anna has 3 apples and buys 4 more. How many are there?\nAnswer: 3 + 4 = 7", "One two three."]


@pytest.mark.parametrize("lora", [None, {"r": 4}], ids=["full", "lora"])
def test_prompt_log_probs_agree(tmp_path: Path, lora: dict[str, int] | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from vllm import LLM, SamplingParams

    rows = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": f" {n + 2}"} for n in range(8)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = TrainingSpec(
        config=TrainingConfig(loss="dpo", steps=2, batch_size=4, learning_rate=1e-3, lora=lora, warmup_steps=0),
        name="two-steps",
        model_path=embedded_path("demo-model"),
        dtype="float32",
        train_file=tmp_path / "train.jsonl",
        out_dir=tmp_path / "out",
        seed=0,
        model_sha256="demo",
    )
    train(spec, should_stop=lambda: False)
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


def test_an_adapter_beside_its_base_is_scored_as_by_transformers(tmp_path: Path) -> None:
    import torch
    from lm_eval.api.instance import Instance
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from smaug_eval.engines.pool import EnginePool

    base, adapter = embedded_path("demo-model"), tmp_path / "adapter"
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.05)
    model.save_pretrained(adapter)
    requests = [Instance("loglikelihood", {}, (text[:20], text[20:40]), n) for n, text in enumerate(TEXTS[:1])]
    pool, found = EnginePool(), {}
    for engine, arguments in (("torch", {}), ("vllm", {"max_model_len": 256, "gpu_memory_utilization": 0.1})):
        for which in (None, adapter):
            loaded = pool.get(
                EngineSpec(
                    engine, base, dtype="float32", batch_size=2, device=None, engine_args=arguments, adapter=which
                )
            )
            found[engine, which] = [pair[0] for pair in loaded.watch.lm.loglikelihood(requests, disable_tqdm=True)]
    pool.close()
    assert found["vllm", adapter] == pytest.approx(found["torch", adapter], abs=5e-3)
    assert found["vllm", None] == pytest.approx(found["torch", None], abs=5e-3)
    assert abs(found["vllm", adapter][0] - found["vllm", None][0]) > 0.1


def test_several_adapters_share_one_loaded_base(tmp_path: Path) -> None:
    """Each request names its adapter; each is tried before anything is scored, and one without effect is refused."""
    import torch
    from lm_eval.api.instance import Instance
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from smaug_eval.common.errors import SmaugError
    from smaug_eval.engines.pool import EnginePool

    base = embedded_path("demo-model")
    folders = {}
    for name, scale in (("one", 0.05), ("two", 0.1), ("untrained", 0.0)):
        settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), settings)
        torch.manual_seed(1)
        for part, weight in model.named_parameters():
            if "lora_" in part:
                torch.nn.init.normal_(weight, std=scale)
        folders[name] = tmp_path / name
        model.save_pretrained(folders[name])
        if name == "one":
            model.merge_and_unload().save_pretrained(tmp_path / "merged")
            AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "merged")
    requests = [Instance("loglikelihood", {}, (text[:20], text[20:40]), n) for n, text in enumerate(TEXTS[:1])]
    arguments = {"max_model_len": 256, "gpu_memory_utilization": 0.1}

    def spec(engine: str, which: str) -> EngineSpec:
        told = arguments if engine == "vllm" else {}
        device = None if engine == "vllm" else "cpu"
        return EngineSpec(engine, base, "float32", 2, device, told, adapter=folders[which])

    def scores(loaded: Any) -> list[float]:
        return [pair[0] for pair in loaded.watch.lm.loglikelihood(requests, disable_tqdm=True)]

    pool, found, lms = EnginePool(), {}, []
    for which in ("one", "two", "one"):
        loaded = pool.get(spec("vllm", which), journal=tmp_path / "journal")
        found[which] = scores(loaded)
        lms.append(loaded.watch.lm)
        assert loaded.arguments["peft"] == str(folders[which])
    assert lms[0] is lms[1] is lms[2]
    with pytest.raises(SmaugError, match="has no effect"):
        pool.get(spec("vllm", "untrained"))
    pool.close()
    expected = {which: scores(EnginePool().get(spec("torch", which))) for which in ("one", "two")}
    assert found["one"] == pytest.approx(expected["one"], abs=5e-3)
    assert found["two"] == pytest.approx(expected["two"], abs=5e-3)
    assert abs(found["one"][0] - found["two"][0]) > 0.1
    merged = EnginePool()
    whole = scores(merged.get(EngineSpec("vllm", tmp_path / "merged", "float32", engine_args=arguments)))
    merged.close()
    assert found["one"] == pytest.approx(whole, abs=1e-4)  # unmerged equals merged
