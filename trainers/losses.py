"""Preference losses: pure functions of log-ratios, one loss a pair.

Notation, for a prompt ``x`` with a chosen completion ``y_w`` and a rejected one ``y_l``:

    rho(y) = log pi(y | x) - log pi_ref(y | x),    rho_w = rho(y_w),    rho_l = rho(y_l)

Log-probabilities are summed over the tokens of the completion unless a loss says otherwise. Every function takes
tensors of shape ``(pairs,)`` in nats and returns the losses, shape ``(pairs,)``, in float32 (float64 stays float64):
half precision has too few digits for a difference of sums of hundreds of tokens.

Which variant of IPO and SLiC the Smaug paper (arXiv 2402.13228) compares with is not verified; each is named for what
it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainers.config import Loss, TrainingConfig

__all__ = [
    "Loss",
    "PairScores",
    "dpo",
    "dpop",
    "dpop_v1_misprint",
    "hinge",
    "ipo",
    "ipo_averaged",
    "preference_loss",
    "sft",
    "slic",
]


def dpo(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Direct Preference Optimisation: ``-log sigmoid(beta * (rho_w - rho_l))``.

    Only the difference counts, so both log-ratios may fall as long as ``rho_l`` falls faster. Smooth everywhere.

    Source: Rafailov et al., arXiv 2305.18290, Eq. 7.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    rho_w, rho_l = _precise(rho_w), _precise(rho_l)
    return -logsigmoid(beta * (rho_w - rho_l))


def dpop(rho_w: Tensor, rho_l: Tensor, *, beta: float, lambda_: float) -> Tensor:
    """DPO-Positive: ``-log sigmoid(beta * (rho_w - rho_l - lambda * max(0, -rho_w)))``.

    The penalty acts on pairs whose chosen completion is less likely than under the reference; there the gradient on
    ``log pi(y_w)`` grows from ``beta`` to as much as ``beta * (1 + lambda)``. Elsewhere, and for ``lambda = 0``, the
    loss is DPO's.

    At the kink ``rho_w = 0``, where training starts, the penalty is given gradient 0: the first step equals DPO's.

    Source: Pal et al., arXiv 2402.13228 version 2, Eq. 3.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        lambda_: Weight of the penalty, >= 0.

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    rho_w, rho_l = _precise(rho_w), _precise(rho_l)
    return -logsigmoid(beta * (rho_w - rho_l - lambda_ * _shortfall(rho_w)))


def dpop_v1_misprint(rho_w: Tensor, rho_l: Tensor, *, beta: float, lambda_: float) -> Tensor:
    """The penalty outside the sigmoid: ``-log sigmoid(beta * (rho_w - rho_l)) + lambda * max(0, -rho_w)``.

    Not DPO-Positive: version 1 of the paper misprints the brackets, and code in the wild follows it. Its ``lambda`` is
    another quantity: the gradient on ``log pi(y_w)`` reaches ``beta + lambda`` here and ``beta * (1 + lambda)`` in
    :func:`dpop`. Here to compare with such code. Gradient 0 of the penalty at ``rho_w = 0``.

    Source: Pal et al., arXiv 2402.13228 version 1.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        lambda_: Weight of the penalty, >= 0.

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    return dpo(rho_w, rho_l, beta=beta) + lambda_ * _shortfall(_precise(rho_w))


def ipo(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Identity Preference Optimisation on summed log-ratios: ``(rho_w - rho_l - 1 / (2 beta))^2``.

    Smooth everywhere.

    Source: Azar et al., arXiv 2310.12036, Eq. 17, where ``beta`` is written tau.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ``1 / (4 beta^2)`` where both log-ratios are 0.
    """
    rho_w, rho_l = _precise(rho_w), _precise(rho_l)
    return (rho_w - rho_l - 1 / (2 * beta)) ** 2


def ipo_averaged(
    rho_w: Tensor, rho_l: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, beta: float
) -> Tensor:
    """:func:`ipo` on log-ratios averaged over tokens: ``(rho_w / |y_w| - rho_l / |y_l| - 1 / (2 beta))^2``.

    The form of TRL's ``loss_type="ipo"``. Tokens that both completions share count in the averages.

    Args:
        rho_w: Log-ratios of the chosen completions, summed, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.
        rejected_tokens: ``|y_l|``, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ``1 / (4 beta^2)`` where both log-ratios are 0.
    """
    return ipo(_precise(rho_w) / chosen_tokens, _precise(rho_l) / rejected_tokens, beta=beta)


def hinge(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Hinge on log-ratios: ``max(0, 1 - beta * (rho_w - rho_l))``.

    Gradient 0 at the kink ``beta * (rho_w - rho_l) = 1`` and beyond. The form of TRL's ``loss_type="hinge"``.

    Source: the hinge of SLiC (arXiv 2305.10425) normalised by a reference, as in Liu et al. (RSO), arXiv 2309.06657.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; 1 where both log-ratios are 0.
    """
    rho_w, rho_l = _precise(rho_w), _precise(rho_l)
    return torch.relu(1 - beta * (rho_w - rho_l))


def slic(chosen: Tensor, rejected: Tensor, *, margin: float, likelihood_weight: float) -> Tensor:
    """SLiC: ``max(0, margin - log pi(y_w) + log pi(y_l)) - likelihood_weight * log pi(y_w)``.

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
    chosen, rejected = _precise(chosen), _precise(rejected)
    return torch.relu(margin - chosen + rejected) - likelihood_weight * chosen


def sft(chosen: Tensor, chosen_tokens: Tensor) -> Tensor:
    """Supervised fine-tuning on the chosen completion: ``-log pi(y_w) / |y_w|``.

    Smooth everywhere. Averaged over the tokens of each completion, so that every pair weighs the same.

    Args:
        chosen: ``log pi(y_w | x)``, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.

    Returns:
        The losses, shape ``(pairs,)``.
    """
    return -_precise(chosen) / chosen_tokens


@dataclass(frozen=True)
class PairScores:
    """What the losses of a batch are made of; every tensor has shape ``(pairs,)``.

    Attributes:
        chosen: ``log pi(y_w | x)``, summed over tokens, in nats.
        rejected: ``log pi(y_l | x)``.
        reference_chosen: ``log pi_ref(y_w | x)``.
        reference_rejected: ``log pi_ref(y_l | x)``.
        chosen_tokens: Tokens of each chosen completion.
        rejected_tokens: Tokens of each rejected completion.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    @property
    def rho_w(self) -> Tensor:
        """Log-ratios of the chosen completions."""
        return self.chosen - self.reference_chosen

    @property
    def rho_l(self) -> Tensor:
        """Log-ratios of the rejected completions."""
        return self.rejected - self.reference_rejected

    def untrained(self) -> PairScores:
        """The scores of a policy that equals its reference."""
        return PairScores(
            self.reference_chosen,
            self.reference_rejected,
            self.reference_chosen,
            self.reference_rejected,
            self.chosen_tokens,
            self.rejected_tokens,
        )


def preference_loss(config: TrainingConfig, scores: PairScores) -> Tensor:
    """The losses of a batch, shape ``(pairs,)``, for the loss and the weights of a training."""
    rho_w, rho_l = scores.rho_w, scores.rho_l
    # What a loss needs, the configuration has: it fills in every default, and refuses what the loss has no use for.
    beta, lambda_ = config.beta or 0.0, config.lambda_ or 0.0
    match config.loss:
        case Loss.DPO:
            return dpo(rho_w, rho_l, beta=beta)
        case Loss.DPOP:
            return dpop(rho_w, rho_l, beta=beta, lambda_=lambda_)
        case Loss.DPOP_V1_MISPRINT:
            return dpop_v1_misprint(rho_w, rho_l, beta=beta, lambda_=lambda_)
        case Loss.IPO:
            return ipo(rho_w, rho_l, beta=beta)
        case Loss.IPO_AVERAGED:
            return ipo_averaged(rho_w, rho_l, scores.chosen_tokens, scores.rejected_tokens, beta=beta)
        case Loss.HINGE:
            return hinge(rho_w, rho_l, beta=beta)
        case Loss.SLIC:
            return slic(
                scores.chosen,
                scores.rejected,
                margin=config.margin or 0.0,
                likelihood_weight=config.likelihood_weight or 0.0,
            )
        case Loss.SFT:
            return sft(scores.chosen, scores.chosen_tokens)


def _shortfall(rho_w: Tensor) -> Tensor:
    return torch.relu(-rho_w)  # relu, not clamp or maximum: those have gradient 1 and 1/2 at 0


def _precise(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
