"""Judgments that FastChat made anywhere are scored as its show_result scores them; that script is the oracle."""

from __future__ import annotations

import json
import random
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastchat.llm_judge.show_result import display_result_pairwise, display_result_single

from smaug_eval.mt_bench.files.record_files import read_judgments
from smaug_eval.mt_bench.scores.disagreements import disagreements
from smaug_eval.mt_bench.scores.pairs import PositionBias, pair_scores, position_bias
from smaug_eval.mt_bench.scores.single import scores_as_json, single_scores

ShowResult = Callable[..., list[pd.DataFrame]]


@pytest.fixture
def show_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> ShowResult:
    """Runs FastChat's script on a file and catches the tables that it prints."""

    def run(path: Path, *, pairs: bool = False, baseline: str | None = None) -> list[pd.DataFrame]:
        tables: list[pd.DataFrame] = []
        original = pd.DataFrame.sort_values

        def catch(table: pd.DataFrame, *args: Any, **kwargs: Any) -> Any:
            tables.append(table.copy())
            return original(table, *args, **kwargs)

        monkeypatch.setattr(pd.DataFrame, "sort_values", catch)
        given = Namespace(input_file=str(path), bench_name="mt_bench", model_list=None, baseline_model=baseline)
        (display_result_pairwise if pairs else display_result_single)(given)
        monkeypatch.undo()
        capsys.readouterr()
        return tables

    return run


def means(table: pd.DataFrame) -> dict[str, float]:
    return {index if isinstance(index, str) else index[0]: score for index, score in table["score"].items()}


def assert_same(path: Path, tables: list[pd.DataFrame]) -> None:
    scores = single_scores(read_judgments([path]).single)
    for name, table in zip(("turn1", "turn2", "average"), tables, strict=True):
        ours = {model: getattr(own, name) for model, own in scores.items() if getattr(own, name) is not None}
        assert ours == pytest.approx(means(table), abs=1e-12), name


@pytest.mark.parametrize("name", ["medusa_gpt-4_single", "routellm_gpt-4_single"])
def test_single_scores_equal_show_result_s(shared: Path, show_result: ShowResult, name: str) -> None:
    path = shared / "mt_bench" / "model_judgment" / f"{name}.jsonl"
    assert_same(path, show_result(path))


def test_published_figures_come_out(shared: Path) -> None:
    folder = shared / "mt_bench" / "model_judgment"
    medusa = scores_as_json(read_judgments([folder / "medusa_gpt-4_single.jsonl"]))["vicuna-7b-v1.3"]
    assert medusa == pytest.approx(
        {"turn1": 6.7313, "turn2": 5.475, "average": 6.1031, "n": 160, "failed": 0}, abs=5e-5
    )
    unify = scores_as_json(read_judgments([folder / "routellm_gpt-4_single.jsonl"]))["unify"]
    # 79 scored second turns: the average is over 159 judgments, not of the two means (which would be 8.7559).
    assert unify == pytest.approx({"turn1": 9.06875, "turn2": 667 / 79, "average": 1392.5 / 159, "n": 159, "failed": 1})


def test_pair_scores_equal_show_result_s(shared: Path, show_result: ShowResult) -> None:
    path = shared / "mt_bench" / "model_judgment" / "gpt-4_pair.jsonl"
    (table,) = show_result(path, pairs=True)
    scores = pair_scores(read_judgments([path]).pairs)
    columns = ["win", "loss", "tie", "win_rate", "loss_rate", "win_rate_adjusted"]
    assert {model: [getattr(own, name) for name in columns] for model, own in scores.items()} == {
        model: table.loc[model, columns].tolist() for model in table.index
    }
    # 75 pairs, of which two have a game without a verdict; 20 + 18 + 8 agree.
    assert scores["phi-3-dpo"].n == 73
    assert scores["phi-3-dpo"].failed == 2
    assert scores_as_json(read_judgments([path]))["phi-3-dpo"] == {
        "win": 20, "loss": 18, "tie": 35, "win_rate_adjusted": 37.5 / 73,
    }  # fmt: skip


def test_position_bias_of_the_real_pairs(shared: Path) -> None:
    found = read_judgments([shared / "mt_bench" / "model_judgment" / "gpt-4_pair.jsonl"])
    # (model_1, model_2) 16 times, (model_1, tie) 5, (tie, model_2) 3: the first position; (model_2, model_1) 2 and
    # (model_2, tie) 1: the second.
    assert position_bias(found.pairs) == PositionBias(pairs=73, consistent=46, first=24, second=3)


def test_what_went_wrong_in_the_real_files(shared: Path) -> None:
    folder = shared / "mt_bench" / "model_judgment"
    found = disagreements(read_judgments(sorted(folder.glob("*.jsonl"))))
    places = [(each.question_id, each.turn, each.game, each.recorded, each.failed) for each in found]
    assert places == [
        (131, 2, None, "none", True), (124, 1, 2, "error", True),
        (125, 1, 1, "error", True), (125, 1, 2, "error", True),
    ]  # fmt: skip
    assert found[0].ending.endswith("the assistant's response is of high quality.")
    assert found[1].ending == "$ERROR$"


def made_up_single(path: Path, seed: int) -> None:
    """Lines as FastChat writes them, with failures, duplicates, halves and models that lack a turn."""
    random.seed(seed)
    scores: list[Any] = [-1, 1, 5, 7.5, 10, 15, None]
    rows = [
        {
            "question_id": random.randint(81, 90),
            "model": model,
            "judge": ["gpt-4", "single-v1"],
            "judgment": "",
            "score": random.choice(scores),
            "turn": turn,
        }
        for model, turns in (("a", (1, 2)), ("b/c", (1, 2)), ("only first", (1,)))
        for turn in turns
        for _ in range(random.randint(1, 30))
    ]
    random.shuffle(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("seed", range(5))
def test_single_scores_equal_show_result_s_on_made_up_files(tmp_path: Path, show_result: ShowResult, seed: int) -> None:
    path = tmp_path / "single.jsonl"
    made_up_single(path, seed)
    assert_same(path, show_result(path))


def made_up_pairs(path: Path, seed: int) -> None:
    random.seed(seed)
    winners = ["model_1", "model_2", "tie", "error"]
    rows = []
    for _ in range(60):
        first, second = random.sample(["a", "b", "c"], 2)
        rows.append(
            {
                "question_id": random.randint(81, 90),
                "model_1": first,
                "model_2": second,
                "g1_winner": random.choice(winners),
                "g2_winner": random.choice(winners),
                "judge": ["gpt-4", "pair-v2"],
                "turn": 1,
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("baseline", [None, "b"])
@pytest.mark.parametrize("seed", range(5))
def test_pair_scores_equal_show_result_s_on_made_up_files(
    tmp_path: Path, show_result: ShowResult, seed: int, baseline: str | None
) -> None:
    path = tmp_path / "pair.jsonl"
    made_up_pairs(path, seed)
    (table,) = show_result(path, pairs=True, baseline=baseline)
    scores = pair_scores(read_judgments([path]).pairs, baseline=baseline)
    assert set(scores) == set(table.index)
    for model, own in scores.items():
        row = table.loc[model]
        assert (own.win, own.loss, own.tie) == (row["win"], row["loss"], row["tie"])
        assert own.win_rate_adjusted == pytest.approx(row["win_rate_adjusted"])
