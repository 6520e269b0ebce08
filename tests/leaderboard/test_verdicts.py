"""Verdicts on synthetic scores, finding the published row, and one small real run from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from smaug_eval.cli import app
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v1
from smaug_eval.leaderboard.archive import Archive
from smaug_eval.leaderboard.published import TITLES, PublishedRow, published_row
from smaug_eval.leaderboard.scores import ColumnScore, Score, SuiteScores
from smaug_eval.leaderboard.verdicts import ColumnVerdict, Reproduction, find_row, judge, published_dtype
from smaug_eval.runs.reproduction import judge_run, reproduction_recipe

ROW = PublishedRow("some/model", "c0ffee", "float16", 50.0, dict.fromkeys(TITLES, 50.0), "2024-01-01")


def measured(
    values: dict[str, tuple[float, tuple[float, float] | None]], *, incomplete: tuple[str, ...] = ()
) -> SuiteScores:
    """Scores with these values and intervals, and their mean with an interval of ± 1."""
    columns = tuple(
        ColumnScore(title, "acc", Score(value, 1.0, 100, ("a note",), interval), {}, title not in incomplete)
        for title, (value, interval) in values.items()
    )
    mean = sum(value for value, _ in values.values()) / len(values)
    average = Score(mean, 0.5, 100 * len(values), (), (mean - 1, mean + 1))
    return SuiteScores(v1.NAME, columns, (), average, "average of six")


def verdict(value: float, interval: tuple[float, float] | None) -> ColumnVerdict:
    return judge(ROW, measured({"ARC": (value, interval)}))[0]


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        ((49.0, 53.0), Reproduction.REPRODUCED),
        ((50.0, 54.0), Reproduction.REPRODUCED),  # exactly at the lower end
        ((46.0, 50.0), Reproduction.REPRODUCED),  # exactly at the upper end
        ((0.1 + 0.2 + 49.7, 54.0), Reproduction.REPRODUCED),  # at the end but for floating point: 50.00000000000001
        ((50.001, 54.0), Reproduction.NOT_REPRODUCED),  # the rounding of published values widens nothing
        ((46.0, 49.999), Reproduction.NOT_REPRODUCED),
    ],
)
def test_reproduced_means_inside_the_interval_ends_included(
    interval: tuple[float, float], outcome: Reproduction
) -> None:
    found = verdict(51.0, interval)
    assert found.outcome is outcome
    assert (found.gap, found.interval, found.n, found.because) == (1.0, interval, 100, ())
    assert found.notes == ("a note",)
    assert found.words == outcome.value


def test_without_an_interval_there_is_no_verdict() -> None:
    found = verdict(51.0, None)
    assert found.words == "not comparable, because 100 documents give no interval"
    assert found.gap == 1.0


def test_an_obstacle_makes_a_column_and_the_average_incomparable_but_shows_the_gap() -> None:
    scores = measured(dict.fromkeys(TITLES, (51.0, (49.0, 53.0))))
    verdicts = {each.column: each for each in judge(ROW, scores, obstacles={"MMLU": ["not the official data: x"]})}
    assert list(verdicts) == [*TITLES, "Average"]
    assert verdicts["MMLU"].words == "not comparable, because not the official data: x"
    assert (verdicts["MMLU"].gap, verdicts["Average"].gap) == (1.0, 1.0)
    assert verdicts["Average"].words == "not comparable, because MMLU not comparable"
    assert {verdicts[title].outcome for title in TITLES if title != "MMLU"} == {Reproduction.REPRODUCED}


def test_all_six_make_a_verdict_on_the_average() -> None:
    inside = judge(ROW, measured(dict.fromkeys(TITLES, (51.0, (49.0, 53.0)))))[-1]
    assert (inside.column, inside.outcome, inside.interval) == ("Average", Reproduction.REPRODUCED, (50.0, 52.0))
    outside = judge(ROW, measured(dict.fromkeys(TITLES, (52.0, (49.0, 53.0)))))[-1]
    assert (outside.outcome, outside.gap) == (Reproduction.NOT_REPRODUCED, 2.0)


def test_a_subset_leaves_the_rest_and_the_average_open() -> None:
    verdicts = {each.column: each for each in judge(ROW, measured({"ARC": (50.0, (49.0, 51.0))}))}
    assert verdicts["ARC"].outcome is Reproduction.REPRODUCED
    assert verdicts["GSM8K"].words == "not comparable, because not measured"
    assert verdicts["Average"].ours is None
    expected = "HellaSwag, MMLU, TruthfulQA, Winogrande, GSM8K not measured"
    assert verdicts["Average"].because == (expected,)


def test_a_column_of_some_of_its_tasks_is_not_comparable() -> None:
    found = judge(ROW, measured({"MMLU": (50.0, (49.0, 51.0))}, incomplete=("MMLU",)))[2]
    assert found.words == "not comparable, because not all of its tasks were measured"


def archive() -> Archive:
    columns = ["model", "Average", *TITLES, "precision", "billions", "revision", "flagged", "date"]
    rows = [
        ["Some/Other", 61.0, *[61.0] * 6, "4bit", 7, "aaa111", False, "2024-01-01T00:00:00Z"],
        ["Some/Other", 60.0, *[60.0] * 6, "float16", 7, "bbb222", False, "2024-03-01T00:00:00Z"],
        [
            "openai-community/gpt2",
            28.53,
            *[28.53] * 6,
            "float16",
            0,
            "11c5a3d5811f50298f278a704980280950aedb10",
            False,
            "",
        ],
    ]
    return Archive("archive.csv", pd.DataFrame(rows, columns=columns), 3, 0)


def test_the_row_is_found_by_name_commit_and_precision() -> None:
    assert find_row("OpenAI-Community/GPT2") == published_row("openai-community/gpt2")
    assert find_row("openai-community/gpt2", archive()) == published_row("openai-community/gpt2")
    assert find_row("some/other", archive()).revision == "bbb222"  # the newest
    assert find_row("some/other@aaa", archive()).average == 61.0
    assert find_row("some/other", archive(), precision="4bit").date == "2024-01-01"
    with pytest.raises(SmaugError, match="no commit 'ccc'"):
        find_row("some/other@ccc", archive())


def test_an_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(SmaugError, match="no row of 'abacusai/Smaug-72B'") as kept:
        find_row("abacusai/Smaug-72B")
    assert "nearest: abacusai/Smaug-72B-v0.1, " in str(kept.value.fix)
    with pytest.raises(SmaugError) as archived:
        find_row("/models/other", archive())
    assert "nearest: Some/Other" in str(archived.value.fix)


def test_quantised_rows_need_a_dtype() -> None:
    row = find_row("some/other@aaa", archive())
    with pytest.raises(SmaugError, match="published in 4bit"):
        published_dtype(row)
    assert reproduction_recipe("m", row, name="n", dtype="float16")["model"]["dtype"] == "float16"


def test_the_recipe_takes_the_published_commit_and_precision(tmp_path: Path) -> None:
    hub = reproduction_recipe("Some/Model", ROW, name="n", tasks=["arc"], limit=5, settings={"batch_size": 2})
    assert hub["model"] == {"path": "Some/Model", "dtype": "float16", "revision": "c0ffee"}
    assert hub["evaluations"] == {
        "open_llm_v1": {"suite": "open_llm_v1", "tasks": ["arc"], "limit": 5, "batch_size": 2}
    }
    assert "revision" not in reproduction_recipe(str(tmp_path), ROW, name="n")["model"]
    assert "revision" not in reproduction_recipe("another/model", ROW, name="n")["model"]
    with pytest.raises(SmaugError, match="measured on open_llm_v1"):
        reproduction_recipe("m", ROW, name="n", settings={"suite": "demo"})


def fake_run(tmp_path: Path, notes: list[str], engine_args: dict[str, int]) -> Path:
    """A run directory with ARC measured at 500 of 1,000 correct."""
    folder = tmp_path / "eval" / "base" / "open_llm_v1" / "arc_challenge"
    folder.mkdir(parents=True)
    entry = {"sample_len": 1_172, "acc_norm,none": 0.5, "acc_norm_stderr,none": (0.25 / 1_171) ** 0.5}
    (folder / "results_x.json").write_text(json.dumps({"results": {"open_llm_v1_arc_challenge": entry}}))
    inputs = {"engine": "hf", "engine_args": engine_args}
    record = {"status": "done", "key": "k", "inputs": inputs, "outputs": {}, "summary": {"notes": notes}}
    (folder / "stage.json").write_text(json.dumps(record))
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "x", "models": {"base": {"dtype": "bfloat16"}}}))
    return tmp_path


@pytest.mark.parametrize(
    ("model", "engine_args", "outcome"),
    [
        ("some/model", {}, "reproduced"),  # the published model saw the same truncated prompts
        ("some/model", {"max_length": 512}, "not comparable"),
        ("another/model", {}, "not comparable"),
    ],
)
def test_truncated_prompts(tmp_path: Path, model: str, engine_args: dict[str, int], outcome: str) -> None:
    run = fake_run(tmp_path, ["7 of 4,687 prompts truncated (...)"], engine_args)
    found = judge_run(run, ROW, model=model, dtype="auto", limit=None, tasks=["arc"])
    assert found["verdicts"][0]["outcome"] == outcome
    assert found["dtype"] == "bfloat16"
    assert "run in bfloat16, published in float16" in found["remarks"]
    assert json.loads((run / "reproduction.json").read_text())["verdicts"][0]["words"].startswith(outcome)


def test_unofficial_data_are_never_reproduced(tmp_path: Path) -> None:
    run = fake_run(tmp_path, ["not the official data: the content of ARC test differs"], {})
    found = judge_run(run, ROW, model="some/model", dtype="float16", limit=None, tasks=["arc"])
    verdict = found["verdicts"][0]
    assert verdict["words"] == "not comparable, because not the official data: the content of ARC test differs"
    assert (verdict["ours"], verdict["gap"], verdict["notes"]) == (50.0, 0.0, ())


def test_the_verb_refuses_before_anything_runs(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["reproduce", "embedded:demo-model", "--runs-dir", str(tmp_path / "runs")])
    assert isinstance(refused.exception, SmaugError)
    assert refused.exception.exit_code == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_small_run_from_end_to_end(shared: Path, tmp_path: Path) -> None:
    command = [
        *("reproduce", "embedded:demo-model", "--against", "openai-community/gpt2", "--task", "arc_challenge"),
        *("--limit", "5", "--dtype", "float32", "--engine", "hf", "--data-root", str(shared / "data")),
        *("--runs-dir", str(tmp_path), "--json", "--quiet"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    arc, *others, average = found["verdicts"]
    assert (arc["column"], arc["published"], arc["n"]) == ("ARC", 22.01, 5)
    assert arc["gap"] == pytest.approx(arc["ours"] - 22.01)
    assert arc["interval"][0] <= arc["ours"] <= arc["interval"][1]
    assert "5 of 1,172 documents" in arc["notes"]
    assert {each["words"] for each in others} == {"not comparable, because not measured"}
    assert average["outcome"] == "not comparable"
    run = tmp_path / found["run"]
    assert json.loads((run / "reproduction.json").read_text()) == found
    assert found["against"]["model"] == "openai-community/gpt2"
    again = json.loads(CliRunner().invoke(app, command).stdout)  # nothing runs again
    assert [each["ours"] for each in again["verdicts"]] == [each["ours"] for each in found["verdicts"]]
