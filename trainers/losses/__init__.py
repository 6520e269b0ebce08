"""Compute preference losses: pure functions of log-ratios, one loss a pair, and a table that describes each."""

from smaug_eval.trainers.losses.entry import WEIGHTS, Loss, PairScores, Weight, Weights
from smaug_eval.trainers.losses.pointwise import apo_down, apo_zero, cal_dpo, nca, sppo_hard
from smaug_eval.trainers.losses.relative import (
    bdpo,
    dpo,
    dpo_nll,
    dpo_norm,
    dpo_shift,
    dpop,
    dpop_v1_misprint,
    hinge,
    ipo,
    ipo_averaged,
    ld_dpo,
    robust,
)
from smaug_eval.trainers.losses.table import (
    LOSSES,
    OTHER_NAMES,
    contested_weights,
    find_loss,
    loss_name,
    preference_loss,
)
from smaug_eval.trainers.losses.unpaired import kto
from smaug_eval.trainers.losses.without_reference import cpo, orpo, sft, simpo, slic

__all__ = [
    "LOSSES",
    "OTHER_NAMES",
    "WEIGHTS",
    "Loss",
    "PairScores",
    "Weight",
    "Weights",
    "apo_down",
    "apo_zero",
    "bdpo",
    "cal_dpo",
    "contested_weights",
    "cpo",
    "dpo",
    "dpo_nll",
    "dpo_norm",
    "dpo_shift",
    "dpop",
    "dpop_v1_misprint",
    "find_loss",
    "hinge",
    "ipo",
    "ipo_averaged",
    "kto",
    "ld_dpo",
    "loss_name",
    "nca",
    "orpo",
    "preference_loss",
    "robust",
    "sft",
    "simpo",
    "slic",
    "sppo_hard",
]
