"""What a run says of the encoding of its pairs: the date it keeps, trainings of earlier versions, unused columns."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.files import read_json, write_json
from smaug_eval.results.layout import MANIFEST, RECORD, TWIN
from smaug_eval.runs.jobs import TrainingJob
from tests.runs.test_faults import PAIRS, TRAINED, Eventful


class Talkative(Eventful):
    """Keeps the lines that are said, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_the_date_of_a_run_is_that_of_its_beginning(tmp_path: Path) -> None:
    def date() -> datetime.date | None:
        pipeline = smaug_eval.prepare(TRAINED, runs=tmp_path)
        (spec,) = (stage.work.spec for stage in pipeline.stages if isinstance(stage.work, TrainingJob))
        return spec.date

    today = datetime.datetime.now(datetime.timezone.utc).date()
    assert date() in (today, today + datetime.timedelta(days=1))
    write_json(tmp_path / "faulty" / MANIFEST, {"created": "2024-02-29T23:59:59+00:00"})
    assert date() == datetime.date(2024, 2, 29)
    keys = {stage.name: stage.key for stage in smaug_eval.prepare(TRAINED, runs=tmp_path).stages}
    write_json(tmp_path / "faulty" / MANIFEST, {"created": 5})
    assert date() is not None
    assert {stage.name: stage.key for stage in smaug_eval.prepare(TRAINED, runs=tmp_path).stages} == keys


def as_an_earlier_version_left_it(run: Path, **figures: Any) -> None:
    for name in (RECORD, TWIN):
        record = read_json(run / "train/dpo" / name)
        summary = {key: value for key, value in record["summary"].items() if key != "encoding"}
        write_json(run / "train/dpo" / name, {**record, "summary": summary | figures})


@pytest.mark.slow
def test_a_finished_training_of_an_earlier_version_stays_and_is_named_where_its_ids_may_differ(tmp_path: Path) -> None:
    first = smaug_eval.run(TRAINED, runs=tmp_path)
    as_an_earlier_version_left_it(first.path)
    reporter = Eventful()
    again = smaug_eval.run(TRAINED, runs=tmp_path, reporter=reporter)
    assert (again.did, reporter.warnings, read_json(first.path / MANIFEST)["warnings"]) == ((), [], [])
    as_an_earlier_version_left_it(first.path, truncated=2)
    again = smaug_eval.run(TRAINED, runs=tmp_path, reporter=reporter)
    assert again.did == ()
    (warning,) = reporter.warnings
    assert warning.startswith(
        "dpo: an earlier version encoded its pairs, perhaps otherwise than today's rules do: 2 pairs"
    )
    assert warning.endswith("remove train/dpo in the run")
    assert read_json(first.path / MANIFEST)["warnings"] == [warning]


@pytest.mark.slow
def test_a_run_says_what_is_not_used_merged_and_cut(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"x{n} = foo(",
            "chosen": f"{n})",
            "rejected": "1)" * (60 if n == 3 else 1),
            "score_chosen": n,
            "score_rejected": 1,
        }
        for n in range(2, 14)
    ]
    path = tmp_path / "code.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {**TRAINED["trainings"]["dpo"], "pairs": "code", "max_length": 64}
    recipe = {
        **TRAINED,
        "pairs": {"made": PAIRS, "code": {"source": "rows", "path": str(path), "holdout": 0}},
        "trainings": {"dpo": training},
    }
    reporter = Talkative()
    result = smaug_eval.run(recipe, runs=tmp_path / "runs", reporter=reporter)
    unused = "columns that are not used: score_chosen, score_rejected (every pair weighs the same)"
    assert reporter.lines.count(f"pairs code: {unused}") == 1
    assert read_json(result.path / "pairs/code/stats.json")["notes"] == [unused]
    summary = read_json(result.path / "train/dpo/summary.json")
    assert summary["pairs"] == 12
    assert summary["truncated_prompts"] == 0
    assert summary["truncated_completions"] == 1
    for note in summary["encoding"]["notes"]:
        assert note in reporter.lines
    assert [f"dpo: {warning}" for warning in summary["warnings"]] == reporter.warnings
    (cut,) = (warning for warning in reporter.warnings if "were cut" in warning)
    assert cut == "dpo: 1 of 12 training pairs were cut (prompts: 0, completions: 1; max_length is 64)"
    assert cut in (result.path / "report.html").read_text(encoding="utf-8")
