"""Describe a loss: what it is computed from, its weights, and everything else that the program knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from smaug_eval.common.tables import Table

if TYPE_CHECKING:  # a recipe reads the tables in milliseconds, without torch
    from torch import Tensor

Weights = Mapping[str, float]
"""Values of a loss's weights by the names that recipes use."""


@dataclass(frozen=True)
class PairScores:
    """Hold what the losses of a batch are made of; every tensor has shape ``(pairs,)``.

    Attributes:
        chosen: ``log pi(y_w | x)``, summed over tokens, in nats.
        rejected: ``log pi(y_l | x)``.
        reference_chosen: ``log pi_ref(y_w | x)``.
        reference_rejected: ``log pi_ref(y_l | x)``.
        chosen_tokens: Tokens of each chosen completion.
        rejected_tokens: Tokens of each rejected completion.
        heads: The first four, over the first ``min(|y_w|, |y_l|)`` tokens alone; None unless the loss reads them.
        progress: Share of the optimiser steps that were taken, in [0, 1].
        labels: Of unpaired completions whether each is desirable; None for pairs. An unpaired completion stands under
            ``chosen``, whatever its label, and under ``rejected`` the completion of another prompt behind its own.
        kl: Of unpaired completions the estimate of the policy's divergence from the reference, in nats, which is that
            of each one's batch; None for pairs.
    """

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    heads: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
    progress: float = 0.0
    labels: Tensor | None = None
    kl: Tensor | None = None

    @property
    def rho_w(self) -> Tensor:
        """Return the log-ratios of the chosen completions."""
        return self.chosen - self.reference_chosen

    @property
    def rho_l(self) -> Tensor:
        """Return the log-ratios of the rejected completions."""
        return self.rejected - self.reference_rejected

    @property
    def head_ratios(self) -> tuple[Tensor, Tensor]:
        """Return the log-ratios of the first tokens of the chosen and the rejected completions.

        Raises:
            ValueError: the first tokens were not added up.
        """
        if self.heads is None:
            raise ValueError("this loss reads the first tokens' sums: set needs_heads in its entry")
        chosen, rejected, reference_chosen, reference_rejected = self.heads
        return chosen - reference_chosen, rejected - reference_rejected

    @property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Return the labels and the estimates of the divergence of unpaired completions.

        Raises:
            ValueError: the scores are those of pairs.
        """
        if self.labels is None or self.kl is None:
            raise ValueError("this loss reads unpaired completions, and these are pairs")
        return self.labels, self.kl

    def untrained(self) -> PairScores:
        """Return the scores of a policy that equals its reference."""
        heads = None if self.heads is None else (*self.heads[2:], *self.heads[2:])
        kl = None if self.kl is None else self.kl * 0
        chosen, rejected = self.reference_chosen, self.reference_rejected
        return replace(self, chosen=chosen, rejected=rejected, heads=heads, progress=0.0, kl=kl)


@dataclass(frozen=True)
class Weight:
    """Describe a number that some losses take, which is a key of a training.

    Attributes:
        description: What it does.
        positive: Whether it must be above 0; the others may be 0.
        most: Its largest value; None for no bound.
        below: What it must be smaller than; None for no bound.
        added: Whether runs were recorded before there was such a weight; the keys of their stages do not name it.
    """

    description: str
    positive: bool = False
    most: float | None = None
    below: float | None = None
    added: bool = True


WEIGHTS = Table(
    "weights",
    Weight,
    {
        "beta": Weight("Strength of the pull towards the reference model", positive=True, added=False),
        "lambda": Weight(
            "Weight of DPO-Positive's penalty on a chosen completion that fell below the reference", added=False
        ),
        "margin": Weight("SLiC: lead in nats that the chosen completion shall have", added=False),
        "likelihood_weight": Weight("SLiC: weight of the likelihood of the chosen completion", added=False),
        "label_smoothing": Weight("Share of the pairs whose labels are taken to be wrong", below=0.5),
        "alpha": Weight("Weight of the likelihood of the chosen completion, averaged over its tokens"),
        "shift": Weight("DPO-Shift: factor f of the rejected completion's log-ratio", positive=True, most=1.0),
        "shift_end": Weight(
            "DPO-Shift: f after the last step; f moves there in a straight line. Left out: f stays shift",
            positive=True,
            most=1.0,
        ),
        "tail_weight": Weight("LD-DPO: weight of the tokens beyond the shorter completion", most=1.0),
        "mixture": Weight(
            "BDPO: share of the policy in what the rejected completion is scored by", positive=True, most=1.0
        ),
        "gamma": Weight("SimPO: lead, times beta, that the chosen completion shall have"),
        "odds_weight": Weight("ORPO: weight of the odds ratio"),
        "desirable_weight": Weight("KTO: weight of the loss of a desirable completion"),
        "undesirable_weight": Weight("KTO: weight of the loss of an undesirable completion"),
    },
)


@dataclass(frozen=True)
class Loss:
    """Describe a loss: everything that the program knows of it.

    Attributes:
        title: The name as papers print it.
        formula: The loss of one pair, in plain text.
        source: Where it was published.
        function: Computes the losses of a batch, shape ``(pairs,)``, from its scores and the weights.
        weights: Its weights with their defaults; each name is a key of :data:`WEIGHTS`. A default of None: left out,
            also of records, the loss is as without that weight.
        needs_reference: Whether it reads the reference's log-probabilities (the log shows them all the same).
        averaged: Whether it averages log-probabilities over the tokens of a completion; the others sum them. None where
            its terms differ, as the formula shows.
        at_start: The loss of a pair while the policy still equals its reference; None, or what it gives is, where that
            depends on the pair.
        needs_heads: Whether it reads :attr:`PairScores.heads`.
        falling: What it does to a preferred answer whose likelihood falls.
        defaults: Where the default of a weight comes from, by its name.
        unpaired: Whether it reads single completions with a label, one loss each, instead of pairs.
    """

    title: str
    formula: str
    source: str
    function: Callable[[PairScores, Weights], Tensor]
    weights: Mapping[str, float | None] = field(default_factory=dict)
    needs_reference: bool = True
    averaged: bool | None = False
    at_start: Callable[[Weights], float | None] | None = None
    needs_heads: bool = False
    falling: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    unpaired: bool = False

    def default_source(self, weight: str) -> str:
        """Return where the default of a weight comes from; empty where that is not noted."""
        return self.defaults.get(weight, "")

    @property
    def normalisation(self) -> str:
        """Say how log-probabilities are taken over the tokens of a completion: summed, averaged or mixed."""
        return "mixed" if self.averaged is None else "averaged" if self.averaged else "summed"


def log_sigmoid(values: Tensor) -> Tensor:
    """Compute ``log sigmoid``, exactly for large values, too."""
    from torch.nn.functional import logsigmoid

    return logsigmoid(values)


def precise(values: Tensor) -> Tensor:
    """Return half precision as float32, and everything else as it is."""
    import torch

    return values.to(torch.promote_types(values.dtype, torch.float32))
