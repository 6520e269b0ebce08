"""Several judges of the same answers: figures worked out by hand, in JSON, in the terminal and in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import smaug_eval
from smaug_eval.cli import app
from smaug_eval.mt_bench.files.records import JudgmentRecord, Judgments, PairJudgmentRecord
from smaug_eval.mt_bench.scores.agreement import agreements, panel_scores
from smaug_eval.mt_bench.scores.conditions import condition_notes, family_of

CATEGORIES = {1: "math", 2: "math", 3: "writing", 4: "writing"}


def single(judge: str, question: int, score: float, model: str = "m", **smaug: Any) -> JudgmentRecord:
    extra = {"category": CATEGORIES[question], **smaug}
    return JudgmentRecord(question, model, (judge, "single-v1"), "p", f"[[{score}]]", score, 1, 0.0, extra)


def pair(judge: str, question: int, g1: str, g2: str, models: tuple[str, str] = ("a", "b")) -> PairJudgmentRecord:
    return PairJudgmentRecord(question, *models, g1, g2, (judge, "pair-v2"), "", "", "", "", 1, 0.0, {})


def two_judges() -> list[JudgmentRecord]:
    own = [single("x", n, score) for n, score in enumerate((7, 5, 9, 4), 1)]
    return own + [single("y", n, score) for n, score in enumerate((7, 6, 9, 8), 1)]


def test_scores_of_two_judges_by_hand() -> None:
    (found,) = agreements(Judgments(two_judges()))
    assert (found.judges, found.kind, found.n) == (("x", "y"), "scores", 4)
    assert (found.share, found.within_one) == (0.5, 0.75)
    # Squared differences 0, 1, 0, 16: mean 4.25. All pairs of scores: means of squares 42.75 and 57.5, means 6.25, 7.5.
    assert found.kappa == pytest.approx(1 - 4.25 / (42.75 - 2 * 6.25 * 7.5 + 57.5))
    assert {name: own[:2] for name, own in found.by_category.items()} == {"math": (2, 0.5), "writing": (2, 0.5)}


def test_a_panel_by_hand() -> None:
    found = panel_scores([*two_judges(), single("x", 1, 2, "only of x")])
    assert list(found) == ["m"]
    assert found["m"].average == pytest.approx((7 + 5.5 + 9 + 6) / 4)
    assert found["m"].n == 4
    assert found["m"].between == pytest.approx(abs(6.25 - 7.5) / 2**0.5)
    assert found["m"].interval is not None
    assert panel_scores(two_judges()[:4]) == {}


def test_pairs_of_two_judges_whichever_was_shown_first() -> None:
    records = [
        pair("x", 1, "model_1", "model_1"), pair("y", 1, "model_2", "model_2", ("b", "a")),  # a, a
        pair("x", 2, "model_1", "model_1"), pair("y", 2, "model_2", "model_2"),  # a, b
        pair("x", 3, "tie", "tie"), pair("y", 3, "model_1", "model_2"),  # tie, tie
        pair("x", 4, "error", "tie"), pair("y", 4, "tie", "tie"),  # none
    ]  # fmt: skip
    (found,) = agreements(Judgments([], records))
    assert (found.n, found.share, found.decided) == (3, pytest.approx(2 / 3), 0.5)


@pytest.mark.parametrize(
    ("judge", "model", "words"),
    [
        ("gpt-4-0613", "gpt-4-0613", "judges its own answers"),
        ("gpt-4-0613", "openai/gpt-4o-mini", "a model of its own family"),
        ("o3-mini", "gpt-4", "a model of its own family"),
        ("Qwen/Qwen3-32B", "qwen2.5-7b-dpo", "a model of its own family"),
        ("gpt-4", "base", None),
        ("gpt-4", "dolphin-mixtral", None),
    ],
)
def test_judges_of_themselves(judge: str, model: str, words: str | None) -> None:
    notes = condition_notes(Judgments([single(judge, 1, 7, model)]))
    assert any(words in note for note in notes) if words else not notes


def test_families() -> None:
    assert family_of("meta-llama/Llama-3.1-8B") == "llama"
    assert family_of("my-phi-ish") == "phi"
    assert family_of("philosopher") == ""


def test_longer_answers_that_score_higher_are_told() -> None:
    records = [single("j", n, 8, "long", answer_characters=[300]) for n in (1, 2)]
    records += [single("j", n, 6, "short", answer_characters=[100]) for n in (1, 2)]
    (note,) = condition_notes(Judgments(records))
    assert "the answers of long are 3.0 times as long as those of short (300 against 100 characters)" in note
    turned = [single("j", n, 4, "long", answer_characters=[300]) for n in (1, 2)] + records[2:]
    assert condition_notes(Judgments(turned)) == []


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "model_judgment"
    folder.mkdir()
    for judge in ("x", "y"):
        own = [record for record in two_judges() if record.judge[0] == judge]
        lines = [json.dumps(record.as_json()) for record in own]
        (folder / f"{judge}_single.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_two_judges_in_json_in_the_terminal_and_in_the_report(files: Path, tmp_path: Path) -> None:
    found = json.loads(CliRunner().invoke(app, ["mt-bench", "score", str(files), "--json"]).output)
    assert found["m"]["by_judge"]["x"]["average"] == 6.25
    assert found["m"]["panel"]["average"] == pytest.approx(6.875)
    (agreed,) = found["judgments"]["agreement"]
    assert (agreed["judges"], agreed["share"]) == (["x", "y"], 0.5)
    said = CliRunner().invoke(app, ["mt-bench", "score", str(files)]).output
    assert "agreement between judges" in said
    assert "75.0% within 1" in said
    assert "all judges together" in said
    chosen = json.loads(CliRunner().invoke(app, ["mt-bench", "score", str(files), "--judge", "y", "--json"]).output)
    assert chosen["m"]["average"] == 7.5
    page = smaug_eval.report(files, tmp_path / "r.html").read_text()
    assert "agreement between judges" in page
    assert "x and y (scores)" in page
    text = smaug_eval.report(files, tmp_path / "r.md", format_="md").read_text()
    assert "| x and y | scores | 4 | 50.0% | 0.35 |" in text
    numbers = json.loads(smaug_eval.report(files, tmp_path / "r.json", format_="json").read_text())
    assert numbers["agreement"][0]["panel"]["m"]["average"] == pytest.approx(6.875)


def test_strengths_of_three_models_in_every_format(tmp_path: Path) -> None:
    wins = [("a", "b"), ("a", "c"), ("b", "c"), ("b", "a"), ("a", "b"), ("c", "b")]
    records = [pair("j", n, "model_1", "model_1", models) for n, models in enumerate(wins, 1)]
    file = tmp_path / "j_pair.jsonl"
    file.write_text("".join(json.dumps(record.as_json()) + "\n" for record in records))
    found = json.loads(CliRunner().invoke(app, ["mt-bench", "score", str(file), "--json"]).output)
    ratings = {model: own["strength"]["rating"] for model, own in found.items() if model != "judgments"}
    assert ratings["a"] > ratings["b"] > ratings["c"]
    assert sum(ratings.values()) == pytest.approx(3000)
    assert found["a"]["strength"]["interval"][0] < ratings["a"]
    assert f"{ratings['a']:.0f}" in CliRunner().invoke(app, ["mt-bench", "score", str(file)]).output
    assert f">{ratings['a']:.0f}<" in smaug_eval.report(file, tmp_path / "r.html").read_text()


def test_notes_on_repeated_lines_and_scores_beyond_the_scale(tmp_path: Path) -> None:
    records = [single("j", 1, 7), single("j", 1, 8), single("j", 2, 15)]
    file = tmp_path / "j_single.jsonl"
    file.write_text("".join(json.dumps(record.as_json()) + "\n" for record in records))
    result = CliRunner().invoke(app, ["mt-bench", "score", str(file)]).output
    assert "judgments of a question and turn that an earlier line judges: 1" in result
    assert "scores that are not from 1 to 10: 1" in result
    found = smaug_eval.score_mt_bench(file, details=True)["m"]
    assert found["beyond_scale"] == 1
    assert len(found["notes"]) == 2
