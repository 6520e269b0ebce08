"""Define losses that look at each completion by itself, so that a falling chosen one costs something whatever the lead.

Notation as in :mod:`smaug_eval.trainers.losses.relative`. All are smooth everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smaug_eval.trainers.losses.entry import log_sigmoid, precise
from smaug_eval.trainers.losses.relative import dpo

if TYPE_CHECKING:
    from torch import Tensor


def nca(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Compute noise contrastive alignment of pairs: ``-log s(r_w) - 1/2 log s(-r_w) - 1/2 log s(-r_l)``.

    ``r = beta * rho``, ``s`` the sigmoid. The first two terms are least at ``r_w = log 2``: the chosen completion is
    drawn above the reference and held there.

    Source: Chen et al., arXiv 2402.05369; TRL's ``loss_type="nca_pair"``.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; 2 ln 2 where both log-ratios are 0.
    """
    reward_w, reward_l = beta * precise(rho_w), beta * precise(rho_l)
    return -log_sigmoid(reward_w) - 0.5 * log_sigmoid(-reward_w) - 0.5 * log_sigmoid(-reward_l)


def apo_zero(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Compute anchored preference optimisation, zero: ``1 - s(beta * rho_w) + s(beta * rho_l)``, ``s`` the sigmoid.

    Raises the chosen completion and lowers the rejected one, each by itself; for chosen completions that are better
    than what the model writes. Its gradient fades on both sides, so a completion that fell far is hardly drawn back.

    Source: D'Oosterlinck et al., arXiv 2408.06266, Eq. 7.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; 1 where both log-ratios are 0.
    """
    return (-beta * precise(rho_w)).sigmoid() + (beta * precise(rho_l)).sigmoid()


def apo_down(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Compute anchored preference optimisation, down: ``s(beta * rho_w) + 1 - s(beta * (rho_w - rho_l))``.

    Lowers both completions, the rejected one more; for chosen completions that are worse than what the model writes.
    The preferred answer falls by design.

    Source: D'Oosterlinck et al., arXiv 2408.06266, Eq. 8.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; 1 where both log-ratios are 0.
    """
    rho_w, rho_l = precise(rho_w), precise(rho_l)
    return (beta * rho_w).sigmoid() + (-beta * (rho_w - rho_l)).sigmoid()


def sppo_hard(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Compute self-play preference optimisation with hard labels: ``(rho_w - 1/(2 beta))^2 + (rho_l + 1/(2 beta))^2``.

    Each completion has a target of its own: above the reference for the chosen one, below it for the rejected one.

    Source: Wu et al., arXiv 2405.00675, Eq. 4.7 with probabilities 1 and 0; TRL's ``loss_type="sppo_hard"``.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ``1 / (2 beta^2)`` where both log-ratios are 0.
    """
    target = 1 / (2 * beta)
    return (precise(rho_w) - target) ** 2 + (precise(rho_l) + target) ** 2


def cal_dpo(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Compute calibrated DPO: ``-log sigmoid(rho_w - rho_l) + 1/2 sppo_hard(rho_w, rho_l)``.

    DPO with ``beta = 1``, and a term that ties the log-ratios themselves to ``+-1 / (2 beta)``.

    Source: Xiao et al., arXiv 2412.14516; the weight of the second term is as others implement it (unverified).

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Scale of the targets, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ``ln 2 + 1 / (4 beta^2)`` where both log-ratios are 0.
    """
    return dpo(rho_w, rho_l, beta=1.0) + 0.5 * sppo_hard(rho_w, rho_l, beta=beta)
