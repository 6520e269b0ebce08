"""The page of results that nobody here made: sentences first, one matrix of tasks and models, warnings after."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.reports import build_report
from tests.results.others import STAMP, accuracy, lines, newest, older, sample, write
from tests.run_writer import Page

BASE, TUNED = "organisation/model-base", "organisation/model-tuned"
Build = Callable[..., Page]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Two models on a choice task that is paired, a perplexity without samples, and one task each alone."""
    values = {BASE: [1.0, 0.0] * 30, TUNED: [1.0, 1.0, 1.0, 0.0] * 15}
    for place, (name, own) in enumerate(values.items()):
        tasks = {
            "quiz": accuracy(sum(own) / 60, 0.06),
            "stories": accuracy(12.0 - place, 0.2, "word_perplexity,none"),
            f"alone{place}": accuracy(0.5),
        }
        n = {"quiz": 60, "stories": 400, f"alone{place}": 100}
        home = tmp_path / "theirs" / name.replace("/", "__")
        write(home / f"results_{STAMP}.json", newest(tasks, model=name, n=n))
        rows = [sample(number, value) for number, value in enumerate(own)]
        write(home / f"samples_quiz_{STAMP}.jsonl", lines(rows))
    return tmp_path / "theirs"


def test_the_first_screen_says_what_came_out(theirs: Path, page: Build) -> None:
    report = page(theirs)
    headings = [each.get("id") for tag, each in report.elements if tag == "section"]
    assert headings[:3] == ["headline", "matrix", "warnings"]
    said = report.text.partition("In short")[2].partition("Scores of every task")[0]
    assert "model-tuned" in said
    assert "better on quiz (+25.0)" in said
    assert "stories (−1)" in said  # and lower is better
    assert "mixed" not in said


def test_the_matrix_has_score_interval_arrow_and_verdict(theirs: Path, page: Build) -> None:
    rows = {row[0].split(" ")[0]: row for row in page(theirs).rows if "lm-eval 0.4.9" in row[0]}
    quiz, stories = rows["quiz"], rows["stories"]
    assert quiz[0] == "quiz acc, % ↑, 0 shots, lm-eval 0.4.9, n = 60"
    assert quiz[1] == "50.0 [37.7, 62.3]"
    assert quiz[2].startswith("75.0 [62.8, 84.2] ▲ +25.0 [")  # Wilson's interval of 45 of 60
    assert quiz[2].endswith("p < 0.001, better")
    assert stories[0].startswith("stories word_perplexity ↓, ")
    assert stories[2] == "11 [10.61, 11.39] ▲ −1 [−1.554, −0.4456] p < 0.001, better"
    assert rows["alone0"][1:] == ["50.0 [30.4, 69.6]", "–"]
    assert rows["alone1"][1:] == ["–", "50.0 [30.4, 69.6]"]


def test_long_names_are_cut_and_told_whole(theirs: Path, page: Build) -> None:
    report = page(theirs)
    titled = {each["title"] for _, each in report.elements if each.get("title")}
    assert {BASE, TUNED} <= titled
    text = build_report([theirs], theirs.parent / "r.md", format_="md").read_text().replace("\\", "")
    assert "Whole names: model-base = organisation/model-base" in text
    numbers = json.loads(build_report([theirs], theirs.parent / "r.json", format_="json").read_text())
    assert list(numbers["other_tasks"]["models"]) == [BASE, TUNED]


def test_markdown_holds_the_numbers(theirs: Path) -> None:
    text = build_report([theirs], theirs.parent / "r.md", format_="md").read_text().replace("\\", "")
    (quiz,) = [line for line in text.splitlines() if line.startswith("| quiz ")]
    assert quiz == (
        "| quiz | acc, % ↑, 0 shots, lm-eval 0.4.9, n = 60 | 50.0 [37.7, 62.3] | 75.0 [62.8, 84.2] "
        "**▲ +25.0** [+12.6, +35.8], p < 0.001, better |"
    )
    (stories,) = [line for line in text.splitlines() if line.startswith("| stories ")]
    assert "word_perplexity ↓" in stories
    assert "**▲ −1** [−1.554, −0.4456], p < 0.001, better" in stories


def test_json_holds_the_tests(theirs: Path) -> None:
    found = json.loads(build_report([theirs], theirs.parent / "r.json", format_="json").read_text())
    quiz = found["other_tasks"]["models"][TUNED]["columns"]["quiz"]["difference"]
    assert (quiz["gained"], quiz["lost"], quiz["verdict"], quiz["unit"]) == (15, 0, "better", "%")
    assert quiz["p_value"] == pytest.approx(2 * 0.5**15)
    assert quiz["adjusted_p"] == pytest.approx(4 * 0.5**15)  # two tasks compare
    described = {each["title"]: each for each in found["other_tasks"]["columns"]}
    assert described["stories"]["higher_is_better"] is False


def test_the_forest_and_the_flips_are_those_of_any_task(theirs: Path, page: Build) -> None:
    report = page(theirs)
    ids = {each.get("id") for tag, each in report.elements if tag == "section"}
    assert {"differences", "samples", "tasks"} <= ids
    changed = next(row for row in report.rows if row[:2] == ["quiz", "model-tuned"])
    assert changed[2:6] == ["15", "0", "30", "15"]  # gained, lost, both right, both wrong


def test_columns_of_models_without_a_task_are_left_out(tmp_path: Path, page: Build) -> None:
    """Families of tasks that only one model has: tables with its column alone."""
    for name, tasks in (("org/one", ["bbh_a", "bbh_b"]), ("org/two", ["gpqa_a", "gpqa_b"])):
        write(tmp_path / "in" / f"{name[4:]}.json", newest({task: accuracy(0.5) for task in tasks}, model=name, n=100))
    heads = [row for row in page(tmp_path / "in").rows if row and row[0] == "task" and row[-1].startswith("org/")]
    assert heads
    assert all(("org/one" in " ".join(row)) != ("org/two" in " ".join(row)) for row in heads)


def test_warnings_are_one_for_a_reason(tmp_path: Path, page: Build) -> None:
    """Six models, two tasks, no samples: said once, not ten times."""
    for number in range(6):
        name = f"org/model-{number}"
        tasks = {"piqa": accuracy(0.5, 0.01), "boolq": accuracy(0.6, 0.01)}
        write(tmp_path / "in" / f"{number}.json", newest(tasks, model=name, n=100))
    report = page(tmp_path / "in")
    assert report.text.count("only totals compare") == 1
    items = report.text.partition("What to know")[2].partition("Differences")[0]
    assert items.count("org/model-0") <= 2


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a|b`c*d", "x" * 300, "ключ-⟨\u202e⟩"])
def test_names_of_others_are_escaped(tmp_path: Path, name: str) -> None:
    document = newest({name: accuracy(0.5, metric=f"{name.replace(',', '')},none")}, model=name, n=10)
    document["lm_eval_version"] = f"<img src=x onerror=alert(2)> {name}"
    write(tmp_path / "in" / "a.json", document)
    write(tmp_path / "in" / "b.json", {**document, "model_name": f"{name}2"})
    page = build_report([tmp_path / "in"], tmp_path / "p.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    text = build_report([tmp_path / "in"], tmp_path / "p.md", format_="md").read_text()
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}


def test_an_archive_that_ranks_nothing_says_why(theirs: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.csv"
    titles = "ARC,HellaSwag,MMLU,TruthfulQA,Winogrande,GSM8K"
    archive.write_text(
        f"Model,Average ⬆️,{titles},Precision,#Params (B),Model sha,Flagged,date\n"
        f"org/m,50,50,50,50,50,50,50,bfloat16,7,{'0' * 40},True,2024-01-01\n"
    )
    text = build_report([theirs], tmp_path / "r.md", format_="md", archive=archive).read_text().replace("\\", "")
    assert "archive.csv: no model is ranked, since none has results of the leaderboard's six benchmarks" in text
    six = newest({"winogrande": accuracy(0.6)}, model="org/m", n=1267, shots=5)
    write(tmp_path / "six" / "r.json", six)
    page = build_report([tmp_path / "six"], tmp_path / "p.html", archive=archive).read_text()
    assert "would have ranked in archive.csv" in page
    assert "As published on the archived leaderboard" in page


def test_older_names_have_columns_average_and_rank(tmp_path: Path, page: Build) -> None:
    """harness 0.3's names in the report as in scores: a table of columns, not folds of 63 tasks."""
    entries = {f"hendrycksTest-{subject}": accuracy(0.3, metric="acc") for subject in ("anatomy", "virology")}
    entries |= {"truthfulqa_mc": accuracy(0.4, metric="mc2"), "gsm8k": accuracy(0.1, metric="acc")}
    write(tmp_path / "in" / "r.json", older(entries, num_fewshot=5))
    report = page(tmp_path / "in")
    row = next(row for row in report.rows if row and row[0].startswith("org/model"))
    assert [cell.split(" ")[0] for cell in row[2:]] == ["30.0", "40.0", "10.0"]
    assert "The leaderboard's six benchmarks as these results ran them" in report.text


def test_what_it_took_stands_on_the_page(tmp_path: Path, page: Build) -> None:
    document = newest({"piqa": accuracy(0.5)}, n=1838)
    more = {"total_evaluation_time_seconds": "91.9", "pretty_env_info": "GPU 0: NVIDIA H200"}
    write(tmp_path / "in" / "r.json", {**document, **more})
    report = page(tmp_path / "in")
    assert report.row("hardware") == ["hardware", "1 x NVIDIA H200"]
    assert report.row("documents a second") == ["documents a second", "20"]
    assert report.row("time") == ["time", "1 min 32 s"]


def test_nothing_to_report_is_exit_code_1(tmp_path: Path) -> None:
    write(tmp_path / "results_x.json", '{"broken')
    with pytest.raises(SmaugError) as error:
        build_report([tmp_path], tmp_path / "p.html")
    assert error.value.exit_code == 1
    assert not (tmp_path / "p.html").exists()


def test_a_group_of_all_tasks_comes_first_in_its_sentence(tmp_path: Path, page: Build) -> None:
    """Means of both models over two tasks of 100 documents: 45.0 and 60.0."""
    for name, (one, two) in {BASE: (0.4, 0.5), TUNED: (0.5, 0.7)}.items():
        tasks = {"both": accuracy((one + two) / 2, 0.035), "one": accuracy(one, 0.05), "two": accuracy(two, 0.05)}
        members = {"both": ["one", "two"], "one": [], "two": []}
        write(tmp_path / "in" / f"{name[-4:]}.json", newest(tasks, model=name, n=100, group_subtasks=members))
    said = " ".join(page(tmp_path / "in").text.partition("In short")[2].partition("Scores of every task")[0].split())
    assert "scores 15.0 points higher than model-base on both (acc): 60.0 against 45.0" in said
    assert "By task: better on two (+20.0); no clear difference on 1 task." in said


def test_what_was_asked_of_each_is_in_every_format(tmp_path: Path) -> None:
    """Shots and limits that differ stand in the cells, those that do not beside the task."""
    for name, shots, limit in ((BASE, 0, 50), (TUNED, 5, 50)):
        document = newest({"quiz": accuracy(0.5)}, model=name, n=50, shots=shots, config={"limit": limit})
        write(tmp_path / "in" / f"{name[-4:]}.json", document)
    text = build_report([tmp_path / "in"], tmp_path / "page.md", format_="md").read_text().replace("\\", "")
    (line,) = [line for line in text.splitlines() if line.startswith("| quiz")]
    assert "limit 50, lm-eval 0.4.9, n = 50" in line
    assert line.count("(0 shots)") == line.count("(5 shots)") == 1
