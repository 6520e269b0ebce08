from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smaug_eval.common import workers
from smaug_eval.stats import Draws, average_difference, draws


def rows(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 1))


def test_resampled_means_are_those_of_items_drawn_with_replacement() -> None:
    first, second = rows(50, 1), rows(50, 2)
    own, other = Draws(7).pair("arc", first, second, 300)
    items = np.random.default_rng((7, zlib.crc32(b"arc"))).integers(50, size=(300, 50), dtype=np.int32)
    assert own[:, 0] == pytest.approx(first[items, 0].mean(axis=1), abs=1e-12)
    assert other[:, 0] == pytest.approx(second[items, 0].mean(axis=1), abs=1e-12)


def test_other_models_change_nothing_and_other_tasks_draw_others() -> None:
    models = [rows(40, seed) for seed in range(5)]
    alone = Draws().pair("arc", models[0], models[1], 100)
    together = Draws()
    for each in models:
        together.add("arc", each)
    found = together.pair("arc", models[0], models[1], 100)
    assert all(np.allclose(one, other, rtol=0, atol=1e-14) for one, other in zip(alone, found, strict=True))
    elsewhere, _ = Draws().pair("gsm8k", models[0], models[1], 100)
    assert abs(np.corrcoef(alone[0][:, 0], elsewhere[:, 0])[0, 1]) < 0.4


def test_many_items_of_few_kinds_have_the_spread_of_their_difference() -> None:
    generator = np.random.default_rng(3)
    first = (generator.random((5000, 1)) < 0.6).astype(float)
    second = np.where(generator.random((5000, 1)) < 0.1, 1 - first, first)
    own, other = Draws().pair("hellaswag", first, second, 4000)
    apart = own - other
    assert apart.mean() == pytest.approx(float((first - second).mean()), abs=4e-4)
    assert apart.std() == pytest.approx(float((first - second).std()) / np.sqrt(5000), rel=0.05)
    assert own.mean() == pytest.approx(float(first.mean()), abs=4e-4)


def test_pairs_of_many_models_are_those_of_two() -> None:
    models = [[[rows(30, seed)[:, 0], rows(20, seed + 10)[:, 0]], [rows(25, seed + 20)[:, 0]]] for seed in range(3)]
    names = [["a", "b"], ["c"]]
    together = Draws()
    for model in models:
        for name, values in zip("abc", [*model[0], *model[1]], strict=True):
            together.add(name, values[:, None])
    for one, other in ((0, 1), (2, 0), (1, 2)):
        alone = average_difference(models[one], models[other], names=names)
        found = average_difference(models[one], models[other], names=names, draws=together)
        assert found.interval == pytest.approx(alone.interval, abs=1e-12)
        assert found.p_value == alone.p_value


def test_what_processes_draw_is_what_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 2)
    alone, together = Draws(3), Draws(3)
    models = [rows(60, seed) for seed in range(3)]
    for stratum in ("a", "b"):
        for each in models:
            alone.add(stratum, each)
            together.add(stratum, each)
    expected = {stratum: alone.pair(stratum, models[0], models[2], 200) for stratum in ("a", "b")}
    monkeypatch.setattr(draws, "_MANY_NUMBERS", 0)
    together.draw_added(200)
    monkeypatch.setattr(draws, "_resampled", None)  # all is drawn
    for stratum, means in expected.items():
        found = together.pair(stratum, models[0], models[2], 200)
        assert all(np.array_equal(one, other) for one, other in zip(found, means, strict=True))


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 0.25, -2.0])] * 3), min_size=1, max_size=40))
def test_kinds_of_items_are_those_that_numpy_finds(items: list[tuple[float, float, float]]) -> None:
    found = draws._few_kinds(np.array(items))
    assert found is not None
    for one, other in zip(found, np.unique(np.array(items), axis=0, return_counts=True), strict=True):
        assert np.array_equal(one, other)


def test_many_kinds_are_none() -> None:
    assert draws._few_kinds(rows(300, 1)) is None  # in one column
    assert draws._few_kinds(np.array([[a, b] for a in range(20) for b in range(20)], float)) is None
    kinds, counts = draws._few_kinds(np.array([[np.inf, 1.0], [np.inf, 1.0], [0.0, 2.0]])) or ((), ())
    assert (kinds.tolist(), counts.tolist()) == ([[0.0, 2.0], [np.inf, 1.0]], [1, 2])
