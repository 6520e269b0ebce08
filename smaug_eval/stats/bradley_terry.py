"""Fit Bradley and Terry's model: strengths of players from wins, with bootstrap intervals over clusters."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smaug_eval.stats.bootstrap import percentile_interval
from smaug_eval.stats.means import SEED, Interval, Values

STRENGTH_RESAMPLES = 1_000
SCALE, CENTRE = 400 / math.log(10), 1000.0
"""Strengths as Elo ratings: 400 points are odds of ten to one, and the mean is 1000."""
_RIDGE = 1e-4  # keeps the strength of who never lost, or never won, finite
_STEPS, _CLOSE = 100, 1e-10


@dataclass(frozen=True)
class Strength:
    """Hold a player's strength.

    Attributes:
        rating: On the Elo scale; the mean over the players is 1000.
        interval: 95%, by drawing clusters with replacement; None with fewer than two clusters.
        open: Whether it won or lost every game, so that no rating would be too high, or too low.
    """

    rating: float
    interval: Interval | None
    open: bool


def bradley_terry(
    games: Sequence[tuple[str, str, float]],
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = STRENGTH_RESAMPLES,
    seed: int = SEED,
) -> dict[str, Strength]:
    r"""Fit the maximum likelihood strengths where :math:`P(i \text{ beats } j) = 1 / (1 + e^{\beta_j - \beta_i})`.

    A tie counts as half a win for each (R. A. Bradley and M. E. Terry, Biometrika 39, 1952; it is the logistic
    regression without intercept of Chatbot Arena). Newton's method, with a ridge of 0.0001 that decides only where a
    player won or lost everything.

    Args:
        games: First player, second player, and what came of it for the first: 1, 0.5 or 0.
        clusters: One label per game, such as the question; None where the games are independent.
        resamples: How often clusters are drawn for the intervals.
        seed: Of the draws.

    Returns:
        By player, the strongest first; empty without games.

    Raises:
        ValueError: there is not one label per game.
    """
    if clusters is not None and len(clusters) != len(games):
        raise ValueError(f"{len(clusters)} cluster labels for {len(games)} games")
    names = sorted({name for game in games for name in game[:2]})
    if len(names) < 2:
        return {}
    numbers = {name: number for number, name in enumerate(names)}
    labels: dict[Hashable, int] = {}
    codes = [labels.setdefault(label, len(labels)) for label in (clusters or range(len(games)))]
    wins = np.zeros((len(labels), len(names), len(names)))
    for code, (first, second, outcome) in zip(codes, games, strict=True):
        wins[code, numbers[first], numbers[second]] += outcome
        wins[code, numbers[second], numbers[first]] += 1 - outcome
    total = wins.sum(axis=0)
    ratings = _ratings(total[None])[0]
    intervals: list[Interval | None] = [None] * len(names)
    if len(labels) > 1:
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=resamples)
        resampled = _ratings(np.tensordot(drawn.astype(np.float64), wins, axes=1))
        intervals = [percentile_interval(resampled[:, number]) for number in range(len(names))]
    is_open = (total.sum(axis=1) == 0) | (total.sum(axis=0) == 0)
    found = {
        name: Strength(float(ratings[number]), intervals[number], bool(is_open[number]))
        for name, number in numbers.items()
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1].rating, item[0])))


def _ratings(wins: NDArray[np.float64]) -> Values:
    """Ratings of each table of wins, shape ``(tables, players)``, from tables ``(tables, players, players)``."""
    tables, players, _ = wins.shape
    played = wins + wins.transpose(0, 2, 1)
    won = wins.sum(axis=2)
    beta = np.zeros((tables, players))
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(np.clip(beta[:, None, :] - beta[:, :, None], -50, 50)))
        gradient = won - (played * chance).sum(axis=2) - _RIDGE * beta
        weight = played * chance * (1 - chance)
        hessian = -weight
        diagonal = np.arange(players)
        hessian[:, diagonal, diagonal] += weight.sum(axis=2) + _RIDGE
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        beta += np.clip(step, -1, 1)
        if np.abs(step).max() < _CLOSE:
            break
    ratings: Values = CENTRE + SCALE * (beta - beta.mean(axis=1, keepdims=True))
    return ratings
