"""Describe rule on one requirement by its evidence: pass, fail or cannot tell; what does not compare never passes."""

from __future__ import annotations

from enum import Enum

from smaug_eval.common.text import bound, fixed, signed, significant
from smaug_eval.gating.evidence import Evidence
from smaug_eval.gating.policy import BETTER, Requirement
from smaug_eval.results.differences import p_words
from smaug_eval.stats import Interval, Outcome

FEWEST_ALIKE = 60
"""Documents that must all be the same to be no loss where a score has no bounds: up to 1 in 20 could still differ (95%,
by the rule of three, 3 / n)."""


class Ruling(str, Enum):
    """List what a gate can come to."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    CANNOT_TELL = "cannot tell"


def rule(requirement: Requirement, found: Evidence) -> tuple[Ruling, str]:
    """Decide a requirement, and say why in one phrase.

    Args:
        requirement: What is required.
        found: What is known.
    """
    if requirement.at_least is not None:
        return _threshold(found, requirement.at_least, is_floor=True, confident=requirement.confident)
    if requirement.at_most is not None:
        return _threshold(found, requirement.at_most, is_floor=False, confident=requirement.confident)
    if found.difference is None or found.outcome is None:
        return Ruling.CANNOT_TELL, f"not compared: {found.why_not or 'there is no difference'}"
    if found.higher_is_better is None:
        return Ruling.CANNOT_TELL, "nobody says whether more is better"
    if requirement.not_worse_by_more_than is not None:
        return _non_inferior(found, requirement.not_worse_by_more_than)
    if requirement.is_ == BETTER:
        return _better(found)
    return _not_worse(found, requirement.must_detect or found.must_detect)


def _threshold(found: Evidence, limit: float, *, is_floor: bool, confident: bool) -> tuple[Ruling, str]:
    if found.score is None:
        return Ruling.CANNOT_TELL, found.why_not or "there is no score"
    if found.invalid:
        return Ruling.CANNOT_TELL, found.invalid
    low, high = found.score_interval if confident and found.score_interval else (found.score, found.score)
    if confident and found.score_interval is None:
        return Ruling.CANNOT_TELL, "the score has no interval"
    worst, best = (low, high) if is_floor else (-high, -low)
    wanted = limit if is_floor else -limit
    told = f"the score is {score_words(found.score, found)}"
    told += f", 95% interval {interval_words(found.score_interval, found, is_score=True)}" if confident else ""
    told += f" ({'; '.join(found.remarks)})" if found.remarks else ""
    if worst >= wanted:
        return Ruling.PASS, told
    return (Ruling.FAIL if best < wanted else Ruling.CANNOT_TELL), told


def _better(found: Evidence) -> tuple[Ruling, str]:
    rulings = {Outcome.BETTER: Ruling.PASS, Outcome.WORSE: Ruling.FAIL}
    return rulings.get(found.outcome or Outcome.INCONCLUSIVE, Ruling.CANNOT_TELL), _verdict_words(found)


def _not_worse(found: Evidence, must_detect: float | None) -> tuple[Ruling, str]:
    """Pass what is not found worse, where the comparison could have found a loss."""
    told = _verdict_words(found)
    if found.outcome is Outcome.WORSE:
        return Ruling.FAIL, told
    if found.outcome is Outcome.BETTER:
        return Ruling.PASS, told
    if found.detectable is None:
        what = "questions" if found.unit == "of 10" else "documents"
        if found.same_on is not None and found.same_on >= FEWEST_ALIKE:
            return Ruling.PASS, f"the same on each of {found.same_on:,} {what}"
        return Ruling.CANNOT_TELL, f"{told}; nothing says how large a loss would be found"
    shown = distance_words(found.detectable, found)
    if must_detect is None or found.detectable > must_detect:
        needed = "" if must_detect is None else f", {distance_words(must_detect, found)} must be found"
        return Ruling.CANNOT_TELL, f"{told}; too small: a loss of {shown} can go unnoticed{needed}"
    return Ruling.PASS, f"{told}; a loss of {shown} would be found in 80% of cases"


def _non_inferior(found: Evidence, margin: float) -> tuple[Ruling, str]:
    """Pass where the whole interval lies above the margin, fail where all of it lies below."""
    if found.interval is None:
        return Ruling.CANNOT_TELL, "the difference has no interval"
    low, high = found.interval if found.higher_is_better else (-found.interval[1], -found.interval[0])
    told = f"95% interval {interval_words(found.interval, found)}, margin {distance_words(margin, found)}"
    if low > -margin:
        return Ruling.PASS, told
    return (Ruling.FAIL if high < -margin else Ruling.CANNOT_TELL), told


def _verdict_words(found: Evidence) -> str:
    outcome = found.outcome.value if found.outcome else ""
    verdict = f"{outcome} ({found.held_back})" if found.held_back else outcome
    parts = [] if found.interval is None else [f"95% interval {interval_words(found.interval, found)}"]
    parts += [] if found.adjusted_p is None else [p_words(found.adjusted_p)]
    return ", ".join([verdict, *parts])


def score_words(value: float | None, found: Evidence) -> str:
    """Word a score in its unit."""
    if found.unit == "%":
        return fixed(value)
    digits = fixed(value, 2) if found.unit else significant(value)
    return f"{digits} {found.unit}".strip() if found.unit == "nats" else digits


def difference_words(value: float, found: Evidence) -> str:
    """Word a difference with its sign."""
    if found.unit == "%":
        return signed(value)
    return signed(value, 2) if found.unit else f"{'+' if value > 0 else ''}{significant(value)}"


def interval_words(interval: Interval | None, found: Evidence, *, is_score: bool = False) -> str:
    """Word both ends of an interval; more decimals where an end would else be shown as 0 and is not."""
    if interval is None:
        return "none"
    if is_score:
        return " to ".join(score_words(end, found) for end in interval)
    digits = 1 if found.unit == "%" else 2
    return " to ".join(bound(end, digits) if found.unit else difference_words(end, found) for end in interval)


def distance_words(value: float, found: Evidence) -> str:
    """Word a distance without a sign, with what it is in."""
    if found.unit == "%":
        return f"{fixed(value)} points"
    shown = fixed(value, 2) if found.unit else significant(value)
    return {"of 10": f"{shown} of 10 points", "nats": f"{shown} nats"}.get(found.unit, shown)
