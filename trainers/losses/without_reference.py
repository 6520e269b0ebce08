"""Define losses that read no reference; a likelihood term, a margin, or nothing holds the policy back.

Notation as in :mod:`smaug_eval.trainers.losses.relative`; the reference's log-probabilities are logged all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smaug_eval.trainers.losses.entry import log_sigmoid, precise

if TYPE_CHECKING:
    from torch import Tensor


def slic(chosen: Tensor, rejected: Tensor, *, margin: float, likelihood_weight: float) -> Tensor:
    """Compute SLiC: ``max(0, margin - log pi(y_w) + log pi(y_l)) - likelihood_weight * log pi(y_w)``.

    Free of a reference; the likelihood term on the chosen completion takes its place. Gradient 0 of the hinge at its
    kink.

    Source: Zhao et al., arXiv 2305.10425, with the chosen completion as the target of the likelihood term.

    Args:
        chosen: ``log pi(y_w | x)``, shape ``(pairs,)``.
        rejected: ``log pi(y_l | x)``, shape ``(pairs,)``.
        margin: Lead in nats that the chosen completion shall have, >= 0.
        likelihood_weight: Weight of the likelihood term, >= 0.

    Returns:
        The losses, shape ``(pairs,)``.
    """
    chosen, rejected = precise(chosen), precise(rejected)
    return (margin - chosen + rejected).relu() - likelihood_weight * chosen


def sft(chosen: Tensor, chosen_tokens: Tensor) -> Tensor:
    """Compute supervised fine-tuning on the chosen completion: ``-log pi(y_w) / |y_w|``.

    Smooth everywhere. Averaged over the tokens of each completion, so that every pair weighs the same.

    Args:
        chosen: ``log pi(y_w | x)``, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.

    Returns:
        The losses, shape ``(pairs,)``.
    """
    return -precise(chosen) / chosen_tokens


def simpo(
    chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, beta: float, gamma: float
) -> Tensor:
    """Compute SimPO: ``-log sigmoid(beta * (log pi(y_w) / |y_w| - log pi(y_l) / |y_l|) - gamma)``.

    Only the lead counts, so the chosen completion may fall. Smooth everywhere.

    Source: Meng et al., arXiv 2405.14734, Eq. 6; TRL's ``simpo_gamma`` is ``gamma`` here.

    Args:
        chosen: ``log pi(y_w | x)``, summed, shape ``(pairs,)``.
        rejected: ``log pi(y_l | x)``, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.
        rejected_tokens: ``|y_l|``, shape ``(pairs,)``.
        beta: Scale of the averages, > 0.
        gamma: Lead, times ``beta``, that the chosen completion shall have, >= 0.

    Returns:
        The losses, shape ``(pairs,)``.
    """
    lead = precise(chosen) / chosen_tokens - precise(rejected) / rejected_tokens
    return -log_sigmoid(beta * lead - gamma)


def cpo(chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, *, beta: float, alpha: float) -> Tensor:
    """Compute CPO: ``-log sigmoid(beta * (log pi(y_w) - log pi(y_l))) - alpha * log pi(y_w) / |y_w|``.

    DPO with a uniform reference, and a likelihood term. That is averaged over the tokens of each completion; TRL's
    ``cpo_alpha`` weighs an average over the tokens of a batch. Smooth everywhere.

    Source: Xu et al., arXiv 2401.08417, Eq. 3 to 5.

    Args:
        chosen: ``log pi(y_w | x)``, summed, shape ``(pairs,)``.
        rejected: ``log pi(y_l | x)``, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.
        beta: Scale of the lead, > 0.
        alpha: Weight of the likelihood term, >= 0.

    Returns:
        The losses, shape ``(pairs,)``.
    """
    chosen, rejected = precise(chosen), precise(rejected)
    return -log_sigmoid(beta * (chosen - rejected)) - alpha * chosen / chosen_tokens


def orpo(
    chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, odds_weight: float
) -> Tensor:
    """Compute ORPO: ``-a_w - odds_weight * log sigmoid(log(odds_w / odds_l))`` with ``a = log pi(y) / |y|``.

    ``odds = exp(a) / (1 - exp(a))``. The first term is the likelihood of the chosen completion, averaged over its
    tokens. Smooth everywhere below ``a = 0``; an average above -1e-7 nats is taken for that.

    Source: Hong et al., arXiv 2403.07691, Eq. 6 and 7. TRL takes its likelihood over prompt and completion.

    Args:
        chosen: ``log pi(y_w | x)``, summed, shape ``(pairs,)``.
        rejected: ``log pi(y_l | x)``, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.
        rejected_tokens: ``|y_l|``, shape ``(pairs,)``.
        odds_weight: Weight of the odds ratio, the paper's lambda and TRL's ``beta``, >= 0.

    Returns:
        The losses, shape ``(pairs,)``.
    """
    mean_w, mean_l = precise(chosen) / chosen_tokens, precise(rejected) / rejected_tokens
    log_odds = mean_w - mean_l - (_log_complement(mean_w) - _log_complement(mean_l))
    return -mean_w - odds_weight * log_sigmoid(log_odds)


def _log_complement(values: Tensor) -> Tensor:
    """``log(1 - exp(values))`` of values below 0."""
    return (-values.clamp(max=-1e-7).expm1()).log()
