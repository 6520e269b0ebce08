"""Contrasts over items and seeds: against arithmetic by hand, against scipy where only one of the two varies, and by
simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from benchmarks.study_statistics import CONTRASTS, LIMIT, PARTS, draw, found, true_error
from smaug_eval.stats import ContrastPart, Values, crossed_contrast, table_of

ITEMS = np.array([0.3, -0.1, 0.8, 0.4, 1.1])
SEEDS = np.array([[0.0, 0.5, -0.2]])


def one(values: Values) -> list[list[ContrastPart]]:
    return [[ContrastPart("dpo", 1.0, values)]]


def test_standard_error_is_the_sum_of_items_and_seeds_by_hand() -> None:
    # Rows' means 2, 3 and 7, columns' means 3 and 5: variances 7 and 2 over 3 and 2.
    values = np.array([[1.0, 3.0], [2.0, 4.0], [6.0, 8.0]])
    got = crossed_contrast(one(values))
    assert got.estimate == pytest.approx(4.0)
    assert got.items_part == pytest.approx((7 / 3, 2.0))
    assert got.seeds_part == pytest.approx((2 / 2, 1.0))
    assert got.standard_error == pytest.approx(math.sqrt(10 / 3))
    assert got.seeds_share == pytest.approx(0.3)
    assert (got.items, got.seeds) == (3, 2)
    # The mean of Student's quantiles 4.302653 (2 degrees of freedom) and 12.706205 (1), weighted 7/3 to 1.
    half = (7 / 3 * 4.302653 + 12.706205) / (10 / 3) * math.sqrt(10 / 3)
    assert got.interval == pytest.approx((4 - half, 4 + half), rel=1e-5)


def test_squared_error_is_anovas_without_the_residuals_share() -> None:
    values = np.random.default_rng(3).normal(size=(7, 4))
    items, seeds = values.shape
    of_items = seeds * values.mean(axis=1).var(ddof=1)
    of_seeds = items * values.mean(axis=0).var(ddof=1)
    assert crossed_contrast(one(values)).standard_error == pytest.approx(math.sqrt((of_items + of_seeds) / values.size))


def test_items_alone_give_students_test() -> None:
    got = crossed_contrast(one(np.tile(ITEMS[:, None], 3)))
    expected = scipy_stats.ttest_1samp(ITEMS, 0.0)
    assert got.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert got.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_seeds_alone_give_welchs_test() -> None:
    first, second = np.array([[1.0, 1.4, 0.7]]), np.array([[0.1, 0.2, -0.9, 0.3]])
    parts = [ContrastPart("a", 1.0, np.tile(first, (5, 1))), ContrastPart("b", -1.0, np.tile(second, (5, 1)))]
    got = crossed_contrast([parts])
    expected = scipy_stats.ttest_ind(first[0], second[0], equal_var=False)
    assert got.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert got.seeds == 3


def test_items_are_paired_and_seeds_are_not() -> None:
    # The arms share all that makes items differ, so that nothing is left of it; their seeds' spreads add up.
    first, second = ITEMS[:, None] + SEEDS, ITEMS[:, None] - SEEDS[:, ::-1]
    got = crossed_contrast([[ContrastPart("a", 1.0, first), ContrastPart("b", -1.0, second)]])
    assert got.items_part.variance == pytest.approx(0.0, abs=1e-15)
    assert got.seeds_part.variance == pytest.approx(2 * SEEDS.var(ddof=1) / 3)


def test_an_arms_seeds_are_shared_by_its_blocks() -> None:
    # Half a point up on one task and half a point down on the other with every seed: the average does not move.
    up, down = np.tile(SEEDS, (4, 1)), np.tile(-SEEDS, (6, 1))
    got = crossed_contrast([[ContrastPart("a", 0.5, up)], [ContrastPart("a", 0.5, down)]])
    assert (got.estimate, got.standard_error, got.items) == (pytest.approx(0.0), None, 10)
    alone = crossed_contrast([[ContrastPart("a", 0.5, up)], [ContrastPart("b", 0.5, down)]])
    assert alone.seeds_part.variance == pytest.approx(2 * 0.25 * SEEDS.var(ddof=1) / 3)


def test_equal_tables_have_no_interval_and_no_test() -> None:
    values = ITEMS[:, None] + SEEDS
    got = crossed_contrast([[ContrastPart("a", 1.0, values), ContrastPart("b", -1.0, values.copy())]])
    # Items cancel; the seeds' spreads do not, as the seeds of two arms count as independent.
    assert (got.estimate, got.p_value) == (0.0, 1.0)
    same = crossed_contrast([[ContrastPart("a", 1.0, values), ContrastPart("a", -1.0, values.copy())]])
    assert (same.estimate, same.standard_error, same.interval, same.p_value) == (0.0, None, None, None)


def test_one_seed_leaves_the_items_interval_and_no_test() -> None:
    got = crossed_contrast(one(ITEMS[:, None]))
    assert got.interval == pytest.approx(tuple(scipy_stats.ttest_1samp(ITEMS, 0.0).confidence_interval()))
    assert (got.p_value, got.seeds_share, got.seeds) == (None, None, 1)


def test_one_item_has_no_interval() -> None:
    assert crossed_contrast(one(SEEDS)).interval is None


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(2, 5), st.floats(-2, 2), st.floats(0, 2), st.integers(0, 10_000))
def test_p_value_and_interval_agree(items: int, seeds: int, mean: float, spread: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = mean + generator.normal(size=(items, 1)) + spread * generator.normal(size=(1, seeds))
    got = crossed_contrast(one(values))
    assert got.interval is not None
    assert got.p_value is not None
    excluded = got.interval[0] > 0 or got.interval[1] < 0
    assert excluded == (got.p_value <= 0.05)
    mirrored = crossed_contrast(one(-values))
    assert mirrored.p_value == pytest.approx(got.p_value)
    scaled = crossed_contrast(one(1000 * values))
    assert scaled.p_value == pytest.approx(got.p_value, rel=1e-6, abs=1e-9)


def test_table_of_puts_items_in_rows_and_seeds_in_columns() -> None:
    table = table_of([{"a": 1.0, "b": 2.0}, {"b": 4.0, "a": 3.0}], ["b", "a"])
    assert table.tolist() == [[2.0, 4.0], [1.0, 3.0]]
    with pytest.raises(KeyError):
        table_of([{"a": 1.0}], ["b"])


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "at least one term"),
        ([[]], "at least one term"),
        ([[ContrastPart("a", 1.0, np.zeros((2, 2))), ContrastPart("b", 1.0, np.zeros((3, 2)))]], "items"),
        ([[ContrastPart("a", 1.0, np.zeros((2, 2)))], [ContrastPart("a", 1.0, np.zeros((2, 3)))]], "different seeds"),
        ([[ContrastPart("a", 1.0, np.array([[math.nan, 1.0]]))]], "finite"),
        ([[ContrastPart("a", 1.0, np.zeros((2, 0)))]], "finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(blocks: list[list[ContrastPart]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crossed_contrast(blocks)


def test_simulated_tables_have_the_error_they_are_said_to() -> None:
    generator = np.random.default_rng(1)
    for name, weights in CONTRASTS.items():
        shape = (30, 3)
        estimates = [draw(weights, PARTS["mostly seeds"], shape, generator).estimate for _ in range(1500)]
        assert np.std(estimates) == pytest.approx(true_error(weights, PARTS["mostly seeds"], shape), rel=0.07), name


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("items", [24, 64])
def test_three_seeds_raise_no_more_false_alarms_than_promised(part: str, items: int) -> None:
    generator = np.random.default_rng(2)
    for contrast in ("one", "two"):
        assert found(contrast, part, (items, 3), 1000, generator, errors=0) <= LIMIT, contrast
