"""Show the page's first panel: which model is better, by how much, and whether to believe it, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from smaug_eval.common.text import fixed, signed
from smaug_eval.reports.charts.lines import LOG_RATIOS, series
from smaug_eval.reports.overview import overview_charts
from smaug_eval.reports.pair_matrices import PairMatrix, best_statements, pair_matrices, told_pairs
from smaug_eval.reports.panels.panel import Panel
from smaug_eval.reports.statements import REFUSED, Statement, average_statements, judged_statements
from smaug_eval.reports.task_statements import task_statements
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.trainings import Training
from smaug_eval.stats.means import Z

SPLITS = {"eval": "held-out", "train": "training"}
SHOWN = 4
"""Sentences about models that are not folded."""


class Fall(NamedTuple):
    """Say where a training left the preferred answers, against the reference model.

    Attributes:
        training: The training's name.
        split: ``eval``, or ``train`` where no held-out pairs were logged.
        step: The last logged step.
        log_ratio: Mean of log pi(y_w) - log pi_ref(y_w) there, in nats.
        error: Its standard error; None where it was not logged.
        is_unpaired: Whether the training was on single completions, of which the desirable ones are the preferred.
    """

    training: str
    split: str
    step: int
    log_ratio: float
    error: float | None
    is_unpaired: bool = False

    @property
    def is_clear(self) -> bool:
        """Return whether the whole 95% interval lies on one side of 0, as the training's own warning requires.

        True also where no error was logged to tell by.
        """
        return self.error is None or abs(self.log_ratio) > Z * self.error

    @property
    def below_reference(self) -> bool:
        """Return whether the preferred answers are less likely than under the reference on average, not by chance."""
        return self.log_ratio < 0 and self.is_clear

    @property
    def answers(self) -> str:
        """Name the answers it is about."""
        if self.is_unpaired:
            return f"desirable {SPLITS[self.split]} completions"
        return f"preferred answers of {SPLITS[self.split]} pairs"

    @property
    def amount(self) -> str:
        """Return the log-ratio with its standard error, in nats."""
        error = "" if self.error is None else f" ± {fixed(self.error, 2)}"
        return f"{signed(self.log_ratio, 2)}{error} nats"


def preferred_likelihood(training: Training) -> Fall | None:
    """Return the last mean log-ratio of the preferred answers, on held-out pairs where there are any."""
    for split in SPLITS:
        values = series(training, split, LOG_RATIOS["chosen"])
        if not values.empty:
            errors = series(training, split, f"{LOG_RATIOS['chosen']}_se")
            error = float(errors.iloc[-1]) if not errors.empty and errors.index[-1] == values.index[-1] else None
            step, last = int(values.index[-1]), float(values.iloc[-1])
            return Fall(training.name, split, step, last, error, training.is_unpaired)
    return None


def all_statements(comparison: Comparison) -> list[Statement]:
    """Say what the numbers show, in sentences made from them alone."""
    return [*average_statements(comparison), *task_statements(comparison), *judged_statements(comparison)]


def headline(comparison: Comparison) -> Mapping[str, Any] | None:
    """Say which model is best, by how much, and whether to believe it, with a picture of all; None for a study.

    A study's verdicts stand first, and single trainings would contradict them.
    """
    if comparison.study is not None:
        return None
    found = all_statements(comparison)
    falls = [fall for training in comparison.trainings if (fall := preferred_likelihood(training))]
    if not found and not falls:
        return None
    matrices = pair_matrices(comparison)
    compared = sum(each.verdict not in ("", REFUSED) for each in found)
    return {
        "best": best_statements(matrices),
        "statements": _with_pairs(comparison, matrices),
        "shown": SHOWN,
        "charts": overview_charts(comparison),
        "baseline": comparison.baseline,
        "falls": falls,
        "compared": compared,
    }


def _with_pairs(comparison: Comparison, matrices: Sequence[PairMatrix]) -> list[Statement]:
    """Say what the numbers show, and how models beside the baseline compare with each other."""
    return [
        *average_statements(comparison),
        *task_statements(comparison),
        *told_pairs(matrices, comparison.baseline, judged=False),
        *judged_statements(comparison),
        *told_pairs(matrices, comparison.baseline, judged=True),
    ]


PANEL = Panel("headline", "In short", headline)
