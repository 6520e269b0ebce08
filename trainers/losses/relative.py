"""Define losses of a lead over the reference: DPO and what changes its argument.

Notation, for a prompt ``x`` with a chosen completion ``y_w`` and a rejected one ``y_l``:

    rho(y) = log pi(y | x) - log pi_ref(y | x),    rho_w = rho(y_w),    rho_l = rho(y_l)

Log-probabilities are summed over the tokens of the completion unless a loss says otherwise. Every function takes
tensors of shape ``(pairs,)`` in nats and returns the losses, shape ``(pairs,)``, in float32 (float64 stays float64):
half precision has too few digits for a difference of sums of hundreds of tokens.

Which variant of IPO and SLiC the Smaug paper (arXiv 2402.13228) compares with is not verified; each is named for what
it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from smaug_eval.trainers.losses.entry import log_sigmoid, precise

if TYPE_CHECKING:
    from torch import Tensor


def dpo(rho_w: Tensor, rho_l: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Compute Direct Preference Optimisation: ``-log sigmoid(beta * (rho_w - rho_l))``.

    Only the difference counts, so both log-ratios may fall as long as ``rho_l`` falls faster. Smooth everywhere.

    With label smoothing ``e`` it is conservative DPO (cDPO): ``-(1 - e) log sigmoid(z) - e log sigmoid(-z)``, least at
    a finite lead, ``z = log((1 - e) / e)``.

    Source: Rafailov et al., arXiv 2305.18290, Eq. 7; Mitchell, "A note on DPO with noisy preferences", Eq. 3, for
    label smoothing.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        label_smoothing: Share of the pairs whose labels are taken to be wrong, in [0, 0.5).

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    lead = beta * (precise(rho_w) - precise(rho_l))
    if not label_smoothing:
        return -log_sigmoid(lead)
    return -(1 - label_smoothing) * log_sigmoid(lead) - label_smoothing * log_sigmoid(-lead)


def dpop(rho_w: Tensor, rho_l: Tensor, *, beta: float, lambda_: float) -> Tensor:
    """Compute DPO-Positive: ``-log sigmoid(beta * (rho_w - rho_l - lambda * max(0, -rho_w)))``.

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
    rho_w, rho_l = precise(rho_w), precise(rho_l)
    return -log_sigmoid(beta * (rho_w - rho_l - lambda_ * _shortfall(rho_w)))


def dpop_v1_misprint(rho_w: Tensor, rho_l: Tensor, *, beta: float, lambda_: float) -> Tensor:
    """Return the penalty outside the sigmoid: ``-log sigmoid(beta * (rho_w - rho_l)) + lambda * max(0, -rho_w)``.

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
    return dpo(rho_w, rho_l, beta=beta) + lambda_ * _shortfall(precise(rho_w))


def ipo(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Compute Identity Preference Optimisation on summed log-ratios: ``(rho_w - rho_l - 1 / (2 beta))^2``.

    Smooth everywhere.

    Source: Azar et al., arXiv 2310.12036, Eq. 17, where ``beta`` is written tau.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ``1 / (4 beta^2)`` where both log-ratios are 0.
    """
    rho_w, rho_l = precise(rho_w), precise(rho_l)
    return (rho_w - rho_l - 1 / (2 * beta)) ** 2


def ipo_averaged(
    rho_w: Tensor, rho_l: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, beta: float
) -> Tensor:
    """Return :func:`ipo` on log-ratios averaged over tokens: ``(rho_w / |y_w| - rho_l / |y_l| - 1 / (2 beta))^2``.

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
    return ipo(precise(rho_w) / chosen_tokens, precise(rho_l) / rejected_tokens, beta=beta)


def hinge(rho_w: Tensor, rho_l: Tensor, *, beta: float) -> Tensor:
    """Compute the hinge loss on log-ratios: ``max(0, 1 - beta * (rho_w - rho_l))``.

    Gradient 0 at the kink ``beta * (rho_w - rho_l) = 1`` and beyond. The form of TRL's ``loss_type="hinge"``.

    Source: the hinge of SLiC (arXiv 2305.10425) normalised by a reference, as in Liu et al. (RSO), arXiv 2309.06657.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; 1 where both log-ratios are 0.
    """
    rho_w, rho_l = precise(rho_w), precise(rho_l)
    return (1 - beta * (rho_w - rho_l)).relu()


def robust(rho_w: Tensor, rho_l: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """Compute robust DPO: ``(-(1 - e) log sigmoid(z) + e log sigmoid(-z)) / (1 - 2 e)`` with ``z = beta * lead``.

    Where a share ``e`` of the labels is wrong, its mean is DPO's loss under right ones. It has no lower bound: large
    leads make it negative. Smooth everywhere.

    Source: Chowdhury et al., arXiv 2403.00409.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        label_smoothing: Share of the pairs whose labels are taken to be wrong, in [0, 0.5).

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    lead = beta * (precise(rho_w) - precise(rho_l))
    both = -(1 - label_smoothing) * log_sigmoid(lead) + label_smoothing * log_sigmoid(-lead)
    return both / (1 - 2 * label_smoothing)


def dpo_norm(rho_w: Tensor, rho_l: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, beta: float) -> Tensor:
    """Compute length-normalised DPO: ``-log sigmoid(beta * (rho_w / |y_w| - rho_l / |y_l|))``.

    Smooth everywhere. ``beta`` is larger than DPO's, since averages are smaller than sums.

    Source: Lambert et al. (Tulu 3), arXiv 2411.15124, Eq. 6; TRL's ``loss_type="sigmoid_norm"``.

    Args:
        rho_w: Log-ratios of the chosen completions, summed, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.
        rejected_tokens: ``|y_l|``, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    return dpo(precise(rho_w) / chosen_tokens, precise(rho_l) / rejected_tokens, beta=beta)


def dpo_nll(
    rho_w: Tensor, rho_l: Tensor, chosen: Tensor, chosen_tokens: Tensor, *, beta: float, alpha: float
) -> Tensor:
    """Compute DPO with a likelihood term: ``-log sigmoid(beta * (rho_w - rho_l)) - alpha * log pi(y_w) / |y_w|``.

    The likelihood term is averaged over the tokens of each completion, as in the paper, so that every pair weighs the
    same. TRL's ``loss_type=["sigmoid", "sft"]`` averages it over the tokens of a batch instead. Smooth everywhere.

    Source: Pang et al. (iterative reasoning preference optimisation, RPO), arXiv 2404.19733, Eq. 1.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        chosen: ``log pi(y_w | x)``, summed, shape ``(pairs,)``.
        chosen_tokens: ``|y_w|``, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        alpha: Weight of the likelihood term, >= 0.

    Returns:
        The losses, shape ``(pairs,)``.
    """
    return dpo(rho_w, rho_l, beta=beta) - alpha * precise(chosen) / chosen_tokens


def dpo_shift(rho_w: Tensor, rho_l: Tensor, *, beta: float, shift: float) -> Tensor:
    """Compute DPO-Shift: ``-log sigmoid(beta * (rho_w - f * rho_l))`` with ``f = shift`` at or below 1.

    The smaller ``f``, the less a falling rejected completion pays, and the more the chosen one has to rise. DPO for
    ``f = 1``. Smooth everywhere.

    Source: Yang et al., arXiv 2502.07599, Eq. 2, and the authors' code.

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        shift: ``f``, in (0, 1].

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    return dpo(rho_w, shift * precise(rho_l), beta=beta)


def ld_dpo(head_w: Tensor, head_l: Tensor, rho_w: Tensor, rho_l: Tensor, *, beta: float, tail_weight: float) -> Tensor:
    """Compute length-desensitised DPO: DPO on log-ratios in which tokens beyond the shorter completion weigh less.

    Of a pair the first ``min(|y_w|, |y_l|)`` tokens of both completions count in full and the rest of the longer one
    times ``tail_weight``. DPO for 1. Smooth everywhere.

    Source: Liu et al., arXiv 2409.06411; TRL's ``ld_alpha``.

    Args:
        head_w: Log-ratios of the first tokens of the chosen completions, shape ``(pairs,)``.
        head_l: Log-ratios of the first tokens of the rejected completions, shape ``(pairs,)``.
        rho_w: Log-ratios of the whole chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the whole rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        tail_weight: Weight of the tokens beyond the shorter completion, in [0, 1].

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where all log-ratios are 0.
    """
    chosen, rejected = (
        precise(head) + tail_weight * (precise(whole) - precise(head))
        for head, whole in ((head_w, rho_w), (head_l, rho_l))
    )
    return dpo(chosen, rejected, beta=beta)


def bdpo(rho_w: Tensor, rho_l: Tensor, *, beta: float, mixture: float) -> Tensor:
    """Compute bounded DPO: ``-log sigmoid(beta * (rho_w - log(m * exp(rho_l) + 1 - m)))`` with ``m = mixture``.

    The rejected completion's policy is mixed with the reference's, so that its part is bounded below by
    ``log(1 - m)``: however far it falls, the loss falls no further unless the chosen one rises. DPO for ``m = 1``.
    Smooth everywhere.

    Source: Cho et al., arXiv 2506.12725; the formula is from an author's summary, the paper itself was not compared
    (unverified).

    Args:
        rho_w: Log-ratios of the chosen completions, shape ``(pairs,)``.
        rho_l: Log-ratios of the rejected completions, shape ``(pairs,)``.
        beta: Strength of the pull towards the reference, > 0.
        mixture: Share of the policy in the mixture, in (0, 1].

    Returns:
        The losses, shape ``(pairs,)``; ln 2 where both log-ratios are 0.
    """
    import torch

    rho_l = precise(rho_l)
    if mixture < 1:
        mixed = torch.logaddexp(rho_l + math.log(mixture), torch.full_like(rho_l, math.log1p(-mixture)))
    else:
        mixed = rho_l
    return dpo(rho_w, mixed, beta=beta)


def _shortfall(rho_w: Tensor) -> Tensor:
    return (-rho_w).relu()  # relu, not clamp or maximum: those have gradient 1 and 1/2 at 0
