"""Results of others under any name and in any form, with their samples; what is not read is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.results.sample_files import Inside
from smaug_eval.results.scored import score_paths
from smaug_eval.results.sources import read_source, unread_notes
from tests.results.others import STAMP, accuracy, lines, newest, older, sample, write

PIQA = {"piqa": accuracy(0.75)}
NAMES = (
    f"results_{STAMP}.json",
    "results.json",
    "arc.json",
    "org__model/piqa.json.gz",
    f"org__model/results_{STAMP}.json.gz",
    "model_piqa_5-shot.json",
    "out/deep/down/any name.json",
)


def only_score(path: Path) -> tuple[str, str, float, int | None]:
    """Model, task, value in lm-eval's unit and n of the one result under a path."""
    ((model, results),) = read_source(path).results.items()
    ((task, result),) = results.items()
    return model, task, result.metrics[0].value, result.n


@pytest.mark.parametrize("name", NAMES)
def test_results_have_any_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "given" / name, newest(PIQA))
    assert only_score(tmp_path / "given") == ("org/model", "piqa", 0.75, 4)
    assert only_score(path) == ("org/model", "piqa", 0.75, 4)


FORMS = {
    "0.2 and 0.3": older({"piqa": accuracy(0.75, metric="acc")}),
    "0.4.0": {
        "results": PIQA, "configs": {}, "versions": {}, "n-shot": {}, "config": {"model_args": "pretrained=org/model"},
    },
    "without config": {"results": PIQA, "versions": {"piqa": 1}, "model_name": "org/model"},
    "lighteval": {
        "config_general": {"model_name": "org/model", "max_samples": None},
        "results": {"leaderboard|piqa|0": {"acc": 0.75, "acc_stderr": 0.1}, "all": {"acc": 0.75, "acc_stderr": 0.1}},
    },
    "nested model_config": {
        "config_general": {"model_config": {"model_name": "org/model"}},
        "results": {"piqa": {"acc": 0.75}},
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_results_of_every_version_are_read(tmp_path: Path, form: str) -> None:
    write(tmp_path / "x.json", FORMS[form])
    model, task, value, _ = only_score(tmp_path)
    assert (model, value) == ("org/model", 0.75)
    assert task in {"piqa", "leaderboard|piqa|0"}  # and no task "all"


ROWS = [sample(number, float(number < 3)) for number in range(4)]
SAMPLES: dict[str, tuple[str, object]] = {
    "JSON Lines": (f"samples_piqa_{STAMP}.jsonl", lines(ROWS)),
    "compressed": (f"samples_piqa_{STAMP}.jsonl.gz", lines(ROWS)),
    "0.4.3's list": (f"samples_piqa_{STAMP}.json", ROWS),
    "0.4.2's list by arguments": ("pretrained__org__model_piqa.jsonl", ROWS),
    "without a date": ("samples_piqa.jsonl", lines(ROWS)),
}


@pytest.mark.parametrize("form", SAMPLES)
def test_samples_in_every_form_are_found_and_read(tmp_path: Path, form: str) -> None:
    name, content = SAMPLES[form]
    document = newest(PIQA, n=None)
    if "arguments" in form:
        document["config"]["model_args"] = "pretrained=org/model"
    write(tmp_path / f"results_{STAMP}.json", document)
    path = write(tmp_path / name, content)
    (result,) = read_source(tmp_path).results["org/model"].values()
    assert result.samples == path
    assert result.n == 4  # which the results do not say
    ((model, column, metric, score, n),) = rows_of(tmp_path)
    assert (model, column, metric, score, n) == ("org/model", "piqa", "acc", 75.0, 4)


def test_samples_inside_the_results_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "dumped.json", {**newest(PIQA, n=None), "samples": {"piqa": ROWS}})
    (result,) = read_source(tmp_path).results["org/model"].values()
    assert (result.samples, result.n) == (Inside(path, "piqa"), 4)


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    frame = smaug_eval.scores([path])
    return [tuple(row) for row in frame[["model", "column", "metric", "score", "n"]].itertuples(index=False)]


def cached(home: Path, *, outside: Path | None = None) -> Path:
    """A snapshot as huggingface_hub keeps it: files are links to ``blobs``."""
    folder = home / "datasets--org--results"
    blob = write(folder / "blobs" / ("0a1b" * 10), newest(PIQA))
    snapshot = folder / "snapshots" / "c0ffee"
    (snapshot / "org__model").mkdir(parents=True)
    (snapshot / "org__model" / f"results_{STAMP}.json").symlink_to(
        os.path.relpath(blob, snapshot / "org__model") if outside is None else outside
    )
    return snapshot


def test_a_snapshot_in_the_cache_of_the_hub_is_read(tmp_path: Path) -> None:
    assert only_score(cached(tmp_path)) == ("org/model", "piqa", 0.75, 4)
    assert only_score(cached(tmp_path / "again").parents[1]) == ("org/model", "piqa", 0.75, 4)


def test_links_out_of_a_snapshot_are_refused(tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere" / "results.json", newest(PIQA))
    with pytest.raises(SmaugError, match="is a link that leads out of"):
        read_source(cached(tmp_path, outside=secret))


FOREIGN: dict[str, tuple[str, object, str]] = {
    "inspect_ai's JSON": (
        "log.json",
        {"eval": {}, "plan": {}, "results": {"scores": []}, "stats": {}, "status": "success"},
        "inspect_ai log",
    ),
    "inspect_ai's log": ("2024_task.eval", "PK", "inspect_ai log"),
    "HELM": ("run_spec.json", {"name": "mmlu"}, "a file of a HELM run"),
    "HELM's numbers": ("numbers.json", [{"name": {"name": "exact_match"}, "count": 1}], "a file of a HELM run"),
    "OpenCompass": ("predictions.json", {"0": {"origin_prompt": "q", "prediction": "a"}}, "a file of OpenCompass"),
    "samples alone": (f"samples_piqa_{STAMP}.json", ROWS, "samples without the results file of their evaluation"),
    "lines alone": (f"samples_piqa_{STAMP}.jsonl", lines(ROWS), "samples without the results file of their evaluation"),
    "a model card": ("card.json", {"harness|arc:challenge|25": {"acc_norm": 0.5}}, "the scores of a model card"),
    "a checkpoint": ("config.json", {"architectures": []}, "a checkpoint's own file"),
    "write_out": ("piqa_write_out_info.json", [{"doc_id": 0, "prompt_0": "q"}], "with --write_out"),
    "anything": ("notes.json", {"a": 1}, "no results of lm-eval"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_read_is_named_for_what_it_is(tmp_path: Path, kind: str) -> None:
    name, content, said = FOREIGN[kind]
    path = write(tmp_path / "given" / name, content)
    for given in (path.parent, path):
        with pytest.raises(SmaugError) as alone:
            smaug_eval.scores([given])
        assert said in alone.value.message
        assert "FastChat" not in f"{alone.value.fix}" or kind == "anything"
        assert alone.value.exit_code == 1
    write(tmp_path / "given" / "results.json", newest(PIQA))
    source = read_source(tmp_path / "given")
    assert list(source.results) == ["org/model"]
    (note,) = unread_notes(source)
    assert note.startswith(f"not read: {name}: ")
    assert said in note


DAMAGED: dict[str, tuple[str, object]] = {
    "half a file": (f"results_{STAMP}1.json", '{"results": {"piqa": {"acc'),
    "a list": (f"results_{STAMP}1.json", [1]),
    "no object": ("other.json", {"results": {"piqa": 3}, "config": {}}),
    "a damaged archive": ("results.json.gz", None),
    "a deep one": ("results.json", '{"config": 1, "results": ' + "[" * 100_000),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_one_unreadable_file_does_not_take_the_rest_away(tmp_path: Path, kind: str) -> None:
    name, content = DAMAGED[kind]
    write(tmp_path / "good.json", newest(PIQA))
    bad = tmp_path / name
    bad.write_bytes(b"\x1f\x8bnothing") if content is None else write(bad, content)
    found = score_paths([tmp_path])
    assert [table.suite for table in found.others] == ["tasks"]
    assert any(name in note for note in found.notes)
    assert [each.path for each in found.unread if each.is_failure] == [bad]
    (tmp_path / "good.json").unlink()
    with pytest.raises(SmaugError) as error:
        score_paths([tmp_path])
    assert error.value.exit_code == 1
    assert name in error.value.message


def test_what_is_left_out_of_a_page_or_an_export_is_said_where_the_command_was_typed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in" / "good.json", newest(PIQA))
    bad = write(tmp_path / "in" / f"results_{STAMP}.json", "{")
    write(tmp_path / "in" / "other.json", {"anything": 1})  # nobody promised results there
    for number, make in enumerate(
        (
            lambda: smaug_eval.report([tmp_path / "in"], tmp_path / "report.html"),
            lambda: smaug_eval.leaderboard_page([tmp_path / "in"], tmp_path / "board.html"),
            lambda: smaug_eval.export([tmp_path / "in"], "csv", tmp_path / "scores.csv"),
        ),
        start=1,
    ):
        make()
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(said) == number
        assert said[-1].startswith(f"not read: {bad}: line 1: not JSON")


def test_strict_is_an_exit_code_of_1_with_everything_else_done(tmp_path: Path) -> None:
    write(tmp_path / "in" / "good.json", newest(PIQA))
    write(tmp_path / "in" / f"results_{STAMP}.json", "{")
    page = tmp_path / "report.html"
    smaug_eval.report([tmp_path / "in"], page)
    page.unlink()
    with pytest.raises(SmaugError, match=f"without what cannot be read: .*results_{STAMP}") as error:
        smaug_eval.report([tmp_path / "in"], page, strict=True)
    assert error.value.exit_code == 1
    assert "piqa" in page.read_text()
    (tmp_path / "in" / f"results_{STAMP}.json").unlink()
    smaug_eval.report([tmp_path / "in"], page, strict=True)


def test_damaged_samples_leave_the_results_and_are_named(tmp_path: Path) -> None:
    write(tmp_path / f"results_{STAMP}.json", newest(PIQA))
    write(tmp_path / f"samples_piqa_{STAMP}.jsonl", lines(ROWS) + "{broken\n")
    found = score_paths([tmp_path])
    (table,) = found.others
    (cell,) = table.cells["org/model"]
    assert cell is not None
    assert cell.score.value == 75.0
    assert any("samples_piqa" in note for note in found.notes)
    assert [each.is_failure for each in found.unread] == [True]


def test_a_mixed_folder_gives_what_there_is(tmp_path: Path) -> None:
    write(tmp_path / "a" / "results.json", newest(PIQA))
    write(tmp_path / "b" / "boolq.json", older({"boolq": accuracy(0.5, metric="acc")}, "pretrained=org/other"))
    write(tmp_path / "c" / "run_spec.json", {})
    write(tmp_path / "c" / "stats.json", [])
    source = read_source(tmp_path)
    assert {model: list(results) for model, results in source.results.items()} == {
        "org/model": ["piqa"],
        "org/other": ["boolq"],
    }
    assert unread_notes(source) == ["not read: c/run_spec.json, c/stats.json: a file of a HELM run"]
