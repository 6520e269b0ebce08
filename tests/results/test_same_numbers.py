"""One folder, four verbs: scores, report, leaderboard and reproduce give the same numbers for it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smaug_eval.cli import app
from smaug_eval.leaderboard import modern
from smaug_eval.leaderboard.published import TITLES
from tests.results.others import accuracy, newest, write

MODELS = ("org/first", "org/second")
TASKS = {
    "ARC": ("arc_challenge", "acc_norm,none", 25, 1172),
    "HellaSwag": ("hellaswag", "acc_norm,none", 10, 10042),
    "TruthfulQA": ("truthfulqa_mc2", "acc,none", 0, 817),
    "Winogrande": ("winogrande", "acc,none", 5, 1267),
    "GSM8K": ("gsm8k", "exact_match,strict-match", 5, 1319),
}
SCORES = {"ARC": 0.5123, "HellaSwag": 0.7612, "TruthfulQA": 0.4345, "Winogrande": 0.7045, "GSM8K": 0.2967}
MMLU = 0.4444


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models, the second two points above the first; each column in a file of its own."""
    for place, name in enumerate(MODELS):
        home = tmp_path / "in" / name.replace("/", "__")
        for title, (task, metric, shots, n) in TASKS.items():
            entry = accuracy(SCORES[title] + 0.02 * place, 0.01, metric)
            write(home / f"{task}.json", newest({task: entry}, model=name, n=n, shots=shots))
        leaves = next(column.leaves for column in modern.SUITE.columns if column.title == "MMLU")
        subjects = {leaf.name: accuracy(MMLU + 0.02 * place, 0.03) for leaf in leaves}
        sizes = {leaf.name: leaf.official_rows or 0 for leaf in leaves}
        write(home / "mmlu.json", newest(subjects, model=name, n=sizes, shots=5))
        quiz = {"quiz": accuracy(0.6 + 0.05 * place, 0.02), "story": accuracy(20.5 - place, 0.5, "perplexity,none")}
        write(home / "own.json", newest(quiz, model=name, n=600, shots=0))
    return tmp_path / "in"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    header = ["Model", "Average ⬆️", *TITLES, "Precision", "#Params (B)", "Model sha", "Flagged", "date"]
    rows = [[name, 50, *[50] * 6, "float16", 7, "abc", True, ""] for name in (*MODELS, "org/third")]
    with (tmp_path / "archive.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path / "archive.csv"


def told(*arguments: object) -> Any:
    found = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def written(folder: Path, form: str, archive: Path) -> str:
    out = folder.parent / f"page.{form}"
    found = CliRunner().invoke(
        app, ["report", str(folder), "--out", str(out), "--format", form, "--archive", str(archive)]
    )
    assert found.exit_code == 0, found.output
    return out.read_text(encoding="utf-8")


def expected(place: int) -> dict[str, float]:
    columns = {title: 100 * (SCORES[title] + 0.02 * place) for title in SCORES} | {"MMLU": 100 * (MMLU + 0.02 * place)}
    return {**columns, "Average": sum(columns.values()) / 6}


def test_four_verbs_give_the_same_numbers(folder: Path, archive: Path) -> None:
    entries = told("scores", folder)
    numbers = json.loads(written(folder, "json", archive))
    ranked = {each["model"]: each for each in told("leaderboard", folder, "--archive", archive)["standings"]}
    judged = told("reproduce", "--results", folder, "--archive", archive)["reproductions"]
    verdicts = {each["model"]: each["verdicts"] for each in judged}
    (suite,) = numbers["suites"]
    for place, model in enumerate(MODELS):
        right = expected(place)
        views = next(each for each in entries if each["model"] == model and each["suite"] == "open_llm_v1")
        seen = {each["title"]: each["v1"]["value"] for each in views["columns"]}
        assert {**seen, "Average": views["average"]["value"]} == pytest.approx(right)
        shown = suite["models"][model]
        page = {title: each["value"] for title, each in shown["columns"].items()}
        assert {**page, "Average": shown["average"]["value"]} == pytest.approx(right)
        ranks = {each["column"]: each["score"] for each in ranked[model]["ranks"] if each["size_class"] is None}
        assert ranks == pytest.approx(right)
        assert {each["column"]: each["ours"] for each in verdicts[model]} == pytest.approx(right)
        gaps = {each["column"]: each["gap"] for each in verdicts[model]}
        assert gaps == pytest.approx({title: value - 50 for title, value in right.items()})


def test_four_forms_show_the_same_numbers(folder: Path, archive: Path) -> None:
    numbers, text, page = (written(folder, form, archive) for form in ("json", "md", "html"))
    terminal = CliRunner().invoke(app, ["scores", str(folder)]).output
    right = expected(1)
    for value in right.values():
        assert f"{value:.1f}" in text
        assert f"{value:.1f}" in page
        assert f"{value:.2f}" in terminal
    # the others' own tasks: 65.0 against 60.0, se 2.83: -0.5 to 10.5, z = 1.77, twice p = 0.077 by Holm's method
    others = json.loads(numbers)["other_tasks"]["models"][MODELS[1]]["columns"]
    apart = others["quiz"]["difference"]
    assert (apart["points"], *apart["interval"]) == pytest.approx((5.0, -0.54, 10.54), abs=0.01)
    assert apart["adjusted_p"] == pytest.approx(2 * 0.0771, abs=0.001)
    assert "65.0" in text
    assert "+5.0 [−0.5, +10.5], p = 0.154" in text.replace("\\", "")
    assert "[−0.5, +10.5]" in page
    assert "−0.54 to +10.54" in terminal
    assert others["story"]["difference"]["higher_is_better"] is False
    # published 50.0 on every column; ranked among the other two rows
    assert f"50.0 (+{right['Average'] - 50:.1f})" in text
    assert "org/second: rank 1 of 3" in text.replace("\\", "")


def test_the_rows_of_the_frame_are_those_of_the_table(folder: Path) -> None:
    import smaug_eval

    frame = smaug_eval.scores([folder])
    for place, model in enumerate(MODELS):
        own = frame[(frame["model"] == model) & (frame["suite"] != "tasks")]
        found = dict(zip(own["column"], own["score"], strict=True))
        right = expected(place)
        assert {title: found[title] for title in TITLES} == pytest.approx({title: right[title] for title in TITLES})
    assert io.StringIO(frame.to_csv()).readline().count(",") >= 5
