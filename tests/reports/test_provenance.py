"""Where numbers come from, published rows beside them, and what else the scores' panel shows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.reports.panels import views as views_panel
from smaug_eval.reports.panels.provenance import duration

ARC = "open_llm_v1_arc_challenge"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.25, "4.2 s"), (200.4, "3 min 20 s"), (7500.0, "2 h 5 min"), (math.nan, "n/a"), (59.99, "60.0 s")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_checkpoints_data_times_and_versions(run: Any, page: Callable[..., Any]) -> None:
    run.manifest(
        models={"base": {"source": "org/base", "sha256": "a" * 64}, "dpo": {"source": "x", "sha256": "b" * 64}},
        data={f"eval/{model}/main/arc": {"arc": "c" * 64} for model in ("base", "dpo")},
        stages=[
            {"name": "train/dpo", "status": "done", "seconds": 100},
            {"name": "x", "status": "done", "seconds": 20},
        ],
        packages={"torch": "2.13"},
        hardware={"gpus": []},
    )
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm").evaluation("dpo", {ARC: 0.6}, metric="acc_norm")
    run.training("dpo", {"eval": [(0, 0.0, 0.0)]}, {"loss": "dpo", "beta": 0.3, "formula": "-log sigmoid(x)"})
    report = page(run.path)
    assert report.row("base", f"source org/base; sha256 {'a' * 12}")[2:] == ["given", ""]
    assert report.row("dpo", f"source x; sha256 {'b' * 12}")[2:] == ["loss dpo; beta 0.3", "-log sigmoid(x)"]
    assert report.row("arc")[1:] == ["c" * 12, "eval/base/main/arc, eval/dpo/main/arc"]
    assert report.row("train/dpo")[1:] == ["done", "1 min 40 s"]
    assert "2 min 0 s in all" in report.text
    assert report.row("packages: torch") == ["packages: torch", "2.13"]
    assert report.row("hardware: gpus") == ["hardware: gpus", "none"]


def test_tokens_saved_are_those_of_the_evaluation_s_record(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm").evaluation("other", {ARC: 0.5}, metric="acc_norm")
    record = run.path / "eval" / "base" / "main" / ARC / "stage.json"
    record.write_text(json.dumps({"summary": {"tokens": {"requested": 1000, "computed": 254, "saved": 0.746}}}))
    shares = [cells[4] for cells in page(run.path).rows if cells[0] == ARC and len(cells) == 7]
    assert shares == ["74.6%", ""]


def test_a_model_of_the_archive_has_its_published_row(run: Any, page: Callable[..., Any]) -> None:
    run.manifest(models={"base": {"source": "openai-community/gpt2"}})
    run.evaluation("base", {ARC: 0.22}, metric="acc_norm")
    report = page(run.path)
    row = report.row("openai-community/gpt2")
    assert row[1:3] == ["28.53", "22.01"]
    assert row[-1] == "2024-02-09, float16, commit 11c5a3d5"
    assert report.row("openai-community/gpt2 here, and above the published")[1:3] == ["not measured", "22.00 −0.01"]


def test_ranks_in_a_given_archive(run: Any, tmp_path: Path, page: Callable[..., Any]) -> None:
    titles = ["ARC", "HellaSwag", "MMLU", "TruthfulQA", "Winogrande", "GSM8K"]
    archive = tmp_path / "archive.csv"
    with archive.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["Model", "Average ⬆️", *titles, "Precision", "#Params (B)", "Model sha", "Flagged", "date"])
        for number, score in enumerate((80.0, 55.0, 40.0, 20.0)):
            rows.writerow([f"org/m{number}", score, *[score] * 6, "bfloat16", 7, "0" * 40, "True", "2024-01-01"])
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm", n=101)
    row = page(run.path, archive=archive).row("ARC", "all models")
    # Wilson's interval is 40.4 to 59.6: at its ends 1 and 2 of the four score higher.
    assert row[2:6] == ["50.00", "3 of 5", "2 to 3", "50.0%"]


def gsm8k_samples(texts: list[str]) -> str:
    """lm-eval's samples of GSM8K where the right answer is 7, without hashes."""
    lines = [
        {"doc_id": number, "doc": {"answer": "#### 7", "gold": "7"}, "resps": [[text]], "filtered_resps": [text],
         "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": {"until": ["Question:", "</s>", "<|im_end|>"]}}}}
        for number, text in enumerate(texts)
    ]  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Results that somebody's lm-eval wrote, without errors and hashes."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    document = {
        "results": {
            "gsm8k": {"exact_match,strict-match": 0.75, "exact_match,flexible-extract": 0.75, "sample_len": 4},
            "arc_easy": {"acc,none": 0.5, "sample_len": 4},
        },
        "n-shot": {"gsm8k": 5},
        "config": {"model_args": "pretrained=org/model"},
        "model_name": "org/model",
    }
    (folder / "results_2026.json").write_text(json.dumps(document))
    (folder / "samples_gsm8k_2026.jsonl").write_text(gsm8k_samples(["#### 7", "So: 7\n#### 7", "#### 7.", "#### 8"]))
    return folder


def test_both_sets_of_rules_stand_side_by_side(theirs: Path, page: Callable[..., Any]) -> None:
    report = page(theirs)
    row = report.row("GSM8K acc")
    assert row[1:4] == ["25.00", "75.00", "+50.00"]
    assert "equality: +25.00 points" in row[4]


def test_samples_that_cannot_be_scored_again_leave_the_rest_of_the_report(run: Any, page: Callable[..., Any]) -> None:
    sample = {
        "doc_id": 0, "doc": {}, "target": "7", "resps": [["#### 7"]], "filtered_resps": ["#### 7"], "filter": "none",
        "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": {}}}, "metrics": ["acc"], "doc_hash": "h", "acc": 1.0,
    }  # fmt: skip
    samples = [sample, {**sample, "doc_id": 1}, {**sample, "doc_id": 2}, {**sample, "doc_id": 3, "acc": 0.0}]
    run.evaluation("base", {"open_llm_v1_gsm8k": 0.75}, n=4, samples=samples)
    report = page(run.path)
    assert "base cannot be scored by both: samples of open_llm_v1_gsm8k, line 1: not in lm-eval's format" in report.text
    assert report.row("base baseline")[2].startswith("75.0")


def test_large_samples_are_not_read_again(
    theirs: Path, page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views_panel, "READ_AT_MOST", 10)
    report = page(theirs)
    assert "smaug-eval scores with --view both" in report.text
    assert "by both sets of rules" not in report.text


def test_any_mix_of_inputs(theirs: Path, tmp_path: Path, run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {ARC: 0.5}, metric="acc_norm").training("dpo", {"eval": [(0, 0.0, 0.0), (9, -1.0, -2.0)]})
    judgments = tmp_path / "gpt-4_single.jsonl"
    line = {"question_id": 81, "model": "alpaca", "judge": ["gpt-4", "single-v1"], "user_prompt": "q",
            "judgment": "[[9]]", "score": 9, "turn": 1, "tstamp": 1.0}  # fmt: skip
    judgments.write_text(json.dumps(line) + "\n")
    text = page(run.path, theirs, judgments).text
    for shown in ("3 models", "org/model", "alpaca", "Judged by gpt-4", "dpo: preferred answers became less likely"):
        assert shown in text


def test_a_training_s_folder_or_log_alone(run: Any, page: Callable[..., Any]) -> None:
    run.training("dpo", {"eval": [(0, 0.0, 0.0), (9, -1.0, -2.0)]}, {"loss": "dpo"})
    for path in (run.path / "train" / "dpo", run.path / "train" / "dpo" / "log.jsonl"):
        assert "dpo moved the preferred answers of held-out pairs by −1.00 nats" in page(path).text


def test_fastchat_s_answers_alone_are_counted(tmp_path: Path, page: Callable[..., Any]) -> None:
    folder = tmp_path / "mt_bench" / "model_answer"
    folder.mkdir(parents=True)
    lines = [
        {"question_id": number, "answer_id": "x", "model_id": "alpaca", "tstamp": 1.0,
         "choices": [{"index": 0, "turns": ["one", "two"]}]}
        for number in (81, 82)
    ]  # fmt: skip
    (folder / "alpaca.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (folder.parent, folder / "alpaca.jsonl"):
        report = page(path)
        assert "Not judged yet." in report.text
        assert report.row("alpaca") == ["alpaca", "4"]
