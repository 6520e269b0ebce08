"""Every model as the baseline, and every pair of models: on the page, in Markdown, as JSON and in the terminal."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smaug_eval.cli.tables.model_pairs import pair_parts
from smaug_eval.cli.tables.whole import print_whole
from smaug_eval.reports import build_report
from smaug_eval.reports.pair_matrices import pair_matrices
from smaug_eval.reports.panels.warnings import COMPARISONS, HARMLESS, warning_groups
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.pairs import pair_tables
from smaug_eval.results.sources import read_source
from tests.run_writer import Page

ARC, HELLASWAG, FREE = "open_llm_v1_arc_challenge", "open_llm_v1_hellaswag", "quiz"

# Of 20 documents: base has the first 10 right; dpo loses 0 to 5 and gains 10; dpop loses 0 and gains 10 to 16.
VALUES = {
    "base": [1.0] * 10 + [0.0] * 10,
    "dpo": [0.0] * 6 + [1.0] * 4 + [1.0] + [0.0] * 9,
    "dpop": [0.0] + [1.0] * 9 + [1.0] * 7 + [0.0] * 3,
}


def fill(run: Any, models: Sequence[str] = tuple(VALUES)) -> Path:
    """Write models on two columns of a suite and on a task of none, with samples."""
    for place, model in enumerate(models):
        values = VALUES[model]
        other = values[place:] + values[:place]
        free = values[::-1]
        for task, own, metric in ((ARC, values, "acc_norm"), (HELLASWAG, other, "acc_norm"), (FREE, free, "acc")):
            run.evaluation(
                model, {task: sum(own) / 20}, metric=metric, n=20, samples=run.samples(own, metric), model_name=model
            )
    return run.path  # type: ignore[no-any-return]


def compared(path: Path, baseline: str | None = None) -> Comparison:
    return compare([read_source(path)], title=None, baseline=baseline)


def numbers_of(path: Path, tmp_path: Path, **options: Any) -> Any:
    return json.loads(build_report([path], tmp_path / "report.json", format_="json", **options).read_text())


def html_of(path: Path, tmp_path: Path, **options: Any) -> str:
    return build_report([path], tmp_path / "page.html", **options).read_text(encoding="utf-8")


def part_of(html: str, key: str) -> str:
    """Return what stands on the page of a panel that depends on the baseline."""
    section = html.partition(f'<section id="{key}"')[2].partition("</section>")[0]
    return section.partition(f'<div data-part="{key}">')[2].partition("<p>Numbers are log-likelihoods")[0]


def test_each_choice_holds_what_the_report_with_that_baseline_says(run: Any, tmp_path: Path) -> None:
    path = fill(run)
    html = html_of(path, tmp_path)
    held = re.findall(r'<template data-for="([^"]+)" data-baseline="(\d)">(.*?)</template>', html, re.DOTALL)
    assert {key for key, _, _ in held} == {"headline", "matrix", "scores", "differences", "samples", "tasks"}
    for number, baseline in enumerate(VALUES):
        if baseline == "base":
            continue
        other = html_of(path, tmp_path, baseline=baseline)
        for key, _, body in (each for each in held if each[1] == str(number)):
            mine, theirs = Page(body), Page(part_of(other, key))
            assert sorted(mine.rows) == sorted(theirs.rows), (baseline, key)
            assert sorted(mine.text.split()) == sorted(theirs.text.split()), (baseline, key)
    assert '<option value="0" selected>base</option>\n<option value="1">dpo</option>' in html


def test_the_page_of_the_given_baseline_is_whole_without_a_script(run: Any, tmp_path: Path) -> None:
    html = html_of(fill(run), tmp_path)
    page = Page(html)
    assert [a for tag, a in page.elements if tag == "p" and a.get("class") == "choice"] == [
        {"class": "choice", "hidden": None}
    ]
    assert page.row("open_llm_v1: ARC", "dpo")[2:] == ["1", "6", "4", "9", "0"]
    assert page.row("dpop less …")[1:] != []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_flips_of_a_pair_without_the_baseline(run: Any, tmp_path: Path) -> None:
    """dpop has 1 to 5 and 11 to 16 right that dpo has wrong, and loses none; both have 6 to 10 right."""
    flips = numbers_of(fill(run), tmp_path)["flips"]
    (found,) = (
        each for each in flips if (each["task"], each["model"], each["other"]) == ("open_llm_v1: ARC", "dpop", "dpo")
    )
    assert found["counts"] == {"gained": 11, "both right": 5, "both wrong": 4}
    assert {(each["model"], each["other"]) for each in flips} == {("dpo", "base"), ("dpop", "base"), ("dpop", "dpo")}


def test_pairs_are_adjusted_over_all_of_them(run: Any, tmp_path: Path) -> None:
    """Without samples: standard errors 5.0, 4.899 and 4.770, so z = 1.429, 2.171 and 0.731."""
    for model, score in (("base", 0.5), ("dpo", 0.6), ("dpop", 0.65)):
        run.evaluation(model, {ARC: score}, metric="acc_norm", n=101)
    found = numbers_of(run.path, tmp_path)
    (table,) = found["pairs"]
    assert (table["suite"], table["models"], table["tests"]) == ("open_llm_v1", ["base", "dpo", "dpop"], 3)
    by_pair = {(each["model"], each["other"]): each["difference"] for each in table["pairs"]}
    points = {pair: each["points"] for pair, each in by_pair.items()}
    assert points == {
        ("dpo", "base"): pytest.approx(10.0),
        ("dpop", "base"): pytest.approx(15.0),
        ("dpop", "dpo"): pytest.approx(5.0),
    }
    own = {pair: each["p_value"] for pair, each in by_pair.items()}
    assert own["dpop", "base"] == pytest.approx(0.02995, abs=2e-4)
    assert own["dpo", "base"] == pytest.approx(0.1531, abs=3e-4)
    assert own["dpop", "dpo"] == pytest.approx(0.4646, abs=5e-4)
    adjusted = {pair: each["adjusted_p"] for pair, each in by_pair.items()}
    assert adjusted["dpop", "base"] == pytest.approx(3 * own["dpop", "base"])
    assert adjusted["dpo", "base"] == pytest.approx(2 * own["dpo", "base"])
    assert adjusted["dpop", "dpo"] == own["dpop", "dpo"]
    # the table against the baseline keeps its own family of two
    cell = found["suites"][0]["models"]["dpop"]["average"]["difference"]
    assert cell["adjusted_p"] == pytest.approx(2 * own["dpop", "base"])
    assert found["best"][0]["model"] == "dpop"
    assert found["best"][0]["verdict"] == "inconclusive"
    assert "65.0: 5.0 points higher than dpo, the next" in found["best"][0]["text"]


def test_a_matrix_is_the_same_from_both_sides_and_with_any_baseline(run: Any) -> None:
    path = fill(run)
    first = compared(path)
    for table in pair_tables(first):
        for model in table.models:
            assert table.of(model, model) is None
        forth, back = table.of("dpop", "dpo"), table.of("dpo", "dpop")
        assert forth is not None
        assert back is not None
        for title, cell in forth.tasks.items():
            one, other = cell.difference, back.tasks[title].difference
            assert one is not None
            assert other is not None
            assert other.points == -one.points
            assert (other.gained, other.lost) == (one.lost, one.gained)
            assert one.interval is None or other.interval == (-one.interval[1], -one.interval[0])
    assert pair_matrices(compared(path, "dpop")) == pair_matrices(first)
    assert first.against("dpo").baseline == "dpo"
    assert first.against("dpo").first is first


def test_tasks_without_an_average_are_counted_over_one_family(run: Any) -> None:
    """Two free tasks: on each of them the three pairs make six tests together."""
    for model, values in VALUES.items():
        for task in ("quiz", "riddle"):
            run.evaluation(model, {task: sum(values) / 20}, n=20, samples=run.samples(values, "acc"))
    (matrix,) = pair_matrices(compared(run.path))
    assert matrix.family == "all 6 tests, of 2 tasks and 3 pairs"
    # 11 gained and none lost: p = 2 / 2^11, six times that by Holm's method
    assert matrix.entries["dpop", "dpo"].outcome == "better on 2 of 2 tasks"
    assert matrix.entries["dpo", "dpop"].outcome == "worse on 2 of 2 tasks"
    assert matrix.entries["dpo", "base"].outcome == "no clear difference of 2 tasks"


def test_more_than_twelve_models_are_not_compared_in_pairs(run: Any, tmp_path: Path) -> None:
    for number in range(13):
        run.evaluation(f"model{number:02d}", {ARC: 0.4 + 0.02 * number}, metric="acc_norm", n=101)
    html = html_of(run.path, tmp_path)
    assert "There are 13 models" in Page(html).text
    assert "All differences are from model00: name another with --baseline" in Page(html).text
    assert "<template" not in html
    assert "<select id=" not in html
    assert numbers_of(run.path, tmp_path)["pairs"] is None


def test_markdown_answers_whether_dpop_is_better_than_dpo(run: Any, tmp_path: Path) -> None:
    text = build_report([fill(run)], tmp_path / "report.md", format_="md").read_text()
    lines = text.splitlines()
    assert lines[2].startswith("- **dpop** is best on the mean of 2 of 6 columns (open")
    (between,) = (
        line for line in lines if line.startswith("- **dpop** (better) scores") and "than dpo on the mean" in line
    )
    assert "over all 3 pairs" in between
    assert "| model | against | gained | lost | both right | both wrong |" in lines


def test_the_terminal_lists_every_pair(run: Any) -> None:
    out = io.StringIO()
    for part in pair_parts(compared(fill(run))):
        print_whole(part, Console(file=out, width=40))
    rows = [line.split() for line in out.getvalue().splitlines()]
    for pair in (["dpo", "base"], ["dpop", "base"], ["dpop", "dpo"]):
        assert pair in [row[:2] for row in rows]
    assert out.getvalue().startswith("dpop is best on the mean of 2 of 6 columns (open_llm_v1), with")


def test_p_values_are_neither_nought_nor_one(run: Any, tmp_path: Path) -> None:
    for model in ("base", "dpo", "dpop"):
        run.evaluation(model, {ARC: 0.5}, metric="acc_norm", n=20, samples=run.samples(VALUES["base"]))
    html = html_of(run.path, tmp_path)
    assert "p &gt; 0.99" in html
    assert not re.search(r"p = (?:1\.0+|0\.0+)\b", html)
    assert "1.0000" not in html


def test_warnings_are_grouped_and_harmless_ones_folded(run: Any, tmp_path: Path) -> None:
    for place, model in enumerate(("base", "dpo")):
        run.evaluation(model, {ARC: 0.5}, metric="acc_norm", n=20, samples=run.samples(VALUES["base"]))
        for path in (run.path / "eval" / model).rglob("results_*.json"):
            content = json.loads(path.read_text())
            content["config"]["batch_size"] = 8 * (place + 1)
            content["config"]["model_args"]["dtype"] = ("float32", "bfloat16")[place]
            path.write_text(json.dumps(content))
    groups = {group.danger: group for group in warning_groups(compared(run.path))}
    assert any(
        "batch size: 8 for base" in each.text or "batch size: 16" in each.text for each in groups[HARMLESS].items
    )
    assert any("dtype: " in each.text for each in groups[COMPARISONS].items)
    assert groups[HARMLESS].is_folded
    assert not groups[COMPARISONS].is_folded
    body = html_of(run.path, tmp_path).partition('<section id="warnings"')[2].partition("</section>")[0]
    assert body.index("batch size") > body.index("<details>") > body.index("dtype: ")


def test_a_run_is_compared_with_the_baseline_of_its_recipe(run: Any, tmp_path: Path) -> None:
    fill(run)
    assert compared(run.path).baseline == "base"
    run.manifest(recipe={"report": {"baseline": "dpop"}}, models={})
    assert compared(run.path).baseline == "dpop"
    assert compared(run.path, "dpo").baseline == "dpo"
    assert numbers_of(run.path, tmp_path)["baseline"] == "dpop"
