"""The comparison's statistics against scipy, statsmodels and counting by hand, and properties they must have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from smaug_eval.common.errors import SmaugError
from smaug_eval.stats import (
    Outcome,
    average_difference,
    detectable_difference,
    difference_deviation,
    held_back,
    holm,
    items_needed,
    mcnemar_p_value,
    nested_weights,
    paired_difference,
    percentile_interval,
    power,
    right_wrong_interval,
    sign_flip_p_value,
    standard_error,
    stratified_means,
    t_mean_interval,
    verdict,
    wilson_interval,
)

Z = 1.959963984540054
scores = st.integers(2, 20).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(2, 20), min_size=n, max_size=n)] * 2).map(
        lambda pair: tuple(np.array(each) / 2 for each in pair)
    )
)
answers = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 1), min_size=n, max_size=n)] * 2).map(
        lambda pair: tuple(np.array(each, float) for each in pair)
    )
)
Pair = tuple[np.ndarray, np.ndarray]


def right_wrong(n: int, *, seed: int, share: float = 0.6, shift: float = 0.0) -> Pair:
    """Right and wrong answers of two models that find the same items hard."""
    generator = np.random.default_rng(seed)
    ease = 0.9 * generator.normal(size=n) + scipy_stats.norm.ppf(share)
    first, second = (ease + 0.44 * generator.normal(size=n) for _ in range(2))
    return (first + shift > 0).astype(float), (second > 0).astype(float)


def continuous(n: int, *, seed: int, shift: float = 0.0) -> Pair:
    """Values in [0, 1] of two models that find the same items hard."""
    generator = np.random.default_rng(seed)
    ease = 2 * generator.normal(size=n)
    first, second = (ease + generator.normal(size=n) for _ in range(2))
    return scipy_stats.norm.cdf(first + shift), scipy_stats.norm.cdf(second)


# Standard errors and intervals of means


def test_the_standard_error_of_independent_items_is_scipy_s() -> None:
    values, _ = continuous(50, seed=1)
    assert standard_error(values) == pytest.approx(scipy_stats.sem(values), rel=1e-12)
    assert standard_error(values, range(50)) == pytest.approx(scipy_stats.sem(values), rel=1e-12)
    assert standard_error(values[:1]) is None


def test_the_clustered_standard_error_is_statsmodels_with_its_correction() -> None:
    generator = np.random.default_rng(2)
    clusters = generator.integers(12, size=200)
    values = generator.normal(size=200) + generator.normal(size=12)[clusters]
    fit = OLS(values, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True})
    assert standard_error(values, clusters.tolist()) == pytest.approx(fit.bse[0], rel=1e-12)
    plain = OLS(values, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False})
    assert standard_error(values, clusters.tolist()) == pytest.approx(plain.bse[0] * math.sqrt(12 / 11), rel=1e-12)


def test_one_cluster_has_no_standard_error_and_labels_must_fit() -> None:
    assert standard_error(np.array([1.0, 2.0]), ["one", "one"]) is None
    with pytest.raises(ValueError, match="1 cluster labels for 2 items"):
        standard_error(np.array([1.0, 2.0]), ["one"])


@pytest.mark.parametrize(("right", "n"), [(0, 5), (1, 20), (9, 1319), (600, 1172), (20, 20)])
def test_wilson_is_statsmodels(right: int, n: int) -> None:
    assert wilson_interval(right / n, n) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize("kind", [right_wrong, continuous])
def test_the_bootstrap_of_a_mean_agrees_with_scipy_s(kind: Callable[..., Pair]) -> None:
    values, _ = kind(120, seed=3)
    expected = scipy_stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    stretched = [values.mean() + math.sqrt(120 / 119) * (end - values.mean()) for end in expected.confidence_interval]
    step = 1.01 * math.sqrt(120 / 119) / 120  # means of right and wrong answers move in steps of one item
    found = percentile_interval(stratified_means([values], [1.0], resamples=20_000))
    assert found == pytest.approx(tuple(stretched), abs=step)


def test_the_interval_of_a_mean_is_scipy_s_and_that_of_clusters_statsmodels() -> None:
    values, _ = continuous(12, seed=3)
    interval = scipy_stats.ttest_1samp(values, 0.0).confidence_interval()
    assert t_mean_interval(values) == pytest.approx(tuple(interval), abs=1e-12)
    generator = np.random.default_rng(4)
    clusters = np.repeat(np.arange(10), generator.integers(1, 6, 10))
    clustered = generator.normal(size=10)[clusters] + generator.normal(size=len(clusters))
    model = OLS(clustered, np.ones(len(clustered)))
    options = {"groups": clusters, "use_correction": True, "df_correction": True}
    fitted = model.fit(cov_type="cluster", cov_kwds=options, use_t=True)
    assert t_mean_interval(clustered, clusters.tolist()) == pytest.approx(tuple(fitted.conf_int()[0]), rel=1e-9)


def test_items_that_repeat_their_cluster_tell_nothing_new() -> None:
    values = np.arange(20.0)
    clusters = np.repeat(np.arange(20), 3).tolist()
    assert t_mean_interval(np.repeat(values, 3), clusters) == pytest.approx(t_mean_interval(values))


def test_what_does_not_vary_has_no_interval() -> None:
    assert t_mean_interval(np.full(9, 0.1)) is None
    assert t_mean_interval(np.array([1.0, 3.0, 3.0, 1.0]), ["a", "a", "b", "b"]) is None  # within clusters alone
    assert t_mean_interval(np.arange(20.0), ["one"] * 20) is None
    assert t_mean_interval(np.array([])) is None


def test_pieces_leave_no_seam() -> None:
    # 3,000 items are drawn in several pieces of a table; the numbers must be those of one piece.
    values = np.random.default_rng(5).normal(size=3000)
    drawn = values[np.random.default_rng(42).integers(3000, size=(500, 3000), dtype=np.int32)].mean(axis=1)
    expected = values.mean() + math.sqrt(3000 / 2999) * (drawn - values.mean())
    assert stratified_means([values], [1.0], resamples=500) == pytest.approx(expected, abs=1e-12)


# Tests


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (3, 3), (10, 2), (700, 800), (1, 5000)])
def test_mcnemar_is_scipy_s_binomial_test_and_statsmodels(gained: int, lost: int) -> None:
    found = mcnemar_p_value(gained, lost)
    expected = scipy_stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found == pytest.approx(expected, rel=1e-9)
    if gained + lost:
        assert found == pytest.approx(mcnemar([[7, gained], [lost, 9]], exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_few_sign_flips_are_all_counted(n: int) -> None:
    differences = np.random.default_rng(n).integers(-5, 8, n) / 2
    sums = [
        sum(sign * each for sign, each in zip(signs, differences, strict=True)) for signs in product((1, -1), repeat=n)
    ]
    expected = np.mean([abs(each) >= abs(differences.sum()) for each in sums])
    assert sign_flip_p_value(differences) == pytest.approx(expected, abs=1e-12)


def test_few_sign_flips_agree_with_scipy_s() -> None:
    differences = np.random.default_rng(6).normal(0.5, 1, 12)
    expected = scipy_stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    )
    assert sign_flip_p_value(differences) == pytest.approx(expected.pvalue, abs=1e-12)


def test_items_that_do_not_differ_do_not_count() -> None:
    some = np.array([1.0, -2.0, 3.0, 2.5])
    assert sign_flip_p_value(np.concatenate([some, np.zeros(500)])) == sign_flip_p_value(some)
    assert sign_flip_p_value(np.zeros(20)) == 1.0


def test_drawn_sign_flips_agree_with_the_exact_test() -> None:
    # Of differences of one size the sign-flip test is the binomial test.
    differences = np.repeat([0.1, -0.1], [130, 100])
    assert sign_flip_p_value(differences, draws=100_000) == pytest.approx(mcnemar_p_value(130, 100), abs=0.003)


def test_drawn_sign_flips_approach_the_t_test_and_never_reach_0() -> None:
    first, second = continuous(817, seed=7, shift=0.05)
    expected = scipy_stats.ttest_rel(first, second).pvalue
    assert 0.01 < expected < 0.5
    assert sign_flip_p_value(first - second, draws=50_000) == pytest.approx(expected, abs=0.01)
    assert sign_flip_p_value(np.ones(40)) == 1 / 10_000


def test_holm_is_statsmodels() -> None:
    p_values = np.random.default_rng(8).random(7) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


# Paired differences


def test_right_and_wrong_answers_worked_out_by_hand() -> None:
    # Of 10 items both have 4 right and 1 wrong; 4 only the first has right, 1 only the second.
    first = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1, 0], float)
    second = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 1], float)
    found = paired_difference(first, second)
    assert (found.n, found.higher, found.lower, found.clusters) == (10, 4, 1, None)
    assert found.difference == pytest.approx(0.3)
    assert found.p_value == pytest.approx(2 * (1 + 5) / 32)  # at most 1 of 5 coins
    assert found.standard_error == pytest.approx(math.sqrt((0.5 - 0.09) / 9))
    assert found.correlation == pytest.approx((0.4 - 0.8 * 0.5) / math.sqrt(0.16 * 0.25), abs=1e-12)
    half = Z * math.sqrt((5 / 12 + 2 / 12 - 0.25**2) / 12)
    assert found.interval == pytest.approx((0.25 - half, 0.25 + half))
    assert found.test == "exact McNemar"


def test_other_values_get_scipy_s_paired_t_interval() -> None:
    first, second = continuous(80, seed=9)
    found = paired_difference(first, second)
    expected = scipy_stats.ttest_rel(first, second).confidence_interval()
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.correlation == pytest.approx(scipy_stats.pearsonr(first, second).statistic)
    assert found.test == "sign flips of items (9,999)"


def test_clusters_widen_and_are_flipped_whole() -> None:
    # Three items per cluster that all say the same are as good as one.
    first, second = (np.round(each, 2) for each in continuous(12, seed=10, shift=0.5))
    alone = paired_difference(first, second)
    thrice = paired_difference(np.repeat(first, 3), np.repeat(second, 3), np.repeat(np.arange(12), 3).tolist())
    assert thrice.standard_error == pytest.approx(alone.standard_error)
    assert thrice.interval == pytest.approx(alone.interval)
    assert (thrice.p_value, thrice.clusters, thrice.n) == (alone.p_value, 12, 36)
    assert thrice.test == "sign flips of clusters (all)"


def test_where_answers_agree_on_every_item_the_interval_still_has_a_width() -> None:
    same = np.tile([0.0, 1.0], 500)
    found = paired_difference(same, same)
    assert found.interval == pytest.approx((-Z * math.sqrt(2) / 1002, Z * math.sqrt(2) / 1002))
    assert found.p_value == 1.0
    values = np.linspace(0, 0.9, 30)
    assert paired_difference(values, values).interval is None
    assert paired_difference(values + 0.1, values).interval is None


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(SmaugError, match="1 of 2 items lack a finite value"):
        paired_difference(np.array([0.5, math.nan]), np.array([0.5, 0.5]))
    with pytest.raises(SmaugError, match="no item"):
        paired_difference(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="2 and 1 values"):
        paired_difference(np.zeros(2), np.zeros(1))


@settings(max_examples=60)
@given(st.one_of(scores, answers), st.randoms(use_true_random=False))
def test_paired_differences_are_antisymmetric_and_blind_to_order(pair: Pair, random: Random) -> None:
    first, second = pair
    found, back = paired_difference(first, second), paired_difference(second, first)
    assert back.difference == -found.difference
    assert (back.p_value, back.higher, back.lower) == (found.p_value, found.lower, found.higher)
    assert (back.correlation, back.standard_error) == (found.correlation, found.standard_error)
    order = list(range(len(first)))
    random.shuffle(order)
    mixed = paired_difference(first[order], second[order])
    assert mixed.difference == pytest.approx(found.difference, abs=1e-12)
    assert mixed.p_value == pytest.approx(found.p_value, abs=0.03)  # drawn flips fall on other items
    assert 0 < found.p_value <= 1
    assert found.correlation is None or -1 - 1e-9 <= found.correlation <= 1 + 1e-9
    if found.interval is not None and back.interval is not None and mixed.interval is not None:
        assert found.interval[0] <= found.difference + 1e-12
        assert found.interval[1] >= found.difference - 1e-12
        assert back.interval == (-found.interval[1], -found.interval[0])
        assert mixed.interval == pytest.approx(found.interval, abs=1e-9)


@given(st.integers(1, 3000), st.integers(0, 100), st.integers(0, 100))
def test_intervals_of_right_and_wrong_contain_the_estimate(both: int, gained: int, lost: int) -> None:
    n = both + gained + lost
    low, high = right_wrong_interval(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1


# The average over tasks


def suite(shift: float = 0.0) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
    """Two models on six columns in the leaderboard's shape, at a third of its size."""
    plain = [[right_wrong(n, seed=n, shift=shift)] for n in (391, 3347)]
    subjects = [right_wrong(30 + 2 * part, seed=part, share=0.4, shift=shift) for part in range(57)]
    rest = [[continuous(272, seed=1, shift=shift)], [right_wrong(422, seed=2, shift=shift)], [right_wrong(440, seed=3)]]
    columns = [*plain, subjects, *rest]
    return [[pair[0] for pair in column] for column in columns], [[pair[1] for pair in column] for column in columns]


def test_columns_weigh_the_same_and_so_do_the_tasks_of_a_column() -> None:
    assert nested_weights([1, 3]) == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])
    first, second = suite(0.1)
    expected = np.mean(
        [
            np.mean([a.mean() - b.mean() for a, b in zip(*column, strict=True)])
            for column in zip(first, second, strict=True)
        ]
    )
    found = average_difference(first, second)
    assert found.difference == pytest.approx(expected, abs=1e-12)
    assert found.n == sum(len(values) for column in first for values in column)


def test_the_bootstrap_of_the_average_agrees_with_the_closed_form() -> None:
    first, second = suite()
    found = average_difference(first, second)
    errors = [
        math.hypot(*(scipy_stats.sem(a - b) for a, b in zip(*column, strict=True))) / len(column[0])
        for column in zip(first, second, strict=True)
    ]
    assert found.standard_error == pytest.approx(math.hypot(*errors) / 6, rel=1e-12)
    assert found.interval == pytest.approx(found.normal_interval, abs=0.06 * (found.standard_error or 0.0))
    z = abs(found.difference) / (found.standard_error or 1.0)
    assert found.p_value == pytest.approx(2 * scipy_stats.norm.sf(z), abs=0.02)


def test_the_average_s_p_value_and_interval_say_the_same() -> None:
    for shift in (0.0, 0.03, 0.06, 0.09, 0.3):
        found = average_difference(*suite(shift), resamples=2000)
        assert found.interval is not None
        assert found.p_value is not None
        excludes = found.interval[0] > 0 or found.interval[1] < 0
        assert excludes == (found.p_value < 0.05) or abs(found.p_value - 0.05) < 0.002
    assert found.p_value == 2 / 2001  # far off: the observed difference alone counts


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.1])
def test_swapping_the_models_turns_the_average_around(shift: float) -> None:
    first, second = suite(shift)
    found, back = average_difference(first, second), average_difference(second, first)
    assert found.interval is not None
    assert found.normal_interval is not None
    assert back == replace(
        found,
        difference=-found.difference,
        interval=(-found.interval[1], -found.interval[0]),
        normal_interval=(-found.normal_interval[1], -found.normal_interval[0]),
    )


def test_small_strata_keep_the_unbiased_variance() -> None:
    # Without stretching, the variance of n = 4 would be a quarter too small.
    strata = [np.array([0.0, 1.0, 0.2, 0.6])] * 50
    drawn = stratified_means(strata, nested_weights([50]), resamples=20_000)
    assert drawn.std() == pytest.approx(scipy_stats.sem(strata[0]) / math.sqrt(50), rel=0.03)


def test_an_average_without_variation_or_with_a_single_item_has_no_interval() -> None:
    two, one = np.array([0.0, 1.0]), np.array([1.0])
    alone = average_difference([[two], [one]], [[two[::-1]], [one]])
    assert (alone.difference, alone.interval, alone.p_value, alone.standard_error) == (0.0, None, None, None)
    shares = two / 2
    same = average_difference([[shares]], [[shares]])
    assert (same.difference, same.interval, same.p_value) == (0.0, None, None)


def test_a_column_without_a_difference_is_not_taken_for_certain() -> None:
    # Six answers that all agree, beside a column that is known well: sqrt(2) / (6 + 2) / 2 of the average's error.
    six, many = np.array([1.0, 0, 0, 0, 0, 0]), np.tile([0.0, 1.0], 5000)
    found = average_difference([[six], [many]], [[six], [many[::-1]]], resamples=20_000)
    known = scipy_stats.sem(many - many[::-1]) / 2
    assert found.standard_error == pytest.approx(math.hypot(math.sqrt(2) / 16, known), rel=1e-12)
    assert found.interval == pytest.approx(found.normal_interval, abs=0.06 * (found.standard_error or 0.0))
    alone = average_difference([[six, six]], [[six, six]])
    assert alone.interval == pytest.approx(right_wrong_interval(0, 0, 12), abs=0.01)
    assert alone.p_value == pytest.approx(1.0, abs=0.03)


# Planning and verdicts


@pytest.mark.parametrize(("n", "effect"), [(80, 0.1), (817, 0.1), (1319, 0.05), (30, 0.8)])
def test_power_and_its_inverses_are_statsmodels(n: int, effect: float) -> None:
    one_sample = NormalIndPower(ddof=0)
    deviation = 0.4
    error = deviation / math.sqrt(n)
    expected = one_sample.power(effect, n, 0.05, ratio=0)
    assert power(effect * deviation, error) == pytest.approx(expected, rel=1e-9)
    found = detectable_difference(error)
    assert found == pytest.approx(deviation * one_sample.solve_power(nobs1=n, alpha=0.05, power=0.8, ratio=0), rel=1e-4)
    needed = one_sample.solve_power(effect_size=effect, alpha=0.05, power=0.8, ratio=0)
    assert items_needed(effect * deviation, deviation) == math.ceil(needed)


def test_the_deviation_of_differences_is_numpy_s() -> None:
    first, second = right_wrong(5000, seed=11)
    correlation = float(np.corrcoef(first, second)[0, 1])
    assert difference_deviation(first.std(), second.std(), correlation) == pytest.approx((first - second).std())
    # GSM8K at 60% with a correlation of 0.7: 2.8016 * sqrt(2 * 0.24 * 0.3 / 1319)
    deviation = difference_deviation(math.sqrt(0.24), math.sqrt(0.24), 0.7)
    assert detectable_difference(deviation / math.sqrt(1319)) == pytest.approx(0.02927, abs=1e-5)


@pytest.mark.parametrize(
    ("interval", "p_value", "margin", "words"),
    [
        ((0.2, 1.0), 0.01, None, "better"),
        ((-1.0, -0.2), 0.01, 5.0, "worse"),
        ((0.2, 1.0), 0.08, None, "inconclusive"),  # after Holm
        ((-0.1, 1.0), 0.04, None, "inconclusive"),
        ((-0.1, 1.0), 0.2, 1.0, "inconclusive"),  # the margin's ends do not lie inside it
        ((-0.1, 0.9), 0.2, 1.0, "no detectable difference within ±1 points"),
        ((0.2, 0.9), 0.08, 1.5, "no detectable difference within ±1.5 points"),
        ((0.2, 0.9), None, None, "inconclusive"),
        (None, 0.01, 1.0, "inconclusive"),
    ],
)
def test_verdicts(
    interval: tuple[float, float] | None, p_value: float | None, margin: float | None, words: str
) -> None:
    assert verdict(interval, p_value, margin=margin).words(" points") == words


@pytest.mark.parametrize(
    ("interval", "p_value", "adjusted_p", "why"),
    [
        ((0.2, 1.0), 0.01, 0.04, ""),  # better
        ((0.2, 1.0), 0.01, 0.08, "unadjusted"),
        ((-1.0, -0.2), 0.06, 0.06, "by its interval alone"),
        ((-1.0, -0.2), None, None, "by its interval alone"),
        ((-0.1, 1.0), 0.02, 0.04, "by its p value alone"),
        (None, 0.01, 0.01, "by its p value alone"),
        ((0.0, 1.0), 0.06, 0.12, ""),
        (None, None, None, ""),
    ],
)
def test_what_a_verdict_was_held_back_by(
    interval: tuple[float, float] | None, p_value: float | None, adjusted_p: float | None, why: str
) -> None:
    assert held_back(interval, p_value, adjusted_p) == why


def test_a_verdict_is_turned_around_with_its_models() -> None:
    first, second = right_wrong(1319, seed=12, shift=0.3)
    found, back = (paired_difference(*pair) for pair in ((first, second), (second, first)))
    assert verdict(found.interval, found.p_value).outcome is Outcome.BETTER
    assert verdict(back.interval, back.p_value).outcome is Outcome.WORSE
