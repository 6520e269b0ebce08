from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.layout import judgments_stage
from smaug_eval.reports import build_report
from smaug_eval.results.json_files import json_lines
from smaug_eval.results.merging import merge_dialogues, merge_models, merge_trainings
from smaug_eval.results.merging import with_distinct_labels as distinct
from smaug_eval.results.metrics import metrics_of
from smaug_eval.results.names import model_of
from smaug_eval.results.sources import read_source
from smaug_eval.results.task_results import read_results

ARC = "open_llm_v1_arc_challenge"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def results(scores: dict[str, float], model: str, date: float = 1.0) -> str:
    entries = {task: {"alias": task, "acc,none": score, "acc_stderr,none": 0.1} for task, score in scores.items()}
    return json.dumps({"results": entries, "model_name": model, "date": date})


def test_metrics_are_told_from_names_counts_and_errors() -> None:
    entry = {
        "name": "t", "alias": "t", "sample_len": 4, "sample_count": {"acc,none": 4},
        "acc,none": 0.5, "acc_stderr,none": 0.25,
        "exact_match,strict-match": 0.75, "exact_match_stderr,strict-match": "N/A",
        "broken,none": math.nan, "absent,none": "N/A", "old": 1, "flag,none": "text",
    }  # fmt: skip
    found = {metric.label: (metric.value, metric.stderr) for metric in metrics_of(entry)}
    assert found.keys() == {"acc", "exact_match (strict-match)", "broken", "absent", "old"}
    assert found["acc"] == (0.5, 0.25)
    assert found["exact_match (strict-match)"][0] == 0.75
    assert math.isnan(found["exact_match (strict-match)"][1])
    assert math.isnan(found["broken"][0])
    assert math.isnan(found["absent"][0])


def test_a_results_file_gives_counts_hashes_settings_and_its_own_samples(run: Any) -> None:
    run.evaluation(
        "base", {ARC: 0.5}, metric="acc_norm", n=20, available=1172, hashes={ARC: "f00"}, samples=[{"doc_id": 0}]
    )
    (path,) = (run.path / "eval").rglob("results_*.json")
    write(path.with_name(f"samples_{ARC}_another-date.jsonl"), "{}\n")
    result = read_results(path)[ARC]
    assert (result.n, result.available, result.fingerprint, result.is_group) == (20, 1172, "f00", False)
    assert result.samples == path.with_name(path.name.replace("results", f"samples_{ARC}") + "l")
    assert result.settings["num_fewshot"] == 5
    assert result.settings["lm_eval_version"] == "0.4.13"
    assert result.settings["config"]["model_args"] == {"pretrained": "org/model"}


def test_the_newest_of_several_evaluations_of_a_task_counts_and_is_noted(run: Any) -> None:
    run.evaluation("base", {"t": 0.25}, stamp="2026-01-03T00-00-00", date=300.0)
    run.evaluation("base", {"t": 0.75}, stamp="2026-01-02T00-00-00", date=200.0)
    run.evaluation("base", {"t": 0.5}, stamp="2026-01-01T00-00-00", date=100.0, evaluation="second")
    source = read_source(run.path)
    assert source.results["base"]["t"].entry["acc,none"] == 0.25
    assert source.notes == ["base: task t was evaluated in main, second; the newest is shown"]


def test_models_come_in_the_order_of_the_manifest(run: Any) -> None:
    run.manifest(models={"base": {}, "dpop": {}, "dpo": {}}).evaluation("dpo", {"t": 0.5})
    run.evaluation("dpop", {"t": 0.5}).evaluation("base", {"t": 0.5})
    assert list(read_source(run.path).results) == ["base", "dpop", "dpo"]


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"model_name": "org/model"}, "org/model"),
        ({"model_name": "gpt2"}, "gpt2"),
        ({"model_name": "/data/models/tiny/"}, "tiny"),
        ({"model_name": "../models/tiny"}, "tiny"),
        ({"config": {"model_args": {"pretrained": "org/other"}}}, "org/other"),
        ({"config": {"model_args": "pretrained=x"}}, "x"),
        ({"model_name": ""}, "folder"),
    ],
)
def test_a_model_is_named_by_its_file(document: dict[str, Any], name: str) -> None:
    assert str(model_of(document, Path("folder/results_1.json"))) == name


def test_plain_results_are_found_below_a_folder_and_sorted_by_model(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x" / "results_1.json", results({"t": 0.1}, "org/one", date=1))
    write(tmp_path / "a" / "results_2.json", results({"t": 0.2}, "org/one", date=2))
    write(tmp_path / "b" / "results_1.json", results({"u": 0.3}, "org/two"))
    source = read_source(tmp_path)
    assert not source.is_run
    assert {model: sorted(tasks) for model, tasks in source.results.items()} == {"org/one": ["t"], "org/two": ["u"]}
    assert source.results["org/one"]["t"].entry["acc,none"] == 0.2


def test_one_model_in_several_plain_sources_is_one_model_unless_tasks_repeat(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{i}" / "results_1.json", results({task: 0.5}, "m")) for i, task in enumerate("tut")]
    together = merge_models(distinct([read_source(files[0]), read_source(files[1])]))
    assert {model: sorted(tasks) for model, tasks in together.items()} == {"m": ["t", "u"]}
    apart = merge_models(distinct([read_source(files[0]), read_source(files[2])]))
    assert list(apart) == ["0/m", "2/m"]


def test_models_of_two_runs_keep_the_name_of_their_run(write_run: Callable[[str], Any]) -> None:
    first = write_run("first").evaluation("base", {"t": 0.5})
    second = write_run("second").evaluation("base", {"u": 0.5}).evaluation("dpop", {"u": 0.5})
    assert list(merge_models([read_source(first.path), read_source(second.path)])) == [
        "first/base",
        "second/base",
        "dpop",
    ]


def test_a_name_is_the_same_in_every_panel(write_run: Callable[[str], Any]) -> None:
    curve = {"eval": [(0, 0.0, 0.0), (9, -1.0, -2.0)]}
    first = write_run("first").evaluation("base", {"t": 0.5}).evaluation("dpo", {"t": 0.5})
    first.training("dpo", curve, {"loss": "dpo"})
    second = write_run("second").evaluation("base", {"t": 0.5}).evaluation("dpop", {"t": 0.5})
    second.training("dpop", curve, {"loss": "dpop"})
    sources = [read_source(first.path), read_source(second.path)]
    assert list(merge_models(sources)) == ["first/base", "dpo", "second/base", "dpop"]
    assert [each.name for each in merge_trainings(sources)] == ["dpo", "dpop"]  # as their models
    third = write_run("third").training("dpo", curve, {"loss": "dpo"})  # not evaluated yet; another dpo all the same
    sources.append(read_source(third.path))
    assert list(merge_models(sources)) == ["first/base", "first/dpo", "second/base", "dpop"]
    assert [each.name for each in merge_trainings(sources)] == ["first/dpo", "dpop", "third/dpo"]


def test_judged_models_bear_the_names_of_the_evaluated_ones(write_run: Callable[[str], Any], tmp_path: Path) -> None:
    record = {
        "question_id": 81, "model": "base", "judge": ["gpt-4", "single-v1"], "user_prompt": "", "judgment": "[[5]]",
        "score": 5, "turn": 1, "tstamp": 0.0,
    }  # fmt: skip
    first = write_run("first").evaluation("base", {"t": 0.5})
    place = first.path / judgments_stage("main", "all") / "judge_single.jsonl"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(record) + "\n")
    second = write_run("second").evaluation("base", {"t": 0.5})
    sources = [read_source(first.path), read_source(second.path)]
    assert [each.models for each in merge_dialogues(sources)] == [["first/base"]]
    plain = write(tmp_path / "plain" / "results_1.json", results({"t": 0.5}, "base"))
    judged = tmp_path / "gpt-4_single.jsonl"
    judged.write_text(json.dumps(record) + "\n")
    sources = [read_source(plain), read_source(judged)]  # one model, evaluated here and judged there
    assert list(merge_models(sources)) == ["base"]
    assert [each.models for each in merge_dialogues(sources)] == [["base"]]


def test_a_folder_of_judged_answers_that_holds_a_log_too_is_both(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    (folder / "model_judgment").mkdir(parents=True)
    (folder / "log.jsonl").write_text(json.dumps({"split": "train", "step": 1, "loss": 0.5}) + "\n")
    line = {"question_id": 81, "model": "m", "judge": ["j", "single-v1"], "score": 7, "turn": 1}
    (folder / "model_judgment" / "j_single.jsonl").write_text(json.dumps(line) + "\n")
    source = read_source(folder)
    assert len(source.trainings) == 1
    assert [record.value for each in source.dialogues for record in each.judgments.single] == [7]
    assert [len(read_source(folder / "log.jsonl").trainings), read_source(folder / "log.jsonl").dialogues] == [1, []]


def test_labels_that_end_alike_are_numbered(tmp_path: Path) -> None:
    files = [write(tmp_path / name / "out" / "results_1.json", results({"t": 0.5}, "m")) for name in "ab"]
    assert [source.label for source in distinct([read_source(file) for file in files])] == ["out", "out (2)"]


def test_a_run_in_progress_says_what_is_missing(run: Any) -> None:
    stages = [
        {"name": "train/dpo", "status": "done"},
        {"name": "eval/dpo", "status": "new"},
        {"name": "report", "status": "x"},
    ]
    run.manifest(models={"base": {}, "dpo": {}}, stages=stages).training("dpo", {"train": [(1, 0.0, 0.0)]})
    (run.path / "train" / "dpop").mkdir()
    (run.path / "train" / "dpop" / "log.jsonl").touch()
    assert read_source(run.path).missing == [
        "stage eval/dpo is not done",
        "no evaluation results yet",
        "training dpo has not finished (no summary.json)",
        "training dpop has not finished (no summary.json)",
        "training dpop has logged nothing yet",
    ]


def test_a_log_line_still_being_written_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", '{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in json_lines(path)] == [1, 2]


def test_a_broken_line_elsewhere_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", '{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(SmaugError, match=r"log\.jsonl, line 2: not valid JSON"):
        list(json_lines(path))


def test_log_rows_may_lack_keys_and_a_repeated_step_counts_once(run: Any) -> None:
    run.training("dpo", {})
    write(
        run.path / "train" / "dpo" / "log.jsonl",
        '{"split": "train", "step": 2, "loss": 0.5}\n{"split": "train", "step": 1, "loss": "bad"}\n'
        '{"split": "train", "step": 2, "loss": 0.25}\n{"note": "no step"}\n',
    )
    (training,) = read_source(run.path).trainings
    rows = training.rows[training.rows["split"] == "train"]
    assert list(rows["step"]) == [1, 2]
    assert math.isnan(rows["loss"].iloc[0])
    assert rows["loss"].iloc[1] == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"results": {\n"t": {"acc,none": }}}', r"results_1\.json, line 2: not JSON"),
        ("[1]", r"results_1\.json: expected a JSON object, found list"),
        ("{}", r"results_1\.json: key 'results' is missing"),
        ('{"results": {"t": 3}}', r"results_1\.json: results\['t'\] is not an object"),
    ],
)
def test_bad_results_are_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "results_1.json", text)
    with pytest.raises(SmaugError, match=message) as caught:
        read_source(tmp_path)
    assert caught.value.fix


def test_a_path_that_is_not_there_or_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(SmaugError, match="nowhere does not exist"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(SmaugError, match="no lm-eval results, judgments, training logs or manifest under"):
        read_source(tmp_path)


def test_an_empty_file_and_a_wrong_archive_are_refused(run: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(SmaugError, match=r"no lm-eval results, judgments.* under .*empty\.jsonl"):
        read_source(empty)
    archive = tmp_path / "archive.csv"
    archive.write_text("words, not rows\n")
    run.manifest()
    with pytest.raises(SmaugError, match=r"archive\.csv"):
        build_report([run.path], tmp_path / "report.html", archive=archive)
