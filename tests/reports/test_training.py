"""The training panel: what became of preferred answers, where in them, and on which pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from smaug_eval.reports.panels.training import last_values, story
from smaug_eval.reports.panels.training_details import Bucket, ChesMeans, Edit, buckets, ches, detail_charts, edits
from smaug_eval.results.sources import read_source
from smaug_eval.results.trainings import Training

LAST = {
    "log_ratios/chosen": -1.5,
    "log_ratios/rejected": -9.0,
    "log_ratios/chosen_se": 0.25,
    "log_ratios/chosen_below": 0.75,
    "change/chosen_before": -0.01,
    "change/chosen_at": -0.3,
    "change/chosen_before_sum": -0.1,
    "change/chosen_at_sum": -0.3,
}
PROFILE = {"offsets": [-1, 0, 1], "reference": [-0.1, -0.2, None], "policy": [-0.3, -0.7, None], "after_edit": {}}
DIAGNOSIS = {
    "step": 20,
    "profile": PROFILE,
    "buckets": [
        {
            "bucket": "below 10%",
            "pairs": 8,
            "log_ratio_chosen": -1.5,
            "log_ratio_rejected": -9.0,
            "below_reference": 0.75,
        }
    ],
}


def trained(name: str = "dpo", last: Mapping[str, float] = LAST, diagnostics: Any = (DIAGNOSIS,)) -> Training:
    first = dict.fromkeys(last, 0.0)
    rows = [{"split": "eval", "step": 0, **first}, {"split": "eval", "step": 20, **last}]
    return Training(name, pd.DataFrame(rows), {}, diagnostics)


def test_the_story_is_told_from_the_log() -> None:
    kept = trained("dpop", {"log_ratios/chosen": 0.5, "log_ratios/rejected": -2.0})
    assert list(story([trained(), kept])) == [
        "dpo moved the preferred answers of held-out pairs by −1.50 ± 0.25 nats on average, rejected ones by −9.00; "
        "75% of the pairs lie below the reference.",
        "dpop moved the preferred answers of held-out pairs by +0.50 nats on average, rejected ones by −2.00.",
        "Lowered by dpo; not lowered by dpop.",
    ]
    single = trained(
        "kto", {"log_ratios/chosen": 0.5, "log_ratios/rejected": -2.0, "log_ratios/chosen_below": 0.25, "kl": 0.1}
    )
    assert list(story([single])) == [
        "kto moved the desirable held-out completions by +0.50 nats on average, undesirable ones by −2.00; "
        "25% of them lie below the reference."
    ]
    assert list(story([Training("new", pd.DataFrame({"split": [], "step": []}), {})])) == []


def test_changes_around_the_edit_are_the_last_logged_ones() -> None:
    assert list(edits(trained())) == [Edit("dpo", "chosen", 20, (-0.01, -0.3, None), (-0.1, -0.3, None))]
    assert list(edits(trained(last={"log_ratios/chosen": 0.5}))) == []


def test_last_values_by_split() -> None:
    found = last_values(trained(), ["log_ratios/chosen", "penalty/active"])
    assert found == {"eval": {"step": 20, "log_ratios/chosen": -1.5, "penalty/active": None}}


def test_the_profile_chart_says_where_the_largest_fall_is() -> None:
    captions = {figure.caption: figure.chart for figure in detail_charts([trained()])}
    assert set(captions) == {
        "Share of held-out pairs whose preferred answer is less likely than under the reference",
        "dpo: log-probability of preferred tokens by position",
    }
    chart = captions["dpo: log-probability of preferred tokens by position"]
    assert "Largest fall against the reference: −0.50 nats at 0." in chart
    share = next(chart for caption, chart in captions.items() if caption.startswith("Share"))
    assert "dpo: 0.00 at step 0, +0.75 at 20." in share


def test_buckets_and_ches() -> None:
    first = {"ches": {"mean": -812.9, "mean_normalised": -0.93, "normalised": []}}
    training = trained(diagnostics=(first, DIAGNOSIS))
    assert list(buckets(training)) == [Bucket("dpo", "below 10%", 8, -1.5, -9.0, 0.75)]
    assert ches(training) == ChesMeans("dpo", -812.9, -0.93)
    assert ches(trained()) is None


@pytest.mark.parametrize(
    "diagnosis", [{}, {"profile": 3, "buckets": [{}, 3], "ches": 7}, {"profile": {"offsets": ["x"]}}]
)
def test_diagnostics_of_another_shape_do_no_harm(
    run: Any, page: Callable[..., Any], diagnosis: Mapping[str, Any]
) -> None:
    run.training("dpo", {"eval": [(0, 0.0, 0.0), (9, -1.0, -2.0)]}, {"loss": "dpo"})
    (run.path / "train" / "dpo" / "diagnostics.jsonl").write_text(json.dumps(diagnosis) + "\n")
    assert "dpo: preferred answers became less likely." in page(run.path).text


def write_pairs(path: Path, **stats: Any) -> None:
    folder = path / "pairs" / "arithmetic"
    folder.mkdir(parents=True)
    (folder / "stats.json").write_text(json.dumps(stats))


def test_pair_sets_show_counts_reasons_and_distances(run: Any, page: Callable[..., Any]) -> None:
    run.manifest()
    histogram = [5, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    write_pairs(
        run.path, rows=10, train=4, eval=2, dropped={"no_number": 4}, warnings=["few pairs"], tokens=None,
        characters={"edit_distance": {"mean": 0.1, "median": 0.025}, "edit_distance_histogram": histogram},
    )  # fmt: skip
    report = page(run.path)
    assert "Pairs of arithmetic: 10 rows read, 4 training pairs, 2 held-out pairs" in report.text
    assert report.row("no number") == ["no number", "4"]
    assert "few pairs" in report.text
    assert "in characters, over the longer one's length; median 2.5%" in report.text
    assert "0: 5; 10: 0; 20: 0; 30: 0; 40: 0; 50: 0; 60: 0; 70: 0; 80: 0; 90: 1." in report.text
    assert read_source(run.path).pair_sets["arithmetic"]["rows"] == 10


def test_pair_sets_of_another_shape_do_no_harm(run: Any, page: Callable[..., Any]) -> None:
    run.manifest()
    write_pairs(run.path, rows=None, dropped=[1], warnings="no list", characters=3)
    assert "Pairs of arithmetic" in page(run.path).text
