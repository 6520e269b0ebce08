"""Read and write what judgments say of a judging that stopped as soon as a comparison was decided.

Every judgment of a model whose judging left questions out says so (``smaug.stopped``), so that no reader takes the
judgments for a sample of fixed size, wherever the file is copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from smaug_eval.mt_bench.files.records import JudgmentRecord
from smaug_eval.stats import Interval, Outcome

STOPPED = "stopped"


@dataclass(frozen=True)
class StoppedJudging:
    """Describe a model's judging that stopped early; in points of the judge's scale.

    Attributes:
        n: Questions judged.
        of: Questions there are.
        against: Whom the model was compared with; empty for that model itself.
        margin: The difference too small to matter; None where none was given.
        outcome: What was decided; None for the model that others were compared with.
        interval: Anytime-valid interval of the difference from ``against`` over all questions.
        score_interval: The same of the model's own mean score.
    """

    n: int
    of: int
    against: str = ""
    margin: float | None = None
    outcome: Outcome | None = None
    interval: Interval | None = None
    score_interval: Interval | None = None

    @property
    def words(self) -> str:
        """Return what stands beside such a score."""
        return f"stopped after {self.n:,} of {self.of:,} questions, anytime-valid"

    @property
    def decided_words(self) -> str:
        """Say what was decided."""
        if self.interval is None or self.outcome is None:
            return self.words
        margin = f" within ±{self.margin:g}" if self.outcome is Outcome.NO_DETECTABLE_DIFFERENCE else ""
        ends = f"{self.interval[0]:+.2f} to {self.interval[1]:+.2f}"
        if self.n == self.of:
            return f"not decided before the last of {self.of:,} questions ({ends})"
        return f"{self.outcome.value}{margin} against {self.against}, {self.words}: {ends}"

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "n": self.n,
            "of": self.of,
            "against": self.against,
            "margin": self.margin,
            "outcome": None if self.outcome is None else self.outcome.value,
            "interval": None if self.interval is None else list(self.interval),
            "score_interval": None if self.score_interval is None else list(self.score_interval),
        }


def stopped_of(records: Iterable[JudgmentRecord]) -> StoppedJudging | None:
    """Return what the judgments of one model say; None where they were not stopped, or what they say is damaged."""
    held = next((found for record in records if isinstance(found := record.smaug.get(STOPPED), Mapping)), None)
    if held is None:
        return None
    n, of, margin = held.get("n"), held.get("of"), held.get("margin")
    if not isinstance(n, int) or not isinstance(of, int) or not 0 < n <= of:
        return None
    outcomes = {each.value: each for each in Outcome}
    return StoppedJudging(
        n=n,
        of=of,
        against=str(held.get("against") or ""),
        margin=margin if isinstance(margin, int | float) else None,
        outcome=outcomes.get(str(held.get("outcome"))),
        interval=_interval(held.get("interval")),
        score_interval=_interval(held.get("score_interval")),
    )


def marked(record: JudgmentRecord, stopped: StoppedJudging | None) -> JudgmentRecord:
    """Return a judgment that says how its model's judging stopped; None for one that does not."""
    kept = {key: value for key, value in record.smaug.items() if key != STOPPED}
    return replace(record, smaug=kept if stopped is None else {**kept, STOPPED: stopped.as_json()})


def renamed(record: JudgmentRecord, names: Mapping[str, str]) -> JudgmentRecord:
    """Return a judgment under the name that a page has for its model, and for the one it was compared with."""
    own, stopped = replace(record, model=names[record.model]), stopped_of([record])
    if stopped is None:
        return own
    return marked(own, replace(stopped, against=names.get(stopped.against, stopped.against)))


def _interval(held: object) -> Interval | None:
    if not isinstance(held, list) or len(held) != 2 or not all(isinstance(end, int | float) for end in held):
        return None
    low, high = map(float, held)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
