"""A loss: the squared distance of the lead from a wanted one."""

from __future__ import annotations

from smaug_eval.trainers.losses import Loss, Weight

LEAD = Weight("Squared lead: wanted lead of the chosen completion in nats")
LOSS = Loss(
    title="squared lead",
    formula="(rho_w - rho_l - lead)^2",
    source="a test",
    function=lambda pairs, weights: (pairs.rho_w - pairs.rho_l - weights["lead"]) ** 2,
    weights={"lead": 2.0},
    at_start=lambda weights: weights["lead"] ** 2,
)
