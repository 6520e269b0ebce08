"""Format values of any unit: percent with one decimal, lm-eval's own units with significant digits."""

from __future__ import annotations

from smaug_eval.common.text import MINUS, bound, fixed, signed, significant
from smaug_eval.leaderboard.columns import PERCENT, Column, Unit
from smaug_eval.results.differences import Difference

ARROWS = {True: "↑", False: "↓", None: ""}
"""Whether more is better, as an arrow beside a metric."""
DIGITS = 4


def value_text(value: float | None, unit: Unit) -> str:
    """Return a score."""
    return fixed(value) if unit == PERCENT else significant(value, DIGITS)


def apart_text(value: float, unit: Unit) -> str:
    """Return a difference, with its sign."""
    return signed(value) if unit == PERCENT else _signed_significant(value)


def interval_text(interval: tuple[float, float], unit: Unit, *, is_difference: bool = False) -> str:
    """Return both ends of an interval."""
    if is_difference:
        low, high = (bound(end) if unit == PERCENT else _signed_significant(end) for end in interval)
    else:
        low, high = (value_text(end, unit) for end in interval)
    return f"{low}, {high}"


def arrow(column: Column) -> str:
    """Return an arrow for whether more is better; empty where it is not known."""
    return ARROWS[column.higher_is_better]


def distance_words(difference: Difference, metric: str) -> str:
    """Return a difference up to "than" or "as" the other model's name, in its unit."""
    if difference.unit == PERCENT:
        return points_words(difference.points)
    if not difference.points:
        return f"the same {metric} as"
    side = "higher" if difference.points > 0 else "lower"
    return f"{metric} {significant(abs(difference.points), DIGITS)} {side} than"


def points_words(points: float) -> str:
    """Return a difference in percentage points up to "than" or "as", such as "4.7 points lower than"."""
    shown = fixed(abs(points))
    if float(shown) == 0:
        return "less than 0.1 points away from" if points else "the same as"
    return f"{shown} point{'' if shown == '1.0' else 's'} {'higher' if points > 0 else 'lower'} than"


def _signed_significant(value: float) -> str:
    shown = significant(value, DIGITS)
    return f"+{shown}" if value > 0 and not shown.startswith((MINUS, "n")) else shown
