"""State what a difference comes to. That two models are equal is never stated: no sample can show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from smaug_eval.stats.means import Interval
from smaug_eval.stats.planning import ALPHA


class Outcome(str, Enum):
    """List the outcomes of a comparison of two models; "higher" and "lower" where no direction is better."""

    BETTER = "better"
    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"
    INCONCLUSIVE = "inconclusive"
    NO_DETECTABLE_DIFFERENCE = "no detectable difference"


@dataclass(frozen=True)
class Verdict:
    """Hold an outcome and the margin it holds for.

    Attributes:
        outcome: The outcome.
        margin: The difference too small to matter that was given; None where none was.
    """

    outcome: Outcome
    margin: float | None = None

    def words(self, unit: str = "") -> str:
        """Return the verdict as a phrase.

        Args:
            unit: What follows the margin, such as " points".
        """
        if self.outcome is not Outcome.NO_DETECTABLE_DIFFERENCE:
            return self.outcome.value
        return f"{self.outcome.value} within ±{self.margin:g}{unit}"


def verdict(
    interval: Interval | None,
    p_value: float | None,
    *,
    margin: float | None = None,
    alpha: float = ALPHA,
    higher_is_better: bool | None = True,
) -> Verdict:
    """Judge a difference.

    It takes both, an interval without 0 and a p value of at most ``alpha``, to call one model better. Otherwise, where
    the whole interval lies within ``± margin``, there is no detectable difference within it: two one-sided tests at
    2.5% each (D. J. Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987). All else is inconclusive.

    Args:
        interval: 95% interval of the difference, first model less second; None where there is none.
        p_value: Of the test, adjusted where there are several; None where there is none.
        margin: A difference too small to matter, above 0, in the interval's unit.
        alpha: Level of the test.
        higher_is_better: Whether more is better; None where it is not known.
    """
    if interval is None:
        return Verdict(Outcome.INCONCLUSIVE, margin)
    low, high = interval
    if p_value is not None and p_value <= alpha and (low > 0 or high < 0):
        if higher_is_better is None:
            return Verdict(Outcome.HIGHER if low > 0 else Outcome.LOWER, margin)
        return Verdict(Outcome.BETTER if (low > 0) == higher_is_better else Outcome.WORSE, margin)
    if margin is not None and -margin < low and high < margin:
        return Verdict(Outcome.NO_DETECTABLE_DIFFERENCE, margin)
    return Verdict(Outcome.INCONCLUSIVE, margin)


def held_back(
    interval: Interval | None, p_value: float | None, adjusted_p: float | None, *, alpha: float = ALPHA
) -> str:
    """Return what :func:`verdict` weighed against the appearance of a difference that it calls inconclusive.

    Args:
        interval: 95% interval, not adjusted; None where there is none.
        p_value: Of the test itself; None where there is none.
        adjusted_p: The same, adjusted where there are several tests.
        alpha: Level of the test.

    Returns:
        "unadjusted" where interval and test find a difference and only adjusting p does not; "by its interval alone"
        and "by its p value alone" where one of the two does not bear the other out; empty where all agree.
    """
    leaves_out_zero = interval is not None and not interval[0] <= 0 <= interval[1]
    is_small = adjusted_p is not None and adjusted_p <= alpha
    if leaves_out_zero == is_small:
        return ""
    if is_small:
        return "by its p value alone"
    return "unadjusted" if p_value is not None and p_value <= alpha else "by its interval alone"
