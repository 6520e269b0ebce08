"""From result files to both views, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError

MODERN_STOPS = ["Question:", "</s>", "<|im_end|>"]


def write(folder: Path, results: dict[str, Any], samples: dict[str, list[dict[str, Any]]], **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "results": results,
        "n-shot": {"arc_challenge": 25, "gsm8k": 5, "mmlu_anatomy": 0},
        "config": {"model_args": {"pretrained": "org/model", "add_bos_token": False}},
        "model_name": "org/model",
        "date": 1.7e9,
        **more,
    }
    (folder / "results_2026.json").write_text(json.dumps(document))
    for task, lines in samples.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"samples_{task}_2026.jsonl").write_text(text)
    return folder


def generated(doc_id: int, text: str, stops: list[str]) -> dict[str, Any]:
    arguments = {"gen_args_0": {"arg_0": "Q", "arg_1": {"until": stops}}}
    return {"doc_id": doc_id, "doc": {"answer": "#### 7", "gold": "7"}, "arguments": arguments, "resps": [[text]]}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Results of lm-eval's own tasks: GSM8K with samples, an MMLU part without, and a task of no column."""
    texts = ["#### 7", "So: 7\n#### 7", "#### 7.", "#### 8"]
    lines = [generated(number, text, MODERN_STOPS) for number, text in enumerate(texts)]
    results = {
        "gsm8k": {"exact_match,strict-match": 0.75, "exact_match,flexible-extract": 0.75, "sample_len": 4},
        "mmlu_anatomy": {"acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 26},
        "arc_easy": {"acc,none": 0.5, "sample_len": 4},
    }
    return write(tmp_path / "theirs", results, {"gsm8k": lines})


def test_anybody_s_results_in_both_views(foreign: Path) -> None:
    (views,) = smaug_eval.score_views([foreign])
    mmlu, gsm8k = views.columns
    assert (views.model, views.suite, views.origin) == ("org/model", "open_llm_v1", "lm-eval's own tasks, re-scored")
    assert (gsm8k.v1.value, gsm8k.modern and gsm8k.modern.value) == (25.0, 75.0)
    assert {cause.name: cause.points for cause in gsm8k.causes} == {"equality": 25.0, "':' stop": 25.0}
    assert views.how == {"MMLU": "taken as reported", "GSM8K": "recomputed from samples"}
    assert mmlu.v1.notes == ("not comparable: 0 shots, the leaderboard's 5", "1 of 57 tasks", "26 of 14,042 documents")
    assert (views.scores.average.value, views.modern_average, views.average_difference) == (37.5, 62.5, 25.0)
    assert views.left_out == ("arc_easy",)
    assert views.scores.interval_method == "standard errors of independent columns"


def test_a_suite_s_own_results(tmp_path: Path) -> None:
    lines = [generated(0, "#### 7", [":"]), generated(1, "She sells", [":"])]
    for line, acc in zip(lines, (1.0, 0.0), strict=True):
        line |= {"metrics": ["acc"], "acc": acc}
    entry = {"acc,none": 0.5, "acc_stderr,none": 0.5, "sample_len": 2}
    path = write(tmp_path / "ours", {"open_llm_v1_gsm8k": entry}, {"open_llm_v1_gsm8k": lines})
    (views,) = smaug_eval.score_views([path])
    (gsm8k,) = views.columns
    assert views.origin == "the suite's tasks"
    assert gsm8k.modern_is_least
    assert views.scores.interval_method == "that of the only task"
    assert views.scores.average.interval == views.scores.columns[0].score.interval is not None


@pytest.mark.parametrize(
    ("view", "column_keys", "average_keys"),
    [
        ("v1", {"v1", "others"}, {"average", "interval_method"}),
        ("modern", {"modern"}, {"modern_average"}),
        (
            "both",
            {"v1", "others", "modern", "causes"},
            {"average", "interval_method", "modern_average", "average_difference"},
        ),
    ],
)
def test_json(foreign: Path, view: str, column_keys: set[str], average_keys: set[str]) -> None:
    result = CliRunner().invoke(app, ["scores", str(foreign), "--view", view, "--json"])
    found, other = json.loads(result.stdout)
    assert [column["title"] for column in other["columns"]] == ["arc_easy"]
    always = {"model", "suite", "origin", "average_label", "missing", "left_out", "columns"}
    assert found.keys() == always | average_keys
    assert found["columns"][1].keys() == {"title", "metric", "how"} | column_keys
    if "v1" in column_keys:
        assert found["columns"][1]["v1"].keys() == {"value", "stderr", "n", "notes", "interval"}


def test_terminal(foreign: Path) -> None:
    text = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["scores", str(foreign)]).stdout
    assert "GSM8K (acc)" in text
    assert "25.00 ± 25.00" in text
    assert "+50.00" in text
    assert "GSM8K, ':' stop: +25.00 points" in text
    assert "not part of open_llm_v1: arc_easy" in text
    only_modern = CliRunner().invoke(app, ["scores", str(foreign), "--view", "modern"]).stdout
    assert "75.00" in only_modern
    assert "±" not in only_modern


def test_wrong_input(tmp_path: Path, foreign: Path) -> None:
    with pytest.raises(SmaugError, match="does not exist"):
        smaug_eval.score_views([tmp_path / "nowhere"])
    path = write(tmp_path / "other", {"arc_easy": {"acc,none": 0.5, "sample_len": 4}}, {})
    with pytest.raises(SmaugError, match="no task of a suite or of the leaderboard's six benchmarks"):
        smaug_eval.score_views([path])
    wrong = CliRunner().invoke(app, ["scores", str(foreign), "--view", "v2"])
    assert isinstance(wrong.exception, SmaugError)
    assert wrong.exception.fix == "choose one of v1, modern, both"


def test_samples_of_cut_documents_and_damaged_ones_take_no_score_away(foreign: Path, tmp_path: Path) -> None:
    """A page of many models does not end at one file of samples: the score is the reported one, and that is said."""
    choice = {"arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": " a"}}, "filtered_resps": [["-1.0", "False"]]}
    cut = [{"doc_id": number, "doc": {}, **choice, "acc": float(number == 0)} for number in range(4)]
    entry = {"acc,none": 0.25, "acc_norm,none": 0.5, "acc_norm_stderr,none": 0.1, "sample_len": 4}
    model = {"model_name": "org/cut", "config": {"model_args": "pretrained=org/cut,add_bos_token=False"}}
    write(tmp_path / "all/cut", {"arc_challenge": entry}, {"arc_challenge": cut}, **model)
    broken = write(tmp_path / "all/broken", {"arc_challenge": entry}, {}, model_name="org/broken")
    (broken / "samples_arc_challenge_2026.jsonl").write_text('{"doc_id": 0}\n{"doc_id\n')
    whole = foreign.rename(tmp_path / "all/theirs")

    views = {each.model: each for each in smaug_eval.score_views([whole, tmp_path / "all/cut"])}
    (arc,) = views["org/cut"].columns
    assert (arc.v1.value, views["org/cut"].how) == (50.0, {"ARC": "taken as reported"})
    assert "key 'answerKey' is missing" in " ".join(arc.v1.notes)
    assert views["org/model"].how["GSM8K"] == "recomputed from samples"

    names = ["Model", "Average ⬆️", "ARC", "HellaSwag", "MMLU", "TruthfulQA", "Winogrande", "GSM8K", "Precision",
             "#Params (B)", "Model sha", "Flagged", "date"]  # fmt: skip
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join(names) + "\na/b,60,60,60,60,60,60,60,float16,7,abc,True,2024-01-01\n")
    found = smaug_eval.rank([tmp_path / "all"], rows)
    ranks = {each["model"]: each["ranks"][0] for each in found["standings"]}
    assert {model: (each["column"], each["score"], each["rank"]) for model, each in ranks.items()} == {
        "org/cut": ("ARC", 50.0, 2), "org/broken": ("ARC", 50.0, 2), "org/model": ("MMLU", 50.0, 2),
    }  # fmt: skip
    assert any("samples_arc_challenge_2026.jsonl: line 2: not valid JSON" in note for note in found["notes"])
    for archive in (None, rows):
        page = smaug_eval.leaderboard_page([tmp_path / "all"], tmp_path / "board.html", archive=archive)
        assert "samples_arc_challenge_2026.jsonl: line 2: not valid JSON" in page.read_text()
