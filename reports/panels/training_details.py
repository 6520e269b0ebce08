"""Show where in an answer a training acted, how often its penalty did, and what its pairs are like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from smaug_eval.common.text import fixed, signed
from smaug_eval.reports.charts.lines import MODEL_COLOURS, SOFT, ChartLine, bar_chart, line_chart, series
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.json_files import as_number
from smaug_eval.results.trainings import Training

REGIONS = ("before", "at", "after")
POSITIONS = (-8, 16)
"""Positions shown around the first token that differs; beyond them few pairs have tokens."""
_SHARES = {
    "log_ratios/chosen_below": "held-out pairs whose preferred answer is less likely than under the reference",
    "penalty/active": "held-out pairs on which the penalty acts",
}
_COSINE = "gradient_cosine"


class Edit(NamedTuple):
    """Hold the mean change of log-probability before, at and after the first token that differs, on held-out pairs.

    Attributes:
        training: The training.
        side: ``chosen`` or ``rejected``.
        step: When.
        per_token: Nats per token, by region; None where no pair has such tokens.
        per_pair: Nats summed over a pair's tokens, by region.
    """

    training: str
    side: str
    step: int
    per_token: tuple[float | None, ...]
    per_pair: tuple[float | None, ...]


class Bucket(NamedTuple):
    """Group held-out pairs whose answers are about equally far apart.

    Log-ratios are means in nats, ``below`` is a share.
    """

    training: str
    bucket: str
    pairs: float
    chosen: float
    rejected: float
    below: float


class ChesMeans(NamedTuple):
    """Hold the means over held-out pairs of the untrained policy's centred hidden embedding similarity.

    Source: arXiv 2410.08847.
    """

    training: str
    score: float
    normalised: float


class Figure(NamedTuple):
    """Hold a chart with its caption."""

    caption: str
    chart: Markup


class PairSetRow(NamedTuple):
    """Hold what is known of a set of pairs.

    Attributes:
        name: Its name.
        counts: What to call a number of pairs, and the number.
        dropped: Reason to number of rows left out.
        warnings: What the builder said of it.
        measured: Tokens or characters: the unit of the edit distance.
        distance: Median of the edit distance, normalised by the longer answer's length.
        histogram: Number of pairs in each tenth of the edit distance, as a chart; None where it was not measured.
    """

    name: str
    counts: Mapping[str, object]
    dropped: Mapping[str, object]
    warnings: Sequence[str]
    measured: str
    distance: float
    histogram: Markup | None


def edits(training: Training) -> Iterator[Edit]:
    """Yield the last logged changes around the edit, preferred answers first; nothing where they were not logged."""
    for side in ("chosen", "rejected"):
        parts = [
            [series(training, "eval", f"change/{side}_{region}{suffix}") for region in REGIONS]
            for suffix in ("", "_sum")
        ]
        steps = [values.index[-1] for values in parts[0] if not values.empty]
        if steps:
            token, pair = (
                tuple(None if values.empty else float(values.iloc[-1]) for values in found) for found in parts
            )
            yield Edit(training.name, side, int(max(steps)), token, pair)


def buckets(training: Training) -> Iterator[Bucket]:
    """Yield the last diagnosis by edit distance, nearest first."""
    found = training.last_diagnosis.get("buckets")
    for row in filter(_mapping, found if isinstance(found, list) else []):
        names = ("pairs", "log_ratio_chosen", "log_ratio_rejected", "below_reference")
        yield Bucket(training.name, str(row.get("bucket")), *(as_number(row.get(name)) for name in names))


def ches(training: Training) -> ChesMeans | None:
    """Return the score of the first diagnosis; None where it was not computed."""
    found = _mapping(training.diagnostics[0].get("ches")) if training.diagnostics else {}
    if not found:
        return None
    return ChesMeans(training.name, as_number(found.get("mean")), as_number(found.get("mean_normalised")))


def detail_charts(trainings: Sequence[Training]) -> list[Figure]:
    """Draw charts that hold all trainings, for whatever was logged."""
    found = [_share_chart(trainings, column, caption) for column, caption in _SHARES.items()]
    lowest = min((min(row[1:]) for each in trainings for row in _profile_rows(each)), default=0.0)
    found += [_profile_chart(each, number, 1.05 * lowest) for number, each in enumerate(trainings)]
    found.append(_cosine_chart(trainings))
    return [figure for figure in found if figure is not None]


def _share_chart(trainings: Sequence[Training], column: str, caption: str) -> Figure | None:
    lines = _logged_lines(trainings, column)
    return _figure(lines, f"Share of {caption}", f"share-{column.replace('/', '-')}", "share", (-0.03, 1.03))


def _cosine_chart(trainings: Sequence[Training]) -> Figure | None:
    caption = "Cosine between the gradients of preferred and rejected answers, mean over sampled held-out pairs"
    return _figure(_logged_lines(trainings, _COSINE), caption, "gradient-cosine", "cosine", None)


def _logged_lines(trainings: Sequence[Training], column: str) -> list[ChartLine]:
    lines = []
    for number, each in enumerate(trainings):
        values = series(each, "eval", column)
        if not values.empty:
            colour = MODEL_COLOURS[number % len(MODEL_COLOURS)]
            lines.append(ChartLine(each.name, list(values.index), list(values), colour))
    return lines


def _figure(
    lines: Sequence[ChartLine], caption: str, key: str, axis: str, limits: tuple[float, float] | None
) -> Figure | None:
    if not lines:
        return None
    ends = (
        f"{each.label}: {signed(each.y[0], 2)} at step {each.x[0]}, {signed(each.y[-1], 2)} at {each.x[-1]}"
        for each in lines
    )
    described = f"{'; '.join(ends)}."
    chart = line_chart(lines, key=key, title=caption, description=described, labels=("step", axis), limits=limits)
    return Figure(caption, chart)


def _profile_rows(training: Training) -> list[tuple[float, ...]]:
    """Return position, log-probability under the reference and under the trained model, for the positions shown."""
    profile = _mapping(training.last_diagnosis.get("profile"))
    low, high = POSITIONS
    columns = (map(as_number, profile.get(name) or ()) for name in ("offsets", "reference", "policy"))
    return [row for row in zip(*columns, strict=False) if low <= row[0] <= high and all(map(math.isfinite, row))]


def _profile_chart(training: Training, number: int, lowest: float) -> Figure | None:
    """Draw the mean log-probability of preferred tokens by position, of the reference and of the trained model."""
    shown = _profile_rows(training)
    if not shown:
        return None
    offsets, reference, policy = (list(column) for column in zip(*shown, strict=True))
    colour = MODEL_COLOURS[number % len(MODEL_COLOURS)]
    lines = [
        ChartLine("reference", offsets, reference, SOFT, is_dashed=True),
        ChartLine(training.name, offsets, policy, colour),
    ]
    caption = f"{training.name}: log-probability of preferred tokens by position"
    gaps = [(after - before, offset) for offset, before, after in shown]
    least, where = min(gaps)
    after = _mapping(_mapping(training.last_diagnosis.get("profile")).get("after_edit"))
    described = (
        f"0 is the first token that differs. Largest fall against the reference: {signed(least, 2)} nats at "
        f"{where:.0f}. All tokens after the edit: {fixed(as_number(after.get('reference')), 3)} before the training, "
        f"{fixed(as_number(after.get('policy')), 3)} after it."
    )
    chart = line_chart(
        lines,
        key=f"profile-{number}",
        title=caption,
        description=described,
        labels=("tokens from the first that differs", "mean log-probability (nats)"),
        limits=(lowest, -0.03 * lowest) if lowest < 0 else None,
        marked_x=0,
    )
    return Figure(caption, chart)


def pair_sets(comparison: Comparison) -> list[PairSetRow]:
    """List every pair set of the runs."""
    many = len(comparison.sources) > 1
    found = {
        f"{source.label}/{name}" if many else name: stats
        for source in comparison.sources
        for name, stats in source.pair_sets.items()
    }
    return [_pair_set(name, stats, number) for number, (name, stats) in enumerate(found.items())]


def _pair_set(name: str, stats: Mapping[str, Any], number: int) -> PairSetRow:
    unit = "tokens" if isinstance(stats.get("tokens"), Mapping) else "characters"
    measured = _mapping(stats.get(unit))
    counts = measured.get("edit_distance_histogram")
    tenths = [as_number(count) for count in counts] if isinstance(counts, list) else []
    names = [f"{10 * tenth}" for tenth in range(len(tenths))]
    warnings = stats.get("warnings")
    return PairSetRow(
        name=name,
        counts={label: stats[key] for key, label in _COUNTS.items() if stats.get(key) is not None},
        dropped=_mapping(stats.get("dropped")),
        warnings=list(map(str, warnings)) if isinstance(warnings, list) else [],
        measured=unit,
        distance=as_number(_mapping(measured.get("edit_distance")).get("median")),
        histogram=bar_chart(
            tenths,
            names,
            key=f"edit-distance-{number}",
            title=f"Edit distance between the answers of the pairs of {name}",
            labels=("edit distance from, % of the longer answer", "pairs"),
        )
        if tenths
        else None,
    )


_COUNTS = {"rows": "rows read", "train": "training pairs", "eval": "held-out pairs"}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
