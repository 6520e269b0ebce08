"""List published shares of examples that the contamination check flags, to compare one's own with.

Source: the Smaug authors' repository and model cards, which name the tool (swj0419's
detect-pretrain-code-contamination) and the reference model. The tool's version and settings and the number of examples
behind these figures are not known to us. The tool takes 100, which two decimals would fit; the intervals assume it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from smaug_eval.stats import wilson_interval

EXAMPLES = 100
"""Examples that the tool takes of a task, unless its code is changed."""


@dataclass(frozen=True)
class PublishedShares:
    """Hold what was published of one model.

    Attributes:
        model: Its name.
        reference: The reference model.
        shares: Flagged share of the examples, 0 to 1, by the task's short name.
    """

    model: str
    reference: str
    shares: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the plain data, with Wilson's 95% interval of each share under the assumption of 100 examples."""
        shares = {
            task: {"share": share, "interval": list(wilson_interval(share, EXAMPLES))}
            for task, share in self.shares.items()
        }
        return {"model": self.model, "reference": self.reference, "tasks": shares}


PUBLISHED = (
    PublishedShares("Smaug-72B", "Llama-7B", {"arc_challenge": 0.20, "truthfulqa": 0.45, "gsm8k": 1.00}),
    PublishedShares("MoMo-72B", "Llama-7B", {"arc_challenge": 0.20, "truthfulqa": 0.39, "gsm8k": 1.00}),
    PublishedShares("Llama-2-70B", "Llama-7B", {"arc_challenge": 0.22, "truthfulqa": 0.51, "gsm8k": 0.89}),
    PublishedShares("Smaug-34B", "bagel-34b", {"arc_challenge": 0.08, "truthfulqa": 0.38, "gsm8k": 0.88}),
)
