"""Read what a results file says of an evaluation that stopped as soon as it was decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from smaug_eval.results.json_files import as_number, mapping, whole_number
from smaug_eval.stats import Interval, Outcome

STOPPED = "stopped"
"""Key of a results file; its value has the keys of ``RECORDED``."""


class _Keys(NamedTuple):
    n: str = "n"
    of: str = "of"
    sizes: str = "sizes"
    against: str = "against"
    margin: str = "margin"
    outcome: str = "outcome"
    difference: str = "difference"
    apart: str = "apart"
    per_entry: str = "per_entry"
    interval: str = "interval"
    beyond: str = "beyond"
    score_interval: str = "score_interval"
    average: str = "average"
    columns: str = "columns"


RECORDED = _Keys()


class Decided(NamedTuple):
    """Hold a difference in points with its anytime-valid interval and what it shows."""

    difference: float
    interval: Interval
    outcome: Outcome
    columns: int = 1
    """Whose mean it is."""
    beyond: Interval | None = None
    """The same interval for whatever the documents are a sample of, rather than for these documents."""


@dataclass(frozen=True)
class EarlyStop:
    """Describe an evaluation of a column that could stop early.

    Attributes:
        n: Documents scored.
        of: Documents there are.
        sizes: Task to all of its documents.
        against: What the model was compared with; empty for that model itself.
        margin: The difference too small to matter, in points; None where none was given.
        found: The difference from ``against``; None for that model itself.
        average: The same of the average of the evaluation's columns.
        score_interval: Anytime-valid 95% interval of the model's own score in percent.
        apart: The plain mean in points of the documents' differences, by which they are known again; None where nobody
            says it.
        per_entry: What an entry counts in it of a value with several, such as IFEval's instructions.
    """

    n: int
    of: int
    sizes: Mapping[str, int] = field(default_factory=dict)
    against: str = ""
    margin: float | None = None
    found: Decided | None = None
    average: Decided | None = None
    score_interval: Interval | None = None
    apart: float | None = None
    per_entry: float = 0.0

    @property
    def is_early(self) -> bool:
        """Return whether documents are left that were not scored."""
        return self.n < self.of

    @property
    def words(self) -> str:
        """Return what stands beside such a score."""
        return stopped_words(self.n, self.of)


def stopped_words(n: int, of: int) -> str:
    """Say that an evaluation stopped."""
    return f"stopped after {n:,} of {of:,} documents, anytime-valid"


def decision_words(outcome: Outcome, n: int, of: int, interval: Interval, margin: float | None) -> str:
    """Say what was decided after how many documents.

    Args:
        outcome: What the interval shows.
        n: Documents scored.
        of: Documents there are.
        interval: In points.
        margin: In points; None where none was given.
    """
    within = f" within ±{margin:g} points" if outcome is Outcome.NO_DETECTABLE_DIFFERENCE else ""
    ends = f"{interval[0]:+.2f} to {interval[1]:+.2f} points"
    if n == of:
        return f"not decided before the last of {of:,} documents ({ends})"
    return f"{outcome.value}{within}, {stopped_words(n, of)}: {ends}"


def stopped_of(document: Mapping[str, Any]) -> EarlyStop | None:
    """Read the key ``stopped`` of a results file; None where an evaluation could not stop, or the key is damaged."""
    held = mapping(document.get(STOPPED))
    n, of = whole_number(held.get(RECORDED.n)), whole_number(held.get(RECORDED.of))
    if n is None or of is None or not 0 < n <= of:
        return None
    counts = {str(task): whole_number(each) for task, each in mapping(held.get(RECORDED.sizes)).items()}
    sizes = {task: size for task, size in counts.items() if size is not None and size > 0}
    against = held.get(RECORDED.against)
    margin, apart = as_number(held.get(RECORDED.margin)), as_number(held.get(RECORDED.apart))
    per_entry = as_number(held.get(RECORDED.per_entry))
    return EarlyStop(
        n=n,
        of=of,
        sizes=sizes,
        against=against if isinstance(against, str) else "",
        margin=margin if math.isfinite(margin) else None,
        found=_decided(held),
        average=_decided(mapping(held.get(RECORDED.average))),
        score_interval=_interval(held.get(RECORDED.score_interval)),
        apart=apart if math.isfinite(apart) else None,
        per_entry=per_entry if math.isfinite(per_entry) else 0.0,
    )


def _decided(held: Mapping[str, Any]) -> Decided | None:
    interval = _interval(held.get(RECORDED.interval))
    known = {each.value: each for each in Outcome}
    outcome = known.get(str(held.get(RECORDED.outcome)))
    difference = as_number(held.get(RECORDED.difference))
    if interval is None or outcome is None or not math.isfinite(difference):
        return None
    columns, beyond = whole_number(held.get(RECORDED.columns)) or 1, _interval(held.get(RECORDED.beyond))
    return Decided(difference, interval, outcome, columns, beyond)


def _interval(held: object) -> Interval | None:
    if not isinstance(held, list) or len(held) != 2:
        return None
    low, high = map(as_number, held)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
