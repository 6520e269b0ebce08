"""Mixtures: proportions, order, what is left out, and that no question stands on both sides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.build import build_pairs
from smaug_eval.trainers.pairs.config import MixturePairs, RowPairs
from smaug_eval.trainers.pairs.mixture import BuiltSet, mixture_pairs
from smaug_eval.trainers.pairs.pair import Pair
from smaug_eval.trainers.pairs.read import read_pairs


def made(name: str, count: int, start: int = 0) -> list[Pair]:
    return [Pair(f"{name} {n}?", " yes", " no", question=f"{name} {n}") for n in range(start, start + count)]


def built(**sizes: tuple[int, int]) -> dict[str, BuiltSet]:
    return {name: BuiltSet(made(name, train), made(name, held_out, train)) for name, (train, held_out) in sizes.items()}


def mixture(weights: Mapping[str, float], count: int | None = None, holdout: int = 0, seed: int = 42) -> MixturePairs:
    return MixturePairs(source="mixture", sets=dict(weights), count=count, holdout=holdout, seed=seed)


def names(pairs: list[Pair]) -> str:
    return "".join(pair.question[0] for pair in pairs)


def test_every_beginning_has_the_proportions() -> None:
    pairs = mixture_pairs(mixture({"a": 3, "b": 1}, count=8), built(a=(50, 0), b=(50, 0)))
    # Shares after 1, 2, 3, 4 pairs: a 0.75, 1.5, 2.25, 3; b 0.25, 0.5, 0.75, 1. The set furthest behind is next.
    assert names(pairs.train) == "aabaaaba"
    assert pairs.parts == {"a": 6, "b": 2}


def test_without_a_count_it_ends_with_the_first_exhausted_set() -> None:
    pairs = mixture_pairs(mixture({"a": 1, "b": 1}), built(a=(50, 0), b=(3, 0)))
    assert Counter(names(pairs.train)) == {"a": 4, "b": 3}
    assert len(set(pairs.train)) == 7


def test_a_count_that_a_set_cannot_serve_names_the_set_and_what_can_be_had() -> None:
    sets = built(a=(50, 0), b=(3, 0))
    with pytest.raises(SmaugError, match=r"asks for 20 pairs, but b has only 3 of its share of 50.0%") as caught:
        mixture_pairs(mixture({"a": 1, "b": 1}, count=20), sets)
    assert caught.value.fix is not None
    assert "lower count to 7 or less" in caught.value.fix
    assert len(mixture_pairs(mixture({"a": 1, "b": 1}, count=7), sets).train) == 7


def test_held_out_pairs_come_from_each_set_that_has_any() -> None:
    sets = built(a=(50, 8), b=(50, 8), c=(50, 0))
    pairs = mixture_pairs(mixture({"a": 3, "b": 1, "c": 1}, holdout=8), sets)
    assert Counter(names(pairs.eval)) == {"a": 6, "b": 2}
    assert {pair.question for pair in pairs.eval} <= {pair.question for held in sets.values() for pair in held.eval}


def test_a_question_that_another_set_holds_out_is_not_trained_on() -> None:
    sets = {"a": BuiltSet(made("q", 20), []), "b": BuiltSet(made("r", 20), made("q", 5))}
    pairs = mixture_pairs(mixture({"a": 1, "b": 1}, holdout=5), sets)
    assert len(pairs.eval) == 5
    assert {pair.question for pair in pairs.train}.isdisjoint(pair.question for pair in pairs.eval)
    assert pairs.dropped == {"shares_a_held_out_question": 5}


def test_a_pair_that_two_sets_have_is_taken_once() -> None:
    sets = {"a": BuiltSet(made("q", 10), []), "b": BuiltSet([*made("q", 4), *made("r", 10)], [])}
    pairs = mixture_pairs(mixture({"a": 1, "b": 1}), sets)
    assert pairs.dropped == {"duplicate": 4}
    assert len({pair.prompt for pair in pairs.train}) == len(pairs.train) == 20


def test_the_seed_decides_and_the_order_of_the_names_does_not() -> None:
    sets = built(a=(30, 5), b=(30, 5))
    first = mixture_pairs(mixture({"a": 1, "b": 2}, count=20, holdout=4), sets)
    again = mixture_pairs(mixture({"b": 2, "a": 1}, count=20, holdout=4), sets)
    other = mixture_pairs(mixture({"a": 1, "b": 2}, count=20, holdout=4, seed=1), sets)
    assert (first.train, first.eval) == (again.train, again.eval)
    assert first.train != other.train
    assert names(first.train) == names(other.train)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.floats(0.01, 100), st.integers(0, 30)), min_size=1),
    st.integers(0, 10),
)
def test_shares_are_never_off_by_more_than_the_other_sets_pairs(
    drawn: dict[str, tuple[float, int]], holdout: int
) -> None:
    weights = {name: weight for name, (weight, _) in drawn.items()}
    sets = built(**{name: (size, size // 3) for name, (_, size) in drawn.items()})
    pairs = mixture_pairs(mixture(weights, holdout=holdout), sets)
    assert len(set(pairs.train)) == len(pairs.train)
    assert len(pairs.eval) <= holdout
    for name, weight in weights.items():
        share = len(pairs.train) * weight / sum(weights.values())
        assert abs(pairs.parts[name] - share) < len(weights)
        assert pairs.parts[name] <= len(sets[name].train)


def test_from_files_to_a_file(tmp_path: Path) -> None:
    chat = [
        {
            "prompt": [{"role": "system", "content": str(n)}, {"role": "user", "content": f"Chat {n}?"}],
            "chosen": [{"role": "assistant", "content": "Yes."}],
            "rejected": [{"role": "assistant", "content": "No."}],
        }
        for n in range(20)
    ]
    text = [{"prompt": f"Question: {n}?\nAnswer:", "chosen": " yes", "rejected": " no"} for n in range(20)]
    folders = {}
    for name, rows in {"chat": chat, "text": text, "again": text[::-1]}.items():
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = RowPairs(source="rows", path=str(source), holdout=5, seed=len(name))
        folders[name] = tmp_path / name
        build_pairs(config, data_root=None, out_dir=folders[name])
    assert read_pairs(folders["text"] / "eval.jsonl") != read_pairs(folders["again"] / "eval.jsonl")
    stats = build_pairs(
        mixture({"chat": 1, "text": 1, "again": 1}, holdout=9), data_root=None, sets=folders, out_dir=tmp_path / "mix"
    )
    assert (stats.source, stats.path) == ("mixture", "again + chat + text")
    assert stats.rows == 60
    assert sum(stats.parts.values()) == stats.train
    train, held_out = (read_pairs(tmp_path / "mix" / file) for file in ("train.jsonl", "eval.jsonl"))
    assert (len(train), len(held_out)) == (stats.train, stats.eval)
    prompts = [[json.dumps(row["prompt"]) for row in side] for side in (train, held_out)]
    assert set(prompts[0]).isdisjoint(prompts[1])
    assert len(set(prompts[0])) == len(prompts[0])
    assert {type(row["prompt"]) for row in train} == {str, list}


def test_files_that_no_longer_fit_together_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": str(n), "chosen": "a", "rejected": "b"}) + "\n" for n in range(5)))
    build_pairs(RowPairs(source="rows", path=str(source), holdout=1), data_root=None, out_dir=tmp_path / "made")
    train = tmp_path / "made" / "train.jsonl"
    train.write_text(train.read_text().split("\n", 1)[1])
    with pytest.raises(SmaugError, match=r"train.jsonl has 3 pairs, but questions.json has 4"):
        build_pairs(mixture({"made": 1}), data_root=None, sets={"made": tmp_path / "made"}, out_dir=tmp_path / "mix")
