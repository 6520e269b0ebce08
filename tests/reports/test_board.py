"""The leaderboard page's numbers, without a browser: they are those of the verb's table and of the scores."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.cli.tables.leaderboard import ranking_text
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.published import TITLES
from smaug_eval.leaderboard.v1 import SUITE
from smaug_eval.reports.board import build_board
from tests.run_writer import Page

HEADER = ["Model", "Average ⬆️", *TITLES, "Precision", "#Params (B)", "Model sha", "Flagged", "date"]  # fmt: skip
FURTHER = ["Type", "Merged", "MoE", "Available on the hub"]
HOSTILE = "evil/</script><script>window.hit=1</script><img src=x onerror=window.hit=1>&amp;\u202e"


def archive(path: Path, rows: list[tuple[str, float, dict[str, Any]]], *, further: bool = True) -> Path:
    """An archive of the first leaderboard: name, score of all columns, and what else differs."""
    header = [*HEADER, *(FURTHER if further else [])]
    lines = [",".join(header)]
    for name, score, other in rows:
        cells = [name, score, *[score] * 6, other.get("precision", "float16"), other.get("size", 7), "abcdef",
                 other.get("kept", "True"), other.get("date", "2024-01-02T00:00:00Z")]  # fmt: skip
        if further:
            kind = other.get("type", "🔶 fine-tuned on domain-specific datasets")
            cells += [kind, other.get("no_merge", "True"), other.get("dense", "True"), other.get("on_hub", "True")]
        lines.append(",".join(f'"{cell}"' if "," in str(cell) else str(cell) for cell in cells))
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


ROWS: list[tuple[str, float, dict[str, Any]]] = [
    ("a/top", 80, {"size": 70, "type": "🟢 pretrained"}),
    ("a/high", 70.126, {"precision": "bfloat16"}),
    ("a/cheat", 65, {"kept": "False"}),
    ("a/merge", 60, {"no_merge": "False", "type": "🤝 base merges and moerges"}),
    ("a/mixture", 50, {"dense": "False", "size": 13}),
    ("a/gone", 40, {"on_hub": "False", "size": 0}),
    (HOSTILE, 30, {"type": "?"}),
]


@pytest.fixture
def own_run(write_run: Callable[[str], Any]) -> Path:
    """A run with all six benchmarks of a base and a trained model, and a report."""
    run = write_run("mine")
    run.manifest(
        created="2026-11-20T10:00:00+00:00",
        models={"base": {"source": "org/base", "dtype": "bfloat16"}, "dpop": {"dtype": "bfloat16"}},
        recipe={"trainings": {"dpop": {"loss": "dpop", "beta": 0.3, "lambda": 50.0, "run_card": {"a": 1}}}},
    )
    for model, level in (("base", 0.62), ("dpop", 0.665)):
        for place, column in enumerate(SUITE.columns):
            scores = {leaf.name: level + 0.01 * place for leaf in column.leaves}
            run.evaluation(model, scores, metric=column.metric, n=400, available=400)
    (run.path / "report.html").write_text("<!DOCTYPE html>")
    return Path(run.path)


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="rows">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def text_table(paths: list[Path], rows: Path) -> str:
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(ranking_text(smaug_eval.rank(paths, rows)))
    return console.export_text()


def test_the_numbers_are_those_of_the_text_table(own_run: Path, tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive.csv", ROWS)
    page = Page(build_board([own_run], tmp_path / "board.html", archive_file=rows).read_text(encoding="utf-8"))
    lines = text_table([own_run], rows).splitlines()
    data = data_of(page.html)
    found = smaug_eval.rank([own_run], rows)["standings"]
    assert len(found) == 2
    for standing in found:
        name = standing["model"]
        place = data["model"].index(name)
        own_cells = page.row(name)
        start = next(number for number, line in enumerate(lines) if line.startswith(f"{name} ("))
        for rank in (each for each in standing["ranks"] if each["size_class"] is None):
            column = [each["title"] for each in data["columns"]].index(rank["column"])
            shown = f"{data['scores'][column][place]:.2f}"
            printed = next(
                line for line in lines[start:] if line.split("│")[1:3] and line.split("│")[1].strip() == rank["column"]
            )
            cells = [cell.strip() for cell in printed.split("│")]
            assert cells[3] == shown
            assert shown in own_cells[page.rows[0].index(rank["column"])]
            if rank["column"] == "Average":
                assert cells[4].rstrip("*") == f"{data['rank'][place]:,} of {rank['models'] + 1:,}"
                assert cells[5] == "{} to {}".format(*data["own"][str(place)]["range"])
                assert own_cells[1].rstrip("*") == cells[4].rstrip("*")
                assert own_cells[2] == cells[5]
    # 62% and on in steps of a point: 64.5 beats the merge and what is below it; the flagged row does not count
    base = next(each for each in found if each["model"].endswith("base"))
    assert (base["ranks"][0]["column"], base["ranks"][0]["rank"]) == ("Average", 3)


def test_all_rows_are_there_in_order_with_what_they_are(own_run: Path, tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive.csv.gz", ROWS)
    html = build_board([own_run], tmp_path / "board.html", archive_file=rows).read_text(encoding="utf-8")
    data = data_of(html)
    names = [name.split("/")[-1] if name[0] != "e" else "evil" for name in data["model"]]
    assert names == ["top", "high", "dpop", "cheat", "base", "merge", "mixture", "gone", "evil"]
    # 1 and the number of unflagged archived models with a higher average: a tie with none of them
    assert data["rank"] == [1, 2, 3, 3, 3, 3, 4, 5, 6]
    assert data["scores"][0] == [80, 70.13, 69.0, 65, 64.5, 60, 50, 40, 30]
    word = lambda key, place: data[key]["words"][data[key]["at"][place]]  # noqa: E731
    assert [word("class", place) for place in range(9)] == ["~60", "~7", "?", "~7", "?", "~7", "~13", "?", "~7"]
    assert word("type", 0) == "pretrained"
    assert word("type", 2) == "own run"
    assert word("precision", 1) == "bfloat16"
    names_of = [name for name, _ in data["flagNames"]]
    assert [[name for bit, name in enumerate(names_of) if bits >> bit & 1] for bits in data["flags"]] == [
        [], [], [], ["flagged"], [], ["merged"], ["moe"], ["off_hub"], []
    ]  # fmt: skip
    assert data["size"][:2] == [70, 7]
    assert data["links"] == {"2": "mine/report.html", "4": "mine/report.html"}
    assert data["own"]["2"]["recipe"] == "dpop, beta 0.3, lambda 50.0"


def test_nothing_in_a_name_acts(own_run: Path, tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive.csv", ROWS)
    html = build_board([own_run], tmp_path / "board.html", archive_file=rows, title=HOSTILE).read_text(encoding="utf-8")
    page = Page(html)
    assert [tag for tag, _ in page.elements if tag in ("script", "img")] == ["script", "script"]
    assert html.count("</script>") == 2
    assert "⟨U+202E⟩" in data_of(html)["model"][-1]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_without_a_script_the_first_rows_and_own_ones_are_there(own_run: Path, tmp_path: Path) -> None:
    many = [(f"m/{number}", 90 - number / 10, {}) for number in range(300)]
    rows = archive(tmp_path / "archive.csv", many)
    page = Page(build_board([own_run], tmp_path / "board.html", archive_file=rows).read_text(encoding="utf-8"))
    board = [row for row in page.rows if len(row) > 1 and row[1].startswith("m/")]
    assert [row[1] for row in board] == [f"m/{number}" for number in range(50)]
    assert [row[0] for row in page.rows if row[0] in ("mine/dpop", "mine/base")] == ["mine/dpop", "mine/base"]
    assert "the first 50 of 302 rows" in page.text


def test_columns_that_an_archive_lacks_are_no_fault(tmp_path: Path) -> None:
    rows = archive(tmp_path / "archive.csv", ROWS, further=False)
    data = data_of(build_board([], tmp_path / "board.html", archive_file=rows).read_text(encoding="utf-8"))
    assert data["type"]["words"] == [""]
    assert [bits for bits in data["flags"] if bits] == [1]
    assert data["own"] == {}


def test_the_index_of_a_folder_of_runs(own_run: Path, write_run: Callable[[str], Any], tmp_path: Path) -> None:
    judged = write_run("talks").path / "mt-bench" / "main" / "model_judgment" / "all"
    broken = write_run("broken").manifest().path / "eval/base/main/task/results_2026.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    write_run("later").evaluation("base", {"own_task": 0.5}, n=100)
    write_run("training").manifest(created="2026-11-21T00:00:00").training("dpo", {"train": [(0, 0.0, 0.0)]})
    judged.mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "notes").mkdir()
    html = build_board([tmp_path], tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page, data = Page(html), data_of(html)
    runs = [data["own"][str(place)]["run"] for place in range(len(data["model"]))]
    assert sorted(zip(runs, data["model"], strict=True)) == [
        ("broken", "no model yet"), ("later", "base"), ("mine", "base"), ("mine", "dpop"), ("training", "dpo")
    ]  # fmt: skip
    frame = smaug_eval.scores([own_run])
    for place, model in enumerate(data["model"]):
        if data["own"][str(place)]["run"] != "mine":
            continue
        own = frame[frame["model"] == model].set_index("column")
        for number, column in enumerate(data["columns"]):
            if column["group"] != "open_llm_v1":
                continue
            row = own.loc["average of six" if column["title"] == "average" else column["title"]]
            assert data["scores"][number][place] == round(row["score"], 2)
            assert data["own"][str(place)]["intervals"][number] == [round(row["low"], 2), round(row["high"], 2)]
    assert set(data["links"].values()) == {"../mine/report.html"}
    assert page.row("mine", "dpop")[2:4] == ["dpop, beta 0.3, lambda 50.0", "2026-11-20"]
    assert "broken" in page.text
    assert "results_2026.json" in page.text  # one bad file takes no other away


def test_the_verb_writes_the_page_and_says_what_does_not_fit(own_run: Path, tmp_path: Path) -> None:
    page, rows = tmp_path / "board.html", archive(tmp_path / "archive.csv", ROWS)
    made = CliRunner().invoke(app, ["leaderboard", str(own_run), "--archive", str(rows), "--html", str(page)])
    assert (made.exit_code, made.stdout.strip()) == (0, str(page))
    first = page.read_bytes()
    assert smaug_eval.leaderboard_page(own_run, page, archive=rows).read_bytes() == first
    for arguments, words in (
        (["--html", str(page)], "nothing to show"),
        (["--html", str(page), "--json", str(own_run)], "--json prints"),
        (["--title", "x"], "--title is the heading of a page"),
        ([str(tmp_path / "nowhere"), "--html", str(page)], "does not exist"),
    ):
        refused = CliRunner().invoke(app, ["leaderboard", *arguments])
        assert isinstance(refused.exception, SmaugError)
        assert words in str(refused.exception)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("open_llm_leaderboard_v1.csv.gz", 7169),
        ("open_llm_leaderboard_v2_2025-02.csv.gz", 3827),
        ("open_llm_leaderboard_v2_final.csv.gz", 4574),
    ],
)
def test_the_real_archives_fit_on_a_page(shared: Path, tmp_path: Path, name: str, count: int) -> None:
    page = build_board([], tmp_path / "board.html", archive_file=shared / "leaderboard" / name)
    data = data_of(page.read_text(encoding="utf-8"))
    assert len(data["model"]) == count
    assert page.stat().st_size < 3_000_000 * count / 12_000
    if name.endswith("v1.csv.gz"):
        assert data["model"][data["rank"].index(1)] == "paloalma/Le_Triomphant-ECE-TW3"
        assert sum(bits & 1 for bits in data["flags"]) == 109


def test_lm_eval_s_own_tasks_of_the_second_leaderboard_are_ranked_as_in_a_report(shared: Path, tmp_path: Path) -> None:
    rows = shared / "leaderboard" / "open_llm_leaderboard_v2_2025-02.csv.gz"
    theirs = shared / "field/results/leaderboard_v2_limit1"
    (own,) = smaug_eval.rank([theirs], rows)["standings"]
    page = smaug_eval.report([theirs], tmp_path / "page.json", format_="json", archive=rows)
    (reported,) = json.loads(page.read_text())["standings"]
    assert json.loads(json.dumps(own["ranks"])) == reported["ranks"]
    assert [round(each["score"], 1) for each in own["ranks"][:7]] == [47.2, 16.7, 45.8, 42.9, 11.1, 66.7, 100.0]
    assert [*own["notes"]] == ["from lm-eval's leaderboard tasks"]
    data = data_of(build_board([theirs], tmp_path / "board.html", archive_file=rows).read_text())
    assert data["rank"][data["model"].index(own["model"])] == 6
