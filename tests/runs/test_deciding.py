"""The rounds of a comparison that stops, with answers that are made up: who is asked what, and what comes out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from smaug_eval.common.errors import Interrupted, SmaugError
from smaug_eval.leaderboard.orders import DocumentOrder
from smaug_eval.runs.deciding import ColumnToDecide, DecisionJob, Rounds
from smaug_eval.runs.jobs import EvaluationJob, Workplace
from tests.results.others import lines, newest, sample, write


class Voice:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    warn = say

    def update(self, done: int, total: int, note: str = "") -> None:
        pass


class Answers:
    """In the place of an evaluation: right where a rule says so."""

    def __init__(self, asked: list[tuple[str, int]], name: str, task: str, rule: Any, prompt: str = "p") -> None:
        self._asked, self._name, self._task, self._rule, self._prompt = asked, name, task, rule, prompt
        self.model = name

    def samples(self, documents: Mapping[str, Sequence[int]], _place: object) -> dict[str, list[dict[str, Any]]]:
        assert list(documents) == [self._task]
        self._asked.append((self._name, len(documents[self._task])))
        return {self._task: [sample(n, self._rule(n), prompt_hash=self._prompt) for n in documents[self._task]]}


def workplace(voice: Voice, stop: bool = False) -> Workplace:
    return Workplace(cast(Any, None), voice, lambda: stop)


def job(
    rules: Mapping[str, Mapping[str, Any]], size: int = 400, **changed: Any
) -> tuple[DecisionJob, list[tuple[str, int]]]:
    asked: list[tuple[str, int]] = []
    titles = list(next(iter(rules.values())))
    columns = tuple(ColumnToDecide(title, "acc", DocumentOrder(title, {title: size}, 1)) for title in titles)
    jobs = {
        model: {
            title: cast(EvaluationJob, Answers(asked, f"{model} {title}", title, rule)) for title, rule in own.items()
        }
        for model, own in rules.items()
    }
    return DecisionJob("e", columns, jobs, "base", **changed), asked


def every(share: int) -> Any:
    return lambda number: number % share != 0


def decided(work: DecisionJob, folder: Path, voice: Voice | None = None) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    work.perform(folder, workplace(voice or Voice()))
    found: dict[str, Any] = json.loads((folder / "decisions.json").read_text())
    return found


def test_columns_stop_each_for_itself_and_the_baseline_goes_as_far_as_the_last(tmp_path: Path) -> None:
    # On "clear" the model is right and the baseline is not; on "even" they are right on the same documents.
    work, asked = job(
        {"base": {"clear": lambda n: 0, "even": every(3)}, "model": {"clear": lambda n: 1, "even": every(3)}}
    )
    found = decided(work, tmp_path)["models"]
    assert found["model"]["columns"]["clear"]["outcome"] == "better"
    assert found["model"]["columns"]["clear"]["n"] == 50
    assert found["model"]["columns"]["even"]["n"] == 400
    assert found["model"]["columns"]["even"]["interval"] == pytest.approx([0, 0], abs=1e-6)
    assert found["model"]["columns"]["even"]["words"].startswith("not decided before the last of 400 documents")
    assert found["base"]["columns"]["clear"]["n"] == 50
    assert sum(n for name, n in asked if name == "base even") == 400  # each document once
    assert found["model"]["average"]["difference"] == pytest.approx(50.0)
    low, high = found["model"]["average"]["interval"]
    assert low < 50 <= high == pytest.approx(50)  # no more is possible: one is decided, the other known


def test_within_a_margin_an_even_column_stops(tmp_path: Path) -> None:
    work, asked = job({"base": {"even": every(3)}, "model": {"even": every(3)}}, margin=0.1)
    found = decided(work, tmp_path)["models"]["model"]["columns"]["even"]
    assert found["outcome"] == "no detectable difference"
    assert found["n"] < 400
    assert -10 <= found["interval"][0] <= 0 <= found["interval"][1] <= 10
    assert sum(n for name, n in asked if name == "base even") == found["n"]
    assert found["words"].startswith("no detectable difference within ±10 points, stopped after")


def test_several_models_go_round_by_round_and_the_one_in_memory_goes_first(tmp_path: Path) -> None:
    rules = {"base": {"a": lambda n: 0}, "far": {"a": lambda n: 1}, "near": {"a": lambda n: n % 12 == 0}}
    work, asked = job(rules)
    found = decided(work, tmp_path)["models"]
    models = [name.partition(" ")[0] for name, _ in asked]
    assert models[:3] == ["base", "near", "far"]
    assert models[3:5] == ["near", "base"]  # far is decided
    assert found["far"]["columns"]["a"]["n"] < found["near"]["columns"]["a"]["n"] == found["base"]["columns"]["a"]["n"]


def test_intervals_only_become_narrower(tmp_path: Path) -> None:
    work, _ = job({"base": {"a": every(3)}, "model": {"a": every(4)}})
    looks = decided(work, tmp_path)["models"]["model"]["columns"]["a"]["looks"]
    assert len(looks) > 3
    for (_, low, high), (_, later_low, later_high) in itertools.pairwise(looks):
        assert low <= later_low <= later_high <= high


def test_again_gives_the_same(tmp_path: Path) -> None:
    rules = {"base": {"a": every(3)}, "model": {"a": every(9)}}
    first, second = (decided(job(rules)[0], tmp_path / name) for name in ("one", "two"))
    assert first == second


def test_other_prompts_are_not_compared(tmp_path: Path) -> None:
    work, _ = job({"base": {"a": every(3)}, "model": {"a": every(4)}})
    work.jobs["model"]["a"]._prompt = "another"  # type: ignore[attr-defined]
    with pytest.raises(SmaugError, match="were shown or held against other texts on 50 of 50 documents"):
        decided(work, tmp_path)


def test_values_beyond_zero_to_one_are_refused(tmp_path: Path) -> None:
    work, _ = job({"base": {"a": lambda n: 2.5}, "model": {"a": lambda n: 1}})
    with pytest.raises(SmaugError, match=r"acc of a document is 2\.5, not between 0 and 1"):
        decided(work, tmp_path)


def test_it_can_be_stopped_between_rounds(tmp_path: Path) -> None:
    work, asked = job({"base": {"a": every(3)}, "model": {"a": every(4)}})
    with pytest.raises(Interrupted):
        work.perform(tmp_path, workplace(Voice(), stop=True))
    assert asked == []


def test_results_that_are_there_stand_for_the_baseline(tmp_path: Path) -> None:
    rows = [sample(n, float(n % 3 != 0), prompt_hash="p") for n in range(400)]
    results = newest({"a": {"acc,none": 0.67, "acc_stderr,none": 0.02}}, n=400)
    write(tmp_path / "kept/results_2025-01-01T00-00-00.json", results)
    write(tmp_path / "kept/samples_a_2025-01-01T00-00-00.jsonl", lines(rows))
    kept, asked = job({"model": {"a": lambda n: 1}}, kept=tmp_path / "kept")
    scored, _ = job({"base": {"a": every(3)}, "model": {"a": lambda n: 1}})
    own, other = (decided(work, tmp_path / name)["models"] for work, name in ((kept, "one"), (scored, "two")))
    assert list(own) == ["model"]
    assert own["model"] == other["model"]
    assert {name for name, _ in asked} == {"model a"}


@pytest.mark.parametrize("shares", [2, 3, 7])
def test_rounds_in_shares_are_decided_as_at_once(shares: int, tmp_path: Path) -> None:
    rules = {"base": {"a": every(3), "b": every(5)}, "model": {"a": every(9), "b": lambda n: n % 2}}
    at_once = decided(job(rules)[0], tmp_path / "one")
    work, asked = job(rules)
    rounds = Rounds(work)
    while rounds.is_open:
        for ask in rounds.wanted():
            parts = ask.divided(shares)
            assert len(parts) == min(shares, ask.documents)
            # Whoever ends first: the parts are put in their order.
            done = {
                part.share.number: part.perform(tmp_path, workplace(Voice())) for part in reversed(parts) if part.share
            }
            rounds.take(ask, [done[number] for number in range(shares)])
        rounds.look()
    (tmp_path / "two").mkdir()
    rounds.finish(tmp_path / "two")
    assert json.loads((tmp_path / "two/decisions.json").read_text()) == at_once
    assert sum(n for _, n in asked) == rounds.scored
