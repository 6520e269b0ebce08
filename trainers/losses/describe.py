"""Write the page of losses from their table, so that it cannot be out of date."""

from __future__ import annotations

from collections.abc import Mapping

from smaug_eval.trainers.losses.entry import WEIGHTS
from smaug_eval.trainers.losses.table import LOSSES, OTHER_NAMES

_HEAD = """\
# Losses

`loss:` in a training of a recipe, `--loss` of `smaug-eval train`. For a prompt x with a chosen completion y_w and a
rejected one y_l, rho(y) = log pi(y | x) - log pi_ref(y | x) is the log-ratio of policy to reference; |y| counts tokens.
"At the start" is the loss of a pair while the policy still equals its reference, at the default weights; a training
checks it at its first step. The last column says what becomes of a *preferred* answer that gets less likely, which is
where DPO fails.

A weighted sum of losses is a loss: `loss: {dpo: 1, sft: 0.2}`, or `dpo + 0.2*sft`. Names in capitals and those of
others are understood: OTHER_NAMES. [extend.md](extend.md) says how to add one. This page is printed by
`python -m smaug_eval.trainers.losses`.

| `loss:` | the loss of a pair | weights (default) | reference | at the start | a falling preferred answer |
|---|---|---|---|---|---|
"""


def losses_page() -> str:
    """Return the page in Markdown: what each loss is, its weights and its source."""
    names = ", ".join(f"`{other}` is `{ours}`" for other, ours in OTHER_NAMES.items())
    lines = [_HEAD.replace("OTHER_NAMES", names)]
    for name, loss in LOSSES.items():
        weights = ", ".join(f"`{weight}` ({_shown(value)})" for weight, value in loss.weights.items()) or "none"
        start = "depends on the pair" if loss.at_start is None else f"{loss.at_start(_defaults(loss.weights)):.4g}"
        reference = "yes" if loss.needs_reference else "no"
        formula = loss.formula.replace("|", "\\|")
        lines.append(f"| `{name}` | {formula} | {weights} | {reference} | {start} | {loss.falling} |\n")
    lines.append("\n## Sources\n\n")
    lines += [f"- `{name}`, {loss.title}: {loss.source}.\n" for name, loss in LOSSES.items()]
    lines.append("\n## Weights\n\n")
    lines += [f"- `{name}`: {weight.description}.\n" for name, weight in WEIGHTS.items()]
    return "".join(lines)


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _defaults(weights: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in weights.items() if value is not None}
