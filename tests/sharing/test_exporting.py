"""Exports: an independent validator takes Every Eval Ever's records, our own reader takes lm-eval's folders back."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.sharing.every_eval_ever import _SCHEMAS, VERSION, check
from smaug_eval.sharing.places import Places
from tests.results.others import STAMP, newest, write
from tests.run_writer import RunWriter
from tests.sharing.shared_run import REVISION, write_run


@pytest.fixture
def shared_run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "animals")


def test_every_eval_ever_takes_the_records(shared_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "eee"
    files = smaug_eval.export(shared_run, "eee", out, organization="Ann", relationship="third_party")
    assert len(files) == 4
    schemas = {each.name.partition(".")[0]: json.loads(each.read_text()) for each in _SCHEMAS.glob("*.schema.json")}
    assert schemas["eval"]["version"] == VERSION == "0.3.0"
    whole, single = (Draft7Validator(schemas[name]) for name in ("eval", "instance_level_eval"))
    (file,) = (out / "data/tasks/animals/dpop").glob("*.json")
    record = json.loads(file.read_text())
    assert list(whole.iter_errors(record)) == []
    assert record["model_info"]["id"] == "animals/dpop"
    assert record["source_metadata"]["source_organization_name"] == "Ann"
    (result,) = record["evaluation_results"]
    assert result["source_data"] == {
        "dataset_name": "org/animals",
        "source_type": "hf_dataset",
        "hf_repo": "org/animals",
        "hf_split": "test",
        "additional_details": {"revision": REVISION, "config": "main"},
    }
    assert result["score_details"]["score"] == pytest.approx(75.0)
    assert result["score_details"]["uncertainty"]["num_samples"] == 40
    assert result["metric_config"]["lower_is_better"] is False
    about = record["detailed_evaluation_results"]
    samples = out / about["file_path"]
    assert hashlib.sha256(samples.read_bytes()).hexdigest() == about["checksum"]
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(rows) == about["total_rows"] == 40
    assert all(list(single.iter_errors(row)) == [] for row in rows)
    assert sum(row["evaluation"]["is_correct"] for row in rows) == 30
    assert {row["evaluation_result_id"] for row in rows} == {result["evaluation_result_id"]}
    assert rows[0]["input"]["choices"] == [" a"]
    (base,) = (out / "data/tasks/org/base").glob("*.json")
    assert json.loads(base.read_text())["model_info"]["id"] == "org/base"
    assert str(tmp_path) not in base.read_text() + file.read_text()


def test_averages_and_judged_scores_are_results_too(tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "runs" / "both")
    for model, right in (("base", 20), ("dpop", 30)):
        for task, metric in (("open_llm_v1_arc_challenge", "acc_norm"), ("open_llm_v1_winogrande", "acc")):
            values = [1.0] * right + [0.0] * (40 - right)
            samples = RunWriter.samples(values, metric)
            run.evaluation(model, {task: right / 40}, metric=metric, n=40, samples=samples)
    rows = [
        {"question_id": number, "model": model, "judge": ["gpt-4", "single-v1"], "turn": turn, "tstamp": 1.7e9 + turn,
         "score": score + number % 2, "judgment": "", "user_prompt": ""}
        for model, score in (("base", 4), ("dpop", 7)) for number in range(81, 91) for turn in (1, 2)
    ]  # fmt: skip
    judged = tmp_path / "mt_bench" / "model_judgment" / "gpt-4_single.jsonl"
    judged.parent.mkdir(parents=True)
    judged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "eee"
    files = [each for each in smaug_eval.export([run.path, judged.parent.parent], "eee", out) if each.suffix == ".json"]
    validator = Draft7Validator(json.loads((_SCHEMAS / "eval.schema.json").read_text()))
    records = [json.loads(each.read_text()) for each in files]
    assert [error.message for record in records for error in validator.iter_errors(record)] == []
    scores = {
        (record["model_info"]["name"].rpartition("/")[2], result["evaluation_name"]): result
        for record in records
        for result in record["evaluation_results"]
    }
    average = scores["dpop", "mean of 2 of 6 columns"]
    assert average["score_details"]["score"] == pytest.approx(75.0)
    assert average["source_data"]["additional_details"] == {"mean_of": "ARC, Winogrande"}
    assert average["score_details"]["uncertainty"]["confidence_interval"]["lower"] < 75
    assert "dpop" in average["score_details"]["details"]["sentence"]
    judgment = scores["dpop", "average"]
    assert judgment["score_details"]["score"] == 7.5
    assert judgment["score_details"]["uncertainty"]["num_samples"] == 10
    scale = {"min_score": 1.0, "max_score": 10.0, "metric_unit": "points of 10"}
    assert {key: judgment["metric_config"][key] for key in scale} == scale
    (judge,) = judgment["metric_config"]["llm_scoring"]["judges"]
    assert judge["model_info"]["name"] == "gpt-4"
    assert judgment["metric_config"]["llm_scoring"]["input_prompt"] == "single-v1"
    assert scores["base", "turn 2"]["score_details"]["score"] == 4.5
    assert {record["evaluation_timestamp"] for record in records if "FastChat" in record["evaluation_id"]} == {
        "1700000002.0"
    }


def test_a_record_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SmaugError, match=r"every_eval_ever 0\.3\.0"):
        check({"schema_version": VERSION}, "eval")


def test_the_same_results_have_the_same_names(shared_run: Path, tmp_path: Path) -> None:
    first = smaug_eval.export(shared_run, "eee", tmp_path / "one")
    second = smaug_eval.export(shared_run, "eee", tmp_path / "two")
    assert [each.name for each in first] == [each.name for each in second]


def test_lm_evals_folders_are_read_back_with_the_same_scores(shared_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "folders"
    files = smaug_eval.export(shared_run, "lm-eval", out)
    assert sorted(each.parent.name for each in files) == ["base", "base", "dpop", "dpop"]
    assert all(re.fullmatch(r"(results|samples_animals)_[\dT.-]+\.jsonl?", each.name) for each in files)
    (results,) = (out / "dpop").glob("results_*.json")
    document = json.loads(results.read_text())
    assert document["model_name"] == "dpop"
    assert str(tmp_path) not in results.read_text()
    (original,) = (shared_run / "eval/dpop/main/animals").glob("samples_*")
    (samples,) = (out / "dpop").glob("samples_*")
    assert samples.read_bytes() == original.read_bytes()
    columns = ["column", "metric", "score", "stderr", "n"]
    before = smaug_eval.scores(shared_run)
    after = smaug_eval.scores(out)
    assert sorted(after["model"]) == ["base", "dpop"]
    for model in ("base", "dpop"):
        one, two = (each[each["model"] == model][columns].reset_index(drop=True) for each in (before, after))
        pd.testing.assert_frame_equal(one, two)


def test_the_flat_table_is_the_data_frame(shared_run: Path, tmp_path: Path) -> None:
    (file,) = smaug_eval.export(shared_run, "csv", tmp_path / "scores.csv")
    read = pd.read_csv(file)
    assert list(read["model"]) == ["base", "dpop"]
    assert list(read["score"]) == [50.0, 75.0]
    assert read["delta"][1] == pytest.approx(25.0)


def test_where_an_export_goes(shared_run: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(SmaugError, match="exists already"):
        smaug_eval.export(shared_run, "lm-eval", tmp_path / "used")
    with pytest.raises(SmaugError, match="did you mean 'csv'"):
        smaug_eval.export(shared_run, "cvs", tmp_path / "out")
    with pytest.raises(SmaugError, match="did you mean 'third_party'"):
        smaug_eval.export(shared_run, "eee", tmp_path / "out", relationship="thirdparty")
    assert not (tmp_path / "out").exists()


NAMES = st.text(st.characters(codec="ascii", categories=("Ll", "Nd")), min_size=1, max_size=8)


@given(st.lists(NAMES, min_size=2, max_size=5), st.lists(NAMES, max_size=3), st.text(max_size=20))
def test_no_known_folder_is_left_in_a_text(folder: list[str], inner: list[str], around: str) -> None:
    known = "/" + "/".join(folder)
    places = Places([], [{"path": known}])
    text = f'{around} {known} "{"/".join([known, *inner])}" file://{known}'
    assert places.left_in(places.hide(text)) == [] or known in around


def test_a_longer_name_is_another_path() -> None:
    places = Places([], ["/data/runs"])
    assert places.hide("/data/runs/x /data/runs2 /data/runs-old") == "runs/x /data/runs2 /data/runs-old"


@pytest.mark.parametrize("format_", ["eee", "lm-eval", "csv"])
def test_models_of_different_tasks_are_exported_together(tmp_path: Path, format_: str) -> None:
    """Each has its own tables alone; no number of another's stands for it."""
    results = {"chooser": {"arc_challenge": {"acc_norm,none": 0.5, "acc_norm_stderr,none": 0.1}},
               "reader": {"wikitext": {"word_perplexity,none": 12.0}}}  # fmt: skip
    for name, entries in results.items():
        write(tmp_path / "in" / name / f"results_{STAMP}.json", newest(entries, model=f"org/{name}", shots=25))
    files = smaug_eval.export([tmp_path / "in"], format_, tmp_path / "out")
    if format_ == "eee":
        found = [json.loads(file.read_text()) for file in files]
        scores = {each["model_info"]["id"]: each["evaluation_results"][-1]["score_details"]["score"] for each in found}
        assert scores == {"org/chooser": 50.0, "org/reader": 12.0}
    elif format_ == "csv":
        table = pd.read_csv(files[0]).set_index("model")
        assert table["score"].to_dict() == {"org/chooser": 50.0, "org/reader": 12.0}
        assert ",4,," in files[0].read_text()  # documents are whole numbers, whatever else the table holds
    else:
        assert sorted(file.parent.name for file in files) == ["org__chooser", "org__reader"]
