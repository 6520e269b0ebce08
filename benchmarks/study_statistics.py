"""Check by simulation whether the statistics of a study keep their promises with few seeds.

    python -m benchmarks.study_statistics [--items 24 64] [--seeds 3 5] [--replicates 4000] [--seed 0]

Tables of items by seeds are drawn again and again from normal distributions whose parts are known: items, seeds, and
what belongs to an item and a seed together (residual). ``parts`` names their variances. ``one`` is the mean of one
loss; ``two`` the difference of two on the same items, with seeds of their own; ``slope`` a slope over four sets of
pairs.

false_alarms: percent of tests at 5% that find something where the truth is 0; as interval and test agree, coverage is
100 less that. power: percent that find a mean of 3 true standard errors. standard_error: that of 5%. above: what raises
more than 6.5% false alarms. Below 5% the method is cautious: where both seeds and items matter, and where the residual
does.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Sequence

import numpy as np

from smaug_eval.stats import ALPHA, ContrastPart, CrossedContrast, Values, crossed_contrast

LIMIT = 6.5
POWER_AT = 3.0
PARTS = {
    "items alone": (1.0, 0.0, 0.0),
    "residual alone": (0.0, 0.0, 1.0),
    "items and residual": (1.0, 0.0, 1.0),
    "few seeds' worth": (1.0, 0.01, 0.3),
    "seeds as much as items": (1.0, 0.05, 0.3),
    "mostly seeds": (1.0, 0.5, 0.3),
    "seeds alone": (0.0, 1.0, 0.01),
}
CONTRASTS = {"one": (1.0,), "two": (1.0, -1.0), "slope": (-0.3, -0.1, 0.1, 0.3)}
SHARED = 0.7
"""ContrastPart of the items' variance that the arms share."""


def draw(
    weights: Sequence[float],
    parts: tuple[float, float, float],
    shape: tuple[int, int],
    generator: np.random.Generator,
    *,
    mean: float = 0.0,
) -> CrossedContrast:
    """Draw a contrast from random tables.

    Args:
        weights: Of the arms.
        parts: Variances of items, seeds and residual.
        shape: Items and seeds.
        generator: Source of randomness.
        mean: The contrast's true value.
    """
    of_items, of_seeds, residual = map(math.sqrt, parts)
    items, seeds = shape
    common = math.sqrt(SHARED) * generator.normal(size=(items, 1))

    def table(shift: float) -> Values:
        own = math.sqrt(1 - SHARED) * generator.normal(size=(items, 1))
        values: Values = of_items * (common + own) + of_seeds * generator.normal(size=(1, seeds)) + shift
        return values + residual * generator.normal(size=shape)

    shifts = [mean / weights[0], *[0.0] * (len(weights) - 1)]
    pairs = enumerate(zip(weights, shifts, strict=True))
    return crossed_contrast([[ContrastPart(str(number), weight, table(shift)) for number, (weight, shift) in pairs]])


def true_error(weights: Sequence[float], parts: tuple[float, float, float], shape: tuple[int, int]) -> float:
    """Return the contrast's true standard error."""
    (of_items, of_seeds, residual), (items, seeds) = parts, shape
    squares = sum(weight**2 for weight in weights)
    varied = SHARED * sum(weights) ** 2 + (1 - SHARED) * squares
    return math.sqrt(of_items * varied / items + squares * (of_seeds / seeds + residual / (items * seeds)))


def found(
    contrast: str, part: str, shape: tuple[int, int], replicates: int, generator: np.random.Generator, *, errors: float
) -> float:
    """Return the percentage of tests that find something.

    The truth lies ``errors`` true standard errors from 0.
    """
    weights, parts = CONTRASTS[contrast], PARTS[part]
    mean = errors * true_error(weights, parts, shape)
    tests = (draw(weights, parts, shape, generator, mean=mean).p_value for _ in range(replicates))
    return round(100 * float(np.mean([p_value is not None and p_value <= ALPHA for p_value in tests])), 2)


def main() -> None:
    """Print the simulations' results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[24, 64])
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--replicates", type=int, default=4000, help="simulated tables of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    levels, powers = {}, {}
    for shape in ((items, seeds) for items in arguments.items for seeds in arguments.seeds):
        for contrast in CONTRASTS:
            for part in PARTS:
                name = f"{contrast}, {shape[0]} items, {shape[1]} seeds, {part}"
                levels[name] = found(contrast, part, shape, arguments.replicates, generator, errors=0)
                powers[name] = found(contrast, part, shape, arguments.replicates // 4, generator, errors=POWER_AT)
    print(
        json.dumps(
            {
                "parts": PARTS,
                "false_alarms": levels,
                "power": powers,
                "above": [name for name, rate in levels.items() if rate > LIMIT],
                "largest": max(levels.values()),
                "standard_error": round(math.sqrt(5 * 95 / arguments.replicates), 2),
                "settings": vars(arguments),
                "machine": platform.processor() or platform.machine(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
