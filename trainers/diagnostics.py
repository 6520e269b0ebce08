"""Measure what a preference training does to pairs, token by token: pure functions of log-probabilities.

Notation as in :mod:`smaug_eval.trainers.losses`. The completions of a pair share their first ``common`` tokens; a token
is

    before the edit    with index < common
    at the edit        with index = common, the first token that differs
    after the edit     with index > common

so that a completion which is the beginning of the other one has no token at the edit. Log-probabilities and changes of
them (policy minus reference) are in nats. Means over pairs give every pair the same weight, whatever its length.

Source: the analysis of Pal et al., arXiv 2402.13228, section 3 and Fig. 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smaug_eval.trainers.pairs.stats import BUCKETS, edit_distance_bucket, normalised_edit_distance
from smaug_eval.trainers.reference import TokenLogProbs
from smaug_eval.trainers.tokenization import EncodedPair

Floats = npt.NDArray[np.floating[Any]]

SIDES = ("chosen", "rejected")
REGIONS = ("before", "at", "after")
FIRST_OFFSET, LAST_OFFSET = -16, 32
"""The token positions of a profile, relative to the first token that differs."""
Z95 = 1.96
"""Half a 95% interval in standard errors, by the normal approximation."""


def by_region(values: Sequence[Floats], pairs: Sequence[EncodedPair]) -> dict[str, dict[str, float | int | None]]:
    """Return the means of a per-token quantity before, at and after the edit.

    Args:
        values: Of each pair the quantity for every token of one completion, shape ``(tokens,)``.
        pairs: The pairs.

    Returns:
        For each region ``pairs``, how many pairs have tokens there; ``mean``, the mean over those pairs of the mean
        over the pair's tokens; and ``sum``, the mean over those pairs of the sum over the pair's tokens. The latter two
        are None where no pair has such tokens.
    """
    found: dict[str, dict[str, float | int | None]] = {}
    for region in REGIONS:
        parts = [
            part
            for tokens, pair in zip(values, pairs, strict=True)
            if len(part := _part(np.asarray(tokens, np.float64), pair.common, region))
        ]
        found[region] = {
            "pairs": len(parts),
            "mean": _mean([float(part.mean()) for part in parts]),
            "sum": _mean([float(part.sum()) for part in parts]),
        }
    return found


def changes(policy: TokenLogProbs, reference: TokenLogProbs, pairs: Sequence[EncodedPair]) -> dict[str, float]:
    """Return the change of token log-probabilities around the edit, under the names of the training log.

    Returns:
        ``change/chosen_before``, ``..._at``, ``..._after`` in nats per token and ``change/chosen_before_sum``, ... in
        nats per pair, as in :func:`by_region`; the same for ``rejected``. A region that no pair has is left out.
    """
    row: dict[str, float] = {}
    for side in SIDES:
        for region, found in by_region(differences(policy, reference, side), pairs).items():
            for name, suffix in (("mean", ""), ("sum", "_sum")):
                value = found[name]
                if value is not None:
                    row[f"change/{side}_{region}{suffix}"] = value
    return row


def differences(policy: TokenLogProbs, reference: TokenLogProbs, side: str) -> list[Floats]:
    """Return ``log pi - log pi_ref`` of every token of the chosen or rejected completions, in float64."""
    return [
        new.astype(np.float64) - old.astype(np.float64)
        for new, old in zip(getattr(policy, side), getattr(reference, side), strict=True)
    ]


def profile(models: Mapping[str, TokenLogProbs], pairs: Sequence[EncodedPair]) -> dict[str, Any]:
    """Return the mean log-probability of chosen tokens by position relative to the first token that differs.

    The counterpart of Fig. 4 of arXiv 2402.13228, on whatever pairs are given.

    Args:
        models: Log-probabilities of the pairs under one or more models, by name.
        pairs: The pairs.

    Returns:
        ``offsets`` from -16 to 32, 0 being the first token that differs; ``pairs``, how many pairs have a token there;
        under each model's name the mean over those pairs, None where there are none; and ``after_edit``, the mean
        log-probability of all tokens behind the first that differs (``pairs``, and a mean for each model, taken as in
        :func:`by_region`).
    """
    offsets = list(range(FIRST_OFFSET, LAST_OFFSET + 1))
    places = [[(row, index) for row, pair in enumerate(pairs) if _has(pair, index := pair.common + o)] for o in offsets]
    result: dict[str, Any] = {"offsets": offsets, "pairs": [len(place) for place in places]}
    after: dict[str, Any] = {"pairs": sum(len(pair.chosen) > pair.common + 1 for pair in pairs)}
    for name, tokens in models.items():
        result[name] = [_mean([float(tokens.chosen[row][index]) for row, index in place]) for place in places]
        after[name] = by_region(tokens.chosen, pairs)["after"]["mean"]
    return result | {"after_edit": after}


def edit_distances(pairs: Sequence[EncodedPair]) -> list[float]:
    """Return each pair's Levenshtein distance of chosen and rejected ids over the longer one's length."""
    return [normalised_edit_distance(pair.chosen.tolist(), pair.rejected.tolist()) for pair in pairs]


def by_bucket(distances: Sequence[float], values: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """Return the means over the pairs of each edit-distance bucket.

    Args:
        distances: Of each pair, from :func:`edit_distances`.
        values: Quantities to average, one number a pair, by name.

    Returns:
        For each bucket that has pairs, nearest first: ``bucket``, ``pairs`` and every quantity's mean.
    """
    buckets = [edit_distance_bucket(distance) for distance in distances]
    rows = []
    for name in BUCKETS:
        members = np.array([bucket == name for bucket in buckets], dtype=bool)
        if members.any():
            means = {quantity: float(np.asarray(numbers)[members].mean()) for quantity, numbers in values.items()}
            rows.append({"bucket": name, "pairs": int(members.sum()), **means})
    return rows


def log_ratios(policy: TokenLogProbs, reference: TokenLogProbs) -> dict[str, Floats]:
    """Return ``rho_w``, ``rho_l`` and whether ``rho_w < 0`` (1 or 0) of each pair, named as in the bucket rows."""
    rho_w, rho_l = (new - old for new, old in zip(policy.sums, reference.sums, strict=True))
    return {"log_ratio_chosen": rho_w, "log_ratio_rejected": rho_l, "below_reference": (rho_w < 0).astype(np.float64)}


def mean_and_error(values: Floats) -> tuple[float, float | None]:
    """Return the mean and its standard error, ``s / sqrt(n)`` with the sample's ``s``.

    No error for fewer than two values.
    """
    values = np.asarray(values, np.float64)
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return float(values.mean()), error


def falling_warning(rho_w: Floats, *, what: str) -> str | None:
    """Return a plain sentence where the preferred answers have become less likely than under the reference.

    Args:
        rho_w: Log-ratios of held-out chosen completions, shape ``(pairs,)``.
        what: What did it, and when: the beginning of the sentence.

    Returns:
        None unless the mean log-ratio is below 0 together with its whole 95% interval (mean +- 1.96 standard errors):
        a rise and an inconclusive change are not worth a warning, and one pair is no evidence.
    """
    mean, error = mean_and_error(rho_w)
    if error is None or mean + Z95 * error >= 0:
        return None
    return (
        f"{what} made the preferred answers less likely than the base model has them: held-out log-ratio of chosen "
        f"{mean:.3g} ± {error:.2g} nats (mean and standard error over {len(rho_w)} pairs), "
        f"{np.mean(np.asarray(rho_w) < 0):.0%} of the pairs below the reference"
    )


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; ties share their mean rank; None where a side does not vary."""
    import pandas as pd

    ranks = [pd.Series(list(values), dtype=float).rank() for values in (one, other)]
    if any(rank.nunique() < 2 for rank in ranks):
        return None
    return float(ranks[0].corr(ranks[1]))


def regions_of(tokens: Floats, pair: EncodedPair) -> list[Floats]:
    """Return the tokens of one completion before, at and after the edit; a part may be empty."""
    return [_part(tokens, pair.common, region) for region in REGIONS]


def _part(tokens: Floats, common: int, region: str) -> Floats:
    bounds = {"before": (0, common), "at": (common, common + 1), "after": (common + 1, None)}
    return tokens[slice(*bounds[region])]


def _has(pair: EncodedPair, index: int) -> bool:
    return 0 <= index < len(pair.chosen)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
