"""Judgments in the forms of others, with figures that FastChat's own functions, or a count by hand, give."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastchat.llm_judge.compute_agreement import get_mt_bench_agreement, get_mt_bench_votes_data

import smaug_eval
from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.record_files import read_judgments
from smaug_eval.mt_bench.scores.agreement import HUMANS, agreements
from smaug_eval.mt_bench.scores.pairs import pair_scores

SINGLE = {"question_id": 81, "model": "m", "judge": ["j", "single-v1"], "judgment": "[[7]]", "score": 7, "turn": 1}


def votes(seed: int) -> list[dict[str, Any]]:
    """People's votes as lmsys/mt_bench_human_judgments has them, and GPT-4's of the same pairs."""
    random.seed(seed)
    winners = ["model_a", "model_b", "tie", "tie (inconsistent)"]
    rows = []
    for question, (first, second), turn in itertools.product(range(81, 91), (("a", "b"), ("c", "a")), (1, 2)):
        common = {"question_id": question, "model_a": first, "model_b": second, "turn": turn}
        rows.append({**common, "winner": random.choice(winners), "judge": ["gpt-4", "pair-v2"]})
        people = range(random.randint(0, 3))
        rows += [{**common, "winner": random.choice(winners), "judge": f"expert_{number}"} for number in people]
    return rows


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".jsonl.gz", ".parquet"])
def test_agreement_with_people_equals_fastchats(tmp_path: Path, seed: int, suffix: str) -> None:
    rows = votes(seed)
    file = tmp_path / f"votes{suffix}"
    if suffix == ".parquet":
        rows = [{**row, "judge": row["judge"] if isinstance(row["judge"], str) else "gpt4_pair"} for row in rows]
        pd.DataFrame(rows).to_parquet(file)
    elif suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        file.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    found = {each.judges: each for each in agreements(read_judgments([file]))}
    judge = "gpt4_pair" if suffix == ".parquet" else "gpt-4"
    whole = votes(seed)
    for who, name in (((judge, HUMANS), "gpt4-pair"), ((HUMANS, HUMANS), "human")):
        own = next(each for names, each in found.items() if set(names) == set(who) and len(names) == 2)
        equal, n, decided, of_decided = 0, 0, 0, 0
        for turn in get_mt_bench_votes_data([whole]):
            agree, total = get_mt_bench_agreement(turn, name, "human", ban=[])
            agree_decided, total_decided = get_mt_bench_agreement(turn, name, "human", ban=["tie"])
            equal, n = equal + agree, n + total
            decided, of_decided = decided + agree_decided, of_decided + total_decided
        assert (own.n, own.share) == (n, pytest.approx(equal / n))
        assert own.decided == pytest.approx(decided / of_decided)


def test_games_of_arena_hard(tmp_path: Path) -> None:
    """The baseline is A in the first game and B in the second."""
    labels = [("A>>B", "B>>A"), ("B>A", "A>B"), ("A>B", "A>B"), ("A=B", "A=B"), (None, "A>B"), ("B>>A", "A>>B")]
    rows = [
        {
            "question_id": f"q{number}",
            "model": "mine",
            "judge": "gpt-4-1106-preview",
            "games": [{"user_prompt": "p", "judgment": f"[[{label}]]", "score": label} for label in pair],
        }
        for number, pair in enumerate(labels)
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = pair_scores(read_judgments([file]).pairs)
    # baseline twice; mine twice; A>B twice is once for each, a tie; A=B a tie; one without a verdict.
    assert (found["mine"].win, found["mine"].loss, found["mine"].tie, found["mine"].failed) == (2, 1, 2, 1)
    assert (found["baseline"].win, found["baseline"].loss) == (1, 2)


def test_annotations_of_alpaca_eval(tmp_path: Path) -> None:
    preferences = [1, 2, 2.0, 1.5, 1.93, None]
    rows = [
        {
            "instruction": f"Do {number}.",
            "output_1": "x" * 10,
            "generator_1": "reference",
            "output_2": "y" * 30,
            "generator_2": "mine",
            "annotator": "gpt-4-turbo",
            "preference": preference,
        }
        for number, preference in enumerate(preferences)
    ]
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(rows, indent=2))
    found = smaug_eval.score_mt_bench(file, details=True)
    assert [found["mine"][key] for key in ("win", "loss", "tie", "failed")] == [3, 1, 1, 1]
    assert found["mine"]["win_rate_adjusted"] == pytest.approx(3.5 / 5)
    assert any("are 3.0 times as long as those of reference" in note for note in found["judgments"]["notes"])


def test_arrays_compressed_files_and_numbers_as_text_or_with_a_point(tmp_path: Path) -> None:
    rows = [
        SINGLE,
        SINGLE | {"question_id": 82.0, "turn": "2"},
        SINGLE | {"question_id": "83", "turn": 1.0, "score": "8"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    for name in ("a.json", "b.jsonl.gz"):
        single = read_judgments([tmp_path / name]).single
        assert [(each.question_id, each.turn, each.value) for each in single] == [(81, 1, 7), (82, 2, 7), (83, 1, 8)]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.jsonl", b"", "holds no judgment"),
        ("x.jsonl", b"\n\n", "holds no judgment"),
        ("x.jsonl", b'{"question_id": 81, "mod', "a line that was never finished"),
        ("x.json", b"[]", "holds no judgment"),
        ("x.json", b'[{"question_id": 81}, {"mod', "the JSON array is not valid, or was never finished"),
        ("x.jsonl.gz", gzip.compress(json.dumps(SINGLE).encode(), mtime=0)[:-9], "no whole gzip file"),
        ("x.jsonl.gz", b"not gzip", "no whole gzip file"),
        ("x.parquet", b"PAR1", "no Parquet file"),
        ("x.json", json.dumps([1]).encode(), "line 1: not a JSON object"),
        ("x.json", json.dumps([SINGLE | {"turn": "first"}]).encode(), "line 1: key 'turn' is 'first'"),
    ],
)
def test_empty_and_half_written_files_are_errors(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(SmaugError, match=problem):
        smaug_eval.score_mt_bench(file)


def test_an_empty_file_among_others_in_a_folder_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "model_judgment"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(SINGLE) + "\n")
    (folder / "b.jsonl").write_text("")
    found = smaug_eval.score_mt_bench(tmp_path, details=True)
    assert found["m"]["average"] == 7
    assert "b.jsonl holds no judgment" in found["judgments"]["notes"]


def test_rows_in_memory_and_a_data_frame(tmp_path: Path) -> None:
    rows = [SINGLE, SINGLE | {"turn": 2, "score": 9}]
    expected = {"m": {"turn1": 7, "turn2": 9, "average": 8, "n": 2, "failed": 0}}
    assert smaug_eval.score_mt_bench(rows) == expected
    assert smaug_eval.score_mt_bench(pd.DataFrame(rows)) == expected
    mixed = pd.DataFrame([*rows, votes(0)[0]])  # with gaps where a row has no such key
    assert smaug_eval.score_mt_bench(mixed, judge="j", details=True)["m"].items() >= expected["m"].items()
    with pytest.raises(SmaugError, match="rows, line 1: key 'score' is not a number but list"):
        smaug_eval.score_mt_bench([SINGLE | {"score": [7]}])


def test_counts_of_the_made_up_votes() -> None:
    assert Counter(isinstance(row["judge"], list) for row in votes(0))[True] == 40
