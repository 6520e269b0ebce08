"""The columns of the second leaderboard against its published numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.scores import SuiteScores, suite_scores
from smaug_eval.leaderboard.v2_scores import BBH_COLUMN, GPQA_COLUMN, IFEVAL, ifeval_entry

BENCHMARKS = {"BBH": "bbh", "MATH Lvl 5": "math", "GPQA": "gpqa", "MuSR": "musr"}


def entries(subtasks: Mapping[str, Any], others: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """lm-eval's results of a model from the kit's subtasks; ``others`` are IFEval and MMLU-Pro."""
    found: dict[str, dict[str, Any]] = {}
    for column in v2_scores.BOARD.columns:
        if column.title not in BENCHMARKS:
            continue
        values = subtasks[BENCHMARKS[column.title]]
        for leaf in column.leaves:
            name = leaf.name.removeprefix(f"{column.task.removesuffix('_hard')}_").removesuffix("_hard")
            found[leaf.name] = {f"{column.metric},none": values[name], "sample_len": leaf.official_rows}
    found[IFEVAL] = {"strict_acc,none": others["ifeval"], "sample_len": 541}
    found["leaderboard_mmlu_pro"] = {"acc,none": others["mmlu_pro"], "sample_len": 12032}
    return found


def by_title(scores: SuiteScores) -> dict[str, float]:
    return {column.title: column.score.value for column in scores.columns}


def test_columns_by_hand() -> None:
    bbh = {leaf.name: {"acc_norm,none": 0.5, "sample_len": 250} for leaf in BBH_COLUMN.leaves}
    gpqa = {
        leaf.name: {"acc_norm,none": value, "sample_len": rows}
        for leaf, value, rows in zip(GPQA_COLUMN.leaves, (0.25, 0.25, 0.35), (448, 546, 198), strict=True)
    }
    musr = {
        f"leaderboard_musr_{name}": {"acc_norm,none": value, "acc_norm_stderr,none": 0.03, "sample_len": 250}
        for name, value in (("murder_mysteries", 0.4), ("object_placements", 0.6), ("team_allocation", 1 / 3))
    }
    pro = {"leaderboard_mmlu_pro": {"acc,none": 0.55, "acc_stderr,none": 0.009, "sample_len": 12032}}
    scores = suite_scores(v2_scores.BOARD, bbh | gpqa | musr | pro)
    found = by_title(scores)
    # Half right of k choices: (.5 - 1/k) / (1 - 1/k) = (k - 2) / (2 (k - 1)), over the 24 tasks.
    choices = v2_scores.BBH_CHOICES.values()
    assert found["BBH"] == pytest.approx(100 * sum((k - 2) / (2 * (k - 1)) for k in choices) / 24)
    # (.25 * 994 + .35 * 198) / 1192 = .26661; (.26661 - .25) / .75
    assert found["GPQA"] == pytest.approx(100 * (0.1 * 198 / 1192) / 0.75)
    # A score below a guess counts as 0: (0 + (.6 - .2) / .8 + 0) / 3
    assert found["MuSR"] == pytest.approx(100 * 0.5 / 3)
    assert found["MMLU-Pro"] == pytest.approx(50.0)
    by_column = {column.title: column for column in scores.columns}
    assert by_column["MMLU-Pro"].score.stderr == pytest.approx(1.0)  # .009 / .9
    assert by_column["MuSR"].score.stderr == pytest.approx(100 * 0.03 * math.hypot(1 / 0.5, 1 / 0.8, 1.5) / 3)
    assert by_column["BBH"].raw is not None
    assert by_column["BBH"].raw.value == pytest.approx(50.0)
    assert scores.average_label == "mean of 4 of 6 columns"


def test_ifeval_is_the_mean_of_both_levels() -> None:
    entry = {
        "inst_level_strict_acc,none": 0.6, "inst_level_strict_acc_stderr,none": "N/A", "sample_len": 541,
        "prompt_level_strict_acc,none": 0.5, "prompt_level_strict_acc_stderr,none": 0.0215,
    }  # fmt: skip
    found = ifeval_entry(entry)
    assert found is not None
    assert found["strict_acc,none"] == pytest.approx(0.55)
    assert found["strict_acc_stderr,none"] == pytest.approx((0.0215 + 1.1 * math.sqrt(0.24 / 540)) / 2)
    assert ifeval_entry({"prompt_level_strict_acc,none": 0.5}) is None


def test_the_published_columns_follow_from_the_subtasks(shared: Path) -> None:
    kit = json.loads((shared / "golden_v2" / "normalisation.json").read_text())
    titles = {"BBH": "bbh", "MATH Lvl 5": "math", "GPQA": "gpqa", "MuSR": "musr", "MMLU-Pro": "mmlu_pro"}
    assert len(kit["rows"]) > 60
    for row in kit["rows"]:
        raw, normalised = row["raw_columns"], row["columns"]
        scores = suite_scores(v2_scores.BOARD, entries(row["subtasks"], raw))
        found = by_title(scores)
        for title, name in {**titles, "IFEval": "ifeval"}.items():
            if title != "MATH Lvl 5" or row["math_subtasks_are_of_the_column"]:
                assert found[title] == pytest.approx(normalised[name], abs=1e-10), (row["model"], title)
        for column in scores.columns:  # IFEval and MATH are not normalised
            if column.raw is not None:
                assert column.raw.value == pytest.approx(100 * raw[titles[column.title]], abs=1e-10)
        if row["math_subtasks_are_of_the_column"]:
            assert scores.average.value == pytest.approx(row["average"], abs=1e-10)
            assert scores.average_label == "average of six"
    card = kit["card"]
    found = by_title(suite_scores(v2_scores.BOARD, entries(card["subtasks"], card["raw_columns"])))
    assert found == pytest.approx(
        {title: card["columns"][name] for title, name in {**titles, "IFEval": "ifeval"}.items()}
    )
    both = {f"{level},none": card["ifeval"][level] for level in (v2_scores.INSTRUCTIONS, v2_scores.PROMPTS)}
    assert (ifeval_entry(both) or {})["strict_acc,none"] == pytest.approx(card["raw_columns"]["ifeval"])
