"""Preference losses: pure functions of log-ratios.

Notation, for a prompt ``x`` with a chosen completion ``y_w`` and a rejected one ``y_l``:

    rho(y) = log pi(y | x) - log pi_ref(y | x),    rho_w = rho(y_w),    rho_l = rho(y_l)

Log-probabilities are summed over the tokens of the completion. Every function takes ``rho_w`` and ``rho_l`` of a
batch, shape ``(pairs,)``, and returns one loss per pair, shape ``(pairs,)``, in float32 (float64 stays float64): half
precision has too few digits for a difference of sums of hundreds of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainers.config import Loss

__all__ = ["Loss", "dpo", "dpop", "preference_loss"]


def dpo(chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, *, beta: float) -> Tensor:
    """Direct Preference Optimisation: ``-log sigmoid(beta * (rho_w - rho_l))``.

    Only the difference counts, so both log-ratios may fall as long as ``rho_l`` falls faster.

    Source: Rafailov et al., arXiv 2305.18290, Eq. 7.

    Args:
        chosen_log_ratios: ``rho_w``, shape ``(pairs,)``, in nats.
        rejected_log_ratios: ``rho_l``, shape ``(pairs,)``, in nats.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    rho_w, rho_l = _at_least_float32(chosen_log_ratios), _at_least_float32(rejected_log_ratios)
    return -logsigmoid(beta * (rho_w - rho_l))


def dpop(chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, *, beta: float, lambda_: float) -> Tensor:
    """DPO-Positive: ``-log sigmoid(beta * (rho_w - rho_l - lambda * max(0, -rho_w)))``.

    The penalty acts on pairs whose chosen completion is less likely than under the reference; there the gradient on
    ``log pi(y_w)`` grows from ``beta`` to as much as ``beta * (1 + lambda)``. Elsewhere, and for ``lambda = 0``, the
    loss is DPO's.

    At the kink ``rho_w = 0``, where training starts, the penalty is given gradient 0: the first step equals DPO's.

    Source: Pal et al., arXiv 2402.13228 version 2, Eq. 3. (Version 1 misprints the brackets; code that puts the penalty
    outside the sigmoid needs other values of ``lambda``.)

    Args:
        chosen_log_ratios: ``rho_w``, shape ``(pairs,)``, in nats.
        rejected_log_ratios: ``rho_l``, shape ``(pairs,)``, in nats.
        beta: Strength of the pull towards the reference, > 0.
        lambda_: Weight of the penalty, >= 0.

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    rho_w, rho_l = _at_least_float32(chosen_log_ratios), _at_least_float32(rejected_log_ratios)
    shortfall = torch.relu(-rho_w)  # relu, not clamp or maximum: those have gradient 1 and 1/2 at 0
    return -logsigmoid(beta * (rho_w - rho_l - lambda_ * shortfall))


def preference_loss(
    loss: Loss, chosen_log_ratios: Tensor, rejected_log_ratios: Tensor, *, beta: float, lambda_: float | None
) -> Tensor:
    """The losses of a batch, shape ``(pairs,)``, for the loss named in a recipe.

    Args:
        loss: Which loss.
        chosen_log_ratios: ``rho_w``, shape ``(pairs,)``.
        rejected_log_ratios: ``rho_l``, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference.
        lambda_: Weight of the penalty; required by DPOP, ignored by losses without one.

    Raises:
        ValueError: DPOP without ``lambda_``.
    """
    if loss is Loss.DPO:
        return dpo(chosen_log_ratios, rejected_log_ratios, beta=beta)
    if lambda_ is None:
        raise ValueError(f"{loss.value} needs lambda")
    return dpop(chosen_log_ratios, rejected_log_ratios, beta=beta, lambda_=lambda_)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
