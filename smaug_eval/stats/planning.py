"""Compute what a benchmark can detect: power, the smallest detectable difference, the number of items needed.

All of it is planned for a two-sided test of a difference that is normally distributed around the true one.
"""

from __future__ import annotations

import math
from statistics import NormalDist

ALPHA = 0.05
POWER = 0.8
_NORMAL = NormalDist()


def power(difference: float, standard_error: float, *, alpha: float = ALPHA) -> float:
    r"""Return the chance of finding a true difference: :math:`\Phi(|d| / se - z) + \Phi(-|d| / se - z)`, z = 1.96.

    Args:
        difference: The true one.
        standard_error: Of the estimated difference, above 0, in the same unit.
        alpha: Level of the two-sided test.
    """
    z, away = _NORMAL.inv_cdf(1 - alpha / 2), abs(difference) / standard_error
    return _NORMAL.cdf(away - z) + _NORMAL.cdf(-away - z)


def detectable_difference(standard_error: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    r"""Return the smallest difference that is found with the given power: :math:`(z_{1-\alpha/2} + z_{power}) \, se`.

    2.80 standard errors at 5% and 80% (E. Miller, "Adding Error Bars to Evals", arXiv:2411.00640, on power analysis).

    Args:
        standard_error: Of a difference already measured (clustered, paired or of an average), or for a plan
            ``difference_deviation(...) / sqrt(n)``.
        alpha: Level of the two-sided test.
        power: The chance of finding it.
    """
    return _reach(alpha, power) * standard_error


def items_needed(difference: float, deviation: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    r"""Return how many items find a true difference: :math:`((z_{1-\alpha/2} + z_{power}) \, s / d)^2`, rounded up.

    Args:
        difference: The true one, not 0.
        deviation: Standard deviation of the items' differences, in the same unit.
        alpha: Level of the two-sided test.
        power: The chance of finding it.
    """
    return math.ceil((_reach(alpha, power) * deviation / difference) ** 2)


def difference_deviation(first: float, second: float, correlation: float) -> float:
    r"""Return the standard deviation of the items' differences: :math:`\sqrt{s_1^2 + s_2^2 - 2 r s_1 s_2}`.

    Args:
        first: Standard deviation of the first model's values; ``sqrt(a * (1 - a))`` for right and wrong at accuracy a.
        second: The same of the second model's.
        correlation: Of the two models' values over the items.
    """
    return math.sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))


def _reach(alpha: float, power: float) -> float:
    return _NORMAL.inv_cdf(1 - alpha / 2) + _NORMAL.inv_cdf(power)
