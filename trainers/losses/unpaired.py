"""Compute losses of unpaired completions, each of which is desirable or undesirable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smaug_eval.trainers.losses.entry import precise

if TYPE_CHECKING:
    from torch import Tensor


def kto(
    rho: Tensor, labels: Tensor, kl: Tensor, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> Tensor:
    """Compute Kahneman-Tversky optimisation: ``w * (1 - sigmoid(beta * (rho - kl)))``, mirrored where undesirable.

    Undesirable: ``w * (1 - sigmoid(beta * (kl - rho)))``. The divergence ``kl`` is what a completion is compared with;
    no gradient flows through it.

    Source: Ethayarajh et al., arXiv 2402.01306, Eq. 7 and 8; TRL's ``KTOTrainer`` with ``loss_type="kto"``.

    Args:
        rho: Log-ratios of policy to reference of the completions, shape ``(completions,)``.
        labels: Whether each is desirable, shape ``(completions,)``.
        kl: Estimates of the divergence in nats, at least 0, shape ``(completions,)`` or ``()``.
        beta: Strength of the pull towards the reference, > 0.
        desirable_weight: Weight of the desirable ones.
        undesirable_weight: Weight of the others.

    Returns:
        The losses, shape ``(completions,)``; half of the weight where both ``rho`` and ``kl`` are 0.
    """
    lead = beta * (precise(rho) - precise(kl).detach())
    return (desirable_weight * (-lead).sigmoid()).where(labels, undesirable_weight * lead.sigmoid())
