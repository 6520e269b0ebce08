"""Building engines, and what is observed while they work, on the embedded checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.embedded import embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.build import build_engine, choose_engine, vllm_distribution
from smaug_eval.engines.pool import EnginePool, LoadedEngine
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.evaluate import evaluate_column
from smaug_eval.leaderboard.protocol import requests
from smaug_eval.leaderboard.registry import find_suite
from smaug_eval.leaderboard.suite_data import data_fingerprints

LIMIT = 2


def engine(pool: EnginePool, **engine_args: object) -> LoadedEngine:
    return pool.get(
        EngineSpec(
            "hf",
            embedded_path("demo-model"),
            dtype="float32",
            batch_size=4,
            device="cpu",
            engine_args=engine_args,
        )
    )


@pytest.fixture(scope="module")
def pool() -> EnginePool:
    return EnginePool()


@pytest.mark.slow
def test_progress_counts_every_request_once(pool: EnginePool, tmp_path: Path) -> None:
    suite = find_suite("demo")
    (column,) = suite.select(["facts"])
    seen: list[tuple[int, int]] = []
    summary = evaluate_column(
        engine(pool),
        suite,
        column,
        limit=LIMIT,
        data_root=None,
        out_dir=tmp_path,
        report=lambda done, total, what: seen.append((done, total)),
    )
    documents = suite.documents("demo_facts")[:LIMIT]
    asked = sum(len(requests(suite.task("demo_facts"), document)) for document in documents)
    assert summary["requests"] == asked
    assert summary["documents"] == LIMIT
    assert summary["truncated"] == 0
    assert seen == [(done, asked) for done in range(1, asked + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("column_name", ["facts", "arithmetic"])
def test_truncated_prompts_are_counted_as_lm_eval_truncates(pool: EnginePool, tmp_path: Path, column_name: str) -> None:
    suite = find_suite("demo")
    (column,) = suite.select([column_name])
    loaded = engine(pool, max_length=120)
    summary = evaluate_column(
        loaded, suite, column, limit=LIMIT, data_root=None, out_dir=tmp_path, report=lambda *_: None
    )
    spec = column.leaves[0]
    expected = 0
    for document in suite.documents(spec.name)[:LIMIT]:
        for context, continuation in requests(spec, document):
            if spec.generation is None:
                # A model of context n reads n tokens and predicts one more.
                expected += len(loaded.watch.lm.tok_encode(context + continuation)) > 121
            else:
                expected += len(loaded.watch.lm.tok_encode(context)) > 120 - spec.generation.max_new_tokens
    assert expected > 0
    assert summary["truncated"] == expected
    assert any("prompts truncated (the model's context holds 120 tokens)" in warning for warning in summary["warnings"])


@pytest.mark.slow
def test_the_pool_keeps_a_model_until_other_settings_are_asked_for(pool: EnginePool) -> None:
    first = engine(pool)
    assert engine(pool) is first
    assert engine(pool, max_length=64) is not first


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", "hf"])
def test_another_batch_size_does_not_load_the_model_again(pool: EnginePool, name: str) -> None:
    settings: dict[str, Any] = {"dtype": "float32", "device": "cpu", "engine_args": {}}
    first = pool.get(EngineSpec(name, embedded_path("demo-model"), batch_size=4, **settings))
    second = pool.get(EngineSpec(name, embedded_path("demo-model"), batch_size=32, **settings))
    assert second is first
    assert second.watch.lm.batch_size == 32


def test_settings_of_ours_cannot_be_passed_behind_our_back() -> None:
    with pytest.raises(SmaugError, match=r"engine_args\.trust_remote_code is set by smaug-eval"):
        build_engine(
            EngineSpec(
                "hf",
                embedded_path("demo-model"),
                dtype="float32",
                batch_size=1,
                device=None,
                engine_args={"trust_remote_code": True},
            )
        )


@pytest.mark.slow
def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-architecture"}))
    with pytest.raises(SmaugError, match="engine hf cannot load"):
        build_engine(EngineSpec("hf", tmp_path, dtype="float32", batch_size=1, device="cpu", engine_args={}))


def test_auto_takes_what_the_machine_has() -> None:
    import torch

    expected = "vllm" if vllm_distribution() == "vllm" and torch.cuda.is_available() else "torch"
    assert choose_engine("auto") == expected
    if vllm_distribution() is None:
        with pytest.raises(SmaugError, match="vLLM is not installed"):
            choose_engine("vllm")


def test_fingerprints_follow_the_rows(tmp_path: Path) -> None:
    from datasets import Dataset

    suite = find_suite("open_llm_v1")
    (column,) = suite.select(["gsm8k"])

    def fingerprint(folder: str, answer: str) -> dict[str, str]:
        root = tmp_path / folder
        for split in ("train", "test"):
            file = root / "openai/gsm8k/main" / f"{split}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_list([{"question": f"Q{n}", "answer": answer} for n in range(6)]).to_parquet(str(file))
        return data_fingerprints(column, suite, root)

    assert fingerprint("one", "#### 1") == fingerprint("same", "#### 1") != fingerprint("other", "#### 2")
