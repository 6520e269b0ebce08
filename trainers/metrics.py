"""Compute what is logged of pairs, and average it over the pairs of a row of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.losses import PairScores
from smaug_eval.trainers.reference import TokenLogProbs


def pair_metrics(config: TrainingConfig, losses: Tensor, scores: PairScores) -> dict[str, Tensor]:
    """Return what is logged of each pair, every tensor of shape ``(pairs,)``.

    Rewards are ``beta`` times log-ratios, or log-ratios themselves for losses without ``beta``. Of unpaired completions
    the desirable ones count as chosen and the others as rejected, ``kl`` is the estimate of the divergence, and
    accuracies are the share on the right side of it.
    """
    if scores.labels is not None and scores.kl is not None:
        return _unpaired_metrics(config, losses, scores, scores.labels, scores.kl)
    rho_w, rho_l = scores.rho_w, scores.rho_l
    metrics = {
        "loss": losses,
        "logps/chosen": scores.chosen,
        "logps/rejected": scores.rejected,
        "log_ratios/chosen": rho_w,
        "log_ratios/rejected": rho_l,
        "rewards/margins": config.weights.get("beta", 1.0) * (rho_w - rho_l),
        "rewards/accuracies": (rho_w > rho_l).double(),
    }
    if "lambda" in config.weights:
        metrics |= {
            "penalty/active": (rho_w < 0).double(),
            "penalty/nats": config.weights["lambda"] * torch.relu(-rho_w),
        }
    return metrics


def _unpaired_metrics(
    config: TrainingConfig, losses: Tensor, scores: PairScores, labels: Tensor, kl: Tensor
) -> dict[str, Tensor]:
    """The same of completions, of which the desirable ones are chosen and the others rejected."""
    rho, reward = scores.rho_w, config.weights.get("beta", 1.0) * scores.rho_w
    return {
        "loss": losses,
        "kl": kl,
        "logps/chosen": scores.chosen[labels],
        "logps/rejected": scores.chosen[~labels],
        "log_ratios/chosen": rho[labels],
        "log_ratios/rejected": rho[~labels],
        "rewards/chosen": reward[labels],
        "rewards/rejected": reward[~labels],
        "rewards/accuracies": ((rho > kl) == labels).double(),
    }


class Records:
    """Collect the metrics of the pairs of any number of batches on the device, until they are read."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Count one batch; every value has shape ``(pairs,)``."""
        self._batches.append({name: values.detach() for name, values in metrics.items()})

    def drain(self) -> dict[str, list[float]]:
        """Return the values so far, of each metric one a pair, and start again from none."""
        batches, self._batches = self._batches, []
        if not batches:
            return {}
        return {name: torch.cat([batch[name].double() for batch in batches]).tolist() for name in batches[0]}


def summarise(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the means over pairs.

    Of log-ratios also the median, the 10th percentile and the share below the reference (< 0). Of unpaired completions
    the margin is that of the mean rewards; what no completion has is left out.
    """
    row = {name: float(np.mean(numbers)) for name, numbers in values.items() if len(numbers)}
    if {"rewards/chosen", "rewards/rejected"} <= row.keys():
        row["rewards/margins"] = row["rewards/chosen"] - row["rewards/rejected"]
    for name in ("log_ratios/chosen", "log_ratios/rejected"):
        if name not in row:
            continue
        numbers = np.asarray(values[name])
        row |= {
            f"{name}_median": float(np.median(numbers)),
            f"{name}_p10": float(np.percentile(numbers, 10)),
            f"{name}_below": float(np.mean(numbers < 0)),
        }
    return row


def pair_scores(policy: TokenLogProbs, reference: TokenLogProbs, progress: float = 0.0) -> PairScores:
    """Return what the losses of scored pairs are made of, on the CPU.

    Args:
        policy: The policy's log-probabilities.
        reference: The reference's.
        progress: Share of the optimiser steps that were taken.
    """
    chosen, rejected, reference_chosen, reference_rejected = (
        torch.from_numpy(side) for scored in (policy, reference) for side in scored.sums
    )
    heads = [torch.from_numpy(side) for scored in (policy, reference) for side in scored.heads]
    chosen_tokens, rejected_tokens = (
        torch.tensor([len(tokens) for tokens in side]) for side in (reference.chosen, reference.rejected)
    )
    return PairScores(
        chosen,
        rejected,
        reference_chosen,
        reference_rejected,
        chosen_tokens,
        rejected_tokens,
        heads=(heads[0], heads[1], heads[2], heads[3]),
        progress=progress,
    )
