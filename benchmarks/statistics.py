"""Check by simulation whether the comparison's statistics keep their promises, and how long they take.

    python -m benchmarks.statistics [--sizes 80 817 1319] [--replicates 2000] [--seed 0]

Benchmarks are drawn again and again from populations of items of which the truth is known. Models find the same items
hard, so their values correlate as those of a model and its fine-tune do. There are right and wrong answers, values
between 0 and 1 as TruthfulQA's mc2, and a judge's scores (1 to 10, the mean of two turns).

coverage: percent of 95% intervals that hold the truth. false_alarms: percent of tests at 5% that find a difference
between models of equal ability. power: percent of tests that find the smallest difference detectable at 80%, with what
the formula predicts. McNemar's exact test is discrete, and so finds less than its level and the formula say: with few
items clearly less. What it must come to is computed beside it (mcnemar_exact, exact). standard_error: that of these
percentages. outside: what is further from its promise than 1.5 points, 3 for power. suite: seconds for two models on
all 28,659 documents of the leaderboard with 10,000 resamples.

Clusters hold one to nine items, so 80 items are but 16 clusters. category: the same of a judge's category, ten
questions of two turns. What is refused_ is no part of the package; it shows why. refused_percentile: the percentile
interval of a bootstrap over clusters. refused_unclustered: an interval that takes the items of a cluster for
independent ones.

Last measured, 2,000 replicates of each size: coverage 93.6 to 95.75%, of a category 94.8%; false alarms 3.7 to 5.4%, of
McNemar's test 2.9, 4.6 and 5.35% where 2.8, 4.1 and 4.3% were due; power within 2.1 points of what was due; nothing
outside. Refused: percentiles over 16 clusters 92.1%, over a category's ten questions 89.7%; unclustered 83.3 to 83.9%.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.special import bdtr, ndtr

from smaug_eval.stats import (
    ALPHA,
    PairedDifference,
    Values,
    average_difference,
    cluster_sums,
    detectable_difference,
    mcnemar_p_value,
    normal_interval,
    paired_difference,
    percentile_interval,
    power,
    standard_error,
    t_mean_interval,
    wilson_interval,
)

INTERVAL_CELLS, TEST_CELLS = 800_000, 300_000  # random numbers for one simulated benchmark
SHARED = 0.8  # part of the variance of items that the two models share
CLUSTERED = 0.3  # part of the variance that the items of a cluster share
POPULATION = 1_000_000
TOLERANCE, POWER_TOLERANCE = 1.5, 3.0
TESTS = ("mcnemar", "sign_flip_mc2", "sign_flip_judge", "bootstrap")
MODELS = (0.3, 0.2)  # abilities; 0.1 apart is 4 points of accuracy
SUITE = ((1172,), (10_042,), (248,) * 55 + (201,) * 2, (817,), (1267,), (1319,))
MC2_COLUMN = 3
CATEGORY = 10  # questions of a category of MT-Bench
CATEGORY_RESAMPLES = 2000

Pair = tuple[Values, Values]


@dataclass(frozen=True)
class Population:
    """Describe items whose values follow from a model's ability.

    Attributes:
        observe: Values from ability plus how easy the items are, a standard normal variable; the last axis holds the
            turns of an item.
        mean: The mean over all items of a model with some ability.
        turns: Turns of an item.
    """

    observe: Callable[[Values], Values]
    mean: Callable[[float], float]
    turns: int = 1


class StatisticsPlan(NamedTuple):
    """Hold abilities of two models, the difference of their means, and the standard error of its estimate."""

    abilities: tuple[float, float]
    difference: float
    error: float


def _right_wrong(strength: Values) -> Values:
    return (strength[..., 0] > 0).astype(np.float64)


def _share(strength: Values) -> Values:
    values: Values = ndtr(1.5 * strength[..., 0])
    return values


def _judged(strength: Values) -> Values:
    values: Values = _turn_scores(strength).mean(axis=-1)
    return values


def _turn_scores(strength: Values) -> Values:
    scores: Values = np.clip(np.rint(7 + 2 * strength), 1, 10)
    return scores


def _judged_mean(ability: float) -> float:
    return 1 + sum(float(ndtr(ability - (score - 7.5) / 2)) for score in range(2, 11))


RIGHT_WRONG = Population(_right_wrong, lambda ability: float(ndtr(ability)))
SHARE = Population(_share, lambda ability: float(ndtr(1.5 * ability / math.sqrt(1 + 1.5**2))))
JUDGED = Population(_judged, _judged_mean, turns=2)
POPULATIONS = {"right_wrong": RIGHT_WRONG, "mc2": SHARE, "judge": JUDGED}


def draw(
    population: Population,
    n: int,
    generator: np.random.Generator,
    *,
    abilities: tuple[float, float] = MODELS,
    clusters: Values | None = None,
) -> Pair:
    """Draw two models' values on ``n`` items drawn at random, each of shape ``(n,)``.

    Args:
        population: What the items are like.
        n: How many.
        generator: Source of randomness.
        abilities: Of the two models.
        clusters: Number of each item's cluster; None for independent items.
    """
    turns = (n, population.turns)

    def normal(size: tuple[int, ...]) -> Values:
        own = generator.normal(size=size)
        if clusters is None:
            return own
        common = generator.normal(size=len(np.unique(clusters)))[clusters.astype(np.intp)].reshape(-1, 1)
        return math.sqrt(1 - CLUSTERED) * own + math.sqrt(CLUSTERED) * common

    ease = math.sqrt(SHARED) * normal((n, 1))
    first, second = (
        population.observe(ability + ease + math.sqrt(1 - SHARED) * normal(turns)) for ability in abilities
    )
    return first, second


def cluster_labels(n: int) -> Values:
    """Draw clusters of one to nine items, five on average."""
    sizes = np.tile(np.arange(1, 10), n // 45 + 1)
    return np.repeat(np.arange(len(sizes)), sizes)[:n].astype(np.float64)


def affordable(n: int, cells: int) -> int:
    """Return how many resamples, or sign patterns, ``n`` items allow.

    It is 399 to 4,999, and so many that 5% of one more is a whole number.
    """
    return 20 * min(250, max(20, cells // (20 * n))) - 1


def coverage(n: int, replicates: int, generator: np.random.Generator) -> dict[str, float]:
    """Return the percentage of 95% intervals that hold the truth."""
    clusters = cluster_labels(n)
    labels = clusters.tolist()
    resamples = affordable(n, INTERVAL_CELLS)
    hits: dict[str, list[bool]] = {}

    def note(name: str, interval: tuple[float, float] | None, truth: float) -> None:
        hits.setdefault(name, []).append(interval is not None and interval[0] <= truth <= interval[1])

    means = {name: [each.mean(ability) for ability in MODELS] for name, each in POPULATIONS.items()}
    apart = {name: first - second for name, (first, second) in means.items()}
    for seed in _seeds(replicates, generator):
        pairs = {name: draw(each, n, generator) for name, each in POPULATIONS.items()}
        answers, shares = pairs["right_wrong"], pairs["mc2"]
        note("wilson", wilson_interval(float(answers[0].mean()), n), means["right_wrong"][0])
        error = standard_error(shares[0]) or 0.0
        note("normal_mc2", normal_interval(float(shares[0].mean()), error), means["mc2"][0])
        note("t_judge", t_mean_interval(pairs["judge"][0]), means["judge"][0])
        for name, pair in pairs.items():
            note(f"paired_{name}", paired_difference(*pair, draws=1).interval, apart[name])
        average = average_difference(*_columns(answers, shares), resamples=resamples, seed=seed)
        note("average", average.interval, (apart["right_wrong"] + apart["mc2"]) / 2)
        first, second = draw(RIGHT_WRONG, n, generator, clusters=clusters)
        truth = means["right_wrong"][0]
        note("t_clustered", t_mean_interval(first, labels), truth)
        note("refused_percentile", cluster_percentiles(first, labels, resamples, seed), truth)
        note("refused_unclustered", wilson_interval(float(first.mean()), n), truth)
        note("paired_clustered", paired_difference(first, second, labels, draws=1).interval, apart["right_wrong"])
    return {name: _percent(found) for name, found in hits.items()}


def category_coverage(replicates: int, generator: np.random.Generator) -> dict[str, float]:
    """Return the percentage of 95% intervals of a judge's category that hold the truth.

    A category has ten questions of two turns.
    """
    labels = np.repeat(np.arange(CATEGORY), 2).tolist()
    hits: dict[str, list[bool]] = {"t_clustered": [], "refused_percentile": []}
    truth = JUDGED.mean(MODELS[0])
    for seed in _seeds(replicates, generator):
        ease, own = generator.normal(size=(CATEGORY, 1)), generator.normal(size=(CATEGORY, 2))
        turns = _turn_scores(MODELS[0] + math.sqrt(SHARED) * ease + math.sqrt(1 - SHARED) * own).ravel()
        found = {
            "t_clustered": t_mean_interval(turns, labels),
            "refused_percentile": cluster_percentiles(turns, labels, CATEGORY_RESAMPLES, seed),
        }
        for name, interval in found.items():
            hits[name].append(interval is not None and interval[0] <= truth <= interval[1])
    return {name: _percent(each) for name, each in hits.items()}


def cluster_percentiles(values: Values, labels: Sequence[int], resamples: int, seed: int) -> tuple[float, float]:
    """Return the percentile interval of a bootstrap over clusters, which :mod:`smaug_eval.stats` does not use."""
    sums, counts = cluster_sums(values, labels)
    times = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    return percentile_interval((times @ sums) / (times @ counts))


def alarms(
    n: int, replicates: int, generator: np.random.Generator, abilities: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, float], list[int]]:
    """Return the percentage of tests that find a difference, and the number of items only one model has right."""
    found: dict[str, list[bool]] = {test: [] for test in TESTS}
    discordant, draws = [], affordable(n, TEST_CELLS)
    for seed in _seeds(replicates, generator):
        pairs = {name: draw(each, n, generator, abilities=abilities[name]) for name, each in POPULATIONS.items()}
        tests: dict[str, PairedDifference] = {
            name: paired_difference(*pair, draws=draws, seed=seed) for name, pair in pairs.items()
        }
        average = average_difference(*_columns(pairs["right_wrong"], pairs["mc2"]), resamples=draws, seed=seed)
        discordant.append(tests["right_wrong"].higher + tests["right_wrong"].lower)
        found["mcnemar"].append(tests["right_wrong"].p_value <= ALPHA)
        found["sign_flip_mc2"].append(tests["mc2"].p_value <= ALPHA)
        found["sign_flip_judge"].append(tests["judge"].p_value <= ALPHA)
        found["bootstrap"].append(average.p_value is not None and average.p_value <= ALPHA)
    return {name: _percent(each) for name, each in found.items()}, discordant


def false_alarms(n: int, replicates: int, generator: np.random.Generator) -> dict[str, float]:
    """Return the percentage of tests at 5% that find a difference between models of equal ability."""
    found, discordant = alarms(n, replicates, generator, dict.fromkeys(POPULATIONS, (0.25, 0.25)))
    return {**found, "mcnemar_exact": mcnemar_rate(discordant, 0.5)}


def mcnemar_rate(discordant: Sequence[int], gained: float) -> float:
    """Return the percentage of McNemar's exact tests that must find a difference.

    Args:
        discordant: Number of items that only one model has right, in each test.
        gained: The chance that it is the first model.
    """
    sizes, times = np.unique(discordant, return_counts=True)
    rates = []
    for size in map(int, sizes):
        found = [few for few in range(size // 2 + 1) if mcnemar_p_value(few, size - few) <= ALPHA]
        rates.append(sum(float(bdtr(max(found), size, chance)) for chance in (gained, 1 - gained)) if found else 0.0)
    return round(100 * float(np.average(rates, weights=times)), 2)


def powers(n: int, replicates: int, generator: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return the percentage of tests that find the smallest difference detectable at 80%, and the prediction."""
    plans = {name: plan(each, n, generator) for name, each in POPULATIONS.items()}
    found, discordant = alarms(n, replicates, generator, {name: each.abilities for name, each in plans.items()})
    planned = {"mcnemar": "right_wrong", "sign_flip_mc2": "mc2", "sign_flip_judge": "judge"}
    predicted = {test: power(plans[name].difference, plans[name].error) for test, name in planned.items()}
    one, other = plans["right_wrong"], plans["mc2"]
    predicted["bootstrap"] = power((one.difference + other.difference) / 2, math.hypot(one.error, other.error) / 2)
    rates = {name: {"found": found[name], "predicted": round(100 * predicted[name], 2)} for name in found}
    apart = one.error**2 * n + one.difference**2  # the share of items that only one model has right
    rates["mcnemar"]["exact"] = mcnemar_rate(discordant, (1 + one.difference / apart) / 2)
    return rates


def plan(population: Population, n: int, generator: np.random.Generator) -> StatisticsPlan:
    """Return two models that differ by what ``n`` items detect at 80%, to be found by bisection."""
    equal = (MODELS[1], MODELS[1])
    reach = detectable_difference(_difference_error(population, n, equal, generator))
    target = population.mean(MODELS[1]) + reach
    low, high = MODELS[1], MODELS[1] + 5.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if population.mean(middle) < target else (low, middle)
    abilities = (low, MODELS[1])
    return StatisticsPlan(abilities, reach, _difference_error(population, n, abilities, generator))


def _difference_error(
    population: Population, n: int, abilities: tuple[float, float], generator: np.random.Generator
) -> float:
    first, second = draw(population, POPULATION, generator, abilities=abilities)
    return float((first - second).std()) / math.sqrt(n)


def suite_seconds(generator: np.random.Generator) -> dict[str, float]:
    """Return how long the leaderboard's comparison of two models takes."""
    columns = [
        [draw(SHARE if index == MC2_COLUMN else RIGHT_WRONG, n, generator) for n in sizes]
        for index, sizes in enumerate(SUITE)
    ]
    first, second = ([[pair[side] for pair in column] for column in columns] for side in (0, 1))
    start = time.perf_counter()
    average_difference(first, second)
    middle = time.perf_counter()
    for one, other in zip(first, second, strict=True):
        paired_difference(np.concatenate(one), np.concatenate(other))
        if len(one) > 1:
            average_difference([one], [other])
    seconds = {"average": middle - start, "columns": time.perf_counter() - middle}
    return {name: round(each, 2) for name, each in seconds.items()}


def misses(sizes: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is further from its promise than it may be."""
    for n, found in sizes.items():
        levels = found["false_alarms"]
        promised = [(f"coverage of {name}", rate, 95.0, TOLERANCE) for name, rate in found["coverage"].items()]
        promised += [
            (f"false alarms of {name}", levels[name], levels.get(f"{name}_exact", 5.0), TOLERANCE) for name in TESTS
        ]
        promised += [
            (f"power of {name}", each["found"], each.get("exact", each["predicted"]), POWER_TOLERANCE)
            for name, each in found["power"].items()
        ]
        for name, rate, expected, tolerance in promised:
            if "refused_" not in name and abs(rate - expected) > tolerance:
                yield f"n = {n}: {name} is {rate}, not {expected} +- {tolerance}"


def category_misses(category: Mapping[str, float]) -> Iterator[str]:
    """Yield coverage and alarms of a judge's category."""
    for name, rate in category.items():
        if not name.startswith("refused_") and abs(rate - 95) > TOLERANCE:
            yield f"category: coverage of {name} is {rate}, not 95 +- {TOLERANCE}"


def _seeds(replicates: int, generator: np.random.Generator) -> list[int]:
    """A seed for each simulated benchmark: with one for all, its chance errors would not average out."""
    return [int(seed) for seed in generator.integers(1 << 32, size=replicates)]


def _columns(answers: Pair, shares: Pair) -> tuple[list[list[Values]], list[list[Values]]]:
    return [[answers[0]], [shares[0]]], [[answers[1]], [shares[1]]]


def _percent(found: Sequence[bool]) -> float:
    return round(100 * float(np.mean(found)), 2)


def main() -> None:
    """Print the simulations' results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[80, 817, 1319], help="numbers of items")
    parser.add_argument("--replicates", type=int, default=2000, help="simulated benchmarks of each size and kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    sizes, seconds = {}, {}
    category = category_coverage(arguments.replicates, generator)
    for n in arguments.sizes:
        start = time.perf_counter()
        sizes[n] = {
            "resamples": affordable(n, INTERVAL_CELLS),
            "draws": affordable(n, TEST_CELLS),
            "coverage": coverage(n, arguments.replicates, generator),
            "false_alarms": false_alarms(n, arguments.replicates, generator),
            "power": powers(n, arguments.replicates, generator),
        }
        seconds[n] = round(time.perf_counter() - start, 1)
    errors = {f"at {rate}%": round(math.sqrt(rate * (100 - rate) / arguments.replicates), 2) for rate in (5, 80, 95)}
    print(
        json.dumps(
            {
                "sizes": sizes,
                "category": category,
                "outside": [*misses(sizes), *category_misses(category)],
                "standard_error": errors,
                "seconds": seconds,
                "suite": suite_seconds(generator),
                "settings": {
                    "replicates": arguments.replicates,
                    "seed": arguments.seed,
                },
                "machine": platform.processor() or platform.machine(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
