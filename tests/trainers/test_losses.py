"""The losses against values worked out by hand and against plain arithmetic in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainers.config import Loss, TrainingConfig
from trainers.losses import (
    PairScores,
    dpo,
    dpop,
    dpop_v1_misprint,
    hinge,
    ipo,
    ipo_averaged,
    preference_loss,
    sft,
    slic,
)

LN2 = 0.6931471805599453
ratios = st.floats(-50, 50, allow_nan=False, width=32)


def of(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype, requires_grad=True)


# beta 0.3, lambda 50. For (-0.1, -2): z = 0.3 * (-0.1 + 2 - 50 * 0.1) = -0.93, loss = log(1 + e^0.93) = 1.2626,
# sigmoid(0.93) = 0.71708, d/d rho_w = -0.3 * 51 * 0.71708 = -10.9713, d/d rho_l = 0.3 * 0.71708 = 0.2151.
@pytest.mark.parametrize(
    ("rho_w", "rho_l", "loss", "slope_w", "slope_l"),
    [
        (0.5, -2.0, 0.3869, -0.0962, 0.0962),
        (-0.1, -2.0, 1.2626, -10.9713, 0.2151),
        (-1.0, -3.0, 14.4, -15.3, 0.3),
        (-5.0, -20.0, 70.5, -15.3, 0.3),
    ],
)
def test_dpop_closed_forms(rho_w: float, rho_l: float, loss: float, slope_w: float, slope_l: float) -> None:
    chosen, rejected = of(rho_w), of(rho_l)
    value = dpop(chosen, rejected, beta=0.3, lambda_=50.0)
    value.sum().backward()
    assert value.item() == pytest.approx(loss, abs=5e-5)
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(slope_w, abs=5e-5)
    assert rejected.grad.item() == pytest.approx(slope_l, abs=5e-5)


def test_dpo_by_hand() -> None:
    # z = 0.5 * (1 - (-1)) = 1; log(1 + 1/e) = 0.3132617; both slopes are 0.5 * sigmoid(-1) = 0.1344707.
    chosen, rejected = of(1.0), of(-1.0)
    value = dpo(chosen, rejected, beta=0.5)
    value.sum().backward()
    assert value.item() == pytest.approx(0.3132617, abs=1e-7)
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.1344707, abs=1e-7)
    assert rejected.grad.item() == pytest.approx(0.1344707, abs=1e-7)


REFERENCE_LOSSES = [loss for loss in Loss if loss.needs_reference]


def scores(rho_w: Tensor, rho_l: Tensor) -> PairScores:
    """Pairs of 4 and 5 tokens with log-probabilities -20 and -30 under the reference."""
    count = len(rho_w)
    reference = torch.full((count,), -20.0), torch.full((count,), -30.0)
    return PairScores(
        rho_w + reference[0], rho_l + reference[1], *reference, torch.full((count,), 4), torch.full((count,), 5)
    )


def config_of(loss: Loss, **weights: float) -> TrainingConfig:
    return TrainingConfig.model_validate({"loss": loss.value, **weights})


@pytest.mark.parametrize("loss", REFERENCE_LOSSES)
def test_the_start_value_and_slope_of_an_untrained_policy(loss: Loss) -> None:
    chosen, rejected = of(0.0), of(0.0)
    value = preference_loss(config_of(loss, beta=0.25), scores(chosen, rejected))
    value.sum().backward()
    # DPO and its kin: ln 2, slope -beta * sigmoid(0); the kink adds nothing. IPO: (1 / (2 beta))^2 = 4, slope
    # -2 * 2, over 4 tokens where averaged. Hinge: 1, slope -beta.
    expected = {
        Loss.DPO: (LN2, -0.125),
        Loss.DPOP: (LN2, -0.125),
        Loss.DPOP_V1_MISPRINT: (LN2, -0.125),
        Loss.IPO: (4.0, -4.0),
        Loss.IPO_AVERAGED: (4.0, -1.0),
        Loss.HINGE: (1.0, -0.25),
    }[loss]
    assert value.item() == pytest.approx(expected[0], abs=1e-12)
    assert loss.start_value(0.25) == pytest.approx(expected[0], abs=1e-15)
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.parametrize("loss", [Loss.SLIC, Loss.SFT])
def test_losses_without_a_reference_have_no_closed_start(loss: Loss) -> None:
    assert loss.start_value(None) is None
    assert preference_loss(config_of(loss), scores(of(1.0), of(1.0)).untrained()).item() == pytest.approx(
        {Loss.SLIC: 20.0, Loss.SFT: 5.0}[loss]  # the lead of 10 nats exceeds the margin of 1; 20 nats over 4 tokens
    )


def slopes(loss: Callable[[Tensor, Tensor], Tensor], first: float, second: float) -> tuple[float, float, float]:
    """Value and both slopes at a point."""
    one, two = of(first), of(second)
    value = loss(one, two)
    value.sum().backward()
    assert one.grad is not None
    assert two.grad is not None
    return value.item(), one.grad.item(), two.grad.item()


def test_ipo_by_hand() -> None:
    # (1 + 1 - 1 / 0.5)^2 = 0 at the target; (0.5 - 1.5 - 2)^2 = 9 with slopes 2 * -3 and 2 * 3.
    assert slopes(lambda w, r: ipo(w, r, beta=0.25), 1.0, -1.0) == (0.0, 0.0, 0.0)
    assert slopes(lambda w, r: ipo(w, r, beta=0.25), 0.5, 1.5) == (9.0, -6.0, 6.0)


def test_ipo_averaged_by_hand() -> None:
    # (2 / 4 - 5 / 5 - 2)^2 = 6.25; slopes 2 * -2.5 / 4 and 2 * 2.5 / 5.
    counts = torch.tensor([4]), torch.tensor([5])
    assert slopes(lambda w, r: ipo_averaged(w, r, *counts, beta=0.25), 2.0, 5.0) == (6.25, -1.25, 1.0)


def test_hinge_by_hand() -> None:
    # 1 - 0.5 * (1 + 1) = 0 is the kink, with slope 0; 1 - 0.5 * (0 - 1) = 1.5.
    assert slopes(lambda w, r: hinge(w, r, beta=0.5), 1.0, -1.0) == (0.0, 0.0, 0.0)
    assert slopes(lambda w, r: hinge(w, r, beta=0.5), 0.0, 1.0) == (1.5, -0.5, 0.5)
    assert slopes(lambda w, r: hinge(w, r, beta=0.5), 9.0, 1.0) == (0.0, 0.0, 0.0)


def test_slic_by_hand() -> None:
    def loss(w: Tensor, r: Tensor) -> Tensor:
        return slic(w, r, margin=1.0, likelihood_weight=0.5)

    # max(0, 1 + 5 - 5.5) + 0.5 * 5 = 3; past the margin only the likelihood is left: 2.5 with slope -0.5.
    assert slopes(loss, -5.0, -5.5) == (3.0, -1.5, 1.0)
    assert slopes(loss, -5.0, -9.0) == (2.5, -0.5, 0.0)
    assert slopes(loss, -5.0, -6.0) == (2.5, -0.5, 0.0)  # the kink


def test_sft_by_hand() -> None:
    chosen = of(-6.0)
    sft(chosen, torch.tensor([4])).sum().backward()
    assert sft(chosen, torch.tensor([4])).item() == 1.5
    assert chosen.grad is not None
    assert chosen.grad.item() == -0.25


def test_the_misprint_is_another_loss() -> None:
    # DPO's ln(1 + e^0.2) plus 2 * 1, with slope -(0.2 * sigmoid(0.2) + 2) = -2.10997.
    value, slope, _ = slopes(lambda w, r: dpop_v1_misprint(w, r, beta=0.2, lambda_=2.0), -1.0, 0.0)
    assert value == pytest.approx(math.log1p(math.exp(0.2)) + 2.0, abs=1e-12)
    assert slope == pytest.approx(-(0.2 / (1 + math.exp(-0.2)) + 2.0), abs=1e-12)
    # The largest slopes: beta + lambda outside, beta * (1 + lambda) inside.
    assert slopes(lambda w, r: dpop_v1_misprint(w, r, beta=0.3, lambda_=50.0), -99.0, 0.0)[1] == pytest.approx(-50.3)
    assert slopes(lambda w, r: dpop(w, r, beta=0.3, lambda_=50.0), -99.0, 0.0)[1] == pytest.approx(-15.3)


@pytest.mark.parametrize("loss", list(Loss))
def test_each_loss_is_the_function_of_its_name(loss: Loss) -> None:
    weights = {"beta": 0.4, "lambda": 7.0, "margin": 12.0, "likelihood_weight": 0.3}
    mine = {name: value for name, value in weights.items() if name in loss.weights}
    pair = scores(torch.tensor([-0.7]), torch.tensor([-2.0]))
    w, r, rho_w, rho_l = pair.chosen, pair.rejected, pair.rho_w, pair.rho_l
    expected = {
        Loss.DPO: lambda: dpo(rho_w, rho_l, beta=0.4),
        Loss.DPOP: lambda: dpop(rho_w, rho_l, beta=0.4, lambda_=7.0),
        Loss.DPOP_V1_MISPRINT: lambda: dpop_v1_misprint(rho_w, rho_l, beta=0.4, lambda_=7.0),
        Loss.IPO: lambda: ipo(rho_w, rho_l, beta=0.4),
        Loss.IPO_AVERAGED: lambda: ipo_averaged(rho_w, rho_l, pair.chosen_tokens, pair.rejected_tokens, beta=0.4),
        Loss.HINGE: lambda: hinge(rho_w, rho_l, beta=0.4),
        Loss.SLIC: lambda: slic(w, r, margin=12.0, likelihood_weight=0.3),
        Loss.SFT: lambda: sft(w, pair.chosen_tokens),
    }[loss]()
    assert torch.equal(preference_loss(config_of(loss, **mine), pair), expected)


def test_the_penalty_is_inside_beta_and_the_sigmoid() -> None:
    # Outside the sigmoid the value would be log(1 + e^0.2) + 2 * 1 = 2.798; inside it is log(1 + e^(0.2 * (1 + 2))).
    value = dpop(of(-1.0), of(0.0), beta=0.2, lambda_=2.0)
    assert value.item() == pytest.approx(math.log1p(math.exp(0.6)), abs=1e-12)


@given(st.lists(st.tuples(ratios, ratios), min_size=1, max_size=8), st.floats(0.01, 2))
def test_lambda_zero_is_dpo_to_the_bit(pairs: list[tuple[float, float]], beta: float) -> None:
    chosen, rejected = torch.tensor(pairs).unbind(1)
    assert torch.equal(dpop(chosen, rejected, beta=beta, lambda_=0.0), dpo(chosen, rejected, beta=beta))


@given(st.floats(0, 50, width=32), ratios, st.floats(0, 500))
def test_no_penalty_at_or_above_the_reference(rho_w: float, rho_l: float, lambda_: float) -> None:
    chosen, rejected = torch.tensor([rho_w]), torch.tensor([rho_l])
    assert torch.equal(dpop(chosen, rejected, beta=0.3, lambda_=lambda_), dpo(chosen, rejected, beta=0.3))


@given(st.floats(-5, -0.01), st.floats(-5, 5), st.floats(0.1, 500))
def test_a_penalty_below_the_reference(rho_w: float, rho_l: float, lambda_: float) -> None:
    value = dpop(of(rho_w), of(rho_l), beta=0.3, lambda_=lambda_).item()
    z = 0.3 * (rho_w - rho_l + lambda_ * rho_w)
    assert value == pytest.approx(math.log1p(math.exp(-abs(z))) + max(-z, 0.0), rel=1e-9)
    assert value > dpo(of(rho_w), of(rho_l), beta=0.3).item()


@given(ratios, ratios, st.floats(-20, 20, width=32))
def test_dpo_sees_only_the_difference(rho_w: float, rho_l: float, shift: float) -> None:
    moved = dpo(of(rho_w + shift), of(rho_l + shift), beta=0.3).item()
    assert moved == pytest.approx(dpo(of(rho_w), of(rho_l), beta=0.3).item(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("loss", list(Loss))
def test_half_precision_is_computed_in_float32(loss: Loss) -> None:
    half = [of(-1.0, 300.0, dtype=torch.bfloat16), of(0.5, 299.0, dtype=torch.bfloat16)]
    zeros, counts = torch.zeros(2, dtype=torch.bfloat16), torch.tensor([4, 5])
    value = preference_loss(config_of(loss), PairScores(*half, zeros, zeros, counts, counts))
    single = [values.float() for values in half]
    exact = preference_loss(config_of(loss), PairScores(*single, zeros.float(), zeros.float(), counts, counts))
    assert value.dtype == torch.float32
    assert torch.equal(value, exact)


@pytest.mark.parametrize("loss", list(Loss))
def test_extreme_ratios_stay_finite(loss: Loss) -> None:
    chosen = of(1e4, -1e4, 0.0, dtype=torch.float32)
    rejected = of(-1e4, 1e4, 1e4, dtype=torch.float32)
    value = preference_loss(config_of(loss), scores(chosen, rejected))
    value.sum().backward()
    assert bool(torch.isfinite(value).all())
    assert chosen.grad is not None
    assert bool(torch.isfinite(chosen.grad).all())


def test_extreme_values_by_hand() -> None:
    w, r = torch.tensor([1e4, -1e4, 0.0]), torch.tensor([-1e4, 1e4, 1e4])
    assert dpo(w, r, beta=1.0).tolist() == pytest.approx([0.0, 2e4, 1e4])
    assert dpop(w, r, beta=1.0, lambda_=500.0).tolist() == pytest.approx([0.0, 2e4 + 5e6, 1e4])


@pytest.mark.parametrize(
    "loss", [lambda w, r: dpo(w, r, beta=0.3), lambda w, r: dpop(w, r, beta=0.3, lambda_=5.0)], ids=["dpo", "dpop"]
)
def test_gradients_against_finite_differences(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(loss, (of(0.7, -0.4, -3.0), of(-0.2, 0.6, -5.0)))


def test_one_loss_for_each_pair() -> None:
    assert dpop(torch.zeros(5), torch.zeros(5), beta=0.3, lambda_=50.0).shape == (5,)
