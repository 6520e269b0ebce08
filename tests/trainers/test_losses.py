"""The losses against values worked out by hand and against plain arithmetic in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainers.config import Loss
from trainers.losses import dpo, dpop, preference_loss

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


@pytest.mark.parametrize("loss", list(Loss))
def test_training_starts_at_ln_2_with_the_gradient_of_dpo(loss: Loss) -> None:
    chosen, rejected = of(0.0), of(0.0)
    value = preference_loss(loss, chosen, rejected, beta=0.3, lambda_=50.0)
    value.sum().backward()
    assert value.item() == pytest.approx(LN2, abs=1e-15)
    assert loss.start_value == LN2
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.15, abs=1e-15)  # -beta * sigmoid(0): the kink adds nothing


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
    chosen, rejected = of(-1.0, 300.0, dtype=torch.bfloat16), of(0.5, 299.0, dtype=torch.bfloat16)
    value = preference_loss(loss, chosen, rejected, beta=0.3, lambda_=50.0)
    exact = preference_loss(loss, chosen.float(), rejected.float(), beta=0.3, lambda_=50.0)
    assert value.dtype == torch.float32
    assert torch.equal(value, exact)


@pytest.mark.parametrize("loss", list(Loss))
def test_extreme_ratios_stay_finite(loss: Loss) -> None:
    chosen = of(1e4, -1e4, 0.0, dtype=torch.float32)
    rejected = of(-1e4, 1e4, 1e4, dtype=torch.float32)
    value = preference_loss(loss, chosen, rejected, beta=1.0, lambda_=500.0)
    value.sum().backward()
    expected = {Loss.DPO: [0.0, 2e4, 1e4], Loss.DPOP: [0.0, 2e4 + 5e6, 1e4]}[loss]
    assert value.tolist() == pytest.approx(expected)
    assert chosen.grad is not None
    assert bool(torch.isfinite(chosen.grad).all())


@pytest.mark.parametrize(
    "loss", [lambda w, r: dpo(w, r, beta=0.3), lambda w, r: dpop(w, r, beta=0.3, lambda_=5.0)], ids=["dpo", "dpop"]
)
def test_gradients_against_finite_differences(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(loss, (of(0.7, -0.4, -3.0), of(-0.2, 0.6, -5.0)))


def test_one_loss_for_each_pair() -> None:
    assert dpop(torch.zeros(5), torch.zeros(5), beta=0.3, lambda_=50.0).shape == (5,)


def test_dpop_without_lambda_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs lambda"):
        preference_loss(Loss.DPOP, torch.zeros(1), torch.zeros(1), beta=0.3, lambda_=None)
