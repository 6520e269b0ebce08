"""The page's first panel: which model is better, by how much, and whether to believe it, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from reports.charts import LOG_RATIOS, series
from reports.comparison import Comparison
from reports.sources import Training
from reports.statements import REFUSED, average_statements, judged_statements
from reports.text import fixed, signed
from smaug_eval.stats.means import Z

SPLITS = {"eval": "held-out", "train": "training"}


class Fall(NamedTuple):
    """Where a training left the preferred answers, against the reference model.

    Attributes:
        training: The training's name.
        split: ``eval``, or ``train`` where no held-out pairs were logged.
        step: The last logged step.
        log_ratio: Mean of log pi(y_w) - log pi_ref(y_w) there, in nats.
        error: Its standard error; None where it was not logged.
    """

    training: str
    split: str
    step: int
    log_ratio: float
    error: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the whole 95% interval lies on one side of 0, as the training's own warning asks; also where no error
        was logged to tell by."""
        return self.error is None or abs(self.log_ratio) > Z * self.error

    @property
    def below_reference(self) -> bool:
        """Whether the preferred answers are less likely than under the reference, on average and not by chance."""
        return self.log_ratio < 0 and self.is_clear

    @property
    def pairs(self) -> str:
        """Which pairs it is about."""
        return SPLITS[self.split]

    @property
    def amount(self) -> str:
        """The log-ratio with its standard error, in nats."""
        error = "" if self.error is None else f" ± {fixed(self.error, 2)}"
        return f"{signed(self.log_ratio, 2)}{error} nats"


def preferred_likelihood(training: Training) -> Fall | None:
    """The last mean log-ratio of the preferred answers, on held-out pairs where there are any."""
    for split in SPLITS:
        values = series(training, split, LOG_RATIOS["chosen"])
        if not values.empty:
            errors = series(training, split, f"{LOG_RATIOS['chosen']}_se")
            error = float(errors.iloc[-1]) if not errors.empty and errors.index[-1] == values.index[-1] else None
            return Fall(training.name, split, int(values.index[-1]), float(values.iloc[-1]), error)
    return None


def headline(comparison: Comparison) -> Mapping[str, Any] | None:
    """What the numbers say, in sentences made from them alone."""
    found = [*average_statements(comparison), *judged_statements(comparison)]
    falls = [fall for training in comparison.trainings if (fall := preferred_likelihood(training))]
    if not found and not falls:
        return None
    compared = sum(each.verdict not in ("", REFUSED) for each in found)
    return {"statements": found, "falls": falls, "compared": compared}
