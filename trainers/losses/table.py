"""List the losses: :data:`LOSSES` holds one entry each; whatever the program says or does about a loss, it reads there.

A training may also name a weighted sum of losses, such as ``dpo + 0.2*sft``, or a loss by TRL's name.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from smaug_eval.common.tables import Table
from smaug_eval.trainers.losses.entry import Loss, PairScores, Weights
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
from smaug_eval.trainers.losses.unpaired import kto
from smaug_eval.trainers.losses.without_reference import cpo, orpo, sft, simpo, slic

if TYPE_CHECKING:
    from torch import Tensor

FIELD_BETA = {"beta": 0.1}
PENALISED = {"beta": 0.3, "lambda": 50.0}
_OF_THE_FIELD = {"beta": "as in TRL, Axolotl and LLaMA-Factory"}
_OF_THE_PAPER = dict.fromkeys(PENALISED, "third-party notes on the Smaug paper, unverified")
_MAY_FALL = "it may fall as long as the rejected one falls faster"
_PULLED_BACK = "a likelihood term draws it up"

OTHER_NAMES = {
    "sigmoid": "dpo",
    "nca_pair": "nca",
    "sigmoid_norm": "dpo_norm",
    "rpo": "dpo_nll",
}
"""Names of losses elsewhere (TRL's ``loss_type``, papers) and ours. TRL's ``ipo`` is ``ipo_averaged``."""


def _ln2(weights: Weights) -> float:
    return math.log(2)


def _ipo_start(weights: Weights) -> float:
    return 1 / (2 * weights["beta"]) ** 2


def _kto_start(weights: Weights) -> float | None:
    weight = weights["desirable_weight"]
    return 0.5 * weight if weight == weights["undesirable_weight"] else None


def _shift(pairs: PairScores, weights: Weights) -> float:
    start = weights["shift"]
    return start + (weights.get("shift_end", start) - start) * pairs.progress


LOSSES = Table(
    "losses",
    Loss,
    {
        "dpo": Loss(
            "DPO",
            "-log sigmoid(beta * (rho_w - rho_l))",
            "Rafailov et al., arXiv 2305.18290, Eq. 7",
            lambda pairs, weights: dpo(
                pairs.rho_w,
                pairs.rho_l,
                beta=weights["beta"],
                label_smoothing=weights.get("label_smoothing", 0.0),
            ),
            {**FIELD_BETA, "label_smoothing": None},
            at_start=_ln2,
            falling=_MAY_FALL,
            defaults=_OF_THE_FIELD,
        ),
        "dpop": Loss(
            "DPO-Positive",
            "-log sigmoid(beta * (rho_w - rho_l - lambda * max(0, -rho_w)))",
            "Pal et al., arXiv 2402.13228 version 2, Eq. 3",
            lambda pairs, weights: dpop(pairs.rho_w, pairs.rho_l, beta=weights["beta"], lambda_=weights["lambda"]),
            PENALISED,
            at_start=_ln2,
            falling="below the reference it is pulled back with up to 1 + lambda times DPO's strength",
            defaults=_OF_THE_PAPER,
        ),
        "dpop_v1_misprint": Loss(
            "DPO-Positive as misprinted in v1",
            "-log sigmoid(beta * (rho_w - rho_l)) + lambda * max(0, -rho_w)",
            "Pal et al., arXiv 2402.13228 version 1",
            lambda pairs, weights: dpop_v1_misprint(
                pairs.rho_w, pairs.rho_l, beta=weights["beta"], lambda_=weights["lambda"]
            ),
            PENALISED,
            at_start=_ln2,
            falling="below the reference it is pulled back with strength lambda",
            defaults=_OF_THE_PAPER,
        ),
        "dpo_nll": Loss(
            "DPO with a likelihood term (RPO)",
            "-log sigmoid(beta * (rho_w - rho_l)) - alpha * log pi(y_w) / |y_w|",
            "Pang et al., arXiv 2404.19733, Eq. 1",
            lambda pairs, weights: dpo_nll(
                pairs.rho_w,
                pairs.rho_l,
                pairs.chosen,
                pairs.chosen_tokens,
                beta=weights["beta"],
                alpha=weights["alpha"],
            ),
            {**FIELD_BETA, "alpha": 1.0},
            averaged=None,
            falling=_PULLED_BACK,
            defaults=_OF_THE_FIELD,
        ),
        "dpo_shift": Loss(
            "DPO-Shift",
            "-log sigmoid(beta * (rho_w - f * rho_l)), f = shift, or from shift to shift_end in a straight line",
            "Yang et al., arXiv 2502.07599, Eq. 2; the default of shift is ours",
            lambda pairs, weights: dpo_shift(
                pairs.rho_w, pairs.rho_l, beta=weights["beta"], shift=_shift(pairs, weights)
            ),
            {**FIELD_BETA, "shift": 0.75, "shift_end": None},
            at_start=_ln2,
            falling="it may fall, but the rejected one's fall pays only f times as much",
            defaults=_OF_THE_FIELD,
        ),
        "dpo_norm": Loss(
            "DPO, length-normalised",
            "-log sigmoid(beta * (rho_w / |y_w| - rho_l / |y_l|))",
            "Lambert et al. (Tulu 3), arXiv 2411.15124, Eq. 6",
            lambda pairs, weights: dpo_norm(
                pairs.rho_w, pairs.rho_l, pairs.chosen_tokens, pairs.rejected_tokens, beta=weights["beta"]
            ),
            {"beta": 5.0},
            averaged=True,
            at_start=_ln2,
            falling=_MAY_FALL,
            defaults={"beta": "as in Tulu 3"},
        ),
        "ld_dpo": Loss(
            "DPO, length-desensitised",
            "-log sigmoid(beta * (rho'_w - rho'_l)), rho' = rho of the first min(|y_w|, |y_l|) tokens + tail_weight * "
            "rho of the rest",
            "Liu et al., arXiv 2409.06411; the default of tail_weight is ours",
            lambda pairs, weights: ld_dpo(
                *pairs.head_ratios, pairs.rho_w, pairs.rho_l, beta=weights["beta"], tail_weight=weights["tail_weight"]
            ),
            {**FIELD_BETA, "tail_weight": 0.5},
            at_start=_ln2,
            needs_heads=True,
            falling=_MAY_FALL,
            defaults=_OF_THE_FIELD,
        ),
        "robust": Loss(
            "robust DPO",
            "(-(1 - e) * log sigmoid(z) + e * log sigmoid(-z)) / (1 - 2 * e), z = beta * (rho_w - rho_l), "
            "e = label_smoothing",
            "Chowdhury et al., arXiv 2403.00409",
            lambda pairs, weights: robust(
                pairs.rho_w, pairs.rho_l, beta=weights["beta"], label_smoothing=weights["label_smoothing"]
            ),
            {**FIELD_BETA, "label_smoothing": 0.1},
            at_start=_ln2,
            falling=_MAY_FALL,
            defaults=_OF_THE_FIELD,
        ),
        "bdpo": Loss(
            "bounded DPO",
            "-log sigmoid(beta * (rho_w - log(mixture * exp(rho_l) + 1 - mixture)))",
            "Cho et al., arXiv 2506.12725 (formula unverified against the paper)",
            lambda pairs, weights: bdpo(pairs.rho_w, pairs.rho_l, beta=weights["beta"], mixture=weights["mixture"]),
            {**FIELD_BETA, "mixture": 0.5},
            at_start=_ln2,
            falling="the rejected one's fall pays -log(1 - mixture) nats at most",
            defaults=_OF_THE_FIELD,
        ),
        "ipo": Loss(
            "IPO, summed",
            "(rho_w - rho_l - 1 / (2 * beta))^2",
            "Azar et al., arXiv 2310.12036, Eq. 17; TRL's authors report that IPO's confirmed the token average of "
            "ipo_averaged",
            lambda pairs, weights: ipo(pairs.rho_w, pairs.rho_l, beta=weights["beta"]),
            FIELD_BETA,
            at_start=_ipo_start,
            falling="it may fall with the rejected one; the lead has a target",
            defaults=_OF_THE_FIELD,
        ),
        "ipo_averaged": Loss(
            "IPO, averaged over tokens",
            "(rho_w / |y_w| - rho_l / |y_l| - 1 / (2 * beta))^2",
            "Azar et al., arXiv 2310.12036, Eq. 17, in the form of TRL, which IPO's authors confirmed to TRL's",
            lambda pairs, weights: ipo_averaged(
                pairs.rho_w, pairs.rho_l, pairs.chosen_tokens, pairs.rejected_tokens, beta=weights["beta"]
            ),
            FIELD_BETA,
            averaged=True,
            at_start=_ipo_start,
            falling="it may fall with the rejected one; the lead has a target",
            defaults=_OF_THE_FIELD,
        ),
        "hinge": Loss(
            "hinge on log-ratios",
            "max(0, 1 - beta * (rho_w - rho_l))",
            "Zhao et al., arXiv 2305.10425, normalised by a reference as in Liu et al., arXiv 2309.06657",
            lambda pairs, weights: hinge(pairs.rho_w, pairs.rho_l, beta=weights["beta"]),
            FIELD_BETA,
            at_start=lambda weights: 1.0,
            falling=_MAY_FALL,
            defaults=_OF_THE_FIELD,
        ),
        "nca": Loss(
            "NCA",
            "-log sigmoid(beta * rho_w) - 0.5 * log sigmoid(-beta * rho_w) - 0.5 * log sigmoid(-beta * rho_l)",
            "Chen et al., arXiv 2402.05369",
            lambda pairs, weights: nca(pairs.rho_w, pairs.rho_l, beta=weights["beta"]),
            FIELD_BETA,
            at_start=lambda weights: 2 * math.log(2),
            falling="it is drawn to log(2) / beta above the reference",
            defaults=_OF_THE_FIELD,
        ),
        "apo_zero": Loss(
            "APO-zero",
            "1 - sigmoid(beta * rho_w) + sigmoid(beta * rho_l)",
            "D'Oosterlinck et al., arXiv 2408.06266, Eq. 7",
            lambda pairs, weights: apo_zero(pairs.rho_w, pairs.rho_l, beta=weights["beta"]),
            FIELD_BETA,
            at_start=lambda weights: 1.0,
            falling="it is raised by itself, hardly any more once it fell far",
            defaults=_OF_THE_FIELD,
        ),
        "apo_down": Loss(
            "APO-down",
            "sigmoid(beta * rho_w) + 1 - sigmoid(beta * (rho_w - rho_l))",
            "D'Oosterlinck et al., arXiv 2408.06266, Eq. 8",
            lambda pairs, weights: apo_down(pairs.rho_w, pairs.rho_l, beta=weights["beta"]),
            FIELD_BETA,
            at_start=lambda weights: 1.0,
            falling="it is lowered by design",
            defaults=_OF_THE_FIELD,
        ),
        "sppo_hard": Loss(
            "SPPO with hard labels",
            "(rho_w - 1 / (2 * beta))^2 + (rho_l + 1 / (2 * beta))^2",
            "Wu et al., arXiv 2405.00675, Eq. 4.7",
            lambda pairs, weights: sppo_hard(pairs.rho_w, pairs.rho_l, beta=weights["beta"]),
            FIELD_BETA,
            at_start=lambda weights: 1 / (2 * weights["beta"] ** 2),
            falling="it is drawn to 1 / (2 beta) above the reference",
            defaults=_OF_THE_FIELD,
        ),
        "cal_dpo": Loss(
            "Cal-DPO",
            "-log sigmoid(rho_w - rho_l) + 0.5 * ((rho_w - 1 / (2 * beta))^2 + (rho_l + 1 / (2 * beta))^2)",
            "Xiao et al., arXiv 2412.14516 (weight of the second term unverified)",
            lambda pairs, weights: cal_dpo(pairs.rho_w, pairs.rho_l, beta=weights["beta"]),
            FIELD_BETA,
            at_start=lambda weights: math.log(2) + 1 / (4 * weights["beta"] ** 2),
            falling="it is drawn to 1 / (2 beta) above the reference",
            defaults=_OF_THE_FIELD,
        ),
        "slic": Loss(
            "SLiC",
            "max(0, margin - log pi(y_w) + log pi(y_l)) - likelihood_weight * log pi(y_w)",
            "Zhao et al., arXiv 2305.10425",
            lambda pairs, weights: slic(
                pairs.chosen,
                pairs.rejected,
                margin=weights["margin"],
                likelihood_weight=weights["likelihood_weight"],
            ),
            {"margin": 1.0, "likelihood_weight": 1.0},
            needs_reference=False,
            falling=_PULLED_BACK,
        ),
        "simpo": Loss(
            "SimPO",
            "-log sigmoid(beta * (log pi(y_w) / |y_w| - log pi(y_l) / |y_l|) - gamma)",
            "Meng et al., arXiv 2405.14734, Eq. 6",
            lambda pairs, weights: simpo(
                pairs.chosen,
                pairs.rejected,
                pairs.chosen_tokens,
                pairs.rejected_tokens,
                beta=weights["beta"],
                gamma=weights["gamma"],
            ),
            {"beta": 2.0, "gamma": 1.0},
            needs_reference=False,
            averaged=True,
            falling=_MAY_FALL,
            defaults={"beta": "as in SimPO's own recipes for base models, unverified"},
        ),
        "cpo": Loss(
            "CPO",
            "-log sigmoid(beta * (log pi(y_w) - log pi(y_l))) - alpha * log pi(y_w) / |y_w|",
            "Xu et al., arXiv 2401.08417, Eq. 3 to 5",
            lambda pairs, weights: cpo(
                pairs.chosen, pairs.rejected, pairs.chosen_tokens, beta=weights["beta"], alpha=weights["alpha"]
            ),
            {**FIELD_BETA, "alpha": 1.0},
            needs_reference=False,
            averaged=None,
            falling=_PULLED_BACK,
            defaults=_OF_THE_FIELD,
        ),
        "orpo": Loss(
            "ORPO",
            "-a_w - odds_weight * log sigmoid(log(odds_w / odds_l)), a = log pi(y) / |y|, odds = e^a / (1 - e^a)",
            "Hong et al., arXiv 2403.07691, Eq. 6 and 7",
            lambda pairs, weights: orpo(
                pairs.chosen,
                pairs.rejected,
                pairs.chosen_tokens,
                pairs.rejected_tokens,
                odds_weight=weights["odds_weight"],
            ),
            {"odds_weight": 0.1},
            needs_reference=False,
            averaged=True,
            falling=_PULLED_BACK,
        ),
        "sft": Loss(
            "SFT on chosen",
            "-log pi(y_w) / |y_w|",
            "supervised fine-tuning on the chosen completion, as the paper's baseline",
            lambda pairs, weights: sft(pairs.chosen, pairs.chosen_tokens),
            needs_reference=False,
            averaged=True,
            falling="it is raised; nothing lowers the rejected one",
        ),
        "kto": Loss(
            "KTO",
            "w * (1 - sigmoid(beta * (rho - kl))) of a desirable completion, w * (1 - sigmoid(beta * (kl - rho))) of "
            "an undesirable one; kl = max(0, mean of rho over mismatched completions of the batch)",
            "Ethayarajh et al., arXiv 2402.01306, Eq. 7 and 8, with TRL's estimate of kl",
            lambda pairs, weights: kto(
                pairs.rho_w,
                *pairs.labelled,
                beta=weights["beta"],
                desirable_weight=weights["desirable_weight"],
                undesirable_weight=weights["undesirable_weight"],
            ),
            {**FIELD_BETA, "desirable_weight": 1.0, "undesirable_weight": 1.0},
            at_start=_kto_start,
            falling="a desirable answer is raised by itself, hardly any more once it fell far below the reference",
            defaults={**_OF_THE_FIELD, "desirable_weight": "as in TRL", "undesirable_weight": "as in TRL"},
            unpaired=True,
        ),
    },
)
"""Every loss by its name in recipes."""

_TERM = re.compile(r"(?:(?P<factor>[0-9.eE+-]+)\s*\*\s*)?(?P<name>[\w-]+)")


def known_name(name: str) -> str:
    """Return our name of a loss, from whatever case or from TRL's name.

    Raises:
        ValueError: there is no such loss.
    """
    plain = name.strip().lower().replace("-", "_")
    plain = OTHER_NAMES.get(plain, plain)
    if plain not in LOSSES:
        near = difflib.get_close_matches(plain, list(LOSSES), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no loss {name!r}{hint}; there is {', '.join(LOSSES)}")
    return plain


def loss_name(loss: object) -> str:
    """Return the name of a loss or of a weighted sum, as records have it: ``dpo``, ``dpo + 0.2*sft``.

    Args:
        loss: A name, such a sum, or an object of names and factors.

    Raises:
        ValueError: it is neither, a name is unknown, or a factor is not a number above 0.
    """
    if isinstance(loss, Mapping):
        terms = [(str(name), factor) for name, factor in loss.items()]
    elif isinstance(loss, str):
        found = [_TERM.fullmatch(term.strip()) for term in loss.split(" + ")]
        terms = [(match["name"], match["factor"] or 1) for match in found if match]
        if len(terms) < len(found):
            known_name(loss)
    else:
        raise ValueError(f"{loss!r} is no loss: give a name, or names with their factors, {{dpo: 1, sft: 0.2}}")
    parts: dict[str, float] = {}
    for name, factor in terms:
        own = known_name(name)
        parts[own] = parts.get(own, 0.0) + _factor(name, factor)
    if not parts:
        raise ValueError("an empty sum is no loss")
    alone = [name for name in parts if LOSSES[name].unpaired]
    if alone and len(parts) > 1:
        others = ", ".join(name for name in parts if name not in alone)
        raise ValueError(f"{alone[0]} reads unpaired completions and {others} pairs: they make no sum")
    if len(parts) == 1 and list(parts.values()) == [1.0]:
        return next(iter(parts))
    return " + ".join(name if factor == 1 else f"{factor:.12g}*{name}" for name, factor in parts.items())


@lru_cache(maxsize=64)
def find_loss(name: str) -> Loss:
    """Return the entry of a loss, or that of a weighted sum, made from its terms' entries.

    Args:
        name: As :func:`loss_name` returns it.
    """
    if name in LOSSES:
        return LOSSES[name]
    matches = [_TERM.fullmatch(term) for term in name.split(" + ")]
    parts = [(float(match["factor"] or 1), LOSSES[match["name"]]) for match in matches if match]
    starts = [part.at_start for _, part in parts]
    normalisations = {part.averaged for _, part in parts}

    def total(pairs: PairScores, weights: Weights) -> Tensor:
        first, *others = (factor * part.function(pairs, weights) for factor, part in parts)
        return sum(others, first)

    def start(weights: Weights) -> float:
        return sum(factor * (part.at_start(weights) or 0.0) for factor, part in parts if part.at_start is not None)

    return Loss(
        title=" + ".join(part.title if factor == 1 else f"{factor:g} {part.title}" for factor, part in parts),
        formula=" + ".join(f"{factor:g} * [{part.formula}]" for factor, part in parts),
        source="; ".join(part.source for _, part in parts),
        function=total,
        weights={name: value for _, part in reversed(parts) for name, value in part.weights.items()},
        needs_reference=any(part.needs_reference for _, part in parts),
        averaged=normalisations.pop() if len(normalisations) == 1 else None,
        at_start=None if None in starts else start,
        needs_heads=any(part.needs_heads for _, part in parts),
        falling="; ".join(f"{part.title}: {part.falling}" for _, part in parts),
        unpaired=any(part.unpaired for _, part in parts),
    )


def contested_weights(name: str) -> dict[str, dict[str, float | None]]:
    """Return the weights that the terms of a sum have different defaults of, with these by term."""
    matches = [_TERM.fullmatch(term) for term in name.split(" + ")]
    terms = [match["name"] for match in matches if match]
    shared: dict[str, dict[str, float | None]] = {}
    for term in terms:
        for weight, value in LOSSES[term].weights.items():
            shared.setdefault(weight, {})[term] = value
    return {weight: values for weight, values in shared.items() if len(set(values.values())) > 1}


def preference_loss(name: str, weights: Weights, scores: PairScores) -> Tensor:
    """Compute the losses of a batch, shape ``(pairs,)``, for a loss or sum by its name and with its weights."""
    return find_loss(name).function(scores, weights)


def _factor(name: str, value: object) -> float:
    try:
        factor = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        factor = math.nan
    if isinstance(value, bool) or not 0 < factor < math.inf:
        raise ValueError(f"the factor of {name} is {value!r}: give a number above 0")
    return factor
