"""lm-eval's vLLM model beside its hf model on a checkpoint that smaug-eval trained; needs vLLM (``make test-vllm``)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test-vllm runs these")

from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.evaluate import evaluate_column
from smaug_eval.leaderboard.registry import find_suite
from tests.engines.trained import train_two_steps

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

LIMIT = 8


def results(folder: Path) -> dict[str, dict[str, float]]:
    (file,) = folder.glob("results_*.json")
    return json.loads(file.read_text())["results"]


def log_likelihoods(folder: Path) -> list[float]:
    (file,) = folder.glob("samples_*.jsonl")
    return [float(pair[0][0]) for line in file.read_text().splitlines() for pair in json.loads(line)["resps"]]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    suite, pool = find_suite("demo"), EnginePool()
    trained = train_two_steps(tmp_path_factory.mktemp("training"))
    folders = {}
    for engine in ("hf", "vllm"):
        loaded = pool.get(
            EngineSpec(
                engine,
                trained / "checkpoint",
                dtype="float32",
                batch_size=4,
                device="cpu" if engine == "hf" else None,
                engine_args={"max_model_len": 1024} if engine == "vllm" else {},
            )
        )
        for column in suite.select(["facts", "arithmetic"]):
            folder = tmp_path_factory.mktemp(f"{engine}-{column.title}")
            evaluate_column(loaded, suite, column, limit=LIMIT, data_root=None, out_dir=folder, report=lambda *_: None)
            folders[f"{engine}/{column.title}"] = folder
    pool.close()
    return folders


def test_log_likelihoods_agree(evaluated: dict[str, Path]) -> None:
    hf, vllm = (log_likelihoods(evaluated[f"{engine}/Facts"]) for engine in ("hf", "vllm"))
    assert len(hf) >= 2 * LIMIT
    assert vllm == pytest.approx(hf, abs=2e-3)


@pytest.mark.parametrize("column", ["Facts", "Arithmetic"])
def test_scores_agree(evaluated: dict[str, Path], column: str) -> None:
    assert results(evaluated[f"vllm/{column}"]) == results(evaluated[f"hf/{column}"])
