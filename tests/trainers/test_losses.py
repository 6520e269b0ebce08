"""The losses against values worked out by hand and against plain arithmetic in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from smaug_eval.trainers.config import TrainingConfig
from smaug_eval.trainers.losses import (
    LOSSES,
    PairScores,
    apo_down,
    apo_zero,
    bdpo,
    cal_dpo,
    cpo,
    dpo,
    dpo_nll,
    dpo_norm,
    dpo_shift,
    dpop,
    dpop_v1_misprint,
    find_loss,
    hinge,
    ipo,
    ipo_averaged,
    kto,
    ld_dpo,
    loss_name,
    nca,
    orpo,
    robust,
    sft,
    simpo,
    slic,
    sppo_hard,
)
from smaug_eval.trainers.losses import (
    preference_loss as loss_by_name,
)
from smaug_eval.trainers.losses.describe import losses_page

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


CLOSED = [name for name, loss in LOSSES.items() if loss.at_start is not None]


def scores(rho_w: Tensor, rho_l: Tensor) -> PairScores:
    """Pairs of 4 and 5 tokens with log-probabilities -20 and -30 under the reference.

    The first 4 tokens of the rejected completion have half of its log-ratio, and -25 under the reference.
    """
    count = len(rho_w)
    chosen, rejected, head = (torch.full((count,), value) for value in (-20.0, -30.0, -25.0))
    return PairScores(
        rho_w + chosen,
        rho_l + rejected,
        chosen,
        rejected,
        torch.full((count,), 4),
        torch.full((count,), 5),
        heads=(rho_w + chosen, rho_l / 2 + head, chosen, head),
        labels=torch.ones(count, dtype=torch.bool),
        kl=torch.zeros(count),
    )


def config_of(loss: str, **weights: float) -> TrainingConfig:
    return TrainingConfig.model_validate({"loss": loss, **weights})


def preference_loss(config: TrainingConfig, scores: PairScores) -> Tensor:
    return loss_by_name(config.loss, config.weights, scores)


@pytest.mark.parametrize("loss", CLOSED)
def test_the_start_value_and_slope_of_an_untrained_policy(loss: str) -> None:
    chosen, rejected = of(0.0), of(0.0)
    value = preference_loss(config_of(loss, beta=0.25), scores(chosen, rejected))
    value.sum().backward()
    # DPO and its kin: ln 2, slope -beta * sigmoid(0); the kink adds nothing. IPO: (1 / (2 beta))^2 = 4, slope
    # -2 * 2, over 4 tokens where averaged. Hinge: 1, slope -beta. Robust: DPO's slope / (1 - 2 * 0.1). NCA: 2 ln 2,
    # slope beta * (-1/2 + 1/4). APO: 1, and beta / 4 up, down or both. SPPO: 2 * 2^2, slope -2 * 2; Cal-DPO: half of
    # that, and DPO with beta 1. KTO, desirable and with a divergence of 0: 1/2, beta / 4.
    expected = {
        "dpo": (LN2, -0.125),
        "dpop": (LN2, -0.125),
        "dpop_v1_misprint": (LN2, -0.125),
        "ipo": (4.0, -4.0),
        "ipo_averaged": (4.0, -1.0),
        "hinge": (1.0, -0.25),
        "dpo_shift": (LN2, -0.125),
        "dpo_norm": (LN2, -0.03125),
        "ld_dpo": (LN2, -0.125),
        "robust": (LN2, -0.15625),
        "bdpo": (LN2, -0.125),
        "nca": (2 * LN2, -0.0625),
        "apo_zero": (1.0, -0.0625),
        "apo_down": (1.0, 0.0),
        "sppo_hard": (8.0, -4.0),
        "cal_dpo": (LN2 + 4.0, -2.5),
        "kto": (0.5, -0.0625),
    }[loss]
    assert value.item() == pytest.approx(expected[0], abs=1e-12)
    at_start = LOSSES[loss].at_start
    assert at_start is not None
    assert at_start({**config_of(loss).weights, "beta": 0.25}) == pytest.approx(expected[0], abs=1e-15)
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name not in CLOSED])
def test_losses_of_likelihoods_have_no_closed_start(loss: str) -> None:
    # 20 nats over 4 tokens are 5 each, 30 over 5 are 6. SLiC: the lead of 10 nats exceeds the margin of 1.
    expected = {
        "slic": 20.0,
        "sft": 5.0,
        "dpo_nll": LN2 + 5.0,
        "simpo": 0.3132617,  # log(1 + 1/e): 2 * (6 - 5) - 1 = 1
        "cpo": 5.3132617,  # 0.1 * (30 - 20) = 1
        "orpo": 5.0312113,  # log odds 1 - (log(1 - e^-5) - log(1 - e^-6)) = 1.0042789
    }
    start = preference_loss(config_of(loss), scores(of(1.0), of(1.0)).untrained())
    assert start.item() == pytest.approx(expected[loss], abs=2e-7)


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


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# rho_w = -1, rho_l = -3: slopes by the chain rule, in plain arithmetic.
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # z = 0.5 * (-1 + 3) = 1; -0.9 log s(1) - 0.1 log s(-1) = 0.9 * 0.3132617 + 0.1 * 1.3132617 = 0.4132617;
        # slope 0.5 * (s(1) - 0.9) = -0.0844707.
        (lambda w, r: dpo(w, r, beta=0.5, label_smoothing=0.1), (0.4132617, -0.0844707, 0.0844707)),
        # (0.9 * 0.3132617 - 0.1 * 1.3132617) / 0.8 = 0.1882617; slope 0.5 * (-0.9 s(-1) - 0.1 s(1)) / 0.8.
        (lambda w, r: robust(w, r, beta=0.5, label_smoothing=0.1), (0.1882617, -0.1969707, 0.1969707)),
        # z = 0.5 * (-1 + 0.5 * 3) = 0.25: log(1 + e^-0.25); slopes -0.5 s(-0.25), and half of that.
        (lambda w, r: dpo_shift(w, r, beta=0.5, shift=0.5), (0.5759394, -0.2189117, 0.1094559)),
        # r_w = -0.5, r_l = -1.5: 0.9740770 + 0.5 * 0.4740770 + 0.5 * 0.2014133.
        (lambda w, r: nca(w, r, beta=0.5), (1.3118221, -0.2168445, 0.0456064)),
        # 1 - s(-0.5) + s(-1.5); slopes -0.5 s(0.5) s(-0.5) and 0.5 s(1.5) s(-1.5).
        (lambda w, r: apo_zero(w, r, beta=0.5), (0.8048849, -0.1175019, 0.0745732)),
        # s(-0.5) + 1 - s(1); slopes 0.1175019 - 0.5 s(1) s(-1) and 0.5 s(1) s(-1).
        (lambda w, r: apo_down(w, r, beta=0.5), (0.6464821, 0.0191959, 0.0983060)),
        # (-1 - 1)^2 + (-3 + 1)^2; slopes 2 * -2 both.
        (lambda w, r: sppo_hard(w, r, beta=0.5), (8.0, -4.0, -4.0)),
        # log(1 + e^-2) + 4; slopes -s(-2) - 2 and s(-2) - 2.
        (lambda w, r: cal_dpo(w, r, beta=0.5), (4.1269280, -2.1192029, -1.8807971)),
        # log(0.5 e^-3 + 0.5) = -0.6445598, z = 0.5 * (-1 + 0.6445598) = -0.1777201; slopes -0.5 s(0.1777201) and that
        # times the policy's part 0.5 e^-3 / (0.5 e^-3 + 0.5).
        (lambda w, r: bdpo(w, r, beta=0.5, mixture=0.5), (0.7859501, -0.2721567, 0.0129073)),
    ],
    ids=["cdpo", "robust", "dpo_shift", "nca", "apo_zero", "apo_down", "sppo_hard", "cal_dpo", "bdpo"],
)
def test_remedies_by_hand(loss: Callable[[Tensor, Tensor], Tensor], expected: tuple[float, float, float]) -> None:
    assert slopes(loss, -1.0, -3.0) == pytest.approx(expected, abs=2e-7)


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.05, 3))
def test_remedies_that_change_nothing_are_dpo(rho_w: float, rho_l: float, beta: float) -> None:
    w, r, tokens = of(rho_w), of(rho_l), torch.tensor([3])
    plain = dpo(w, r, beta=beta).item()
    same = pytest.approx(plain, rel=1e-12, abs=1e-15)
    assert dpo(w, r, beta=beta, label_smoothing=0.0).item() == plain
    assert dpo_shift(w, r, beta=beta, shift=1.0).item() == plain
    assert bdpo(w, r, beta=beta, mixture=1.0).item() == plain
    assert robust(w, r, beta=beta, label_smoothing=0.0).item() == same
    assert dpo_nll(w, r, of(-5.0), tokens, beta=beta, alpha=0.0).item() == same
    assert dpo_norm(w, r, torch.tensor([1]), torch.tensor([1]), beta=beta).item() == same
    assert ld_dpo(of(1.0), of(2.0), w, r, beta=beta, tail_weight=1.0).item() == pytest.approx(plain, abs=1e-9)


def test_the_bound_of_bounded_dpo() -> None:
    # However far the rejected one falls, its part is log(1 - 0.5) at least.
    far = bdpo(of(0.0), of(-1e4), beta=1.0, mixture=0.5).item()
    assert far == pytest.approx(dpo(of(0.0), of(-math.log(2)), beta=1.0).item(), abs=1e-12)


def test_tokens_beyond_the_shorter_completion_weigh_less() -> None:
    # Rejected: first tokens -2, all -6: -2 + 0.25 * -4 = -3; z = 0.5 * (-1 + 3) = 1.
    value = ld_dpo(of(-1.0), of(-2.0), of(-1.0), of(-6.0), beta=0.5, tail_weight=0.25)
    assert value.item() == pytest.approx(math.log1p(math.exp(-1)), abs=1e-12)


def test_a_shift_moves_in_a_straight_line() -> None:
    config = config_of("dpo_shift", beta=1.0, shift=0.5, shift_end=1.0)
    at = {share: replace(scores(of(0.0), of(-2.0)), progress=share) for share in (0.0, 0.5, 1.0)}
    found = {share: preference_loss(config, pair).item() for share, pair in at.items()}
    assert found == pytest.approx(
        {share: -math.log(sigmoid(2 * f)) for share, f in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0))}
    )
    assert "shift_end" not in config_of("dpo_shift").weights


def test_orpo_at_probabilities_near_one_stays_finite() -> None:
    chosen = of(0.0, -1e-9, dtype=torch.float32)
    value = orpo(
        chosen, of(-3.0, -1e-9, dtype=torch.float32), torch.tensor([2, 2]), torch.tensor([2, 2]), odds_weight=1.0
    )
    value.sum().backward()
    assert bool(torch.isfinite(value).all())
    assert chosen.grad is not None
    assert bool(torch.isfinite(chosen.grad).all())


def test_the_names_of_others_are_ours() -> None:
    named = {
        name: loss_name(name) for name in ("DPO", "sigmoid", "nca_pair", "sigmoid_norm", "RPO", "apo-zero", " sft ")
    }
    assert list(named.values()) == ["dpo", "dpo", "nca", "dpo_norm", "dpo_nll", "apo_zero", "sft"]
    assert config_of("SIGMOID").loss == "dpo"
    with pytest.raises(ValueError, match=r"no loss 'simp'; did you mean 'simpo'\?"):
        loss_name("simp")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"dpo": 1, "sft": 0.2}, "dpo + 0.2*sft"),
        ("dpo + 0.2*sft", "dpo + 0.2*sft"),
        ({"sigmoid": 1.0, "SFT": 0.2}, "dpo + 0.2*sft"),
        ({"dpo": 2}, "2*dpo"),
        ({"dpo": 1}, "dpo"),
        ({"dpo": 0.5, "sigmoid": 0.5}, "dpo"),
    ],
)
def test_sums_have_one_name(given: object, name: str) -> None:
    assert loss_name(given) == name
    assert loss_name(name) == name
    assert TrainingConfig.model_validate({"loss": given}).loss == name


def test_a_sum_is_the_sum() -> None:
    pair = scores(of(-0.7), of(-2.0))
    config = TrainingConfig.model_validate({"loss": {"dpo": 1, "sft": 0.2, "nca": 2}, "beta": 0.4})
    expected = (
        dpo(pair.rho_w, pair.rho_l, beta=0.4)
        + 0.2 * sft(pair.chosen, pair.chosen_tokens)
        + 2 * nca(pair.rho_w, pair.rho_l, beta=0.4)
    )
    assert preference_loss(config, pair).item() == pytest.approx(expected.item(), rel=1e-12)
    assert config.weights == {"beta": 0.4}
    assert config.entry.normalisation == "mixed"
    assert config.entry.at_start is None
    twice = find_loss("2*dpo + nca").at_start
    assert twice is not None
    assert twice({"beta": 0.1}) == pytest.approx(4 * LN2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"dpo": 1, "smft": 0.2}, "did you mean 'sft'"),
        ({"dpo": 0, "sft": 1}, "the factor of dpo is 0: give a number above 0"),
        ({"dpo": "x"}, "the factor of dpo is 'x'"),
        ({}, "an empty sum is no loss"),
        (["dpo"], "give a name, or names with their factors"),
        ({"dpo": 1, "simpo": 1}, "beta has the defaults 0.1 of dpo and 2.0 of simpo: give the one"),
    ],
)
def test_sums_that_are_none(given: object, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TrainingConfig.model_validate({"loss": given})


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"loss": "dpo", "label_smoothing": 0.5}, "less than 0.5"),
        ({"loss": "bdpo", "mixture": 1.5}, "less than or equal to 1"),
        ({"loss": "dpo_shift", "shift": 0}, "greater than 0"),
        ({"loss": "dpop", "label_smoothing": 0.1}, "label_smoothing has no meaning for loss dpop"),
    ],
)
def test_weights_out_of_bounds(weights: dict[str, float], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TrainingConfig.model_validate(weights)


@pytest.mark.parametrize("loss", list(LOSSES))
@given(seed=st.integers(0, 2**31))
def test_the_order_of_pairs_makes_no_difference(loss: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rho_w, rho_l = torch.randn(2, 6, generator=generator, dtype=torch.float64) * 3
    order = torch.randperm(6, generator=generator)
    config = config_of(loss)
    found = preference_loss(config, scores(rho_w, rho_l))
    assert torch.equal(preference_loss(config, scores(rho_w[order], rho_l[order])), found[order])


def test_every_loss_says_what_becomes_of_a_falling_answer() -> None:
    assert all(loss.falling and loss.source and loss.formula for loss in LOSSES.values())


def test_the_misprint_is_another_loss() -> None:
    # DPO's ln(1 + e^0.2) plus 2 * 1, with slope -(0.2 * sigmoid(0.2) + 2) = -2.10997.
    value, slope, _ = slopes(lambda w, r: dpop_v1_misprint(w, r, beta=0.2, lambda_=2.0), -1.0, 0.0)
    assert value == pytest.approx(math.log1p(math.exp(0.2)) + 2.0, abs=1e-12)
    assert slope == pytest.approx(-(0.2 / (1 + math.exp(-0.2)) + 2.0), abs=1e-12)
    # The largest slopes: beta + lambda outside, beta * (1 + lambda) inside.
    assert slopes(lambda w, r: dpop_v1_misprint(w, r, beta=0.3, lambda_=50.0), -99.0, 0.0)[1] == pytest.approx(-50.3)
    assert slopes(lambda w, r: dpop(w, r, beta=0.3, lambda_=50.0), -99.0, 0.0)[1] == pytest.approx(-15.3)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_each_loss_is_the_function_of_its_name(loss: str) -> None:
    weights = {
        "beta": 0.4,
        "lambda": 7.0,
        "margin": 12.0,
        "likelihood_weight": 0.3,
        "label_smoothing": 0.2,
        "alpha": 0.6,
        "shift": 0.9,
        "tail_weight": 0.3,
        "mixture": 0.8,
        "gamma": 0.7,
        "odds_weight": 0.5,
        "desirable_weight": 0.8,
        "undesirable_weight": 1.3,
    }
    mine = {name: value for name, value in weights.items() if name in LOSSES[loss].weights}
    pair = scores(torch.tensor([-0.7]), torch.tensor([-2.0]))
    w, r, rho_w, rho_l = pair.chosen, pair.rejected, pair.rho_w, pair.rho_l
    tokens = pair.chosen_tokens, pair.rejected_tokens
    expected = {
        "dpo": lambda: dpo(rho_w, rho_l, beta=0.4, label_smoothing=0.2),
        "dpo_nll": lambda: dpo_nll(rho_w, rho_l, w, tokens[0], beta=0.4, alpha=0.6),
        "dpo_shift": lambda: dpo_shift(rho_w, rho_l, beta=0.4, shift=0.9),
        "dpo_norm": lambda: dpo_norm(rho_w, rho_l, *tokens, beta=0.4),
        "ld_dpo": lambda: ld_dpo(rho_w, rho_l / 2, rho_w, rho_l, beta=0.4, tail_weight=0.3),
        "robust": lambda: robust(rho_w, rho_l, beta=0.4, label_smoothing=0.2),
        "bdpo": lambda: bdpo(rho_w, rho_l, beta=0.4, mixture=0.8),
        "nca": lambda: nca(rho_w, rho_l, beta=0.4),
        "apo_zero": lambda: apo_zero(rho_w, rho_l, beta=0.4),
        "apo_down": lambda: apo_down(rho_w, rho_l, beta=0.4),
        "sppo_hard": lambda: sppo_hard(rho_w, rho_l, beta=0.4),
        "cal_dpo": lambda: cal_dpo(rho_w, rho_l, beta=0.4),
        "simpo": lambda: simpo(w, r, *tokens, beta=0.4, gamma=0.7),
        "cpo": lambda: cpo(w, r, tokens[0], beta=0.4, alpha=0.6),
        "orpo": lambda: orpo(w, r, *tokens, odds_weight=0.5),
        "kto": lambda: kto(rho_w, *pair.labelled, beta=0.4, desirable_weight=0.8, undesirable_weight=1.3),
        "dpop": lambda: dpop(rho_w, rho_l, beta=0.4, lambda_=7.0),
        "dpop_v1_misprint": lambda: dpop_v1_misprint(rho_w, rho_l, beta=0.4, lambda_=7.0),
        "ipo": lambda: ipo(rho_w, rho_l, beta=0.4),
        "ipo_averaged": lambda: ipo_averaged(rho_w, rho_l, pair.chosen_tokens, pair.rejected_tokens, beta=0.4),
        "hinge": lambda: hinge(rho_w, rho_l, beta=0.4),
        "slic": lambda: slic(w, r, margin=12.0, likelihood_weight=0.3),
        "sft": lambda: sft(w, pair.chosen_tokens),
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


@pytest.mark.parametrize("loss", list(LOSSES))
def test_half_precision_is_computed_in_float32(loss: str) -> None:
    half = [of(-1.0, 300.0, dtype=torch.bfloat16), of(0.5, 299.0, dtype=torch.bfloat16)]
    zeros, counts = torch.zeros(2, dtype=torch.bfloat16), torch.tensor([4, 5])
    heads = (half[0], half[1], zeros, zeros)
    labels = torch.tensor([True, False])
    further = {"heads": heads, "labels": labels, "kl": half[1]}
    value = preference_loss(config_of(loss), PairScores(*half, zeros, zeros, counts, counts, **further))
    single = [values.float() for values in half]
    nothing = zeros.float()
    heads = (single[0], single[1], nothing, nothing)
    further = {"heads": heads, "labels": labels, "kl": single[1]}
    exact = preference_loss(config_of(loss), PairScores(*single, nothing, nothing, counts, counts, **further))
    assert value.dtype == torch.float32
    assert torch.equal(value, exact)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_extreme_ratios_stay_finite(loss: str) -> None:
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


def test_the_page_of_losses_is_that_of_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "losses.md"
    assert page.read_text(encoding="utf-8") == losses_page(), "python -m smaug_eval.trainers.losses > docs/losses.md"
