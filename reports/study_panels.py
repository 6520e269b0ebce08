"""The sections of a study: its verdicts, a section per question, Fig. 4's counterpart, and the arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from reports.charts import MODEL_COLOURS
from reports.comparison import Comparison
from reports.study_answers import Finding, Table, Test, contradictions
from reports.study_charts import Band, band_chart, band_words, interval_chart
from reports.study_data import Study, below, chosen, ranked_first
from reports.study_distance import by_distance, curves
from reports.study_findings import lowered, mean_of, prevented
from reports.study_positions import after_edit_table, position_charts
from reports.study_scores import better_scores
from reports.text import fixed, signed
from smaug_eval.stats import CrossedContrast

_CHART_TITLES = {
    "rq1": "Change of the preferred answers by arm",
    "rq2": "Differences of the preferred answers, and the margin",
    "rq3": "Differences of scores",
}
QUESTIONS = ("preferred answers", "the remedy", "scores", "edit distance")
"""What the four questions are about, for the page's contents."""
_MOST_CURVES = len(MODEL_COLOURS)


@lru_cache(maxsize=4)
def findings(study: Study) -> tuple[Finding, ...]:
    """The four questions, answered from the data alone."""
    return lowered(study), prevented(study), better_scores(study), by_distance(study)


def study(comparison: Comparison) -> Mapping[str, Any] | None:
    """The abstract: what was trained, and the four verdicts."""
    if comparison.study is None:
        return None
    found = comparison.study
    return {
        "findings": findings(found),
        "against": contradictions(findings(found)),
        "trained": trained_words(found),
        "missing": found.missing,
    }


def question(comparison: Comparison, place: int) -> Mapping[str, Any] | None:
    """One question: claim, verdict, figure, tests, tables, and where the numbers come from."""
    if comparison.study is None:
        return None
    finding = findings(comparison.study)[place]
    return {"finding": finding, "chart": question_chart(comparison.study, finding)}


def positions(comparison: Comparison) -> Mapping[str, Any] | None:
    """Log-probability by position around the first token that differs."""
    if comparison.study is None:
        return None
    charts, table = position_charts(comparison.study), after_edit_table(comparison.study)
    return {"charts": charts, "after": table} if charts or table else None


def arms(comparison: Comparison) -> Mapping[str, Any] | None:
    """Every arm with its settings, means over its seeds, and all trainings."""
    if comparison.study is None:
        return None
    shown = list(dict.fromkeys([*comparison.models, *(each.name for each in comparison.trainings)]))
    return {"tables": [arms_table(comparison.study)], "trainings": trainings_table(comparison.study), "selected": shown}


def warnings_of_all(found: Study, texts: Sequence[str]) -> list[str]:
    """Those of a run's warnings that are not of one training; how many others there are is said instead."""
    names = tuple(f"{name}:" for name in found.planned)
    kept = [text for text in texts if not text.startswith(names)]
    left = len(texts) - len(kept)
    return [
        *kept,
        *([f"{_counted(left, 'warning')} of single trainings: see the manifest under Provenance."] if left else []),
    ]


def trained_words(found: Study) -> str:
    """What the study consists of, as a sentence."""
    seeds = sorted({each.seed for each in found.trainings})
    planned, there = len(found.planned), len(found.planned) - len(found.missing)
    done = f"{there:,}" if there == planned else f"{there:,} of {planned:,}"
    return (
        f"{done} trainings: {_counted(len(found.arms), 'arm')} (losses and settings) on "
        f"{_counted(len(found.pair_sets), 'pair set')}, {_counted(len(seeds), 'seed')}."
    )


def question_chart(found: Study, finding: Finding) -> Markup | None:
    """The question's figure; None where there is nothing to draw."""
    if finding.key == "rq4":
        return _curve_chart(found)
    if not finding.tests:
        return None
    unit = finding.tests[0].unit
    tests: list[Test] = [test for test in finding.tests if test.unit == unit]
    return interval_chart(tests, key=f"study-{finding.key}", title=_CHART_TITLES[finding.key], axis=unit)


def arms_table(found: Study) -> Table:
    """Every arm on every set: means over pairs and seeds."""
    rows: list[tuple[str, ...]] = []
    same = _shared(list(found.arms.values()))
    for arm, settings in found.arms.items():
        own_words = _settings({key: value for key, value in settings.items() if key not in same})
        for pair_set in found.pair_sets:
            trained = found.of(arm, pair_set)
            own = mean_of(found, arm, pair_set, chosen)
            if trained:
                rejected = mean_of(found, arm, pair_set, lambda pair: pair.rejected)
                shares = (_share(found.mean(arm, pair_set, quantity)) for quantity in (ranked_first, below))
                rows.append((f"{arm} on {pair_set}", own_words, _seeds(trained), _mean(own), _mean(rejected), *shares))
    caption = (
        "Arms: held-out log-ratios to the reference in nats per pair, means over pairs and seeds ± standard error"
        + (f"; all with {_settings(same)}" if same else "")
    )
    headings = ("arm", "settings", "seeds", "preferred", "rejected", "margin grew", "preferred below reference")
    return Table(caption, headings, rows)


def trainings_table(found: Study) -> Table:
    """Every training by itself."""
    rows: list[tuple[str, ...]] = []
    for each in found.trainings:
        pairs = list(each.held_out.values())
        means = [
            sum(map(quantity, pairs)) / len(pairs) if pairs else None
            for quantity in (chosen, lambda pair: pair.rejected, ranked_first, below)
        ]
        steps = each.training.summary.get("steps")
        shown = (signed(means[0], 2), signed(means[1], 2), _share(means[2]), _share(means[3]))
        rows.append((each.name, str(steps or "unfinished"), f"{len(pairs):,}", *shown))
    headings = (
        "training",
        "steps",
        "held-out items",
        "preferred",
        "rejected",
        "margin grew",
        "preferred below reference",
    )
    return Table("Trainings: means over held-out pairs, log-ratios to the reference in nats", headings, rows)


def _curve_chart(found: Study) -> Markup | None:
    bands = [
        Band(
            curve.arm,
            [place.edits for place in curve.places],
            [each.estimate for each in curve.changes],
            [(each.interval or (each.estimate,))[0] for each in curve.changes],
            [(each.interval or (each.estimate,))[-1] for each in curve.changes],
            colour,
        )
        for curve, colour in zip(curves(found)[:_MOST_CURVES], _colours(), strict=False)
    ]
    if not bands:
        return None
    return band_chart(
        bands,
        key="study-rq4",
        title="Change of the preferred answers against the number of tokens that differ",
        description=band_words(bands),
        labels=("tokens that differ (mean of the set)", "change (nats per pair)"),
        is_log=True,
        zero_line=True,
    )


def _colours() -> Sequence[str]:
    """The second colour for the subject and the first for the remedy, as in the other figures."""
    return (MODEL_COLOURS[1], MODEL_COLOURS[0], *MODEL_COLOURS[2:])


def _shared(settings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What all of several arms have in common."""
    common = dict(settings[0]) if len(settings) > 1 else {}
    return {key: value for key, value in common.items() if all(each.get(key) == value for each in settings)}


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())


def _seeds(trained: Sequence[Any]) -> str:
    return ", ".join(str(each.seed) for each in trained)


def _mean(found: CrossedContrast | None) -> str:
    if found is None:
        return "not measured"
    error = "" if found.standard_error is None else f" ± {fixed(found.standard_error, 2)}"
    return f"{signed(found.estimate, 2)}{error}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{fixed(100 * value, 0)}%"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
