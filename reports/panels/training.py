"""Show the training panel: what each loss did to preferred and rejected answers, where in them, and on which pairs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smaug_eval.common.text import fixed, signed
from smaug_eval.reports.charts.lines import LOG_RATIOS, MAX_POINTS, log_ratio_chart, series, shared_scale, thinned
from smaug_eval.reports.panels.checkpoints import choice_sentences, curve_charts, curve_rows, followed
from smaug_eval.reports.panels.headline import SPLITS, preferred_likelihood
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.panels.training_details import REGIONS, buckets, ches, detail_charts, edits, pair_sets
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.trainings import Training
from smaug_eval.trainers.coverage import coverage_line

if TYPE_CHECKING:
    import pandas as pd

FINAL_COLUMNS = {
    "loss": "loss",
    LOG_RATIOS["chosen"]: "chosen log-ratio",
    f"{LOG_RATIOS['chosen']}_se": "its standard error",
    f"{LOG_RATIOS['chosen']}_median": "median",
    f"{LOG_RATIOS['chosen']}_below": "chosen below reference",
    LOG_RATIOS["rejected"]: "rejected log-ratio",
    "rewards/margins": "reward margin",
    "rewards/accuracies": "chosen ranked first",
    "kl": "divergence (nats)",
    "penalty/active": "pairs with penalty",
    "penalty/nats": "penalty (nats)",
    "gradient_cosine": "gradient cosine",
}


def training(comparison: Comparison) -> Mapping[str, Any] | None:
    """Show how the likelihood of chosen and rejected answers moved during each training."""
    trainings, sets = comparison.trainings, pair_sets(comparison)
    if not trainings and not sets:
        return None
    scale, checkpoints = shared_scale(trainings), followed(trainings)
    logged = [name for name in FINAL_COLUMNS if any(name in each.rows.columns for each in trainings)]
    curves = [
        {
            "name": each.name,
            "summary": _settings(each),
            "lora": coverage_line(each.summary.get("lora")),
            "formula": each.summary.get("formula"),
            "fall": preferred_likelihood(each),
            "chart": log_ratio_chart(
                each,
                scale,
                key=f"log-ratios-{number}",
                title=f"Log-ratios during the training {each.name}",
                description=_describe_curves(each),
            )
            if _has_curves(each)
            else None,
        }
        for number, each in enumerate(trainings)
    ]
    return {
        "trainings": curves,
        "story": [*story(trainings), *choice_sentences(trainings)],
        "linear_within": scale.linear_within,
        "averaged": any(len(thinned(rows)) < len(rows) for rows in _curves(trainings)),
        "max_points": MAX_POINTS,
        "checkpoint_charts": curve_charts(checkpoints),
        "checkpoint_rows": list(curve_rows(checkpoints)),
        "columns": [FINAL_COLUMNS[name] for name in logged],
        "unpaired": [each.name for each in trainings if each.is_unpaired],
        "final": [row for each in trainings for row in _final_rows(each, logged)],
        "regions": REGIONS,
        "edits": [row for each in trainings for row in edits(each)],
        "details": detail_charts(trainings),
        "buckets": [row for each in trainings for row in buckets(each)],
        "ches": [found for each in trainings if (found := ches(each))],
        "pair_sets": sets,
    }


def _settings(each: Training) -> dict[str, Any]:
    """Describe a training in a few values; its processes where there were several, or should have been."""
    names = ["loss", "beta", "lambda", "steps"]
    joined, asked = each.summary.get("processes"), each.summary.get("processes_asked")
    if joined != 1 or asked not in (None, joined):
        names.append("processes")
    found = {name: value for name in names if (value := each.summary.get(name)) is not None}
    if "processes" in found and asked not in (None, joined):
        found["processes"] = f"{joined} of {asked} asked for"
    return found


def story(trainings: Sequence[Training]) -> Iterator[str]:
    """Yield what each training did to preferred and rejected answers, and how the trainings differ in it."""
    falls = {each.name: fall for each in trainings if (fall := preferred_likelihood(each))}
    for each in trainings:
        if each.name in falls:
            fall = falls[each.name]
            rejected, below = (
                series(each, fall.split, name) for name in (LOG_RATIOS["rejected"], f"{LOG_RATIOS['chosen']}_below")
            )
            others, counted = ("undesirable", "them") if fall.is_unpaired else ("rejected", "the pairs")
            rest = "" if rejected.empty else f", {others} ones by {signed(rejected.iloc[-1], 2)}"
            share = "" if below.empty else f"; {fixed(100 * below.iloc[-1], 0)}% of {counted} lie below the reference"
            moved = f"moved the {fall.answers} by {fall.amount} on average"
            yield f"{each.name} {moved}{rest}{share}."
    lowered = [name for name, fall in falls.items() if fall.below_reference]
    unclear = [name for name, fall in falls.items() if not fall.is_clear]
    kept = [name for name in falls if name not in lowered + unclear]
    groups = {"Lowered": lowered, "not lowered": kept, "not clearly moved": unclear}
    if lowered and (kept or unclear):
        yield "; ".join(f"{word} by {', '.join(names)}" for word, names in groups.items() if names) + "."


def _curves(trainings: Iterable[Training]) -> list[pd.Series]:
    return [series(each, split, column) for each in trainings for split in SPLITS for column in LOG_RATIOS.values()]


def _has_curves(training: Training) -> bool:
    return any(not values.empty for values in _curves([training]))


def _describe_curves(training: Training) -> str:
    """Describe the curves' first and last values: the chart's text alternative."""
    parts = []
    for (split, pairs), (name, column) in itertools.product(SPLITS.items(), LOG_RATIOS.items()):
        values = series(training, split, column)
        if not values.empty:
            first, last = signed(values.iloc[0], 2), signed(values.iloc[-1], 2)
            start, end = values.index[0], values.index[-1]
            what = f"{name} {pairs} completions" if training.is_unpaired else f"{name} answers of {pairs} pairs"
            parts.append(f"{what}: {first} nats at step {start}, {last} at step {end}")
    return "; ".join(parts) + ". Zero is the reference model."


def last_values(training: Training, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Return by split the last step, and the last logged value of each of the columns ``names``."""
    found: dict[str, dict[str, float | None]] = {}
    for split in SPLITS:
        columns = {name: series(training, split, name) for name in names}
        steps = [values.index[-1] for values in columns.values() if not values.empty]
        if steps:
            last = {name: None if values.empty else float(values.iloc[-1]) for name, values in columns.items()}
            found[split] = {"step": int(max(steps)), **last}
    return found


def _final_rows(training: Training, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for split, last in last_values(training, names).items():
        values = [last[name] for name in names]
        yield {"training": training.name, "pairs": SPLITS[split], "step": last["step"], "values": values}


PANEL = Panel("training", "Training", training, same_for_all=True)
