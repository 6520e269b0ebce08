"""Measure what stopping early saves, that it keeps its level, and how a fixed test fails that is looked at often.

    python -m benchmarks.sequential [--suite v2] [--replicates 2000] [--others 300] [--field FOLDER ...] [--seed 0]

Six columns of the first leaderboard, or the second, at their real lengths, all compared at once. The documents on which
two models disagree are drawn again in each replicate; so is the order. Documents are looked at on the schedule of
``stats.look_sizes``; a column stops when it is decided, or has no document left.

level: percent of replicates in which *any* column is ever decided although the full columns are equal (at most 5).
missed: percent in which an interval of any column ever leaves out the true difference.
documents: percent of all documents that were scored; by column, too. fixed: the same for a design that knows the
difference and the variance beforehand, of as much power (at most 99%) at the same level, and of 80%.
peeking: percent of replicates in which a test at 5% that is repeated at every look ever finds a difference where there
is none: with Bonferroni's correction for six columns, without it, and for one column alone.
beyond: the columns are equal in the world that documents come from, not on these documents: percent decided by the
interval for these documents before the last of them, and by that for the world (``population=None``).
average: half-widths of the average's interval in points beside those of a fixed design and of the columns' intervals.
With --suite v2: the scores are the suite's own, normalised above guessing, of IFEval prompts and instructions together;
of a column's tasks some are as good as guessing and, where nothing differs, some worse. It prints level and documents.
recorded: pairs of models with samples on disk, scored in random orders: percent of documents used, percent of orders
decided, and percent decided against the sign of the difference of all.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smaug_eval.leaderboard.benchmarks import ifeval
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.orders import DocumentOrder
from smaug_eval.leaderboard.v1 import SUITE
from smaug_eval.leaderboard.v2 import SUITE as SECOND
from smaug_eval.results.gates import comparability
from smaug_eval.results.merging import merge_models, with_distinct_labels
from smaug_eval.results.metrics import headline
from smaug_eval.results.sources import read_sources
from smaug_eval.stats import (
    ALPHA,
    Drawn,
    Outcome,
    Values,
    average_interval,
    capital_paths,
    decided,
    difference_above_floors,
    log_capital,
    look_sizes,
    mean_interval,
)

DISAGREE = {"ARC": 0.12, "HellaSwag": 0.08, "MMLU": 0.12, "TruthfulQA": 0.15, "Winogrande": 0.12, "GSM8K": 0.22}
"""Share of documents on which only one of two related models is right; for TruthfulQA's mc2, which is a share of
probability, the standard deviation of the difference instead."""
POINTS = (3.0, 5.0, 10.0)
MARGIN = 3.0
FIXED_POWER = 0.99
CONTINUOUS = "TruthfulQA"
BATCH = 20


@dataclass(frozen=True)
class Population:
    """Describe a column.

    Attributes:
        title: Its name.
        sizes: Documents of each of its tasks, whose plain mean is the score.
        disagree: See :data:`DISAGREE`.
    """

    title: str
    sizes: tuple[int, ...]
    disagree: float

    @property
    def size(self) -> int:
        """Return its documents."""
        return sum(self.sizes)

    @property
    def weights(self) -> Values:
        """Return what a document's difference is multiplied by, so that the mean over documents is the score's."""
        parts = [np.full(size, self.size / (len(self.sizes) * size)) for size in self.sizes]
        return np.concatenate(parts)

    @property
    def bound(self) -> float:
        """Return the largest size of a weighted difference."""
        return float(self.weights.max())

    def variance(self, difference: float) -> float:
        """Return that of the weighted differences, at a true difference as a fraction."""
        disagree = max(self.disagree, abs(difference))
        square = self.disagree**2 + difference**2 if self.title == CONTINUOUS else disagree
        return float((self.weights**2).mean()) * square - difference**2


def populations() -> list[Population]:
    """Return the six columns, with the real numbers of documents."""
    found = []
    for column in SUITE.columns:
        title = next(name for name in DISAGREE if column.title.startswith(name))
        found.append(Population(title, tuple(leaf.official_rows or 0 for leaf in column.leaves), DISAGREE[title]))
    return found


def draw(
    column: Population,
    difference: float,
    replicates: int,
    generator: np.random.Generator,
    *,
    equal_beyond: bool = False,
) -> Values:
    """Draw weighted differences in random order, shape ``(replicates, documents)``.

    Args:
        column: The column.
        difference: Of all its documents, as a fraction, exactly.
        replicates: How many.
        generator: Source of randomness.
        equal_beyond: Let each document that is answered differently fall to either model by chance instead.
    """
    if column.title == CONTINUOUS:
        values = generator.normal(0.0, column.disagree, (replicates, column.size))
        values -= values.mean(axis=1, keepdims=True) * (not equal_beyond) - difference
        np.clip(values, -1.0, 1.0, out=values)
        return values
    signs = []
    for size in column.sizes:
        gap = round(abs(difference) * size)
        apart = max(gap, round(column.disagree * size))
        apart += (apart - gap) % 2
        own = np.zeros(size, np.float64)
        own[: (apart + gap) // 2], own[(apart + gap) // 2 : apart] = (
            np.sign(difference) or 1.0,
            -np.sign(difference) or -1.0,
        )
        signs.append(own)
    rows = np.tile(np.concatenate(signs), (replicates, 1))
    if equal_beyond:
        rows *= generator.choice([-1.0, 1.0], rows.shape)
    rows *= column.weights
    return np.asarray(generator.permuted(rows, axis=1))


def stops(
    column: Population, values: Values, limit: float, margin: float | None = None, *, ends: bool = True
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return per replicate after how many documents the column stops, and the sign found: 0 where none.

    Args:
        column: The column.
        values: As drawn.
        limit: Logarithm of 1 / alpha.
        margin: Stop also where the difference is shown to be smaller, as a fraction.
        ends: Whether the documents are all there are.
    """
    looks = look_sizes(column.size)

    def crosses(mean: float) -> NDArray[np.bool_]:
        ended = column.size if ends else None
        return np.asarray(capital_paths(values, mean, looks, population=ended, bound=column.bound) >= limit)

    crossed = crosses(0.0)
    sums = np.cumsum(values, axis=1)[:, np.array(looks) - 1]
    crossed[:, -1] &= ~(np.abs(sums[:, -1]) < 1e-6) if ends else crossed[:, -1]
    small = np.zeros_like(crossed)
    if margin is not None:
        small = crosses(margin) & (sums < margin * np.array(looks))
        other = crosses(-margin) & (sums > -margin * np.array(looks))
        small = np.maximum.accumulate(small, axis=1) & np.maximum.accumulate(other, axis=1)
    done = crossed | small
    done[:, -1] = True
    first = done.argmax(axis=1)
    every = np.arange(len(values))
    signs = np.where(crossed[every, first], np.sign(sums[every, first]), 0).astype(np.int_)
    return np.array(looks)[first], signs


def simulate(
    columns: Sequence[Population],
    difference: float,
    replicates: int,
    generator: np.random.Generator,
    *,
    margin: float | None = None,
    covers: bool = False,
) -> dict[str, Any]:
    """Return what becomes of comparisons of all columns with the same true difference."""
    limit = math.log((len(columns) + 1) / ALPHA)
    used = np.zeros((len(columns), replicates))
    signs = np.zeros((len(columns), replicates), np.int_)
    missed = np.zeros(replicates, bool)
    for start in range(0, replicates, BATCH):
        part = slice(start, min(replicates, start + BATCH))
        for place, column in enumerate(columns):
            values = draw(column, difference, part.stop - start, generator)
            used[place, part], signs[place, part] = stops(column, values, limit, margin)
            if covers:
                truth = float(values.mean(axis=1)[0])
                rows = capital_paths(
                    values, truth, look_sizes(column.size)[:-1], population=column.size, bound=column.bound
                )
                missed[part] |= (rows >= limit).any(axis=1)
    size = sum(column.size for column in columns)
    wrong = (signs * (np.sign(difference) or 1) < 0) if difference else signs != 0
    found: dict[str, Any] = {
        "documents": _percent(used.sum(axis=0).mean() / size),
        "by column": {
            column.title: _percent(own.mean() / column.size) for column, own in zip(columns, used, strict=True)
        },
        "decided": _percent((signs != 0).mean()),
        "ever wrong": _percent(wrong.any(axis=0).mean()),
    }
    if covers:
        found["missed"] = _percent(missed.mean())
    if difference:
        found["fixed"] = {
            name: _fixed(columns, difference, power)
            for name, power in (("as much power", min(FIXED_POWER, (signs != 0).mean())), ("80%", 0.8))
        }
    return found


def _fixed(columns: Sequence[Population], difference: float, power: float) -> dict[str, Any]:
    """The documents of a design with one look, known difference and variance, and the same level; in percent."""
    normal = NormalDist()
    reach = normal.inv_cdf(1 - ALPHA / (len(columns) + 1) / 2) + normal.inv_cdf(power)
    found = {}
    for column in columns:
        endless = reach**2 * column.variance(difference) / difference**2
        found[column.title] = endless / (1 + endless / column.size)  # of as many as there are
    size = sum(column.size for column in columns)
    return {
        "power": _percent(power),
        "documents": _percent(sum(found.values()) / size),
        "by column": {column.title: _percent(found[column.title] / column.size) for column in columns},
    }


def peeking(columns: Sequence[Population], replicates: int, generator: np.random.Generator) -> dict[str, float]:
    """Return how often a fixed test finds something where there is nothing, repeated at every look."""
    normal = NormalDist()
    limits = [normal.inv_cdf(1 - ALPHA / 2), normal.inv_cdf(1 - ALPHA / 2 / len(columns))]
    ever = np.zeros((2, len(columns), replicates), bool)
    for start in range(0, replicates, BATCH):
        part = slice(start, min(replicates, start + BATCH))
        for place, column in enumerate(columns):
            values = draw(column, 0.0, part.stop - start, generator)
            looks = np.array(look_sizes(column.size))
            sums, squares = (np.cumsum(each, axis=1)[:, looks - 1] for each in (values, values**2))
            error = np.sqrt(np.maximum(squares - sums**2 / looks, 1e-12))
            for row, limit in enumerate(limits):
                ever[row, place, part] = (np.abs(sums) / error > limit).any(axis=1)
    return {
        "one column": _percent(ever[0].mean()),
        "any of six": _percent(ever[0].any(axis=0).mean()),
        "any of six, Bonferroni": _percent(ever[1].any(axis=0).mean()),
    }


def beyond(columns: Sequence[Population], replicates: int, generator: np.random.Generator) -> dict[str, float]:
    """Return how often columns are decided whose models are equal in the world but not on the documents there are."""
    limit = math.log((len(columns) + 1) / ALPHA)
    found = {"these documents": np.zeros(replicates, bool), "the world": np.zeros(replicates, bool)}
    for start in range(0, replicates, BATCH):
        part = slice(start, min(replicates, start + BATCH))
        for column in columns:
            values = draw(column, 0.0, part.stop - start, generator, equal_beyond=True)
            for name, ends in (("these documents", True), ("the world", False)):
                seen, signs = stops(column, values, limit, ends=ends)
                found[name][part] |= (signs != 0) & ((seen < column.size) | (not ends))
    return {name: _percent(each.mean()) for name, each in found.items()}


def averages(columns: Sequence[Population], replicates: int, generator: np.random.Generator) -> dict[str, Any]:
    """Return the half-width of the average's interval at some shares of the documents, in points."""
    alpha = ALPHA / (len(columns) + 1)
    found: dict[str, Any] = {}
    for share in (0.05, 0.2, 0.5):
        rows = []
        for _ in range(replicates):
            wholes = [(column, draw(column, 0.02, 1, generator)[0]) for column in columns]
            drawn = [Drawn(v[: max(50, int(share * len(v)))], len(v), column.bound) for column, v in wholes]
            low, high = average_interval(drawn, alpha)
            apart = np.mean([mean_interval(each, alpha) for each in drawn], axis=0)
            errors = [
                each.values.var() / len(each.values) * (1 - len(each.values) / (each.population or 1)) for each in drawn
            ]
            fixed = NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(sum(errors)) / len(columns)
            rows.append(((high - low) / 2, fixed, (apart[1] - apart[0]) / 2))
        names = ("stratified", "fixed design", "from the columns' intervals")
        found[f"{share:.0%} of each column"] = dict(
            zip(names, np.round(100 * np.mean(rows, axis=0), 2).tolist(), strict=True)
        )
    return found


def recorded(paths: Sequence[Path], orders: int, generator: np.random.Generator) -> dict[str, Any]:
    """Return what stopping would have saved on results with samples, for each model beside the first."""
    models = merge_models(with_distinct_labels(read_sources(paths)))
    (first, baseline), *others = models.items()
    return {
        f"{model} against {first}": found
        for model, own in others
        if (found := _replayed(dict(_pairs(first, baseline, model, own)), orders, generator))
    }


def _pairs(first: str, baseline: Mapping[str, Any], model: str, own: Mapping[str, Any]) -> Iterator[tuple[str, Values]]:
    from smaug_eval.results.documents import logged_values

    for task, result in own.items():
        other = baseline.get(task)
        metric = headline(result.metrics, result.configured)
        if other is None or metric is None or result.samples is None or other.samples is None:
            continue
        name = metric.name if metric.filter in (None, "none") else f"{metric.name},{metric.filter}"
        rows = comparability(model, result, first, other, name).rows
        sides = [logged_values(each.samples, name) for each in (result, other)]
        if rows is None or any(side is None or not ((side >= 0) & (side <= 1)).all() for side in sides):
            continue
        yield task, np.asarray(sides[0])[rows[0]] - np.asarray(sides[1])[rows[1]]


def _replayed(columns: Mapping[str, Values], orders: int, generator: np.random.Generator) -> dict[str, Any]:
    limit = math.log((len(columns) + (len(columns) > 1)) / ALPHA) if columns else 0.0
    found = {}
    for task, values in columns.items():
        column = Population(task, (len(values),), 0.0)
        looks, signs = stops(column, generator.permuted(np.tile(values, (orders, 1)), axis=1), limit)
        found[task] = {
            "documents": len(values),
            "difference": round(100 * float(values.mean()), 2),
            "used": _percent(looks.mean() / len(values)),
            "decided before the end": _percent((looks < len(values)).mean()),
            "wrong sign": _percent(((signs != 0) & (signs != np.sign(round(float(values.sum()), 9)))).mean()),
        }
    return found


@dataclass(frozen=True)
class SecondColumn:
    """Describe a column of the second leaderboard.

    Attributes:
        column: The suite's.
        order: Of its documents; each replicate has another seed.
    """

    column: Column
    order: DocumentOrder

    def answers(self, difference: float) -> tuple[Values, Values]:
        """Return both models' values in the order of the tasks; the difference is that of the scores."""
        order, own, other = self.order, [], []
        floors = order.floors or (order.floor,) * len(order.sizes)
        lowest = 0.0 if difference else -0.1  # of a task below its floor a gain would not count in full
        levels = np.linspace(lowest, 0.7, len(floors)) if len(floors) > 1 else [0.35]
        for size, floor, level in zip(order.sizes.values(), floors, levels, strict=True):
            gain = (1 + order.per_entry) / 2 if order.entries else 1 / (1 - floor)  # of a prompt one entry more
            gap = round(difference * size / gain)
            apart = max(gap, round(DISAGREE_SECOND * size))
            apart += (apart - gap) % 2
            right = max(round(size * (floor + level * (1 - floor))), (apart - gap) // 2)
            first, second = np.zeros(size), np.zeros(size)
            first[: (apart + gap) // 2] = 1
            second[(apart + gap) // 2 : apart] = 1
            both = slice(apart, apart + right - (apart - gap) // 2)
            first[both] = second[both] = 1
            own.append(first)
            other.append(second)
        if order.entries:  # who fails a prompt fails one of its instructions
            counts = np.array(order.entries)
            return tuple(each + order.per_entry * (counts - 1 + each) for each in (own[0], other[0]))  # type: ignore[return-value]
        return np.concatenate(own), np.concatenate(other)

    def stop(self, own: Values, other: Values, seed: int, alpha: float) -> tuple[int, Outcome]:
        """Return after how many documents of an order the column stops, and what is decided."""
        order = replace(self.order, seed=seed)
        own, other = own[order.places], other[order.places]
        looks = look_sizes(order.size)[:-1]
        has_floors = bool(order.floored([]))
        limit = math.log((2 if has_floors else 1) / alpha)
        apart = order.drawn(own - other).values
        paths = capital_paths(apart[None, :], 0.0, looks, population=order.size, bound=order.bound)[0]
        for seen, capital in zip(looks, paths, strict=True):
            # What tasks are short of their floors whatever comes moves the point that the linear part has to leave out.
            point = self.least(order, other[:seen]) - self.least(order, own[:seen]) if has_floors else 0.0
            if abs(point) > 1e-12:
                capital = log_capital(Drawn(apart[:seen], order.size, order.bound), np.array([point]))[0]
            if capital >= limit and order.may_end(seen):
                short = [order.floored(side[:seen]) for side in (own, other)] if has_floors else []
                interval = difference_above_floors(order.drawn((own - other)[:seen]), short, alpha)
                if (found := decided(interval)) is not Outcome.INCONCLUSIVE:
                    return seen, found
        return order.size, Outcome.INCONCLUSIVE

    def least(self, order: DocumentOrder, values: Values) -> float:
        """Return what tasks are short of their floors though all answers that are left were right."""
        if order.floor:
            return max(0.0, order.floor - (values.sum() + order.size - len(values)) / order.size) / (1 - order.floor)
        sizes, floors, tasks = np.array(list(order.sizes.values())), np.array(order.floors), order.tasks[: len(values)]
        wrong = np.bincount(tasks, 1 - values, minlength=len(sizes))
        return float((np.maximum(0.0, floors - 1 + wrong / sizes) / (1 - floors)).mean())


DISAGREE_SECOND = 0.15
INSTRUCTIONS = (1,) * 305 + (2,) * 179 + (3,) * 57
"""IFEval's 541 prompts have 834 instructions."""


def second_columns() -> list[SecondColumn]:
    """Return the six columns of the second leaderboard, with the real numbers of documents."""
    found = []
    for column in SECOND.columns:
        sizes = {leaf.name: leaf.official_rows or 0 for leaf in column.leaves}
        order = DocumentOrder(
            column.task,
            sizes,
            0,
            column.weighted_by_size,
            floors=column.floors if any(column.floors) else (),
            floor=column.floor,
            entries=INSTRUCTIONS if column.metric == ifeval.STRICT else (),
            needs_each=column.is_normalised,
        )
        found.append(SecondColumn(column, order))
    return found


def simulate_second(columns: Sequence[SecondColumn], difference: float, replicates: int, seed: int) -> dict[str, Any]:
    """Return what becomes of comparisons of all columns with the same true difference of scores."""
    alpha = ALPHA / (len(columns) + 1)
    used, rights = np.zeros((len(columns), replicates)), np.zeros((len(columns), replicates), np.int_)
    for place, each in enumerate(columns):
        own, other = each.answers(difference)
        for replicate in range(replicates):
            seen, outcome = each.stop(own, other, seed + 10_000 * place + replicate, alpha)
            used[place, replicate] = seen
            rights[place, replicate] = {Outcome.BETTER: 1, Outcome.WORSE: -1}.get(outcome, 0)
    size = sum(each.order.size for each in columns)
    wrong = rights < 0 if difference else rights != 0
    return {
        "documents": _percent(used.sum(axis=0).mean() / size),
        "by column": {
            each.column.title: _percent(own.mean() / each.order.size) for each, own in zip(columns, used, strict=True)
        },
        "decided": _percent((rights != 0).mean()),
        "ever wrong": _percent(wrong.any(axis=0).mean()),
        "replicates": replicates,
    }


def second(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is found on the second leaderboard's columns."""
    columns = second_columns()
    found: dict[str, Any] = {
        "columns": {each.column.title: {"documents": each.order.size} for each in columns},
        "documents": sum(each.order.size for each in columns),
        "no difference": simulate_second(columns, 0.0, arguments.replicates, arguments.seed),
        **{
            f"{points:g} points": simulate_second(columns, points / 100, arguments.others, arguments.seed)
            for points in POINTS[1:]
        },
    }
    return found


def _percent(share: float) -> float:
    return round(100 * float(share), 2)


def first(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is found on the first leaderboard's columns."""
    generator, columns = np.random.default_rng(arguments.seed), populations()
    found: dict[str, Any] = {
        "columns": {each.title: {"documents": each.size, "disagree": each.disagree} for each in columns},
        "documents": sum(each.size for each in columns),
        "no difference": simulate(columns, 0.0, arguments.replicates, generator),
        f"no difference, within {MARGIN:g} points": simulate(
            columns, 0.0, arguments.others, generator, margin=MARGIN / 100
        ),
        **{
            f"{points:g} points": simulate(columns, points / 100, arguments.others, generator, covers=True)
            for points in POINTS
        },
        "peeking": peeking(columns, arguments.replicates, generator),
        "beyond": beyond(columns, arguments.others, generator),
        "average, half-widths in points": averages(columns, arguments.averages, generator),
        "recorded": {path.name: recorded([path], 200, generator) for path in arguments.field},
    }
    return found


def main() -> None:
    """Print what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("v1", "v2"), default="v1", help="which leaderboard's columns")
    parser.add_argument("--replicates", type=int, default=2000, help="of the comparison without a difference")
    parser.add_argument("--others", type=int, default=300, help="of each comparison with one")
    parser.add_argument("--averages", type=int, default=5, help="averages of six columns")
    parser.add_argument(
        "--field", type=Path, nargs="*", default=[], help="folders of results with samples, such as a run's"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.monotonic()
    found = second(arguments) if arguments.suite == "v2" else first(arguments)
    found["level"] = found["no difference"]["ever wrong"]
    settings = {**vars(arguments), "field": [path.name for path in arguments.field]}
    found["settings"] = settings
    found["seconds"] = round(time.monotonic() - started)
    found["date"] = datetime.date.today().isoformat()
    found["machine"] = f"{platform.processor() or platform.machine()}, {platform.system()}, numpy {np.__version__}"
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
