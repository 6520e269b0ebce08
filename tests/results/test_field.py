"""Real files of other people's, where the reference material is there; every value is in the file, worked out by hand.

The folder's README says where each comes from and what is right.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.scores import Score
from smaug_eval.reports import build_report
from smaug_eval.results.boards import TASKS
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.merging import with_distinct_labels
from smaug_eval.results.scored import score_paths
from smaug_eval.results.sources import read_sources, unread_notes
from smaug_eval.results.standings import rank
from smaug_eval.results.tables import ScoreCell

LLAMA, INSTRUCT = "meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct"
ARITHMO = "saucam/Arithmo-Wizard-2-7B"
YI = "HenryJJ/Instruct_Yi-6B_Dolly15K"
PYTHIA = "EleutherAI/pythia-v1.1-410m, revision step143000"
SIX_OF_YI = {"ARC": 54.86, "HellaSwag": 75.87, "MMLU": 63.37, "TruthfulQA": 42.84, "Winogrande": 74.90, "GSM8K": 29.26}


@pytest.fixture(scope="module")
def field(shared: Path) -> Path:
    folder = shared / "field" / "results"
    if not folder.is_dir():
        pytest.skip("needs the files of others in ../shared/field")
    return folder


@lru_cache(maxsize=4)
def read(*paths: Path) -> Comparison:
    return compare(with_distinct_labels(read_sources(paths)), title=None, baseline=None, whole=True)


def cells(comparison: Comparison, title: str) -> dict[str, ScoreCell]:
    """Model to its cell of the column or task of a title."""
    found: dict[str, ScoreCell] = {}
    for table in comparison.all_tables:
        if title in table.columns:
            place = table.columns.index(title)
            found |= {model: cell for model, own in table.cells.items() if (cell := own[place]) is not None}
    return found


def score(comparison: Comparison, model: str, title: str) -> Score:
    return cells(comparison, title)[model].score


VALUES: Sequence[tuple[str, str, str, float, int | None]] = (
    ("saucam", LLAMA, "ARC", 57.51, 1172),
    ("saucam", LLAMA, "HellaSwag", 82.09, 10042),
    ("saucam", LLAMA, "MMLU", 66.36, 14042),
    ("saucam", LLAMA, "TruthfulQA", 43.93, 817),
    ("saucam", LLAMA, "Winogrande", 77.58, 1267),
    ("saucam", LLAMA, "GSM8K", 50.87, 1319),
    ("saucam", f"{ARITHMO}, 0 shots", "ARC", 49.49, 1172),
    ("saucam", f"{ARITHMO}, 0 to 25 shots", "ARC", 62.88, 1172),
    *(("ollb_v1", YI, title, value, None) for title, value in SIX_OF_YI.items()),
    ("pythia", f"{PYTHIA}, 5 shots", "ARC", 26.62, 1172),
    ("pythia", f"{PYTHIA}, 0 shots", "ARC", 24.32, 1172),
    ("pythia", f"{PYTHIA}, 5 shots", "MMLU", 24.98, 14042),
    ("pythia", f"{PYTHIA}, 0 shots", "MMLU", 25.52, 14042),
    ("pythia", f"{PYTHIA}, 5 shots", "Winogrande", 52.96, 1267),
    ("pythia", f"{PYTHIA}, 0 shots", "Winogrande", 53.67, 1267),
    ("bloom", "LLaMA/7B, 5 shots", "MMLU", 38.29, 14042),
    ("bloom", "LLaMA/7B, 8 shots", "GSM8K", 8.04, 1319),
    ("sssm", "Qwen/Qwen3.5-4B", "GSM8K", 80.0, 100),
    ("rwkv", "v7-1B5-world", "lambada_openai", 4.257, 5153),
    ("rwkv", "fla-hub/rwkv7-1.5B-world", "lambada_openai", 4.263, 5153),
    ("pyfade/data", "gemma3:12b-u1", "GSM8K", 75.0, 100),
    ("nl2foam", "nl2foam_sft_0__8__1765350318", "nl2foam_llm_judge_original", 89.16, 100),
    ("materials", "gpt-4o-mini", "pxrd_lattice_prediction", 3.76, None),
    ("evalchemy", "Qwen/Qwen3-1.7B", "IFEval", 24.2, 500),
    ("lighteval", "gpt2", "gsm8k|0", 0.0, 1),
    ("lmeval042", LLAMA, "HellaSwag", 82.09, 10042),
    ("leaderboard_v2_limit1", "Qwen/Qwen3-8B, load in 4bit", "MMLU-Pro", 100.0, 1),
    ("own043", "models/stories260K", "capitals", 25.83, 120),
    ("own", "models/stories260K", "story_ppl", 764.4, 40),
)


@pytest.mark.parametrize(("folder", "model", "title", "value", "n"), VALUES)
def test_values(field: Path, folder: str, model: str, title: str, value: float, n: int | None) -> None:
    found = score(read(field / folder), model, title)
    assert found.value == pytest.approx(value, abs=0.005 if value < 100 else 0.05)
    assert n is None or found.n == n


def test_lower_perplexity_is_better(field: Path) -> None:
    apart = cells(read(field / "rwkv"), "lambada_openai")["fla-hub/rwkv7-1.5B-world"].difference
    assert apart is not None
    assert apart.higher_is_better is False
    both = {model: results["lambada_openai"].metrics for model, results in read(field / "rwkv").models.items()}
    accuracies = {model: metric.value for model, own in both.items() for metric in own if metric.name == "acc"}
    assert list(accuracies.values()) == pytest.approx([0.6866, 0.6881], abs=5e-5)


def test_own_tasks_are_paired_by_document(field: Path) -> None:
    """Gained and lost, whichever of the two models comes first."""
    comparison = read(field / "own")
    counts = {}
    for title in ("capitals", "story_gen"):
        found = next(each for each in cells(comparison, title).values() if each.difference is not None)
        assert found.difference is not None
        assert "McNemar" in found.difference.test
        counts[title] = {found.difference.gained, found.difference.lost}
    assert counts == {"capitals": {8, 11}, "story_gen": {4, 2}}
    perplexity = next(each for each in cells(comparison, "story_ppl").values() if each.difference is not None)
    assert perplexity.difference is not None
    assert "paired bootstrap of documents" in perplexity.difference.test
    assert perplexity.difference.verdict.outcome.value == "worse"


def test_a_group_of_members_that_all_compare_compares(field: Path) -> None:
    found = next(
        each
        for each in cells(read(field / "pyfade" / "eval_mmlu_pro_plus"), "mmlu_pro_plus").values()
        if each.reference
    )
    assert found.why_not is None
    assert found.difference is not None


def test_version_0_of_hendrycks_test_is_no_mmlu(field: Path) -> None:
    views = score_paths([field / "bloom" / "llama"]).views
    notes = [note for each in views for column in each.columns if column.title == "MMLU" for note in column.v1.notes]
    assert any(note.startswith("not comparable: version 0 of hendrycksTest") for note in notes)


def test_same_settings_twice_are_told(field: Path) -> None:
    (source,) = read_sources([field / "sssm"])
    (note,) = source.notes
    assert "evaluated 2 times with the same settings" in note
    assert "0.86" in note


def test_what_is_not_read_is_named(field: Path) -> None:
    (source,) = read_sources([field / "ollb_v1"])
    assert unread_notes(source) == [
        "not read: card_block.json: the scores of a model card, which name neither the model nor its settings"
    ]
    with pytest.raises(SmaugError, match="key 'results' is missing") as error:
        smaug_eval.scores([field / "evaltrust"])
    assert error.value.exit_code == 1


def test_the_leaderboard_s_own_file_is_ranked_without_a_star(field: Path, shared: Path) -> None:
    archive = shared / "leaderboard" / "open_llm_leaderboard_v1.csv.gz"
    (standing,) = rank([field / "ollb_v1"], archive)["standings"]
    assert standing["model"] == YI
    average = standing["ranks"][0]
    assert (average["column"], round(average["score"], 2)) == ("Average", 56.85)
    assert all(not each["not_comparable"] for each in standing["ranks"])


def test_one_model_s_files_are_ranked_as_one(field: Path, shared: Path) -> None:
    archive = shared / "leaderboard" / "open_llm_leaderboard_v1.csv.gz"
    files = sorted((field / "saucam" / "meta-llama" / "Meta-Llama-3-8B" / "openllm").glob("*.json"))
    (standing,) = rank(files, archive)["standings"]
    assert standing["model"] == LLAMA
    assert standing["ranks"][0]["column"] == "Average"
    assert round(standing["ranks"][0]["score"], 2) == 63.06


def test_a_single_file_gives_a_page(field: Path, tmp_path: Path) -> None:
    """The first fault of the note: results without sample_len ended every report."""
    file = field / "saucam" / "meta-llama" / "Meta-Llama-3-8B" / "openllm" / "arc.json"
    page = build_report([file], tmp_path / "page.html").read_text()
    assert "57.5" in page


def test_one_bad_file_among_many(field: Path, tmp_path: Path) -> None:
    shutil.copytree(field / "own_group", tmp_path / "in")
    (tmp_path / "in" / "results_x.json").write_text('{"results": {')
    found = build_report([tmp_path / "in"], tmp_path / "page.md", format_="md").read_text().replace("\\", "")
    assert "72.9" in found
    assert "Not read: results_x.json: line 1: not JSON" in found


def build_text(folder: Path, format_: str) -> str:
    with tempfile.TemporaryDirectory() as place:
        return build_report([folder], Path(place) / f"page.{format_}", format_=format_).read_text()


@pytest.mark.parametrize("folder", ["own_group", "rwkv", "own"])
def test_every_format_has_the_numbers(field: Path, folder: str) -> None:
    """The same scores in Markdown, JSON, HTML, the data frame and the verb's own JSON."""
    comparison = read(field / folder)
    (table,) = [each for each in comparison.all_tables if each.suite == TASKS]
    numbers = json.loads(build_text(field / folder, "json"))
    entries = [each for each in score_paths([field / folder]).as_list() if each["suite"] == TASKS]
    frame = smaug_eval.scores([field / folder])
    page, text = build_text(field / folder, "html"), build_text(field / folder, "md").replace("\\", "")
    for place, title in enumerate(table.columns):
        assert title in text
        assert title in page
        for model, own in table.cells.items():
            cell = own[place]
            assert cell is not None
            shown = numbers["other_tasks"]["models"][model]["columns"][title]
            assert shown["value"] == pytest.approx(cell.score.value)
            (column,) = [
                c for each in entries if each["model"] == model for c in each["columns"] if c["title"] == title
            ]
            assert column["score"]["value"] == pytest.approx(cell.score.value)
            rows = frame[(frame["model"] == model) & (frame["column"] == title)]
            assert rows["score"].tolist() == pytest.approx([cell.score.value])
            digits = f"{cell.score.value:.1f}" if table.described[place].unit.name else f"{cell.score.value:.4g}"
            assert digits in text
            assert digits in page


def test_nothing_of_the_field_ends_in_an_untyped_error(field: Path) -> None:
    """Every file by itself: read, or refused with a reason and a fix."""
    outcomes: dict[str, int] = {"read": 0, "refused": 0}
    for file in sorted(field.rglob("*.json*"))[::7]:
        try:
            found: Any = score_paths([file])
        except SmaugError as error:
            assert error.fix or error.message
            outcomes["refused"] += 1
        else:
            assert found.comparison.models
            outcomes["read"] += 1
    assert outcomes["read"] > outcomes["refused"]
