"""Differences from the baseline: which documents they are of, their intervals and tests, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from smaug_eval import stats
from smaug_eval.leaderboard.scores import Score
from smaug_eval.reports.panels.differences import differences, forest_rows
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.differences import NOT_PAIRED, adjusted, unpaired_difference
from smaug_eval.results.sources import read_source
from smaug_eval.results.tables import ScoreCell
from smaug_eval.stats import Outcome

ARC = "open_llm_v1_arc_challenge"
HELLASWAG = "open_llm_v1_hellaswag"


def evaluated(run: Any, model: str, task: str, values: Sequence[float], **options: Any) -> None:
    metric = options.pop("metric", "acc_norm")
    scores = {task: float(np.mean(values))}
    run.evaluation(model, scores, metric=metric, n=len(values), samples=run.samples(values, metric, **options))


def compared(path: Path, baseline: str | None = None) -> Comparison:
    return compare([read_source(path)], title=None, baseline=baseline)


def cell(comparison: Comparison, model: str, title: str) -> ScoreCell:
    (table,) = comparison.tables
    found = table.cells[model][table.columns.index(title)]
    assert found is not None
    return found


# Of 40 documents the model gains 12 and loses 3, 20 both have right, 5 neither.
OWN = [1.0] * 12 + [0.0] * 3 + [1.0] * 20 + [0.0] * 5
BASE = [0.0] * 12 + [1.0] * 3 + [1.0] * 20 + [0.0] * 5


def test_right_and_wrong_answers_are_paired_by_document(run: Any) -> None:
    evaluated(run, "base", ARC, BASE)
    evaluated(run, "dpop", ARC, OWN)
    found = cell(compared(run.path), "dpop", "ARC").difference
    assert found is not None
    assert found.points == pytest.approx(100 * 9 / 40)
    assert (found.n, found.gained, found.lost, found.test) == (40, 12, 3, "exact McNemar")
    assert found.p_value == pytest.approx(binomtest(3, 15).pvalue)
    # Bonett and Price: 13/42 and 4/42; 9/42 ± 1.96 sqrt((17/42 - (9/42)^2) / 42)
    half = 1.959964 * math.sqrt((17 / 42 - (9 / 42) ** 2) / 42)
    assert found.interval == pytest.approx((100 * (9 / 42 - half), 100 * (9 / 42 + half)), rel=1e-5)
    assert found.detectable == pytest.approx(100 * half / 1.959964 * 2.8015852, rel=1e-5)
    assert found.correlation == pytest.approx(np.corrcoef(OWN, BASE)[0, 1])
    assert found.verdict.outcome is Outcome.BETTER


def test_the_order_of_the_lines_makes_no_difference(run: Any) -> None:
    evaluated(run, "base", ARC, BASE)
    run.evaluation("dpop", {ARC: float(np.mean(OWN))}, metric="acc_norm", n=40, samples=run.samples(OWN)[::-1])
    found = cell(compared(run.path), "dpop", "ARC").difference
    assert found is not None
    assert (found.gained, found.lost) == (12, 3)


def test_of_different_sets_the_common_documents_are_compared(run: Any) -> None:
    evaluated(run, "base", ARC, BASE)
    evaluated(run, "dpop", ARC, [1.0] * 20, first=5)  # documents 5 to 24: base has 0 in 5 to 11, 1 in 12 to 24
    found = cell(compared(run.path), "dpop", "ARC").difference
    assert found is not None
    assert (found.n, found.gained, found.lost) == (20, 7, 0)
    assert found.points == pytest.approx(35.0)
    assert found.remarks == ("dpop has 20 documents, base 40",)


def test_other_prompts_refuse_the_column_and_the_average(run: Any) -> None:
    evaluated(run, "base", ARC, BASE)
    evaluated(run, "dpop", ARC, OWN, prompt="other")
    comparison = compared(run.path)
    (table,) = comparison.tables
    why = "the prompts of 40 of 40 documents in common differ"
    assert cell(comparison, "dpop", "ARC").why_not == why
    assert table.averages["dpop"].why_not == f"ARC: {why}"
    assert list(comparison.incomparable()) == [
        f"dpop and base do not compare on {ARC} ({why}): no difference is shown."
    ]


def test_values_that_are_not_numbers_refuse_a_column(run: Any) -> None:
    evaluated(run, "base", ARC, BASE)
    run.evaluation("dpop", {ARC: 0.5}, metric="acc_norm", n=40, samples=run.samples([math.nan, *OWN[1:]]))
    assert cell(compared(run.path), "dpop", "ARC").why_not == f"{ARC}: some documents have no number"


def test_averages_are_bootstrapped_within_tasks_and_adjusted_over_models(run: Any) -> None:
    generator = np.random.default_rng(7)
    columns = {(ARC, "base"): BASE, (HELLASWAG, "base"): [0.0, 1.0] * 30}
    for model in ("dpo", "dpop"):
        columns[ARC, model] = OWN
        columns[HELLASWAG, model] = generator.integers(0, 2, 60).astype(float).tolist()
    for (task, model), values in columns.items():
        evaluated(run, model, task, values)
    (table,) = compared(run.path).tables
    expected = [
        stats.average_difference(
            [[np.array(columns[task, model])] for task in (ARC, HELLASWAG)],
            [[np.array(columns[task, "base"])] for task in (ARC, HELLASWAG)],
            names=[[ARC], [HELLASWAG]],
        )
        for model in ("dpo", "dpop")
    ]
    found = [table.averages[model].difference for model in ("dpo", "dpop")]
    for own, other in zip(found, expected, strict=True):
        assert own is not None
        assert other.interval is not None
        assert own.points == pytest.approx(100 * other.difference)
        assert own.interval == pytest.approx(tuple(100 * end for end in other.interval))
    p_values = [each.p_value for each in expected if each.p_value is not None]
    assert [each.adjusted_p for each in found if each] == pytest.approx(stats.holm(p_values))


def test_unpaired_scores_count_as_independent() -> None:
    found = unpaired_difference(Score(60.0, 3.0, 100), Score(50.0, 4.0, 100))
    assert found.interval == pytest.approx((10 - 1.959964 * 5, 10 + 1.959964 * 5), rel=1e-6)
    assert found.p_value == pytest.approx(0.0455003, rel=1e-5)  # 2 Phi(-2)
    assert found.test == NOT_PAIRED
    assert found.verdict.outcome is Outcome.BETTER
    (once, twice) = adjusted([found, found])
    assert once.adjusted_p == twice.adjusted_p == pytest.approx(2 * 0.0455003, rel=1e-5)
    assert once.verdict.outcome is Outcome.INCONCLUSIVE


def test_without_standard_errors_nothing_is_claimed() -> None:
    found = unpaired_difference(Score(60.0, None, 1), Score(50.0, None, 1))
    assert (found.points, found.interval, found.p_value, found.detectable) == (pytest.approx(10.0), None, None, None)
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert found.p_words == ""


def test_the_forest_says_in_words_what_it_draws(run: Any) -> None:
    for model, values in (("base", BASE), ("dpop", OWN)):
        evaluated(run, model, ARC, values)
    evaluated(run, "base", HELLASWAG, BASE)
    evaluated(run, "dpop", HELLASWAG, OWN, prompt="other")
    comparison = compared(run.path)
    (table,) = comparison.tables
    rows = forest_rows(table, "dpop")
    assert [(row.title, row.is_average, row.difference is None) for row in rows] == [
        ("ARC", False, False), ("HellaSwag", False, True), ("mean of 2 of 6 columns", True, True),
    ]  # fmt: skip
    context = differences(comparison)
    assert context is not None
    (forest,) = context["forests"]
    assert "ARC: +22.5 (95% interval +3.3 to +39.5, p = 0.035), better" in forest["chart"]
    assert "HellaSwag: not compared (the prompts of 40 of 40 documents in common differ)" in forest["chart"]


def test_what_differs_harmlessly_is_a_remark(run: Any) -> None:
    def versions(path: Path, **content: str) -> None:
        (file,) = path.rglob("results_*.json")
        file.write_text(file.read_text().replace('"0.4.13"', f'"{content["lm_eval"]}"'))

    evaluated(run, "base", ARC, BASE)
    evaluated(run, "dpop", ARC, OWN)
    versions(run.path / "eval" / "dpop", lm_eval="0.4.12")
    assert list(compared(run.path).remarks()) == [
        f"dpop against base, {ARC}: lm-eval: 0.4.12 for dpop, 0.4.13 for base."
    ]


def test_plain_lm_eval_results_form_the_modern_table(tmp_path: Path, run: Any, page: Callable[..., Any]) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder, values in zip(folders, (BASE, OWN), strict=True):
        share, name = float(np.mean(values)), folder.name
        run.evaluation(name, {"winogrande": share}, n=40, model_name=f"org/{name}", samples=run.samples(values, "acc"))
        (run.path / "eval" / name / "main" / "winogrande").rename(folder)
    report = page(*folders)
    where = "the mean of 1 of 6 columns (lm_eval_0413)"
    assert f"better org/two scores 22.5 points higher than org/one on {where}" in report.text
    assert report.row("org/two")[2].startswith("80.0 [65.2, 89.5] +22.5 [+3.3, +39.5] p = 0.035, better")
