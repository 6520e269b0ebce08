"""Tables of the second leaderboard: read, recomputed, ranked in, and what was published held against a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard import v2
from smaug_eval.leaderboard.archive import read_archive, standing, wrong_averages
from smaug_eval.leaderboard.archive_formats import SECOND, SECOND_FINAL
from smaug_eval.leaderboard.published import PUBLISHED_V2, V2, V2_TITLES, published_row
from smaug_eval.leaderboard.scores import ColumnScore, Score, SuiteScores, suite_scores
from smaug_eval.leaderboard.v2_rules import UNKNOWN_RULE, of_february_2025
from smaug_eval.leaderboard.verdicts import Reproduction, find_row, judge, judge_math_verify

COLUMNS = ("ifeval", "bbh", "math", "gpqa", "musr", "mmlu_pro")


def february(model: str, average: float | None = None, **values: Any) -> dict[str, Any]:
    raw = dict(zip(COLUMNS, (0.5, 0.4, 0.1, 0.4, 0.3, 0.55), strict=True))
    normalised = dict(zip(COLUMNS, (50.0, 20.0, 10.0, 20.0, 5.0, 50.0), strict=True))
    row = {f"{name}_raw": value for name, value in raw.items()} | normalised | values
    mean = sum(row[name] for name in COLUMNS) / 6
    return {
        "model": model, "sha": "c0ffee", "precision": "bfloat16", "params_b": 7.2, "chat_template": True,
        "flagged": False, "average": mean if average is None else average, "submission_date": "2024-10-01", **row,
    }  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        february("a/high", ifeval=80.0, ifeval_raw=0.8),
        february("a/low"),
        february("a/low", math=0.0, math_raw=0.0),
        february("a/flagged", ifeval=90.0, ifeval_raw=0.9, flagged=True),
        february("a/wrong", average=99.0, params_b=-1),
        february("a/odd", gpqa_raw=0.5),
    ]
    path = tmp_path / "february.csv.gz"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_the_table_of_february_is_read_and_recomputed(table: Path) -> None:
    archive = read_archive(table)
    assert archive.kind is SECOND
    about = archive.describe()
    assert (about["rows"], about["models"], about["flagged_rows"], about["repeated_rows"]) == (6, 4, 1, 1)
    assert (about["suite"], about["is_raw"]) == (V2, False)
    assert [(row["model"], row["recomputed"]) for row in wrong_averages(archive)] == [("a/wrong", 25.833)]
    # GPQA .5 is (.5 - .25) / .75 = 33.33, where the row says 20.
    assert about["largest_normalised_difference"] == pytest.approx(100 / 3 - 20)
    assert archive.rows.loc[archive.rows["model"] == "a/wrong", "billions"].item() == 0.0


def test_every_archived_average_is_the_mean_of_its_columns(shared: Path) -> None:
    archive = read_archive(shared / "leaderboard" / "open_llm_leaderboard_v2_2025-02.csv.gz")
    about = archive.describe()
    assert (archive.read, archive.unusable, about["largest_average_difference"]) == (3827, 0, 0.0)
    means = archive.rows[list(V2_TITLES)].mean(axis=1)
    assert (means - archive.rows["Average"]).abs().max() < 1e-12
    assert about["largest_normalised_difference"] < 1.5e-13
    final = read_archive(shared / "leaderboard" / "open_llm_leaderboard_v2_final.csv.gz")
    assert (final.read, final.unusable, final.kind) == (4574, 0, SECOND_FINAL)


def test_the_published_rows_are_the_archives(shared: Path) -> None:
    archive = read_archive(shared / "leaderboard" / "open_llm_leaderboard_v2_2025-02.csv.gz")
    final = read_archive(shared / "leaderboard" / "open_llm_leaderboard_v2_final.csv.gz")
    for row in PUBLISHED_V2:
        own = archive.rows[archive.rows["model"] == row.model].iloc[0]
        assert {title: round(own[title], 2) for title in V2_TITLES} == row.scores
        assert (round(own["Average"], 2), own["revision"], own["date"]) == (row.average, row.revision, row.date)
        assert (bool(own["chat_template"]), own["precision"]) == (row.chat_template, row.precision)
        last = final.rows[final.rows["model"] == row.model].iloc[0]
        assert last["MATH Lvl 5"] == pytest.approx(row.math_verify)


def scores_of(values: dict[str, float], raw: float | None = None) -> SuiteScores:
    columns = tuple(
        ColumnScore(
            title, "m", Score(value, 1.0, 100, ("a note",), (value - 2, value + 2)), {}, True,
            None if raw is None else Score(raw, 1.0, 100),
        )
        for title, value in values.items()
    )  # fmt: skip
    average = Score(sum(values.values()) / 6, 1.0, 600, (), (0.0, 100.0))
    return SuiteScores(V2, columns, (), average, "average of six")


def test_scores_are_ranked_by_what_the_archive_has(table: Path, tmp_path: Path) -> None:
    found = standing(read_archive(table), scores_of(dict.fromkeys(V2_TITLES, 60.0)), model="a/new", billions=7.2)
    ranks = {rank.column: rank.rank for rank in found.ranks if rank.size_class is None}
    assert ranks == {"Average": 2, "IFEval": 2, **dict.fromkeys(V2_TITLES[1:], 1)}  # 99 stands before 60
    last = pd.read_csv(table)[["model", "precision", "params_b", *(f"{name}_raw" for name in COLUMNS)]]
    last.assign(architecture="x").to_csv(tmp_path / "final.csv", index=False)
    final = read_archive(tmp_path / "final.csv")
    raw = standing(final, scores_of(dict.fromkeys(V2_TITLES, 0.0), raw=52.0), model="a/new")
    by_column = {rank.column: rank for rank in raw.ranks}
    assert "Average" not in by_column
    assert "ranked by raw columns" in raw.notes[0]
    assert by_column["MMLU-Pro"].rank == 6  # behind five models of .55
    assert by_column["MMLU-Pro"].not_comparable == ("a note",)
    with pytest.raises(SmaugError, match="has raw columns, rounded, and no averages"):
        find_row("a/high", final, suite=V2)
    with pytest.raises(SmaugError, match="is of open_llm_v2"):
        find_row("a/high", read_archive(table))


def test_a_missing_column_names_where_the_table_is_found(table: Path, tmp_path: Path) -> None:
    pd.read_csv(table).drop(columns="musr").to_csv(tmp_path / "cut.csv", index=False)
    with pytest.raises(SmaugError) as error:
        read_archive(tmp_path / "cut.csv")
    assert "has no column 'musr'" in error.value.message
    assert "open-llm-leaderboard/contents" in (error.value.fix or "")


def test_rows_know_their_template_and_when_shots_became_turns(table: Path) -> None:
    row = find_row("a/high", read_archive(table), suite=V2)
    assert (row.suite, row.chat_template, row.is_multiturn) == (V2, True, True)
    smaug = published_row("abacusai/smaug-34b-v0.1", V2)
    assert smaug is not None
    assert (smaug.chat_template, smaug.is_multiturn) == (True, False)  # of June 2024


def math_results(name: str, **values: float) -> dict[str, dict[str, Any]]:
    return {
        leaf.name.replace("open_llm_v2_", name): {
            **{f"{rule},none": value for rule, value in values.items()},
            **{f"{rule}_stderr,none": 0.02 for rule in values},
            "sample_len": leaf.official_rows,
        }
        for leaf in v2.SUITE.columns[2].leaves
    }


@pytest.mark.parametrize("prefix", ["open_llm_v2_", "leaderboard_"])
def test_math_is_held_against_the_rule_that_was_published(prefix: str) -> None:
    from smaug_eval.leaderboard import v2_scores

    board = v2.SUITE if prefix == "open_llm_v2_" else v2_scores.BOARD
    results = math_results(prefix, exact_match=0.2, exact_match_original=0.1)
    scores = suite_scores(board, results)
    published = of_february_2025(scores, results)
    assert [each.columns[0].score.value for each in (scores, published)] == [pytest.approx(20.0), pytest.approx(10.0)]
    assert published.average.value == pytest.approx(10.0)
    row = published_row("abacusai/Smaug-Mixtral-v0.1", V2)
    assert row is not None
    verdicts = {each.column: each for each in judge(row, published)}
    assert verdicts["MATH Lvl 5"].gap == pytest.approx(10.0)  # published 0.00
    (last,) = judge_math_verify(row, scores)
    assert (last.published, last.gap) == (9.52, pytest.approx(10.48))
    assert last.outcome is Reproduction.NOT_REPRODUCED
    only = suite_scores(board, math_results(prefix, exact_match=0.2))
    assert UNKNOWN_RULE in of_february_2025(only, math_results(prefix, exact_match=0.2)).columns[0].score.notes
