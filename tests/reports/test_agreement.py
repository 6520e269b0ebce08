"""Words, intervals, p values and scores of one page never contradict each other without saying why."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smaug_eval.common.text import bound
from smaug_eval.reports import build_report
from smaug_eval.reports.panels.subjects import subjects
from smaug_eval.reports.statements import average_statements
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.differences import p_words
from smaug_eval.results.sources import read_source
from smaug_eval.results.tables import ScoreTable

FACTS, ENDINGS, PRONOUNS, TRUTH = (f"demo_{name}" for name in ("facts", "endings", "pronouns", "truth"))
METRICS = {FACTS: "acc_norm", ENDINGS: "acc_norm", TRUTH: "mc2"}
MMLU = "open_llm_v1_mmlu_"


def evaluated(run: Any, model: str, task: str, values: Sequence[float], *, kept: bool = True, **options: Any) -> None:
    """Results of a task, with samples where they are kept."""
    metric, prompt = METRICS.get(task, "acc"), options.pop("prompt", "p")
    found = run.samples(values, metric, prompt=prompt) if kept else ()
    run.evaluation(model, {task: float(np.mean(values))}, metric=metric, n=len(values), samples=found, **options)


def pair(gained: int, lost: int, n: int = 120) -> tuple[list[float], list[float]]:
    """Right and wrong answers of the baseline and of a model that gains and loses so many of ``n`` documents."""
    same = [1.0, 0.0] * ((n - gained - lost) // 2 + 1)
    base = [0.0] * gained + [1.0] * lost + same
    return base[:n], ([1.0] * gained + [0.0] * lost + same)[:n]


def both(run: Any, task: str, values: tuple[Sequence[float], Sequence[float]]) -> None:
    for model, own in zip(("base", "dpop"), values, strict=True):
        evaluated(run, model, task, own)


def compared(path: Path) -> Comparison:
    return compare([read_source(path)], title=None, baseline=None)


def only_table(comparison: Comparison) -> ScoreTable:
    (table,) = comparison.tables
    return table


def built(path: Path, format_: str) -> str:
    return build_report([path], path.parent / f"report.{format_}", format_=format_).read_text(encoding="utf-8")


def test_a_column_that_only_adjusting_makes_inconclusive_says_so_everywhere(run: Any, page: Callable[..., Any]) -> None:
    """8 gained and 1 lost: p = 20 / 512 = 0.039, three times that by Holm's method; [+0.5, +11.0] leaves out 0."""
    both(run, FACTS, pair(8, 1))
    both(run, ENDINGS, pair(3, 2))
    both(run, PRONOUNS, pair(3, 2))
    report = page(run.path)
    said = "above 0 unadjusted"
    assert report.row("dpop")[2].endswith(f"+5.8 [+0.5, +11.0] p = 0.117, {said} n = 120")
    assert report.row("Facts", "+5.83")[5] == f"inconclusive ({said})"
    assert f"Facts: +5.8 (95% interval +0.5 to +11.0, p = 0.117), inconclusive ({said})" in report.html
    assert f"inconclusive on 3 (Facts +5.8, {said})" in report.text
    assert f" +5.8 [+0.5, +11.0] ({said}) |" in built(run.path, "md")
    columns = json.loads(built(run.path, "json"))["suites"][0]["models"]["dpop"]["columns"]
    assert columns["Facts"]["difference"]["held_back"] == said
    assert columns["Endings"]["difference"]["held_back"] == ""
    assert report.text.count(said) == 5  # caption, table, forest and its table, headline; nowhere else


def test_an_average_that_only_adjusting_makes_inconclusive_says_so(run: Any) -> None:
    """The same documents, for each of three models: p of the one column is adjusted over the models."""
    base, own = pair(8, 1)
    for model, values in (("base", base), ("a", own), ("b", base), ("c", base)):
        evaluated(run, model, FACTS, values)
    found = {each.model: each for each in average_statements(compared(run.path))}
    assert found["a"].verdict == "inconclusive"
    assert found["a"].detail.endswith(
        "The interval, which is not adjusted, leaves out 0; p, adjusted for all models, is above 0.05."
    )
    assert "leaves out 0" not in found["b"].detail


def test_a_p_value_without_an_interval_is_no_verdict_and_says_so(run: Any) -> None:
    """Every document is lower by the same amount: the test is sure, but nothing says how far others would vary."""
    both(run, TRUTH, ([0.5] * 20, [0.25] * 20))
    both(run, FACTS, pair(3, 2))
    difference = only_table(compared(run.path)).cells["dpop"][1].difference  # type: ignore[union-attr]
    assert difference is not None
    assert (difference.interval, difference.outcome_words) == (None, "inconclusive (below 0 by its p value alone)")


def test_the_average_of_one_column_is_that_column(run: Any, page: Callable[..., Any]) -> None:
    both(run, FACTS, pair(12, 3))
    table = only_table(compared(run.path))
    (column,) = table.cells["dpop"]
    assert column is not None
    assert table.averages["dpop"].difference == column.difference
    assert table.averages["dpop"].score.interval == column.score.interval
    cells = page(run.path).row("dpop")
    assert cells[1] == cells[2]


def test_a_difference_on_common_documents_is_told_with_the_scores_on_them(run: Any, page: Callable[..., Any]) -> None:
    """The model answered only the 40 hard documents: 25% of these against 0%, but 66.7% of all the baseline's."""
    base = [0.0] * 40 + [1.0] * 80
    evaluated(run, "base", FACTS, base)
    evaluated(run, "dpop", FACTS, [1.0] * 10 + [0.0] * 30, available=120)
    report = page(run.path)
    where = "on the documents in common of the mean of 1 of 6 columns (demo)"
    assert f"better dpop scores 25.0 points higher than base {where}: 25.0 against 0.0 (95%" in report.text
    assert "Each on all of its own, dpop scores 25.0 and base 66.7." in report.text
    assert "on the 40 documents in common 25.0 against 0.0" in report.row("dpop")[2]
    assert "(25.0 against 0.0 in common)" in built(run.path, "md")
    own = json.loads(built(run.path, "json"))["suites"][0]["models"]["dpop"]["columns"]["Facts"]["difference"]
    assert own["in_common"] == [25.0, 0.0]
    assert report.row(FACTS, "acc_norm")[3].endswith("n = 40")  # and no −0.4167, of other documents
    assert "−0.4167" not in report.text


def test_totals_of_different_documents_are_averaged_with_nothing(run: Any) -> None:
    """ARC compares on common documents alone; without samples of Endings the average would mix the two."""
    evaluated(run, "base", FACTS, [0.0, 1.0] * 60)
    evaluated(run, "dpop", FACTS, [1.0, 0.0] * 30, available=120)
    evaluated(run, "base", ENDINGS, [0.0, 1.0] * 60)
    evaluated(run, "dpop", ENDINGS, [0.0, 1.0] * 60, kept=False)
    table = only_table(compared(run.path))
    assert [cell is not None and cell.difference is not None for cell in table.cells["dpop"]] == [True, True]
    assert table.averages["dpop"].why_not == (
        "Facts: dpop has 60 documents, base 120; without all samples there is no score on those in common"
    )


def test_a_group_whose_members_do_not_compare_has_no_difference(run: Any, page: Callable[..., Any]) -> None:
    for model, prompt in (("base", "p"), ("dpop", "other")):
        evaluated(run, model, "member", [0.0, 1.0] * 20, prompt=prompt, hashes={"member": prompt})
        (file,) = (run.path / "eval" / model).rglob("results_*.json")
        document = json.loads(file.read_text())
        document["results"]["group"] = {"alias": "group", "acc,none": 0.5 if model == "base" else 0.75}
        document["group_subtasks"] = {"group": ["member", "group"]}  # which must not go round in circles
        file.write_text(json.dumps(document))
    report = page(run.path)
    assert report.row("group group", "acc")[2:] == ["0.5 ± n/a", "0.75 ± n/a"]


def test_a_category_of_all_subjects_has_the_interval_of_the_column(run: Any) -> None:
    """One subject is answered alike: the column's bootstrap knows that once, not once per subject."""
    generator = np.random.default_rng(3)
    for subject in ("nutrition", "virology"):
        base = generator.integers(0, 2, 40).astype(float).tolist()
        evaluated(run, "base", MMLU + subject, base)
        changed = base if subject == "virology" else generator.integers(0, 2, 40).astype(float).tolist()
        evaluated(run, "dpop", MMLU + subject, changed)
    comparison = compared(run.path)
    (column,) = only_table(comparison).cells["dpop"]
    context = subjects(comparison)
    assert context is not None
    categories = context["tables"][0].categories
    assert column is not None
    assert [len(category.subjects) for category in categories] == [2]  # both are "other": the category is the column
    assert categories[0].mean.cells[1].difference.interval == column.difference.interval  # type: ignore[union-attr]


def test_a_category_of_one_subject_is_that_subject(run: Any) -> None:
    for subject, gained in (("anatomy", 9), ("virology", 4)):  # STEM, other
        both(run, MMLU + subject, pair(gained, 2, 40))
    context = subjects(compared(run.path))
    assert context is not None
    for category in context["tables"][0].categories:
        mean, subject = category.mean.cells[1].difference, category.subjects[0].cells[1].difference
        assert (mean.interval, mean.p_value) == (subject.interval, subject.p_value)


def test_all_right_answers_give_no_interval_without_a_width(run: Any) -> None:
    for task in (FACTS, ENDINGS):
        evaluated(run, "base", task, [1.0] * 30)
    table = only_table(compared(run.path))
    assert table.averages["base"].score.interval is None
    assert [cell.score.interval for cell in table.cells["base"] if cell] == [
        (pytest.approx(88.6483, abs=1e-3), 100.0)
    ] * 2


def test_one_document_cannot_find_a_hundred_points(run: Any) -> None:
    both(run, FACTS, ([0.0, 1.0], [1.0, 1.0]))
    (statement,) = average_statements(compared(run.path))
    assert statement.detail == "No difference is so large that as few documents would find it in 80% of evaluations."


def test_a_score_of_no_number_is_said_to_count_as_0(run: Any, page: Callable[..., Any]) -> None:
    run.evaluation("base", {FACTS: 0.5}, metric="acc_norm")
    run.evaluation("dpop", {FACTS: 0.5}, metric="acc_norm")
    (file,) = (run.path / "eval" / "dpop").rglob("results_*.json")
    file.write_text(file.read_text().replace('"acc_norm,none": 0.5', '"acc_norm,none": NaN, "other,none": NaN'))
    report = page(run.path)
    assert (
        "dpop: not a number, counted as 0 in the scores, as on the leaderboard: demo_facts (acc_norm)." in report.text
    )
    assert "dpop: not a number, shown as n/a: demo_facts (other)." in report.text


def test_where_nothing_compares_no_rule_of_comparing_is_told(run: Any, page: Callable[..., Any]) -> None:
    evaluated(run, "base", FACTS, [0.0, 1.0] * 20)
    evaluated(run, "dpop", FACTS, [0.0, 1.0] * 20, prompt="other")
    report = page(run.path)
    assert "not compared dpop scores 50.0" in report.text
    assert "A verdict of better or worse takes" not in report.text


def test_models_of_other_columns_say_of_how_many_their_average_is(run: Any) -> None:
    evaluated(run, "base", FACTS, [0.0, 1.0] * 20)
    evaluated(run, "dpop", FACTS, [0.0, 1.0] * 20)
    evaluated(run, "dpop", ENDINGS, [0.0, 1.0] * 20)
    (statement,) = average_statements(compared(run.path))
    assert statement.text.startswith("scores 50.0 on the mean of 2 of 6 columns (demo); it is not compared with base")


@pytest.mark.parametrize(
    ("p_value", "words"),
    [
        (0.0499, "p = 0.050"),
        (0.05, "p = 0.050"),
        (0.0503, "p = 0.0503"),
        (0.05003, "p = 0.05003"),
        (0.051, "p = 0.051"),
    ],
)
def test_a_p_value_that_does_not_count_is_not_shown_as_one_that_does(p_value: float, words: str) -> None:
    assert p_words(p_value) == words


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.04, 1, "+0.04"),
        (-0.004, 1, "−0.004"),
        (0.0, 1, "0.0"),
        (1e-9, 1, "0.0"),
        (2.0, 2, "+2.00"),
        (-3.05, 1, "−3.0"),
    ],
)
def test_an_interval_s_end_is_not_0_unless_it_is(value: float, digits: int, shown: str) -> None:
    assert bound(value, digits) == shown


@pytest.mark.parametrize(
    ("error", "words", "story"),
    [
        (0.1, "made the preferred answers of held-out pairs less likely", True),
        (0.3, "is not shown to have moved the preferred answers of held-out pairs", False),
    ],
)
def test_a_fall_within_its_error_is_no_alarm(
    run: Any, page: Callable[..., Any], error: float, words: str, story: bool
) -> None:
    run.training("dpo", {"eval": [(0, 0.0, 0.0), (9, -0.5, -8.0)]}, {"loss": "dpo"})
    run.training("dpop", {"eval": [(0, 0.0, 0.0), (9, -2.0, -8.0)]}, {"loss": "dpop"})
    log = run.path / "train" / "dpo" / "log.jsonl"
    log.write_text(
        log.read_text().replace(
            '"log_ratios/chosen": -0.5', f'"log_ratios/chosen": -0.5, "log_ratios/chosen_se": {error}'
        )
    )
    report = page(run.path)
    assert f"Training dpo {words}" in report.text
    assert ("dpo: preferred answers became less likely." in report.text) is story
    assert ("Lowered by dpop; not clearly moved by dpo." in report.text) is not story
    assert ("training dpo made preferred answers less likely" in built(run.path, "md")) is story
