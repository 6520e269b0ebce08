"""Summarise what evaluations took: seconds, documents and tokens a second, hardware, as far as their files say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from smaug_eval.results.task_results import TaskResult


@dataclass(frozen=True)
class ModelCost:
    """Hold what one model's evaluations took.

    Attributes:
        seconds: Of all files that say it; NaN where none does.
        documents: Documents of these files' tasks; None where one's are not known.
        tokens: Tokens of their requests; NaN where one's are not known.
        hardware: What they ran on; empty where unknown.
        files: Files that say how long they took, and all files.
    """

    seconds: float
    documents: int | None
    tokens: float
    hardware: str
    files: tuple[int, int]

    @property
    def documents_per_second(self) -> float:
        """Return the documents per second; NaN where either number is not known."""
        return math.nan if self.documents is None else self.documents / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Return the tokens per second; NaN where either number is not known."""
        return self.tokens / self.seconds


def model_cost(results: Mapping[str, TaskResult]) -> ModelCost | None:
    """Return what a model's evaluations took; None where no file says anything of it."""
    files = {result.source: result.cost for result in results.values()}
    timed = {source: cost for source, cost in files.items() if math.isfinite(cost.seconds)}
    hardware = list(dict.fromkeys(cost.hardware for cost in files.values() if cost.hardware))
    if not timed and not hardware:
        return None
    sizes = [result.n for result in results.values() if result.source in timed and not result.is_group]
    known = [size for size in sizes if size is not None]
    return ModelCost(
        seconds=math.fsum(cost.seconds for cost in timed.values()) if timed else math.nan,
        documents=sum(known) if known and len(known) == len(sizes) else None,
        tokens=math.fsum(cost.tokens for cost in timed.values()) if timed else math.nan,
        hardware="; ".join(hardware),
        files=(len(timed), len(files)),
    )
