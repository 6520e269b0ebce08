"""Define what a gate's ruling rests on: scores, differences and intervals as the report has them."""

from __future__ import annotations

from dataclasses import dataclass

from smaug_eval.stats import Interval, Outcome

NOT_MEASURED = "was not measured on it"
MEND = "correct the policy"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Hold what is known of one subject of one model.

    Attributes:
        where: The table, question set or kind of pairs.
        subject: The column, average or training.
        unit: Of the score: ``%``, ``of 10``, ``nats``, or empty for lm-eval's own.
        score: The model's; None where it was not measured.
        score_interval: 95%.
        reference: The baseline's score.
        difference: The model's less the baseline's; None where they do not compare.
        interval: 95%, of the difference.
        p_value: Of no difference.
        adjusted_p: The same by Holm's method, over what the report adjusts it.
        outcome: The report's verdict; None where they do not compare.
        held_back: What interval or p value alone suggest, where the verdict is inconclusive.
        detectable: The smallest true difference found in 80% of cases.
        must_detect: What that must be at most, where a requirement does not say; None where nothing says so.
        higher_is_better: Whether more is better; None where nobody says so.
        n: Documents, questions or pairs.
        same_on: Documents, where both models have the same value on every one; None otherwise.
        test: The test behind the p value.
        why_not: Why there is no difference.
        invalid: Why the score itself is not the one that its name says.
        remarks: What to know beside it.
    """

    where: str
    subject: str
    unit: str = "%"
    score: float | None = None
    score_interval: Interval | None = None
    reference: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    adjusted_p: float | None = None
    outcome: Outcome | None = None
    held_back: str = ""
    detectable: float | None = None
    must_detect: float | None = None
    higher_is_better: bool | None = True
    n: int | None = None
    same_on: int | None = None
    test: str = ""
    why_not: str = ""
    invalid: str = ""
    remarks: tuple[str, ...] = ()
