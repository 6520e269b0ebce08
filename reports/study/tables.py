"""Show what a study consists of, as tables and sentences: its arms, its trainings, its warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smaug_eval.common.text import NOT_AVAILABLE, fixed, signed
from smaug_eval.reports.study.answers import StudyTable
from smaug_eval.reports.study.findings import mean_of
from smaug_eval.results.study import StudyResults, below, chosen, ranked_first, rejected
from smaug_eval.stats import CrossedContrast


def warnings_of_all(found: StudyResults, texts: Sequence[str]) -> list[str]:
    """Return those of a run's warnings that are not of one training, and how many others there are."""
    names = tuple(f"{name}:" for name in found.planned)
    kept = [text for text in texts if not text.startswith(names)]
    left = len(texts) - len(kept)
    return [
        *kept,
        *([f"{_counted(left, 'warning')} of single trainings: see the manifest under Provenance."] if left else []),
    ]


def trained_words(found: StudyResults) -> str:
    """Say what the study consists of, as a sentence."""
    seeds = sorted({each.seed for each in found.trainings})
    planned, there = len(found.planned), len(found.planned) - len(found.missing)
    done = f"{there:,}" if there == planned else f"{there:,} of {planned:,}"
    return (
        f"{done} trainings: {_counted(len(found.arms), 'arm')} (losses and settings) on "
        f"{_counted(len(found.pair_sets), 'pair set')}, {_counted(len(seeds), 'seed')}."
    )


def arms_table(found: StudyResults) -> StudyTable:
    """Show every arm on every set: means over pairs and seeds."""
    rows: list[tuple[str, ...]] = []
    same = _shared(list(found.arms.values()))
    for arm, settings in found.arms.items():
        own_words = _settings({key: value for key, value in settings.items() if key not in same})
        for pair_set in found.pair_sets:
            trained = found.of(arm, pair_set)
            own = mean_of(found, arm, pair_set, chosen)
            if trained:
                moved = mean_of(found, arm, pair_set, rejected)
                shares = (_share(found.mean(arm, pair_set, quantity)) for quantity in (ranked_first, below))
                none = NOT_AVAILABLE if found.was_measured(arm, pair_set) else "not measured"
                means = (_mean(each, none) for each in (own, moved))
                rows.append((f"{arm} on {pair_set}", own_words, _seeds(trained), *means, *shares))
    caption = (
        "Arms: held-out log-ratios to the reference in nats per pair, means over pairs and seeds ± standard error"
        + (f"; all with {_settings(same)}" if same else "")
    )
    headings = ("arm", "settings", "seeds", "preferred", "rejected", "margin grew", "preferred below reference")
    return StudyTable(caption, headings, rows)


def trainings_table(found: StudyResults) -> StudyTable:
    """Show every training by itself."""
    rows: list[tuple[str, ...]] = []
    for each in found.trainings:
        values = (each.having(quantity) for quantity in (chosen, rejected, ranked_first, below))
        means = [sum(own.values()) / len(own) if own else None for own in values]
        steps = each.training.summary.get("steps")
        shown = (signed(means[0], 2), signed(means[1], 2), _share(means[2]), _share(means[3]))
        rows.append((each.name, str(steps or "unfinished"), f"{len(each.held_out):,}", *shown))
    headings = (
        "training",
        "steps",
        "held-out items",
        "preferred",
        "rejected",
        "margin grew",
        "preferred below reference",
    )
    return StudyTable("Trainings: means over held-out pairs, log-ratios to the reference in nats", headings, rows)


def _shared(settings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What all of several arms have in common."""
    common = dict(settings[0]) if len(settings) > 1 else {}
    return {key: value for key, value in common.items() if all(each.get(key) == value for each in settings)}


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())


def _seeds(trained: Sequence[Any]) -> str:
    return ", ".join(str(each.seed) for each in trained)


def _mean(found: CrossedContrast | None, none: str) -> str:
    if found is None:
        return none
    error = "" if found.standard_error is None else f" ± {fixed(found.standard_error, 2)}"
    return f"{signed(found.estimate, 2)}{error}"


def _share(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{fixed(100 * value, 0)}%"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
