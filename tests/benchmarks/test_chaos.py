"""The short form of benchmarks/chaos.py, and that it would notice lost work and other results."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos import Attempt, Event


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_a_killed_pipeline_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    # In a process of its own, whose children are forked before anything runs.
    out = tmp_path / "chaos.json"
    options = ["--kills", "4", "--courses", "1", "--scale", "1", "--seed", "3", "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(out.read_text())
    assert found["passed"]
    assert found["kills"] == 4
    assert found["compared"]["different"] == []
    assert found["compared"]["items"] > 40
    for each in found["lost"].values():
        assert each["in_an_undisturbed_run"] > 0
        assert each["most_after_a_kill"] <= each["allowed_after_a_kill"]


def attempt(*names: str) -> Attempt:
    return Attempt([Event("step", name, float(place)) for place, name in enumerate(names)])


def test_work_done_again_is_counted_for_each_attempt() -> None:
    calm = attempt("1", "2", "2", "3")  # one of them is there twice anyway
    attempts = [attempt("1", "2"), attempt("1", "2", "2"), attempt("3")]
    assert chaos.lost(calm, attempts)["step"] == [0, 2, 0]


def test_moments_are_spread_over_the_whole_course() -> None:
    calm = Attempt([Event("step", str(place), 10.0 * place) for place in range(11)])
    found = chaos.moments(calm, 2000, random.Random(0))
    times = [10.0 * moment.event + moment.delay for moment in found]
    assert times == sorted(times)
    assert all(0 <= moment.delay < 10 for moment in found)
    for part in range(10):
        assert 140 < sum(10 * part <= time < 10 * (part + 1) for time in times) < 260


def test_too_much_lost_work_or_a_difference_fails() -> None:
    def found(most: int, different: list[str]) -> dict[str, object]:
        lost = {"step": {"most_after_a_kill": most, "allowed_after_a_kill": 3}}
        return {"lost": lost, "compared": {"different": different}}

    assert chaos.passed(found(3, []))
    assert not chaos.passed(found(4, []))
    assert not chaos.passed(found(0, ["course 1: train/dpo/checkpoint/model.safetensors"]))
    assert chaos.differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b", "c"]
